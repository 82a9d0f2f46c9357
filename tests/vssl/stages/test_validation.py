"""A classifier that is watched on test videos while it learns: what is reported, and that it learns the same."""

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tests.tiny_stages import EPOCH_STEPS, Stage, fingerprint, history
from vssl.config import semantic
from vssl.optim_config import MilestonesConfig


def watched(stages: dict[str, Stage], kind: str, **changes: object) -> Stage:
    stage = stages[kind]
    view = replace(stage.config.test_view, num_clips=1)
    constant = replace(stage.config, test_view=view, schedule=MilestonesConfig(milestones=()))
    if kind == "finetune":
        constant = replace(constant, precise_bn_batches=0)
    return replace(stage, config=replace(constant, **changes))


@pytest.mark.parametrize("kind", ["linear", "finetune"])
def test_a_look_before_each_epoch_tells_what_a_test_would_and_changes_nothing(
    stages: dict[str, Stage], kind: str, tmp_path: Path
) -> None:
    folders = {}
    found = {}
    for name, changes in {
        "watched": {"validate_every_epochs": 1}, "plain": {}, "short": {"epochs": 1},
    }.items():  # fmt: skip
        stage = watched(stages, kind, **changes)
        found[name] = stage.execute(tmp_path / name)
        folders[name] = tmp_path / name / stage.name
    rows = history(folders["watched"])
    looks = {step: values for step, values in rows if "val/top1" in values}
    assert [*looks] == [0, EPOCH_STEPS]
    table = pd.read_parquet(folders["short"] / "artifacts" / "predictions" / "predictions.parquet")
    losses = [-math.log(row["probabilities"][row["label"]]) for row in table.to_dict("records")]
    assert looks[EPOCH_STEPS]["val/loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert [looks[EPOCH_STEPS][f"val/top{k}"] for k in (1, 5)] == [found["short"][f"top{k}"] for k in (1, 5)]
    assert looks[0]["val/loss"] != looks[EPOCH_STEPS]["val/loss"]
    assert found["watched"] == found["plain"]
    assert fingerprint(folders["watched"])["state"] == fingerprint(folders["plain"])["state"]
    plain = [(step, {k: v for k, v in values.items() if not k.startswith("val/")}) for step, values in rows]
    assert history(folders["plain"]) == plain


def test_looking_is_no_part_of_a_stages_identity(stages: dict[str, Stage]) -> None:
    for kind in ("linear", "finetune"):
        assert semantic(watched(stages, kind, validate_every_epochs=3).config) == semantic(watched(stages, kind).config)
