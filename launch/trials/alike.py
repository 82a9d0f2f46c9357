"""Which stages of a plan are tried by trying one of them, and how a stage is made short. Pure."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launch.plan import Plan, PlannedStage
from vssl.artifacts import canonical_json
from vssl.config import ConfigError, build
from vssl.stages import STAGES

BATCH = 2  # videos
STEPS = 2  # of training
# What makes a stage long, and the values of a short one; a kind's own constraints may refuse some of them.
_SHORT = {
    "epochs": 1,
    "global_batch_size": BATCH,
    "batch_size": BATCH,
    "bn_group_size": BATCH,
    "workers": 1,
}
_ATTEMPTS = (tuple(_SHORT), ("epochs", "workers"), ("global_batch_size", "batch_size", "bn_group_size", "workers"), ())


@dataclass(frozen=True, kw_only=True)
class Group:
    """Stages that run the same code on data of the same shape; the first one stands for all."""

    stages: tuple[PlannedStage, ...]

    @property
    def first(self) -> PlannedStage:
        return self.stages[0]


def groups(plan: Plan, names: Collection[str]) -> list[Group]:
    """The named stages, those together that differ in their seed, in numbers such as rates, or in whom they read."""
    found: dict[str, list[PlannedStage]] = {}
    for stage in plan:
        if stage.name in names:
            found.setdefault(_key(stage), []).append(stage)
    return [Group(stages=tuple(stages)) for stages in found.values()]


def _key(stage: PlannedStage) -> str:
    roles = {role: sorted({one.type for one in ones}) for role, ones in stage.inputs.items()}
    return canonical_json([stage.kind, _shape({**stage.config, "seed": 0}), roles])


def _shape(value: Any) -> Any:
    """A config without its fractions: a learning rate of 0.1 and one of 0.3 take the same memory and the same path."""
    if isinstance(value, Mapping):
        return {key: _shape(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shape(item) for item in value]
    return 0.0 if isinstance(value, float) else value


def shortened(stage: PlannedStage, has_gpu: bool) -> tuple[dict[str, Any], list[str]]:
    """(config of a stage that ends after a few steps, what is short about it); the config itself where nothing fits.

    Without a GPU, half precision of 16 bits goes too: on cores it takes a hundred times as long.
    """
    for keys in _ATTEMPTS:
        said: dict[str, str] = {}
        config = _replaced(stage.config, {key: _SHORT[key] for key in keys}, said)
        if not has_gpu:
            config = _without_half(config, said)
        try:
            build(STAGES[stage.kind].config_class(), config)
        except ConfigError:
            continue
        return config, list(said.values())
    return dict(stage.config), []


def _replaced(config: Mapping[str, Any], values: Mapping[str, int], said: dict[str, str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, old in config.items():
        if isinstance(old, Mapping):
            result[key] = _replaced(old, values, said)
        elif key in values and isinstance(old, int) and old > values[key]:
            result[key] = values[key]
            if key in ("epochs", "global_batch_size", "batch_size"):
                said[key] = f"{key} {values[key]} of {old:,}"
        else:
            result[key] = old
    return result


def _without_half(config: Mapping[str, Any], said: dict[str, str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, old in config.items():
        if isinstance(old, Mapping):
            result[key] = _without_half(old, said)
        elif key == "amp" and old == "fp16":
            result[key] = "off"
            said[key] = "amp off, as there is no GPU here"
        else:
            result[key] = old
    return result


def batch_of(config: Mapping[str, Any]) -> int:
    """The largest batch that a config asks for; one that could not be shortened needs more videos."""
    return max((int(value) for key, value in _leaves(config) if key in ("global_batch_size", "batch_size")), default=1)


def splits_of(config: Mapping[str, Any]) -> dict[str, str]:
    """key -> split, as in {"train_split": "train"}."""
    return {key: value for key, value in _leaves(config) if key.endswith("_split") and isinstance(value, str)}


def frames_of(config: Mapping[str, Any]) -> int:
    """Length of a video that fills a clip; 0 for a config without clips."""
    leaves = dict(_leaves(config))
    return int(leaves.get("num_frames") or 0) * int(leaves.get("frame_stride") or 1)


def _leaves(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield key, value
