"""`python launch/pipeline.py sweep=NAME ...`: one line plans a sweep and runs what of it is not done.

Works from any folder and without an install: the repository goes first on the path, in place of this file's folder.
"""

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ON_INTERRUPT = signal.getsignal(signal.SIGINT)
if __name__ == "__main__" and _ON_INTERRUPT is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while Python loads there is nothing to tell: no traceback

_CHECKOUT = Path(__file__).resolve().parent.parent

if __package__ in (None, ""):
    _elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != _CHECKOUT / "launch"]
    sys.path[:] = [str(_CHECKOUT), *_elsewhere]

from launch.compose import Composer
from launch.exit_codes import BAD_INPUT, DONE, TRY_AGAIN
from launch.plan import Plan
from launch.planning.command_line import ACTIONS, EXECUTORS, FLAGS, KEYS, CommandLine, parse
from launch.planning.planner import make_plan
from launch.planning.ranks import check_ranks
from launch.planning.selection import Selection, select, without_absent, without_idle
from launch.planning.splits import check_splits
from launch.running.half_trained import check_half_trained
from launch.slurm.profiles import Profile, read_profile
from launch.store import DEFAULT_VISIBILITY_S, Store, default_root
from vssl.config import ConfigError
from vssl.data.dataset_config import is_made_here

_USAGE = f"""sweep=NAME [KEY=VALUE ...] [{"] [".join(FLAGS)}]
keys: {", ".join(KEYS)}
  action={"|".join(ACTIONS)}   executor={"|".join(EXECUTORS)}
  grid.STAGE.KEY=[VALUE,...]   stages.STAGE.KEY=VALUE   (STAGE: a stage, a template, or `all`)"""


def main(arguments: Sequence[str]) -> int:
    """Run a line; returns the exit code."""
    if "--help" in arguments or "-h" in arguments:
        print(f"usage: python launch/pipeline.py {_USAGE}\nREADME.md explains each with an example.")
        return DONE
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
    executor = {"plan": line.executor, "render": "slurm"}.get(line.action) or _executor(line)
    profile = read_profile(line.cluster, _CHECKOUT) if executor == "slurm" or line.cluster is not None else None
    if executor in ("local", "debug"):
        _say_ignored(line, executor)
    store = _store(line, profile if executor == "slurm" else None)
    store.check()
    composer = Composer(_CHECKOUT / "configs")

    def plan_and_select() -> tuple[Plan, Selection]:
        overrides = profile.resources if profile is not None else {}
        plan = make_plan(line, store.source_digest, checkout=_CHECKOUT, composer=composer, overrides=overrides)
        if not line.force and any(stage.dispensable for stage in plan):
            plan = without_idle(plan, store.reusable_stages(plan))
        selection = select(plan, only=line.only, from_=line.from_, until=line.until, force=line.force)
        if line.action != "plan":
            plan = without_absent(plan, selection.run, _absent(plan, store))
        check_splits(plan, selection.run, store)
        if executor not in ("local", "debug"):  # which take the ranks that a machine has
            check_ranks(plan, selection.run)
        return plan, selection

    plan, selection = plan_and_select()
    if line.action == "plan":
        return _show(plan, selection, store, mermaid=line.mermaid)
    if _prepare(plan, store, on_slurm=executor == "slurm"):
        plan, selection = plan_and_select()  # equal content may have joined lanes, and so renamed them
    chosen = [stage.name for stage in plan if stage.name in selection.run]
    if line.action == "preflight":
        from launch.trials.preflight import preflight

        return preflight(plan, selection, store, profile=profile if executor == "slurm" else None)
    if line.action == "render":
        from launch.slurm.render import render

        assert profile is not None
        return render(plan, chosen, store, profile=profile, force=selection.force)
    if store.strict and executor != "debug":
        check_half_trained(plan, set(chosen) - set(selection.force), store)
    if executor == "slurm":
        from launch.executors import slurm

        assert profile is not None
        return slurm.execute(plan, chosen, store, profile=profile, force=selection.force, follow=line.follow)
    if executor == "debug":
        from launch.executors import debug

        return debug.execute(plan, chosen, store)
    from launch.executors import local

    return local.execute(plan, chosen, store, force=selection.force)


def _store(line: CommandLine, profile: Profile | None) -> Store:
    """The store of a line; without a profile of other nodes, names written on this machine are seen at once."""
    visibility_s = line.visibility_s
    if visibility_s is None and profile is not None:
        visibility_s = DEFAULT_VISIBILITY_S if profile.visibility_s is None else profile.visibility_s
    return Store(
        line.root or default_root(),
        read=line.store_read,
        artifact_root=line.artifact_root,
        visibility_s=visibility_s or 0.0,
        strict=line.strict,
    )


def _show(plan: Plan, selection: Selection, store: Store, *, mermaid: bool) -> int:
    from rich.console import Console

    from launch.verbs.plan_view import print_plan

    done = store.reusable_stages(plan) if store.root.is_dir() or store.read else {}
    print_plan(plan, selection, done, Console(width=None if sys.stdout.isatty() else 200), mermaid=mermaid)
    return DONE


def _absent(plan: Plan, store: Store) -> list[str]:
    """Keys of the datasets that nobody has given a folder for, nor prepared."""
    without = (key for key, one in plan.datasets.items() if not is_made_here(one) and one["path"] is None)
    return [key for key in without if store.source_digest(key) is None]


def _prepare(plan: Plan, store: Store, *, on_slurm: bool) -> bool:
    """Bring the datasets up to date; whether ids have changed by it."""
    from launch.planning.sources import prepare_sources

    for key in _absent(plan, store):
        raise ConfigError(
            f"dataset {plan.datasets[key]['name']} has no path on this machine; give one, as in "
            f"data.{plan.datasets[key]['name']}=/FOLDER, or take data=/FOLDER for all, or scale=demo, which makes its "
            "own videos"
        )
    for key, dataset in plan.datasets.items():
        if is_made_here(dataset) or store.source_digest(key) is not None:
            continue
        if on_slurm:  # hours of reading every file are no work for a login node, unless a person says so
            raise ConfigError(f"dataset {dataset['name']} is not prepared; first run: {_prepare_line(dataset, store)}")
    # Stages on nodes look again at each file that they open, so a submission reads the small digest alone.
    now = {key: one for key, one in plan.datasets.items() if not on_slurm or is_made_here(one)}
    return bool(prepare_sources(now, store))


def _prepare_line(dataset: Mapping[str, Any], store: Store) -> str:
    is_named = (_CHECKOUT / "configs" / "data" / f"{dataset['name']}.yaml").exists()
    words = [dataset["name"], "--path", dataset["path"]] if is_named else [dataset["path"]]
    return shlex.join(["vssl", "prepare", *words, "--root", str(store.root)])


def _say_ignored(line: CommandLine, executor: str) -> None:
    if line.cluster is not None:
        print(f"cluster={line.cluster} is ignored: executor={executor} runs on this machine", file=sys.stderr)
    if line.follow:
        print(f"--follow is ignored: executor={executor} stays until all is done", file=sys.stderr)


def _executor(line: CommandLine) -> str:
    """Where to run; `auto` decides, and says why.

    Raises:
        ConfigError: `auto` cannot decide for the user.
    """
    if line.executor != "auto":
        return line.executor
    if "SLURM_JOB_ID" in os.environ:
        raise ConfigError(
            f"this is inside allocation {os.environ['SLURM_JOB_ID']}; say what is meant: executor=slurm submits new "
            "jobs, executor=local runs on this node, executor=debug in this process"
        )
    executor, why = ("slurm", "there is an sbatch") if shutil.which("sbatch") else ("local", "there is no sbatch")
    print(f"executor={executor}, because {why} on this machine", file=sys.stderr)
    return executor


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _ON_INTERRUPT)
    sys.exit(main(sys.argv[1:]))
