"""Batches held against the processes that are to share them. Pure."""

from collections.abc import Collection, Mapping
from typing import Any

from launch.plan import Plan, PlannedStage
from vssl.config import ConfigError


def check_ranks(plan: Plan, selected: Collection[str]) -> None:
    """Refuse stages whose batch does not split over the ranks they ask for: they would fail after hours in a queue.

    Raises:
        ConfigError: a batch that is no multiple of the ranks, or groups of normalisation that lie across two of them.
    """
    for stage in plan:
        if stage.name in selected and "global_batch_size" in stage.config:
            _check(stage)


def _check(stage: PlannedStage) -> None:
    batch, ranks = stage.config["global_batch_size"], stage.resources.ranks
    key, group = _group(stage.config)
    unit = group or 1
    if batch % (ranks * unit):
        fitting = [n for n in range(1, batch + 1) if batch % (n * unit) == 0]
        groups = "" if group is None else f" in whole groups of {key}={group} clips"
        raise ConfigError(
            f"stage `{stage.name}`: global_batch_size is {batch} and its resources have {stage.resources.nodes} x "
            f"{stage.resources.tasks_per_node} ranks, over which it does not split{groups}; numbers of ranks that fit: "
            f"{', '.join(map(str, fitting))}; set "
            f"stages.{stage.template}.resources={{tasks_per_node: N}}, or stages.{stage.template}."
            f"{'global_batch_size' if group is None else key}"
        )


def _group(config: Mapping[str, Any]) -> tuple[str, int | None]:
    """(key, clips of a group of batch normalisation; None where that is over all ranks)."""
    if "bn_group_size" in config:
        return "bn_group_size", config["bn_group_size"]
    return "method.bn_group_size", (config.get("method") or {}).get("bn_group_size")
