"""Lines of probes on a real Slurm: what is queued, and what runs of it."""

import os
import sys
import time
from collections import Counter
from dataclasses import replace

import pytest

from launch.batches import open_batches
from launch.provenance import CHECKOUT
from launch.running.claims import attempts
from launch.slurm.profiles import Profile
from launch.slurm.scheduler import Scheduler
from tests.slurm.daemons import wait_until
from tests.slurm.lines import LATER, NOW, cancel_all, edges, lanes, verdicts
from tests.slurm.variant import Variant
from vssl.artifacts import read_json

HOSTILE = 'it\'s "so" $(touch pwned) `touch pwned`; %j %% é 日本\t'


def test_a_chain_of_lanes_runs_to_its_end(line):
    one = line(lanes(2))
    assert one.type() == 0
    told = Counter(batch.slurm["dependency"].partition(":")[0] for batch in open_batches(one.store))
    assert told == {"": 1, "aftercorr": 1}, "the second array was told of the first, which may have ended by now"
    assert one.scheduler.writes == 4
    one.wait()
    assert one.done() == set(one.plan.by_name), one.logs()
    assert verdicts(one.store) == {"done": 4}
    assert one.type() == 0
    (attempt,) = attempts(one.store.stage(one.plan["second.1"].folder))
    assert attempt["slurm"]["job"].endswith("_1")


def test_hostile_names_and_paths_end_as_data(line, tmp_path):
    first, second = lanes(1).stages
    before = replace(second.inputs["before"][0], stage=HOSTILE)
    stages = (replace(first, name=HOSTILE, element=HOSTILE), replace(second, inputs={"before": (before,)}))
    plan = replace(lanes(1), stages=stages)
    one = line(plan, root="a b'c\"d$(touch pwned)`touch pwned`;é 日本 %j %x%")
    words = 'it\'s "mine" $(touch pwned) `touch pwned`; %j é'
    profile = replace(NOW, parameters={"comment": words}, setup=("cd /", "set -eu"), teardown=("exit 7",))
    assert one.type(profile=profile) == 0
    assert one.scheduler.show_job(one.queue()[0].job)["Comment"] == words
    one.wait()
    assert one.done() == {HOSTILE, "second.0"}, one.logs()
    walks = (os.walk(folder) for folder in (tmp_path, one.sandbox.folder))  # passes over what Slurm deletes meanwhile
    assert not [place for walk in walks for place, below, names in walk if "pwned" in (*below, *names)]
    assert not (CHECKOUT / "pwned").exists()
    assert verdicts(one.store) == {"done": 2}


INSIDE = """
import os, sys
from pathlib import Path
from tests.slurm.lines import Line, lanes
sys.exit(Line(sandbox=None, plan=lanes(1), root=Path(sys.argv[1])).type())
"""


def test_submission_from_inside_a_job_that_inherits_nothing(line, sandbox, tmp_path, monkeypatch):
    one = line(lanes(1), root="inside")
    script = tmp_path / "outer.sh"
    script.write_text(
        "#!/bin/bash\n#SBATCH --ntasks=2 --mem=100 --time=5 --job-name=outer --signal=USR1@60\n"
        "export RANK=1 WORLD_SIZE=2 MASTER_ADDR=nowhere MASTER_PORT=1 TORCHELASTIC_RUN_ID=x VSSL_LAUNCHED=1\n"
        f"export SLURM_CONF={sandbox.environment['SLURM_CONF']} SBATCH_EXPORT=NONE SBATCH_ARRAY_INX=7\n"
        f"export PYTHONPATH={CHECKOUT} SQUEUE_FORMAT=%i SBATCH_TIMELIMIT=99 SBATCH_JOB_NAME=x\n"
        f"exec {sys.executable} -c '{INSIDE}' {one.root}\n"
    )  # fmt: skip
    sandbox.run("sbatch", "--export=NONE", f"--output={tmp_path}/outer.log", str(script))
    wait_until(lambda: len(list(one.store.batches.glob("*/job.json"))) == 2, "the inner submission")
    one.wait()
    assert one.done() == set(one.plan.by_name), (tmp_path / "outer.log").read_text() + one.logs()
    (attempt,) = attempts(one.store.stage(one.plan["first.0"].folder))
    assert attempt["ranks"] == 1, "what surrounds the launcher is not the job's"


def test_the_environment_of_a_site_that_exports_nothing(line, monkeypatch):
    monkeypatch.setenv("SBATCH_EXPORT", "NONE")
    monkeypatch.setenv("CANARY", "sugar-and-salt")
    one = line(lanes(1, "first"))
    assert one.type(profile=replace(NOW, setup=("env > env.txt",))) == 0
    one.wait()
    assert one.done() == {"first.0"}, one.logs()
    for path in one.root.rglob("*"):
        assert not path.is_file() or b"sugar-and-salt" not in path.read_bytes(), path


def test_a_failure_ends_its_own_lane_and_the_same_line_sends_it_again(line):
    plan = lanes(3)
    stages = [replace(one, config={**one.config, "fail_at": 1}) if one.name == "first.1" else one for one in plan]
    broken, one = line(replace(plan, stages=tuple(stages))), line(plan)
    assert broken.type() == 0
    broken.wait()
    assert one.done() == {"first.0", "second.0", "first.2", "second.2"}, one.logs()
    assert verdicts(one.store) == {"done": 4, "exception": 1}
    writes = one.scheduler.writes
    assert one.type() == 0
    assert one.scheduler.writes - writes == 4
    one.wait()
    assert one.done() == set(plan.by_name), one.logs()
    assert one.starts() == Counter(
        {"first.0": 1, "first.1": 2, "first.2": 1, "second.0": 1, "second.1": 1, "second.2": 1}
    )


def test_no_child_of_a_parent_that_failed_and_was_forgotten_starts(line, sandbox_of, monkeypatch):
    """The launcher dies between the release of the parent and that of the child; then Slurm forgets the parent."""
    cluster = sandbox_of(Variant(min_job_age_s=2, accounting=False))
    plan = lanes(1, fail_at=0)
    one = line(plan, on=cluster)

    def release_the_first(ids):
        Scheduler().release(ids[:1])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(one.scheduler, "release", release_the_first)
        patch.setattr(one.scheduler, "cancel", lambda ids: None)  # as dead as by SIGKILL
        with pytest.raises(KeyboardInterrupt):
            one.type()
    for batch in one.store.batches.iterdir():
        (batch / "void.json").unlink()
    parent, child = (entry.job for entry in one.queue())
    wait_until(lambda: not one.scheduler.show_job(parent), "Slurm to forget the parent")
    # Slurm cancels the held child while it looks for jobs to forget, if it does so before the parent is forgotten.
    assert [entry.job for entry in one.queue()] in ([child], [])
    assert one.type(profile=LATER) == 0
    again = edges(one.queue())
    assert len(again) == 2
    assert not {parent, child} & again.keys()
    assert list(again.values()) == ["", f"afterok:{next(iter(again))}"]
    cancel_all(cluster)
    assert one.starts() == {"first.0": 1}, "the child never ran"


def test_a_parents_end_takes_its_children_out_of_the_queue_in_one_call(line):
    """Children that wait for a parent that is not queued any more are sent anew with it."""
    one = line(lanes(6))
    assert one.type(profile=LATER) == 0
    first, second = sorted({entry.array for entry in one.queue()}, key=int)
    one.sandbox.run("scontrol", "update", f"JobId={second}", "Dependency=")  # or Slurm would cancel them by itself
    one.sandbox.run("scancel", *(f"{first}_{index}" for index in (1, 2, 4, 5)))
    writes = one.scheduler.writes
    assert one.type(profile=LATER) == 0
    assert one.scheduler.writes - writes == 1 + 4
    one.check_queue()
    left = {entry.job for entry in one.queue()}
    assert {f"{second}_0", f"{second}_3"} <= left
    assert not {f"{second}_{index}" for index in (1, 2, 4, 5)} & left
    cancel_all(one.sandbox)


def test_a_profile_reaches_the_job(line, tmp_path):
    (tmp_path / "mine.sh").write_text(f'#!/bin/bash\nexec {sys.executable} "$@"\n')
    (tmp_path / "mine.sh").chmod(0o755)
    one = line(lanes(1, "first", steps=40, step_s=0.1))
    profile = Profile(
        name="p",
        parameters={"partition": "high", "additional_parameters": {"nice": 5}},
        setup=("export SITE=here",),
        teardown=("echo $SITE after > teardown.txt",),
        python=str(tmp_path / "mine.sh"),
        array_parallelism=1,
    )
    assert one.type(profile=profile) == 0
    (batch,) = one.store.batches.iterdir()
    job = one.scheduler.show_job(f"{read_json(batch / 'job.json')['job_id']}_0")  # it may have ended by now
    assert (job["Partition"], job["Nice"], job["Requeue"], job["ArrayTaskThrottle"]) == ("high", "5", "1", "1")
    one.wait()
    assert one.done() == {"first.0"}, one.logs()
    assert (batch / "teardown.txt").read_text() == "here after\n"


def test_the_calls_of_a_large_sweep_are_few(line, capsys):
    one = line(lanes(250, "single", "cross", "linear", "retrieval"))
    began = time.monotonic()
    assert one.type(profile=LATER) == 0
    took_s = time.monotonic() - began
    assert one.scheduler.writes == 8
    assert len(one.queue()) == 1000
    with capsys.disabled():
        print(f" [1000 stages: {one.scheduler.writes} write calls, {took_s:.1f} s]", end="")
    cancel_all(one.sandbox)
