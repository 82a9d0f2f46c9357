"""A stage that other code or other packages began. It goes on and is marked; a strict store refuses it."""

from collections.abc import Collection

from launch.plan import Plan
from launch.provenance import changed_versions, code_digest, versions
from launch.running.claims import attempts
from launch.store import Store
from vssl.artifacts import StageFolder
from vssl.config import ConfigError


def begun_under(folder: StageFolder) -> str:
    """What was different when that was made which a stage would go on from; nothing where all is equal.

    As in "other code, torch 2.11.0 -> 2.12.0". A stage that saved nothing starts afresh, whatever tried it before.
    """
    if not any(path.is_dir() and any(path.iterdir()) for path in (folder.checkpoints, folder.artifacts)):
        return ""
    before = attempts(folder)
    other = ["other code"] if any(attempt["code"] != code_digest() for attempt in before) else []
    changes = (changed_versions(attempt["versions"], versions()) for attempt in before)
    return ", ".join([*other, *filter(None, dict.fromkeys(changes))])


def check_half_trained(plan: Plan, chosen: Collection[str], store: Store) -> None:
    """Refuse a submission that would go on with what other code began, before anything is queued.

    Raises:
        ConfigError: such a stage is among the chosen ones.
    """
    done = store.reusable_stages(plan)
    for stage in plan:
        if stage.name in chosen and stage.name not in done and (changed := begun_under(store.stage(stage.folder))):
            raise ConfigError(strict_refusal(stage.name, changed))


def strict_refusal(name: str, changed: str) -> str:
    """Why a strict store does not go on with a stage, and what to do."""
    return (
        f"{name} is half done, under {changed}, and store.strict=true goes on under equal code and packages alone; "
        f"go back to those, redo it by force={name}, or leave store.strict out and have it marked"
    )
