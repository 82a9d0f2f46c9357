"""The plan: a directed acyclic graph of stages with stable identities, as a value.

Pure: no clock, no disk, no scheduler.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from vssl.config import knob, to_mapping
from vssl.stages import STAGES


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one stage asks of the machine. Key names are submitit's; never part of a stage's identity."""

    nodes: int = knob(1, doc="nodes", at_least=1)
    tasks_per_node: int = knob(1, doc="processes (ranks) on each node; one per GPU where there are GPUs", at_least=1)
    gpus_per_node: int = knob(0, doc="GPUs on each node", at_least=0)
    cpus_per_task: int = knob(2, doc="cores of each process", at_least=1)
    mem_gb: float = knob(8.0, doc="memory of each node", above=0)
    timeout_min: int = knob(60, doc="time limit", at_least=1)
    resource_class: str = knob("", doc="name of the class that it was taken from; a profile may say where it runs")

    @property
    def ranks(self) -> int:
        return self.nodes * self.tasks_per_node


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One input of a planned stage: an artifact of another stage of the plan, or something from outside.

    Exactly one of `stage` and `source` is set. `id` is what enters the reader's identity.
    """

    id: str  # "<parent stage id>/<artifact>", "<digest of a dataset>", "<SHA-256 of a file>", or "pending:<source key>"
    type: str  # artifact type
    stage: str | None = None  # name of the parent stage in this plan
    artifact: str | None = None  # its artifact
    source: str | None = None  # "dataset:<key under sources/>" or "file:<absolute path>"


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """One node of the graph."""

    name: str  # unique in the plan: "single-rgb", "cross1-rgb", "linear-rgb.7"
    template: str  # the name as written, without {...}: "single", "cross-rgb", "linear"
    element: str  # the name without its lane: "linear-rgb"; stages of one element make one Slurm array
    lane: int | None  # lowest lane that uses this stage; None where every lane shares it
    axes: Mapping[str, Any]  # values of the grid's axes that this stage or its ancestors depend on
    kind: str
    config: Mapping[str, Any]  # resolved, as plain values; `vssl.config.build` accepts it as it is
    inputs: Mapping[str, tuple[Reference, ...]]
    after: tuple[str, ...] = ()  # names of stages that must be done first, without data
    resources: Resources = field(default_factory=Resources)
    stage_id: str  # 16 hex digits; starts with "pending" while a dataset below it is not prepared

    @property
    def folder(self) -> str:
        """Name of the stage's folder under `stages/`."""
        return f"{self.kind}-{self.stage_id}"

    @cached_property
    def parents(self) -> tuple[str, ...]:
        """Names of the stages that must be done before this one starts, each once."""
        by_data = (reference.stage for references in self.inputs.values() for reference in references)
        return tuple(dict.fromkeys(name for name in (*by_data, *self.after) if name is not None))

    @property
    def made_from(self) -> Mapping[str, tuple[Reference, ...]]:
        """The inputs that decide the result; others only save work."""
        roles = STAGES[self.kind].roles
        return {role: references for role, references in self.inputs.items() if roles[role].decides}

    @property
    def dispensable(self) -> frozenset[str]:
        """Names of parents that a finished stage needs no more."""
        by_data = (reference.stage for references in self.made_from.values() for reference in references)
        return frozenset(self.parents) - frozenset((*by_data, *self.after))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A sweep at a scale, expanded. Stages stand in topological order, as written."""

    sweep: str
    scale: str
    stages: tuple[PlannedStage, ...]
    datasets: Mapping[str, Mapping[str, Any]]  # source key -> DatasetConfig as plain values, for `prepare`

    def __iter__(self) -> Iterator[PlannedStage]:
        return iter(self.stages)

    def __getitem__(self, name: str) -> PlannedStage:
        return self.by_name[name]

    def dataset_of(self, stage: PlannedStage) -> str | None:
        """Key of the prepared dataset that a stage reads, itself or through stages that made another one of it."""
        for reference in stage.inputs.get("dataset", ()):
            if reference.stage is not None:
                return self.dataset_of(self[reference.stage])
            return (reference.source or "").removeprefix("dataset:")
        return None

    @cached_property
    def by_name(self) -> Mapping[str, PlannedStage]:
        return {stage.name: stage for stage in self.stages}


def plan_mapping(plan: Plan) -> dict[str, Any]:
    """A plan as plain values, for `plan.json`; `plan_from_mapping` reads it back."""
    return to_mapping(plan)


def plan_from_mapping(mapping: Mapping[str, Any]) -> Plan:
    """The plan that `plan_mapping` wrote."""
    return Plan(**{**mapping, "stages": tuple(_stage_from_mapping(stage) for stage in mapping["stages"])})


def _stage_from_mapping(mapping: Mapping[str, Any]) -> PlannedStage:
    inputs = {role: tuple(Reference(**one) for one in ones) for role, ones in mapping["inputs"].items()}
    changes = {"inputs": inputs, "after": tuple(mapping["after"]), "resources": Resources(**mapping["resources"])}
    return PlannedStage(**{**mapping, **changes})
