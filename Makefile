# Everything starts here: each target sets up .venv first, which costs nothing once it is there.
#   make demo            the main pipeline, small, on this machine, on generated videos   (ARGS= adds overrides)
#   make test            lint, types and tests, two processes side by side                 (ARGS= goes to pytest)
#   make ui              the results in MLflow's own interface                             (PORT=5000)
#   make slurm-sandbox   a private, throw-away Slurm on this machine, until Ctrl-C          (ARGS= as --nodes 8)
#   make slurm-demo      the main pipeline, small, on such a Slurm of four nodes            (ARGS= adds overrides)
#   make lint            ruff and mypy alone
#   make bench           every script of benchmarks/, one after the other
#   make bench-slurm     the figures of the launcher on such Slurms, most of an hour        (ARGS= names rows, as F6)
PYTHON ?= python3
PORT ?= 5000
ARGS ?=
RUN := .venv/bin/python
ROOT := $(abspath $(or $(VSSL_ROOT),runs))
export PYTHON

.PHONY: demo test ui lint bench bench-slurm slurm-demo slurm-sandbox venv
.NOTPARALLEL:

venv:
	@.ci/setup_venv

demo: venv
	$(RUN) launch/pipeline.py sweep=vicc_cross scale=demo executor=local $(ARGS)

lint: venv
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

test: lint
	@.ci/test $(ARGS)

ui: venv
	@.ci/ui $(ROOT) $(PORT)

slurm-sandbox: venv
	@$(RUN) -m tests.slurm.sandbox $(ARGS)

slurm-demo: venv
	@$(RUN) -m tests.slurm.demo $(ARGS)

bench-slurm: venv
	@$(RUN) -m benchmarks.slurm $(ARGS)

bench: venv
	@set -e; for script in $$(grep -l __main__ benchmarks/*.py); do echo "== $$script"; $(RUN) $$script $(ARGS); done
