"""Batches are split over the ranks that a stage asks for, in every sweep, and what does not split is never queued."""

from pathlib import Path

import pytest

from launch.planning import planner
from launch.planning.planner import CHECKOUT
from launch.planning.ranks import check_ranks
from tests.planning import plan_of, plan_text
from vssl.config import ConfigError


@pytest.mark.parametrize("sweep", sorted(path.stem for path in (CHECKOUT / "sweeps").glob("*.yaml")))
def test_published_batches_split_over_the_ranks_of_their_sweeps(sweep: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "_digest_of_file", lambda path: f"{len(str(path)):064d}")
    plan = plan_of(f"sweep={sweep}")
    check_ranks(plan, set(plan.by_name))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "stages.finetune.resources={nodes: 1, tasks_per_node: 8}",
            r"stage `finetune`: global_batch_size is 128 and its resources have 1 x 8 ranks, over which it does not "
            r"split in whole groups of bn_group_size=32 clips; numbers of ranks that fit: 1, 2, 4; "
            r"set stages.finetune.resources=\{tasks_per_node: N\}, or stages.finetune.bn_group_size",
        ),
        (
            "stages.linear.resources={nodes: 1, tasks_per_node: 3}",
            r"stage `linear`: global_batch_size is 128 .* it does not split; numbers of ranks that fit: 1, 2, 4, 8, "
            r".*, or stages.linear.global_batch_size",
        ),
        (
            "stages.single.resources={nodes: 2, tasks_per_node: 4}",
            r"stage `single`: .* 2 x 4 ranks, over which it does not split in whole groups of method.bn_group_size=48",
        ),
    ],
)
def test_what_does_not_split_is_refused_with_what_does(words: str, message: str, tmp_path: Path) -> None:
    text = """
data: ucf101
stages:
  - {name: single, kind: pretrain, config: [recipe=vicc_single], output: rgb}
  - {name: linear, kind: linear, config: [recipe=vicc_linear, global_batch_size=128], inputs: {weights: rgb}}
  - {name: finetune, kind: finetune, config: [recipe=vicc_finetune, global_batch_size=128], inputs: {weights: rgb}}
"""
    plan = plan_text(tmp_path, text, words)
    with pytest.raises(ConfigError, match=message):
        check_ranks(plan, set(plan.by_name))
    check_ranks(plan, {stage.name for stage in plan} - {words.split(".")[1]})
