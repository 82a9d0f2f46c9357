"""Stages held against the datasets they read, as far as a prepared dataset's counts tell. Reads one small file each."""

from collections.abc import Collection, Mapping
from typing import Any

from launch.plan import Plan, PlannedStage
from launch.store import Store
from vssl.config import ConfigError, nearest


def check_splits(plan: Plan, selected: Collection[str], store: Store) -> None:
    """Refuse stages that would find no videos, or fewer than one batch of them, after hours in a queue.

    Datasets that are not prepared yet are passed over.

    Raises:
        ConfigError: a split that the dataset does not have, or a batch that it never fills.
    """
    for stage in plan:
        key = plan.dataset_of(stage) if stage.name in selected else None
        record = None if key is None else store.source_record(key)
        if record is not None:
            _check(stage, record)


def _check(stage: PlannedStage, record: Mapping[str, Any]) -> None:
    counts: Mapping[str, int] = record["splits"]
    for key in _splits_read(stage):
        split = stage.config["data"][key]
        if split not in counts:
            raise ConfigError(
                f"stage `{stage.name}`: data.{key} is `{split}`{nearest(split, counts)}; dataset {record['name']} has "
                + ", ".join(f"{name} ({count} videos)" for name, count in counts.items())
            )
    batch = stage.config.get("global_batch_size")
    if batch is not None and batch > counts[stage.config["data"]["train_split"]]:
        videos = counts[stage.config["data"]["train_split"]]
        raise ConfigError(
            f"stage `{stage.name}`: global_batch_size is {batch} and split {stage.config['data']['train_split']} of "
            f"dataset {record['name']} has {videos} videos, so no batch is ever full; set "
            f"stages.{stage.template}.global_batch_size to at most {videos}"
        )


def _splits_read(stage: PlannedStage) -> tuple[str, ...]:
    """Keys of `data` that name a split."""
    return tuple(key for key in ("train_split", "test_split") if key in stage.config["data"])
