"""What a run says about its stage beside its metrics: tags, and parameters from the config. Torch-free."""

from collections.abc import Iterator, Mapping
from typing import Any

from vssl.artifacts import canonical_json
from vssl.config import ConfigError, build, semantic
from vssl.stages import STAGES
from vssl.tracking_state import StageState

MAX_CHARACTERS = 6000  # of a value; a limit of MLflow


def stage_tags(stage: StageState) -> dict[str, str]:
    """Where a stage stands in its pipeline, and how its attempts went."""
    planned = stage.planned
    return {
        "vssl.stage_id": planned["stage_id"],
        "vssl.stage": stage.name,
        "vssl.stage_kind": planned["kind"],
        "vssl.template": planned["template"],
        "vssl.element": planned["element"],  # the name without the lane: grouped by it, the curves are means over lanes
        "vssl.axes": ", ".join(f"{axis}={canonical_json(value)}" for axis, value in planned["axes"].items()),
        "vssl.seed": str(planned["config"].get("seed", "")),
        "vssl.lane": "" if planned["lane"] is None else str(planned["lane"]),
        "vssl.parents": ", ".join(stage.parents)[:MAX_CHARACTERS],
        "vssl.code_digest": stage.code_digest,
        "vssl.attempts": str(stage.attempts),
        "vssl.slurm_job_id": stage.job,
        "vssl.cause": stage.cause[:MAX_CHARACTERS],
        "vssl.source_pipeline": stage.source,
    }


def flat_params(kind: str, config: Mapping[str, Any]) -> dict[str, str]:
    """The config fields that decide the result, `optim.base_lr` style; values as text of at most 6,000 characters."""
    try:
        shown: Mapping[str, Any] = semantic(build(STAGES[kind].config_class(), config))
    except (ConfigError, KeyError):  # planned by another version of the code: all fields then
        shown = config
    return {key: value[:MAX_CHARACTERS] for key, value in _flat(shown, "")}


def _flat(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and (value or not key):
        for name, item in value.items():
            yield from _flat(item, f"{key}.{name}" if key else str(name))
    else:
        yield key, value if isinstance(value, str) else canonical_json(value)
