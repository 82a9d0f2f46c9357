"""One stage after another in this process, so that a debugger works. Never completes a stage.

Parents are read from the store; everything is written to `debug/<kind>-<id>`, which starts empty each time. An
exception leaves this function as it was raised, for post-mortem debugging.
"""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence

from launch.exit_codes import DONE, REFUSED
from launch.plan import Plan
from launch.running.elements import element
from launch.running.guard import RefusedError, resolve_inputs
from launch.store import Store
from vssl.config import ConfigError, build, nearest
from vssl.run import Run
from vssl.stages import STAGES


def execute(plan: Plan, selection: Sequence[str], store: Store) -> int:
    """Run exactly the selected stages, in the order of the plan.

    Returns:
        0 done, 78 a parent of a selected stage is missing or has changed.

    Raises:
        ConfigError: a name that the plan does not have, or a store that cannot be written.
    """
    stages = plan.by_name
    for name in selection:
        if name not in stages:
            raise ConfigError(f"no stage {name!r}{nearest(name, stages)}; the plan has {', '.join(stages)}")
    for stage in plan:
        if stage.name in selection:
            try:
                metrics = _run(stage.name, plan, store)
            except RefusedError as error:
                print(f"{error}; the debug executor reads parents from the store and never runs them", file=sys.stderr)
                return REFUSED
            print(f"{stage.name}: {_shown(metrics)}; not recorded as done", flush=True)
    return DONE


def _run(name: str, plan: Plan, store: Store) -> Mapping[str, float]:
    record = element(plan[name], plan, pipeline="")
    config = build(STAGES[record.kind].config_class(), record.config)
    inputs = resolve_inputs(record, store)
    folder = store.debug(record.folder)
    with store.writing():
        shutil.rmtree(folder.root, ignore_errors=True)
        for path in (folder.checkpoints, folder.artifacts, folder.logs):
            path.mkdir(parents=True)
    runtime = getattr(config, "runtime", None)
    if runtime is not None:  # counts if torch was not imported before
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(runtime.threads)
    print(f"{name}: in this process, writing to {folder.root}", flush=True)
    run = Run(folder)
    try:
        return STAGES[record.kind].load()(config, inputs, run)
    finally:
        run.close()


def _shown(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()) or "no metrics"
