"""Pretraining's hand-over, retrieval, the linear probe and fusion, run as stages on tiny videos."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.tiny_stages import BACKBONE, Stage, clips, make_stages, runtime, weights_of
from vssl.artifacts import Artifact, digest, read_json
from vssl.backbones.backbone_config import TinyConfig
from vssl.backbones.build import build_backbone
from vssl.config import ConfigError, build, changed
from vssl.device import placed
from vssl.methods import Position
from vssl.run import StageError, Stopped
from vssl.stages import fusion, linear, multiview, pretrain, retrieval, retrieval_pictures, sources
from vssl.stages.fusion_config import FusionConfig
from vssl.stages.multiview_config import MultiviewConfig
from vssl.stages.retrieval_config import RetrievalConfig
from vssl.weights import load_weights


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stages")


@pytest.fixture(scope="module")
def stages(root: Path) -> dict[str, Stage]:
    return make_stages(root)


def searching(stages: dict[str, Stage], root: Path, modality: str, **changes: Any) -> Stage:
    """Retrieval with the single-stream weights of a modality."""
    config = build(
        RetrievalConfig,
        {"backbone": BACKBONE, "data": clips(modality), "test_view": {"centre_crop": 0}, "runtime": runtime()}
        | changes,
    )
    parent = replace(stages["single"], name=f"pretrain-{modality}")
    inputs = {role: stages["single"].inputs[role] for role in ("dataset", "motion")}
    return Stage(retrieval.run, config, inputs | {"weights": weights_of(root, parent)}, f"retrieval-{modality}")


def made(root: Path, stage: Stage, name: str, kind: str) -> tuple[Artifact, ...]:
    path = root / stage.name / "artifacts" / name
    return (Artifact(type=kind, path=path, digest=digest(path)[0], origin=stage.name),)


def without_weights(stage: Stage) -> Stage:
    return replace(stage, inputs={role: ones for role, ones in stage.inputs.items() if role != "weights"})


def test_every_kind_heeds_the_memory_format(stages, root, tmp_path, monkeypatch):
    """Of each network that is placed on a device, also where it is only evaluated."""
    seen = []
    for module in (pretrain, sources):
        monkeypatch.setattr(module, "placed", lambda *given: seen.append(placed(*given)) or seen[-1])
    for stage in (stages["single"], stages["linear"], searching(stages, root, "rgb")):
        config = changed(stage.config, {"runtime": {"channels_last": True}})
        metrics = replace(stage, config=config).execute(tmp_path)
        kernel = next(p for p in seen.pop().parameters() if p.ndim == 5 and p.shape[1] > 1)
        assert kernel.is_contiguous(memory_format=torch.channels_last_3d)
        assert metrics == pytest.approx(stage.execute(tmp_path / "plain"), rel=1e-4, abs=1e-4)


def test_every_kind_compiles_its_backbones_on_request(stages, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(type(module).__name__))
    for kind, count in (("cross", 2), ("linear", 1), ("finetune", 1)):
        config = changed(stages[kind].config, {"runtime": {"compile": True}})
        replace(stages[kind], config=config).execute(tmp_path)
        assert compiled == ["Tiny"] * count
        compiled.clear()


def test_a_compiled_backbone_computes_the_same(stages, tmp_path, monkeypatch):
    """Traced as ever, and run without the code that the compiler would take a minute to make."""
    compile_in_place = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compile_in_place(module, backend="aot_eager"))
    config = changed(stages["single"].config, {"runtime": {"compile": True}})
    found = replace(stages["single"], config=config).execute(tmp_path)
    assert found == pytest.approx(stages["single"].execute(tmp_path / "plain"), rel=1e-4, abs=1e-4)


def test_a_cross_stream_stage_needs_both_streams(stages, tmp_path):
    cross = stages["cross"]
    for role in ("main", "second"):
        fewer = {name: ones for name, ones in cross.inputs.items() if name != role}
        with pytest.raises(StageError, match=f"no weights are bound to the role `{role}`"):
            replace(cross, inputs=fewer).execute(tmp_path)


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


def test_a_picture_that_cannot_be_drawn_costs_no_stage_its_result(stages, root, tmp_path, monkeypatch, capsys):
    def broken(*_, **__):
        raise MemoryError("no room for a picture")

    monkeypatch.setattr(retrieval_pictures, "feature_space", broken)
    assert searching(stages, root, "flow").execute(tmp_path)["query_videos"] == 2
    assert "feature_space.png could not be drawn (MemoryError: no room for a picture)" in capsys.readouterr().out
    assert (tmp_path / "retrieval-flow" / "artifacts" / "plots" / "neighbours.png").is_file()


def test_point_04_cross_stream_starts_from_both_streams_and_keeps_the_second(stages, root, tmp_path):
    stages["cross"].execute(tmp_path)
    state = torch.load(tmp_path / "pretrain-cross" / "checkpoints" / "6.pt", weights_only=True)["method"]
    second = load_weights(stages["cross"].inputs["second"][0]).tensors
    main = load_weights(stages["cross"].inputs["main"][0]).tensors
    for name, tensor in second.items():
        if not name.startswith("prototypes."):
            assert torch.equal(state[f"encoders.1.{name}"], tensor), "frozen, buffers included"
    assert not torch.equal(state["encoders.0.backbone.features.0.weight"], main["backbone.features.0.weight"])


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
def test_a_backbone_that_did_not_make_the_weights_is_refused_by_name(kind, stages, root, tmp_path):
    stage = searching(stages, root, "rgb") if kind == "retrieval" else stages["linear"]
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


def test_retrieval_of_trained_and_untrained_networks(stages, root, tmp_path, capsys):
    stage = searching(stages, root, "rgb")
    metrics = stage.execute(tmp_path / "trained")
    assert metrics["chance_recall_at_1"] == 0.5
    assert (metrics["gallery_videos"], metrics["query_videos"]) == (6, 2)
    assert metrics["recall_at_1"] <= metrics["recall_at_5"] <= metrics["recall_at_50"] == 1.0
    assert read_json(tmp_path / "trained" / stage.name / "artifacts" / "metrics") == metrics
    plots = tmp_path / "trained" / stage.name / "artifacts" / "plots"
    assert sorted(path.name for path in plots.iterdir()) == ["feature_space.png", "neighbours.png"]
    capsys.readouterr()
    without_weights(stage).execute(tmp_path / "untrained")
    assert "untrained network" in capsys.readouterr().out
    tables = [
        pd.read_parquet(tmp_path / which / stage.name / "artifacts" / "features" / "query.parquet")
        for which in ("trained", "untrained")
    ]
    assert tables[0]["video_id"].tolist() == tables[1]["video_id"].tolist()
    assert any((a != b).any() for a, b in zip(tables[0]["feature"], tables[1]["feature"]))


def test_a_gallery_of_one_random_clip_leaves_the_queries_as_they_are(stages, root, tmp_path):
    """As in the public code; queries are all windows in both modes. Its colours at test time are another choice."""
    found = {}
    for name, changes in (
        ("windows", {}),
        ("one-clip", {"gallery": "one-clip"}),
        ("again", {"gallery": "one-clip"}),
        ("compat", {"gallery": "one-clip", "test_view": {"centre_crop": 0, "compat_jitter": True}}),
    ):
        stage = searching(stages, root, "rgb", **changes)
        stage.execute(tmp_path / name)
        folder = tmp_path / name / stage.name / "artifacts" / "features"
        found[name] = [
            torch.tensor(np.array(pd.read_parquet(folder / f"{split}.parquet")["feature"].tolist()))
            for split in ("gallery", "query")
        ]
    assert torch.equal(found["one-clip"][1], found["windows"][1])
    assert not torch.equal(found["one-clip"][0], found["windows"][0])
    assert all(map(torch.equal, found["one-clip"], found["again"]))
    assert not all(map(torch.equal, found["compat"], found["one-clip"]))


def test_the_batch_size_of_an_evaluation_changes_nothing(stages, root, tmp_path):
    features = []
    for size in (1, 32):
        searching(stages, root, "flow", batch_size=size).execute(tmp_path / str(size))
        table = pd.read_parquet(tmp_path / str(size) / "retrieval-flow" / "artifacts" / "features" / "gallery.parquet")
        features.append(torch.tensor(np.array(table["feature"].tolist())))
    torch.testing.assert_close(*features)


def test_an_evaluation_can_be_stopped_and_started_again(stages, root, tmp_path):
    stage = searching(stages, root, "rgb", batch_size=2)
    with pytest.raises(Stopped):
        stage.execute(tmp_path, stop_requested=lambda: True)
    assert stage.execute(tmp_path)["query_videos"] == 2


def test_point_14_linear_probe_only_trains_the_head(stages, tmp_path):
    metrics = stages["linear"].execute(tmp_path)
    before = load_weights(stages["linear"].inputs["weights"][0]).part("backbone")
    after = load_weights(made(tmp_path, stages["linear"], "weights", "weights")[0])
    assert set(after.part("backbone")) == set(before)
    for name, tensor in after.part("backbone").items():
        assert torch.equal(tensor, before[name]), f"{name} has changed"
    head = after.part("head")
    assert head["norm.running_mean"].abs().sum() > 0, "the batch normalisation of the head is trained"
    assert head["norm.num_batches_tracked"] == 6
    assert {"top1", "top5", "chance_top1", "train_loss_last"} <= set(metrics)
    assert metrics["chance_top1"] == 0.5


def test_predictions_are_probabilities_of_every_test_video(stages, tmp_path):
    metrics = stages["linear"].execute(tmp_path)
    table = pd.read_parquet(tmp_path / "linear-rgb" / "artifacts" / "predictions" / "predictions.parquet")
    probabilities = torch.tensor(np.array(table["probabilities"].tolist()))
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2))
    hits = probabilities.argmax(dim=1) == torch.tensor(table["label"].tolist())
    assert metrics["top1"] == hits.double().mean().item()


def test_fusion_of_features_and_of_predictions(stages, root, tmp_path):
    rgb, flow = (searching(stages, root, modality) for modality in ("rgb", "flow"))
    for stage in (rgb, flow, stages["linear"]):
        stage.execute(tmp_path)
    features = {
        "rgb": made(tmp_path, rgb, "features", "features"), "flow": made(tmp_path, flow, "features", "features"),
    }  # fmt: skip
    fused = Stage(fusion.run, FusionConfig(ks=(1, 5)), features, "fusion").execute(tmp_path)
    assert set(fused) == {"recall_at_1", "recall_at_5", "chance_recall_at_1", "videos"}
    predictions = made(tmp_path, stages["linear"], "predictions", "predictions")
    twice = Stage(fusion.run, FusionConfig(), {"rgb": predictions, "flow": predictions}, "fused").execute(tmp_path)
    assert twice["top1"] == read_json(tmp_path / "linear-rgb" / "artifacts" / "metrics")["top1"]
    with pytest.raises(StageError, match="rgb is features and flow is predictions"):
        Stage(fusion.run, FusionConfig(), {**features, "flow": predictions}, "mixed").execute(tmp_path)


def test_the_probes_backbone_stays_in_evaluation_mode():
    backbone = torch.nn.Sequential(torch.nn.BatchNorm3d(3))
    backbone.num_features = 3
    probe = linear.LinearProbe(backbone, 2).train()
    assert not backbone.training
    assert probe.head.training


def probe_of(**options: bool) -> linear.LinearProbe:
    backbone = build_backbone(TinyConfig(width=2)).requires_grad_(False)
    return linear.LinearProbe(backbone, 3, **options).train()


@pytest.mark.parametrize("drifting", [False, True])
def test_a_plain_probe_trains_two_tensors_and_statistics_move_only_if_they_may(drifting):
    probe = probe_of(plain=True, drifting=drifting)
    before = {name: tensor.clone() for name, tensor in probe.backbone.state_dict().items()}
    batch = {"streams": {"rgb": torch.randn(4, 1, 3, 4, 16, 16)}, "labels": torch.tensor([0, 1, 2, 0])}
    loss, _ = probe(batch, Position(step=0, epoch=0, steps_per_epoch=1, epochs=1))
    loss.backward()
    trained = {name for name, parameter in probe.named_parameters() if parameter.grad is not None}
    assert (
        trained
        == {n for n, p in probe.named_parameters() if p.requires_grad}
        == {"head.linear.weight", "head.linear.bias"}
    )
    moved = {name for name, tensor in probe.backbone.state_dict().items() if not torch.equal(tensor, before[name])}
    assert all("running" in name or "num_batches" in name for name in moved)
    assert bool(moved) == drifting
    probe.eval()
    assert not any(module.training for module in probe.modules())


def test_a_drifting_probe_as_a_stage(stages, root, tmp_path):
    stage = replace(stages["linear"], config=replace(stages["linear"].config, head="plain", trunk="train"))
    metrics = stage.execute(tmp_path)
    before, after = (load_weights(weights_of(*at)[0]) for at in ((root, stages["single"]), (tmp_path, stage)))
    assert set(after.part("head")) == {"linear.weight", "linear.bias"}
    differing = {n for n, one in after.part("backbone").items() if not torch.equal(one, before.part("backbone")[n])}
    assert differing == {n for n in after.part("backbone") if "running" in n or "num_batches" in n}
    tested = build(
        MultiviewConfig,
        {
            "backbone": BACKBONE, "data": clips("rgb"), "test_crops": "centre", "test_view": {"centre_crop": 0},
            "runtime": runtime(),
        },
    )  # fmt: skip
    again = Stage(multiview.run, tested, dict(stage.inputs) | {"weights": weights_of(tmp_path, stage)}, "again")
    assert again.execute(tmp_path)["top1"] == metrics["top1"]


def test_retrieval_of_raw_features_with_a_gallery_of_centre_clips(stages, root, tmp_path):
    """As FGKVMem: features are averaged as they are, and nothing is centred."""
    ten = {"centre_crop": 0, "num_clips": 2, "num_crops": 3}
    stage = searching(stages, root, "rgb", features="raw", gallery="centre-clip", test_view=ten, ks=[1, 2])
    found = stage.execute(tmp_path)
    tables = tmp_path / stage.name / "artifacts" / "features"
    query, gallery = (pd.read_parquet(tables / f"{name}.parquet") for name in ("query", "gallery"))
    vectors = {"query": np.stack(query["feature"]), "gallery": np.stack(gallery["feature"])}
    assert not np.allclose(np.linalg.norm(vectors["query"], axis=1), 1)
    unit = {name: one / np.linalg.norm(one, axis=1, keepdims=True) for name, one in vectors.items()}
    nearest = (unit["query"] @ unit["gallery"].T).argmax(axis=1)
    hits = gallery["label"].to_numpy()[nearest] == query["label"].to_numpy()
    assert found["recall_at_1"] == pytest.approx(hits.mean())
    pairs = 1 - unit["query"] @ unit["query"].T
    assert found["dissimilarity_of_videos"] == pytest.approx(pairs.mean(), abs=1e-5)
    assert 0 < found["dissimilarity_of_windows"] < 1
    with pytest.raises(ConfigError, match="gallery is one-clip and test_view"):
        searching(stages, root, "rgb", gallery="one-clip", test_view={"legacy_views": [18, 20]})
