"""What pretraining hands over, and what a later stage takes or refuses of it."""

from dataclasses import replace

import pytest
import torch

from tests.tiny_stages import BACKBONE, searching, weights_of
from vssl.artifacts import Artifact
from vssl.backbones.backbone_config import TinyConfig
from vssl.run import StageError
from vssl.weights import load_weights


def test_weights_say_what_they_belong_to(stages, root):
    (artifact,) = weights_of(root, stages["single"])
    weights = load_weights(artifact)
    assert weights.header == {
        "kind": "pretrain", "method": "vicc", "modality": "rgb", "stage": "pretrain-rgb", "backbone": BACKBONE,
    }  # fmt: skip
    assert {name.split(".")[0] for name in weights.tensors} == {"backbone", "projector", "prototypes"}


def test_pretraining_figures(stages, tmp_path):
    figures = stages["cross"].execute(tmp_path)
    assert figures["videos"] == 6
    assert figures["replaced_videos"] == figures["dropped_short"] == 0
    assert 0 <= figures["assignment_entropy_last"] <= 1
    assert {"loss_first", "loss_last", "score_entropy_last"} <= set(figures)
    assert 1 <= figures["effective_prototypes_last"] <= 6
    plots = tmp_path / "pretrain-cross" / "artifacts" / "plots"
    assert sorted(path.name for path in plots.iterdir()) == ["assignments.png", "loss.png", "prototypes.png"]


def test_the_model_card_names_weights_and_data_and_its_code_loads_them(stages, root, monkeypatch):
    (artifact,) = weights_of(root, stages["single"])
    page = (artifact.path.parent / "card" / "model_card.md").read_text()
    for text in (artifact.digest, stages["single"].inputs["dataset"][0].digest, "| method.num_prototypes | 6 |"):
        assert text in page
    code = page.partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(artifact.path.parent)
    found = {}
    exec(code, found)
    expected = load_weights(artifact).part("backbone")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found["backbone"].state_dict().items())


def test_the_model_card_is_the_same_whatever_order_inputs_are_given_in(stages, tmp_path):
    given = stages["cross"].inputs
    pages = []
    for number, inputs in enumerate((given, dict(reversed(given.items())))):
        replace(stages["cross"], inputs=inputs).execute(tmp_path / str(number))
        card = tmp_path / str(number) / stages["cross"].name / "artifacts" / "card"
        pages.append((card / "model_card.md").read_text())
    assert pages[0] == pages[1]


def test_point_04_cross_stream_starts_from_both_streams_and_keeps_the_second(stages, tmp_path):
    stages["cross"].execute(tmp_path)
    state = torch.load(tmp_path / "pretrain-cross" / "checkpoints" / "6.pt", weights_only=True)["method"]
    second = load_weights(stages["cross"].inputs["second"][0]).tensors
    main = load_weights(stages["cross"].inputs["main"][0]).tensors
    for name, tensor in second.items():
        if not name.startswith("prototypes."):
            assert torch.equal(state[f"encoders.1.{name}"], tensor), "frozen, buffers included"
    assert not torch.equal(state["encoders.0.backbone.features.0.weight"], main["backbone.features.0.weight"])


def test_a_cross_stream_stage_needs_both_streams(stages, tmp_path):
    cross = stages["cross"]
    for role in ("main", "second"):
        fewer = {name: ones for name, ones in cross.inputs.items() if name != role}
        with pytest.raises(StageError, match=f"no weights are bound to the role `{role}`"):
            replace(cross, inputs=fewer).execute(tmp_path)


def test_streams_that_are_swapped_or_missing_are_refused(stages, tmp_path):
    cross = stages["cross"]
    swapped = cross.inputs | {"main": cross.inputs["second"], "second": cross.inputs["main"]}
    with pytest.raises(StageError, match="were trained on flow, this stage reads rgb"):
        replace(cross, inputs=swapped).execute(tmp_path / "a")
    alone = {role: ones for role, ones in cross.inputs.items() if role != "second"}
    with pytest.raises(StageError, match="role `second`"):
        replace(cross, inputs=alone).execute(tmp_path / "b")


def test_weights_of_another_method_shape_are_refused(stages, tmp_path):
    config = stages["cross"].config
    other = replace(stages["cross"], config=replace(config, method=replace(config.method, num_prototypes=5)))
    with pytest.raises(StageError, match="do not fit method"):
        other.execute(tmp_path)


@pytest.mark.parametrize("kind", ["retrieval", "linear"])
def test_a_backbone_that_did_not_make_the_weights_is_refused_by_name(kind, stages, tmp_path):
    stage = searching(stages, "rgb") if kind == "retrieval" else stages["linear"]
    wider = replace(stage, config=replace(stage.config, backbone=TinyConfig(width=8)))
    with pytest.raises(StageError, match=r"'width': 4.*'width': 8"):
        wider.execute(tmp_path)


def test_a_file_that_holds_no_weights_is_refused(tmp_path):
    path = tmp_path / "x.pt"
    for content in (b"", b"text", None):
        if content is None:
            torch.save({"other": torch.zeros(1)}, path)
        else:
            path.write_bytes(content)
        with pytest.raises(StageError, match="cannot be read as weights"):
            load_weights(Artifact(type="weights", path=path, digest="", origin="file:x.pt"))
