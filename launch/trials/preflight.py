"""`action=preflight`: everything that a pipeline needs is tried before it waits in a queue for days.

Of stages that run the same code, one is tried, on a few videos, in a process of its own: its config is built, its data
read, its network made, it trains for two steps, is stopped after the first and goes on from its checkpoint, and what it
makes is read by those below. Nothing of it enters the results.
"""

import shutil
import sys
import uuid
from collections.abc import Collection, Iterator

from launch.plan import Plan
from launch.planning.selection import Selection
from launch.planning.sources import changed_files
from launch.running.batch_folder import refuse_unsafe
from launch.slurm.profiles import Profile
from launch.slurm.scheduler import Scheduler
from launch.store import Store
from launch.trials.checks import Check, exit_code, print_checks
from launch.trials.disk import disk_checks
from launch.trials.rehearsing import Rehearsal
from launch.trials.slurm_checks import slurm_checks

_NAMED = 3  # changed files that are spelled out


def preflight(
    plan: Plan,
    selection: Selection,
    store: Store,
    *,
    profile: Profile | None = None,
    scheduler: Scheduler | None = None,
) -> int:
    """Try what a line would run, and print a table of what was found.

    Args:
        plan: the whole plan.
        selection: what of it is to run; what is finished is read and not tried.
        store: where results will lie.
        profile: of the cluster that is submitted to, which is asked what it says to the stages; None: none is.
        scheduler: None: Slurm's commands on this machine.

    Returns:
        0 nothing speaks against submitting, 1 a stage failed, 2 something is to be mended first, 75 the controller did
        not answer.
    """
    if profile is not None:
        refuse_unsafe(store.root)
    finished = {name: found for name, found in store.reusable_stages(plan).items() if name not in selection.force}
    todo = [stage.name for stage in plan if stage.name in selection.run and stage.name not in finished]
    checks = [*_datasets(plan, todo, store), *_parents(plan, todo, finished)]
    if todo and not exit_code(checks):
        folder = store.debug(f"preflight-{uuid.uuid4().hex[:8]}").root
        rehearsal = Rehearsal(plan, todo, finished, store, folder)
        try:
            with store.writing():
                checks += rehearsal.play(_say)
            checks += disk_checks(rehearsal, store)
        finally:
            if not any(check.result == "failed" for check in checks):  # else the logs are wanted
                shutil.rmtree(folder, ignore_errors=True)
    if profile is not None:
        checks += slurm_checks(plan, todo, store, profile, scheduler or Scheduler())
    from rich.console import Console

    print_checks(checks, Console(width=None if sys.stdout.isatty() else 200))
    print(f"{len(finished)} of {len(plan.stages)} stages are done already", flush=True)
    return exit_code(checks)


def _datasets(plan: Plan, todo: Collection[str], store: Store) -> Iterator[Check]:
    """Whether each dataset is prepared, and is still what it was."""
    read = {one.source for stage in plan if stage.name in todo for one in stage.inputs.get("dataset", ())}
    for key, dataset in plan.datasets.items():
        if f"dataset:{key}" not in read:
            continue
        what, record = f"dataset {dataset['name']}", store.source_record(key)
        if record is None:
            path = "" if dataset["path"] is None else f" --path {dataset['path']}"
            note = f"not prepared, so no stage was tried; run: vssl prepare {dataset['name']}{path}"
            yield Check(what=what, result="refused", note=note)
        elif changed := changed_files(dataset, store):
            more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
            note = f"changed since it was prepared: {'; '.join(changed[:_NAMED])}{more}; prepare it again"
            yield Check(what=what, result="refused", note=note)
        else:
            splits = ", ".join(f"{number:,} {split}" for split, number in record["splits"].items())
            yield Check(what=what, result="ok", note=f"{splits}; no file changed since it was prepared")


def _parents(plan: Plan, todo: Collection[str], finished: Collection[str]) -> Iterator[Check]:
    """Stages that could not start, whatever they are."""
    for stage in plan:
        lost = [name for name in stage.parents if name not in todo and name not in finished]
        if stage.name in todo and lost:
            note = f"needs {', '.join(lost)}, neither finished nor selected; select from={lost[0]}"
            yield Check(what=stage.name, result="refused", note=note)


def _say(text: str) -> None:
    print(text, flush=True)
