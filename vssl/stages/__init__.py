"""STAGES: every kind of work, as data. Torch-free: this table is the contract between the library and the launcher."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from vssl.artifacts import Inputs
from vssl.run import Run

StageFunction = Callable[[Any, Inputs, Run], dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Role:
    """One input of a kind: which artifact types it takes, whether it must be given, and whether it takes many.

    What is bound to a role that does not decide only saves its reader work: parts of the very artifact that the reader
    makes, by stages that differ from it in their `shard` alone. It enters no id, and a finished reader needs it no
    more. A role `unless` another, which stands before it, is not read where that one is bound.
    """

    types: tuple[str, ...]
    required: bool = True
    many: bool = False
    decides: bool = True
    unless: str | None = None


@dataclass(frozen=True, kw_only=True)
class StageKind:
    """One kind of work. The planner reads the table; only a running job calls `load`.

    A config class may define `reads(self) -> frozenset[str]`: the roles that a stage with this config uses. An input
    bound to another role of the kind is then dropped, so an RGB stage never waits for optical flow. Where some values
    go only with some roles, it defines `refuse_inputs(self, bound: frozenset[str])`, which raises a ConfigError. The
    config of a kind that takes `parts` defines `whole(self)`: itself without a shard. The role `dataset` is bound to
    the dataset that the config names, unless a sweep binds it to what a stage has made of one.
    """

    entry: str  # "package.module:function", resolved late so that planning stays light
    config: str  # "package.module:Class", torch-free
    version: int = 1  # part of every id: raised when the same config no longer means the same result
    roles: Mapping[str, Role] = field(default_factory=dict)
    makes: Mapping[str, str] = field(default_factory=dict)  # artifact name -> type
    main: str = ""  # the artifact that a sweep's `output:` binds

    def load(self) -> StageFunction:
        function: StageFunction = resolve(self.entry)
        return function

    def config_class(self) -> type[Any]:
        found: type[Any] = resolve(self.config)
        return found


def resolve(entry: str) -> Any:
    """The object named by "package.module:name"."""
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)


_DATASET = Role(types=("dataset",))
_MOTION = Role(types=("flow",))
_WEIGHTS = Role(types=("weights",), required=False)

STAGES: dict[str, StageKind] = {
    "transcode": StageKind(
        entry="vssl.stages.transcode:run",
        config="vssl.stages.transcode_config:TranscodeConfig",
        roles={"dataset": _DATASET, "parts": Role(types=("dataset",), required=False, many=True, decides=False)},
        makes={"videos": "dataset"},
        main="videos",
    ),
    "flow": StageKind(
        entry="vssl.stages.flow:run",
        config="vssl.stages.flow_config:FlowConfig",
        roles={
            "dataset": _DATASET,
            "weights": Role(types=("weights",)),  # of RAFT; the other algorithms have none
            "parts": Role(types=("flow",), required=False, many=True, decides=False),
        },
        makes={"flow": "flow"},
        main="flow",
    ),
    "pretrain": StageKind(
        entry="vssl.stages.pretrain:run",
        config="vssl.stages.pretrain_config:PretrainConfig",
        roles={
            "dataset": _DATASET,
            "motion": _MOTION,
            "main": Role(types=("weights",)),  # of a cross-stream stage; a single-stream one starts from its seed
            "second": Role(types=("weights",)),
            "initial": Role(types=("weights",)),  # of CARL's network of frames, where its config says what it is
        },
        makes={"weights": "weights", "plots": "plots", "card": "card"},
        main="weights",
    ),
    "image_pretrain": StageKind(
        entry="vssl.stages.image_pretrain:run",
        config="vssl.stages.image_pretrain_config:ImagePretrainConfig",
        roles={"dataset": _DATASET},
        makes={"weights": "weights", "predictions": "predictions", "metrics": "metrics", "plots": "plots"},
        main="weights",
    ),
    "retrieval": StageKind(
        entry="vssl.stages.retrieval:run",
        config="vssl.stages.retrieval_config:RetrievalConfig",
        roles={"dataset": _DATASET, "motion": _MOTION, "weights": _WEIGHTS},
        makes={"features": "features", "metrics": "metrics", "plots": "plots"},
        main="features",
    ),
    "linear": StageKind(
        entry="vssl.stages.linear:run",
        config="vssl.stages.linear_config:LinearConfig",
        roles={"dataset": _DATASET, "motion": _MOTION, "weights": _WEIGHTS},
        makes={"predictions": "predictions", "weights": "weights", "metrics": "metrics", "plots": "plots"},
        main="predictions",
    ),
    "finetune": StageKind(
        entry="vssl.stages.finetune:run",
        config="vssl.stages.finetune_config:FinetuneConfig",
        roles={"dataset": _DATASET, "motion": _MOTION, "weights": _WEIGHTS},
        makes={"predictions": "predictions", "weights": "weights", "metrics": "metrics", "plots": "plots"},
        main="predictions",
    ),
    "multiview": StageKind(
        entry="vssl.stages.multiview:run",
        config="vssl.stages.multiview_config:MultiviewConfig",
        roles={"dataset": _DATASET, "motion": _MOTION, "weights": Role(types=("weights",))},
        makes={"predictions": "predictions", "metrics": "metrics", "plots": "plots"},
        main="predictions",
    ),
    "alignment": StageKind(
        entry="vssl.stages.alignment:run",
        config="vssl.stages.alignment_config:AlignmentConfig",
        roles={"dataset": _DATASET, "weights": _WEIGHTS, "initial": Role(types=("weights",), unless="weights")},
        makes={"features": "features", "metrics": "metrics", "plots": "plots"},
        main="features",
    ),
    "fusion": StageKind(
        entry="vssl.stages.fusion:run",
        config="vssl.stages.fusion_config:FusionConfig",
        roles={"rgb": Role(types=("features", "predictions")), "flow": Role(types=("features", "predictions"))},
        makes={"metrics": "metrics", "predictions": "predictions"},
        main="metrics",
    ),
    "summary": StageKind(
        entry="vssl.stages.summary:run",
        config="vssl.stages.summary_config:SummaryConfig",
        roles={"metrics": Role(types=("metrics",), many=True)},
        makes={"metrics": "metrics"},
        main="metrics",
    ),
    "probe": StageKind(
        entry="vssl.stages.probe:run",
        config="vssl.stages.probe_config:ProbeConfig",
        roles={"before": Role(types=("state",), required=False, many=True)},
        makes={"state": "state"},
        main="state",
    ),
}
