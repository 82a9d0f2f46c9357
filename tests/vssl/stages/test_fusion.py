"""Fusion of what the stages of two streams have found."""

import pytest

from tests.tiny_stages import Stage, artifact_of, searching
from vssl.artifacts import read_json
from vssl.run import StageError
from vssl.stages import fusion
from vssl.stages.fusion_config import FusionConfig


def test_fusion_of_features_and_of_predictions(stages, tmp_path):
    rgb, flow = (searching(stages, modality) for modality in ("rgb", "flow"))
    for stage in (rgb, flow, stages["linear"]):
        stage.execute(tmp_path)
    features = {
        "rgb": artifact_of(tmp_path, rgb, "features"), "flow": artifact_of(tmp_path, flow, "features"),
    }  # fmt: skip
    fused = Stage(fusion.run, FusionConfig(ks=(1, 5)), features, "fusion").execute(tmp_path)
    assert set(fused) == {"recall_at_1", "recall_at_5", "chance_recall_at_1", "videos"}
    predictions = artifact_of(tmp_path, stages["linear"], "predictions")
    twice = Stage(fusion.run, FusionConfig(), {"rgb": predictions, "flow": predictions}, "fused").execute(tmp_path)
    assert twice["top1"] == read_json(tmp_path / "linear-rgb" / "artifacts" / "metrics")["top1"]
    with pytest.raises(StageError, match="rgb is features and flow is predictions"):
        Stage(fusion.run, FusionConfig(), {**features, "flow": predictions}, "mixed").execute(tmp_path)
