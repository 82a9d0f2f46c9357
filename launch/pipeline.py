"""`python launch/pipeline.py sweep=NAME ...`: one line plans a sweep and runs what of it is not done.

Works from any folder and without an install: the repository goes first on the path, in place of this file's folder.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent

if __package__ in (None, ""):
    _elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != _CHECKOUT / "launch"]
    sys.path[:] = [str(_CHECKOUT), *_elsewhere]

from launch.command_line import CommandLine, parse
from launch.compose import Composer
from launch.exit_codes import BAD_INPUT, DONE, TRY_AGAIN
from launch.plan import Plan
from launch.planner import make_plan
from launch.selection import Selection, select
from launch.splits import check_splits
from launch.store import Store, default_root
from vssl.config import ConfigError


def main(arguments: Sequence[str]) -> int:
    """Run a line; returns the exit code."""
    try:
        return _run(parse(arguments, _here()))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:  # while stages run, the queue takes it and lets them save
        if "executor=debug" in arguments:
            raise  # where it was is what a debugger wants to know
        print("stopped; the same line goes on from here", file=sys.stderr)
        return TRY_AGAIN


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ConfigError("the folder that this is run from is gone; change to another one, as by `cd /`") from None


def _run(line: CommandLine) -> int:
    # Names written on this machine are seen on this machine: nothing to wait for.
    root = line.root or default_root()
    store = Store(root, read=line.store_read, artifact_root=line.artifact_root, visibility_s=0.0)
    store.check()
    composer = Composer(_CHECKOUT / "configs")
    plan = make_plan(line, store.source_digest, checkout=_CHECKOUT, composer=composer)
    selection = _select(line, plan)
    check_splits(plan, selection.run, store)
    if line.action == "plan":
        from rich.console import Console

        from launch.plan_view import print_plan

        done = store.reusable_stages(plan) if store.root.is_dir() or store.read else {}
        print_plan(plan, selection, done, Console(width=None if sys.stdout.isatty() else 200))
        return DONE
    executor = _executor(line.executor)
    if line.cluster is not None:
        print(f"cluster={line.cluster} is ignored: executor={executor} runs on this machine", file=sys.stderr)
    if _prepare(plan, store):
        plan = make_plan(line, store.source_digest, checkout=_CHECKOUT, composer=composer)
        selection = _select(line, plan)  # equal content may have joined lanes, and so renamed them
        check_splits(plan, selection.run, store)
    return _execute(executor, plan, selection, store)


def _prepare(plan: Plan, store: Store) -> bool:
    """Bring the datasets up to date; whether ids have changed by it."""
    from launch.sources import prepare_sources

    for key, dataset in plan.datasets.items():
        if dataset["path"] is None and dataset["generated"] is None and store.source_digest(key) is None:
            raise ConfigError(
                f"dataset {dataset['name']} has no path on this machine; give one, as in "
                "stages.all.data.dataset.path=/data/videos, or take data=/FOLDER, or scale=demo, which makes its own "
                "videos"
            )
    return bool(prepare_sources(plan.datasets, store))


def _execute(executor: str, plan: Plan, selection: Selection, store: Store) -> int:
    chosen = [stage.name for stage in plan if stage.name in selection.run]
    if executor == "debug":
        from launch.executors import debug

        return debug.execute(plan, chosen, store)
    from launch.executors import local

    return local.execute(plan, chosen, store, force=selection.force)


def _select(line: CommandLine, plan: Plan) -> Selection:
    return select(plan, only=line.only, from_=line.from_, until=line.until, force=line.force)


def _executor(asked: str) -> str:
    """Where to run; `auto` decides, and says why.

    Raises:
        ConfigError: `auto` cannot decide for the user.
    """
    if asked != "auto":
        return asked
    if "SLURM_JOB_ID" in os.environ:
        raise ConfigError(
            f"this is inside allocation {os.environ['SLURM_JOB_ID']}; say what is meant: executor=local runs on this "
            "node, executor=debug in this process"
        )
    if shutil.which("sbatch"):
        raise ConfigError(
            "this machine submits to Slurm (it has sbatch), and training on its login node is rarely meant; "
            "executor=local runs here all the same"
        )
    print("executor=local, because there is no sbatch on this machine", file=sys.stderr)
    return "local"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
