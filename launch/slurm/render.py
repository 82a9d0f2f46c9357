"""`action=render`: the scripts that a submission would send, in a folder for reading. Nothing is submitted.

One folder for each array, numbered in the order of submission, with `script.sh` and `elements.json` as a batch has
them. Ids that Slurm gives are not known before: an array that waits for another one names its folder instead. What may
be in the queue already is not asked: all that is not done is written.
"""

import json
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from launch.batches import batch_record
from launch.exit_codes import DONE
from launch.plan import Plan
from launch.running.elements import element
from launch.slurm.arrays import expression, pack
from launch.slurm.profiles import Profile
from launch.slurm.snapshot import snapshot_path
from launch.store import Store
from vssl.config import ConfigError


def render(
    plan: Plan,
    selection: Sequence[str],
    store: Store,
    *,
    profile: Profile,
    force: Collection[str] = (),
    folder: Path | None = None,
) -> int:
    """Write the scripts of a line.

    Args:
        plan: the whole plan; no id in it may be pending.
        selection: names of the stages to bring to completion.
        store: where results would lie; only its `debug/` is written.
        profile: how this site wants its jobs.
        force: names of selected stages that are redone even if they are finished.
        folder: where to write; None: a folder of `debug/` named by the pipeline, made anew.

    Returns:
        0.

    Raises:
        ConfigError: what a submission would refuse without asking Slurm.
    """
    from launch.executors.slurm import script_text  # submitit takes a while to import
    from launch.slurm.sending import array_facts

    finished = [name for name in store.reusable_stages(plan) if name not in force]
    wanted = [stage.name for stage in plan if stage.name in selection and stage.name not in finished]
    pipeline, code = store.pipeline(plan).name, snapshot_path(store)
    folder = folder or store.debug(f"render-{pipeline}").root
    try:
        arrays = pack(plan, wanted, finished, {})
    except ValueError as error:
        raise ConfigError(f"{error}; select the stages above, too") from None
    with store.writing():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        names = {array.key: f"{number:02d}-{array.element}" for number, array in enumerate(arrays, start=1)}
        for array in arrays:
            batch = folder / names[array.key]
            batch.mkdir()
            dependency = expression(array.dependency, {key: f"ID_OF_{name}" for key, name in names.items()})
            records = {index: element(plan[name], plan, pipeline) for index, name in array.stages.items()}
            record = batch_record(batch, store, records, array_facts(array, dependency, code, profile))
            (batch / "elements.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
            text = script_text(
                batch, array.resources, profile, indices=array.stages.keys(), dependency=dependency, snapshot=code
            )
            (batch / "script.sh").write_text(text)
            print(f"{names[array.key]}: {len(records)} x {array.element}" + f", after {dependency}" * bool(dependency))
    print(f"{len(arrays)} scripts in {folder}; nothing was submitted", flush=True)
    return DONE
