"""What a job is told: one frozen record per stage of a batch, resolved when the batch was made."""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.plan import Plan, PlannedStage
from launch.provenance import code_digest, git_state
from launch.running.processes import identity
from launch.store import Store
from vssl.artifacts import write_json
from vssl.config import ConfigError, to_mapping


@dataclass(frozen=True, kw_only=True)
class ElementInput:
    """One input of a stage: an artifact of a stage's folder, or a source from outside."""

    id: str
    type: str
    folder: str | None = None  # `<kind>-<id>` of the stage that makes it
    artifact: str | None = None
    source: str | None = None  # "dataset:<key>" or "file:<absolute path>"


@dataclass(frozen=True, kw_only=True)
class Element:
    """One stage of a batch."""

    name: str
    kind: str
    stage_id: str
    pipeline: str  # folder name under `pipelines/`
    config: Mapping[str, Any]
    inputs: Mapping[str, tuple[ElementInput, ...]]
    after: tuple[str, ...]  # folders of stages that must be done, without data

    @property
    def folder(self) -> str:
        return f"{self.kind}-{self.stage_id}"


def element(stage: PlannedStage, plan: Plan, pipeline: str) -> Element:
    """The record of a planned stage.

    Raises:
        ConfigError: its id is not known yet.
    """
    if stage.stage_id.startswith("pending"):
        raise ConfigError(f"stage {stage.name} waits for a dataset that is not prepared; run `vssl prepare` first")
    stages = plan.by_name
    inputs = {
        role: tuple(
            ElementInput(
                id=one.id,
                type=one.type,
                folder=None if one.stage is None else stages[one.stage].folder,
                artifact=one.artifact,
                source=one.source,
            )
            for one in references
        )
        for role, references in stage.inputs.items()
    }
    return Element(
        name=stage.name,
        kind=stage.kind,
        stage_id=stage.stage_id,
        pipeline=pipeline,
        config=stage.config,
        inputs=inputs,
        after=tuple(stages[name].folder for name in stage.after),
    )


def create_batch(store: Store, executor: str, elements: Iterable[Element]) -> Path:
    """Write a batch's folder, `elements.json` in it: index -> element, with the store that the jobs shall use.

    Raises:
        ConfigError: the store cannot be written; nothing is left behind.
    """
    folder = store.batches / uuid.uuid4().hex[:12]
    record = {
        "executor": executor,
        "code": code_digest(),
        "git": git_state(),
        "launcher": identity(),
        "store": store.to_mapping(),
        "elements": {str(index): to_mapping(one) for index, one in enumerate(elements)},
    }
    with store.writing():
        folder.mkdir(parents=True)
        try:
            write_json(folder / "elements.json", record)
        except OSError:
            folder.rmdir()
            raise
    return folder


def read_element(batch: Path, index: int, visibility_s: float = 0.0) -> tuple[Element, Store]:
    """The record of one element and the store it belongs to.

    Args:
        batch: folder of the batch.
        index: of the element.
        visibility_s: how long another machine's record may stay invisible here; what the store says of that is in it.

    Raises:
        ConfigError: no such batch, or no such index in it.
    """
    record = Store(batch, visibility_s=visibility_s).when_visible(batch / "elements.json")
    if record is None:
        raise ConfigError(f"{batch} is no batch folder: it has no elements.json")
    if str(index) not in record["elements"]:
        accepted = ", ".join(record["elements"])
        raise ConfigError(f"batch {batch.name} has no element {index}; it has {accepted}")
    mapping = record["elements"][str(index)]
    inputs = {role: tuple(ElementInput(**one) for one in ones) for role, ones in mapping["inputs"].items()}
    return (
        Element(**{**mapping, "inputs": inputs, "after": tuple(mapping["after"])}),
        Store.from_mapping(record["store"]),
    )
