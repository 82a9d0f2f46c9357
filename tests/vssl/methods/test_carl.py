"""CARL's rules: what is frozen, what learns, what a batch is, what is kept (card, section 13)."""

import copy
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import carl_names
from tests.goldens import golden
from tests.vicc_steps import at
from vssl.artifacts import StageFolder
from vssl.backbones.backbone_config import FrameResNet50Config, TinyConfig, TinyFramesConfig
from vssl.config import ConfigError, build
from vssl.loop import train
from vssl.methods import Method, load_method
from vssl.methods.carl import CARL, FrameEncoder, Projector
from vssl.methods.carl_config import CARLConfig
from vssl.optim import build_optimizer
from vssl.optim_config import AdamConfig
from vssl.randomness import stream
from vssl.run import Run, read_journal
from vssl.stages.runtime_config import RuntimeConfig

SMALL: dict[str, Any] = {
    "embedder": {
        "name": "transformer",
        "layers": 2,
        "dim": 8,
        "heads": 2,
        "ff_dim": 8,
        "fc_dims": [8, 8],
        "embedding_dim": 6,
    },
    "proj_dim": 6,
    "block": 4,
}
VIDEOS, SLOTS, SIDE = 2, 6, 32


def tiny(seed: int = 0, **knobs: Any) -> CARL:
    config = build(CARLConfig, SMALL | knobs)
    return CARL.from_config(config, TinyFramesConfig(width=2), global_batch_size=VIDEOS, seed=seed)


def batch(number: int = 0, views: int = 2, context: int = 1, videos: int = VIDEOS, side: int = SIDE) -> dict[str, Any]:
    generator = stream("batch", number)
    lengths = torch.randint(2 * SLOTS, 40, (videos,), generator=generator)
    steps = torch.stack(
        [torch.randperm(int(n), generator=generator)[:SLOTS].sort().values for n in lengths for _ in range(views)]
    ).view(videos, views, SLOTS)
    steps[0, 0, -1] = lengths[0]  # masked
    clips = torch.randn(videos, views, 3, SLOTS * context, side, side, generator=generator)
    return {
        "streams": {"rgb": clips},
        "steps": steps,
        "lengths": lengths,
        "labels": torch.zeros(videos),
        "frame_labels": steps % 3 - 1,
    }


def test_it_is_a_method() -> None:
    method: Method = load_method("carl")(
        build(CARLConfig, SMALL), TinyFramesConfig(width=2), global_batch_size=2, seed=0
    )
    assert isinstance(method, CARL)
    with pytest.raises(ConfigError, match="frame_resnet50"):
        CARL.from_config(build(CARLConfig, SMALL), TinyConfig(), global_batch_size=2, seed=0)


@pytest.mark.parametrize("frozen", [0, 2, 3, 4])
def test_point_09_what_is_frozen_does_not_move(frozen: Any) -> None:
    method = tiny(frozen_layers=frozen).train()
    optimizer = build_optimizer(AdamConfig(base_lr=0.01), method.parameters())
    before = copy.deepcopy(method.encoder.backbone.state_dict())
    loss, _ = method(batch(), at(0))
    loss.backward()
    method.before_update(at(0))
    optimizer.step()
    parts = {name: int(name.split(".")[1]) for name in before}  # features.<part>.*
    for name, tensor in method.encoder.backbone.state_dict().items():
        moved = not torch.equal(tensor, before[name])
        assert moved == (not frozen or parts[name] > frozen), name


def test_point_09_sizes_of_the_published_model() -> None:
    with torch.device("meta"):
        counts = {}
        for layers in (2, 3):
            config = build(CARLConfig, {"embedder": {"name": "transformer", "layers": layers}})
            method = CARL.from_config(config, FrameResNet50Config(), global_batch_size=1, seed=0)
            counts[layers] = sum(p.numel() for p in method.parameters())
            handed = [
                p for group in build_optimizer(AdamConfig(), method.parameters()).param_groups for p in group["params"]
            ]
        conv = build(CARLConfig, {"embedder": {"name": "conv"}, "frozen_layers": 0})
        no_layer4 = CARL.from_config(conv, FrameResNet50Config(layers=3), global_batch_size=1, seed=0)
    assert counts == {2: 26_598_848, 3: 27_388_608}
    assert sum(p.numel() for p in handed) == 18_845_312
    norms = [module for module in method.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    trained = [p for norm in norms for p in norm.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == 24_832
    backbone = sum(p.numel() for p in method.backbone.parameters())
    assert backbone == 8_543_296 + 14_964_736
    # the original builds layer4 beside the convolutional embedder and never runs it
    assert sum(p.numel() for p in no_layer4.parameters()) == 45_369_024 - 14_964_736


def test_whole_model_golden() -> None:
    """Every weight by the rule of the golden file, in evaluation mode."""
    arrays = golden("full_model", "carl")
    trained, offset = int(arrays["train_num_frames"]), int(arrays["seed_offset"])
    config = build(CARLConfig, {"embedder": {"name": "transformer", "layers": int(arrays["num_layers"])}, "block": 3})
    with torch.device("meta"):
        method = CARL.from_config(config, FrameResNet50Config(), global_batch_size=1, seed=0)
    state = {}
    for _, name, shape in json.loads(str(arrays["keys_json"])):
        if name.endswith("num_batches_tracked"):
            continue
        rs = np.random.RandomState((zlib.crc32(name.encode()) + offset) & 0x7FFFFFFF)
        if name.endswith("running_mean"):
            values = 0.05 * rs.randn(*shape)
        elif name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            values = rs.uniform(0.8, 1.2, shape)
        else:
            values = rs.randn(*shape) * (0.02 if len(shape) == 1 else np.sqrt(1 / np.prod(shape[1:])))
        state[carl_names.of_model(name)] = torch.from_numpy(values.astype(np.float32))
    unknown = method.load_state_dict(state, strict=False, assign=True)
    assert not unknown.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in unknown.missing_keys)
    method.eval()
    frames = torch.from_numpy(arrays["x"]).transpose(1, 2)
    mask = torch.ones(1, frames.shape[2], dtype=torch.bool)
    masked = mask.clone()
    masked[0, -1] = False
    with torch.no_grad():
        parts = method.encoder.backbone.parts()
        maps = frames[0].transpose(0, 1)
        for number, part in enumerate(parts):
            for module in part:
                maps = module(maps)
            if f"layer{number}_stats" in arrays:
                found = torch.stack([maps.mean(), maps.std(), maps.amin(), maps.amax(), maps.abs().sum()])
                expected = torch.from_numpy(arrays[f"layer{number}_stats"]).float()
                torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
        pooled = method.encoder.features(frames)
        torch.testing.assert_close(pooled[0], torch.from_numpy(arrays["pooled"]), rtol=1e-3, atol=1e-4)
        assert method.projector is not None
        for given, key in ((mask, "embs"), (masked, "embs_masked")):
            embeddings = method.encoder.embedder(pooled, given, trained_count=trained)
            torch.testing.assert_close(F.normalize(embeddings, dim=2), torch.from_numpy(arrays[key]), rtol=0, atol=1e-4)
        projected = F.normalize(method.projector(embeddings), dim=2)
        torch.testing.assert_close(projected, torch.from_numpy(arrays["embs_masked_projected"]), rtol=0, atol=1e-4)


def test_blocks_and_recomputation_change_nothing_but_memory() -> None:
    """In training a block is what is normalised together; in evaluation its size does not show."""
    grads = []
    for recompute in (False, True):
        method = tiny(recompute=recompute).train()
        loss, _ = method(batch(), at(3))
        loss.backward()
        grads.append(
            {n: p.grad for n, p in method.named_parameters() if p.grad is not None} | dict(method.named_buffers())
        )
    for name in grads[0]:
        assert torch.equal(grads[0][name], grads[1][name]), name
    frames = batch()["streams"]["rgb"][:, 0]
    whole, blocks = tiny(block=40).eval(), tiny(block=4).eval()
    torch.testing.assert_close(whole.encoder(frames), blocks.encoder(frames))
    assert not torch.allclose(whole.train().encoder(frames), blocks.train().encoder(frames))


def test_point_09_layer4_is_normalised_by_blocks() -> None:
    method = tiny(block=4).train()
    frames = batch()["streams"]["rgb"][:, 0]
    expected = torch.cat([method.encoder.features(part) for part in (frames[:, :, :4], frames[:, :, 4:])], dim=1)
    torch.testing.assert_close(method.encoder.features(frames), expected)


def test_point_03_the_views_may_be_swapped() -> None:
    given = batch()
    method = tiny().eval()
    one, scalars = method(given, at(0))
    swapped = {"streams": {"rgb": given["streams"]["rgb"].flip(1)}, "steps": given["steps"].flip(1)}
    other, _ = method(given | swapped, at(0))
    assert one.item() == pytest.approx(other.item(), abs=1e-6)
    assert set(scalars) == {"spread", "time_error"}


def test_groups_of_videos_do_not_know_of_one_another() -> None:
    given = batch(videos=4)
    method = tiny(negatives="batch_noself", videos_per_loss=2).eval()

    def of(videos: slice) -> Tensor:
        part = {key: value[videos] for key, value in given.items() if key != "streams"}
        loss: Tensor = method(part | {"streams": {"rgb": given["streams"]["rgb"][videos]}}, at(0))[0]
        return loss

    expected = torch.stack([of(slice(0, 2)), of(slice(2, 4))]).mean()
    torch.testing.assert_close(of(slice(0, 4)), expected)
    with pytest.raises(ConfigError, match="videos_per_loss is 2"):
        of(slice(0, 3))


@pytest.mark.parametrize(
    "knobs",
    [
        {"objective": "tcc", "videos_per_loss": 2},
        {"objective": "tcc", "videos_per_loss": 2, "penalty": "classification", "unit_embeddings": False},
        {"objective": "tcc", "videos_per_loss": 2, "similarity": "cosine", "normalised_times": False},
        {"objective": "tcn"},
        {"objective": "supervised", "num_classes": 2},
        {"objective": "scl", "embedder": {"name": "frame", "fc_dims": [8, 8], "embedding_dim": 6}},
        {"objective": "scl", "embedder": {"name": "conv", "conv_dim": 4, "fc_dims": [8, 8], "embedding_dim": 6}},
    ],
    ids=lambda knobs: "-".join(
        str(v) if isinstance(v, str) else v["name"] for v in knobs.values() if not isinstance(v, int)
    ),
)
def test_every_objective_and_embedder_learns(knobs: dict[str, Any]) -> None:
    conv = knobs.get("embedder", {}).get("name") == "conv"
    backbone = TinyFramesConfig(width=2, layers=3 if conv else 4)
    config = build(CARLConfig, SMALL | {"frozen_layers": 0} | knobs)
    method = CARL.from_config(config, backbone, global_batch_size=VIDEOS, seed=0).train()
    context = 2 if conv else 1
    given = batch(views=2 if config.objective == "scl" else 1, context=context, side=48 if conv else SIDE)
    optimizer = build_optimizer(AdamConfig(base_lr=0.01), method.parameters())
    losses = []
    for step in range(12):
        loss, _ = method(given, at(step))
        optimizer.zero_grad()
        loss.backward()
        method.before_update(at(step))
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in method.parameters() if parameter.requires_grad)


def test_the_supervised_objective_is_the_cross_entropy_of_frames_that_have_labels() -> None:
    method = tiny(objective="supervised", num_classes=2, unit_embeddings=False).eval()
    given = batch(views=1)
    given["lengths"] += 1  # so that no slot is masked
    assert method.classifier is not None
    assert method.projector is None
    with torch.no_grad():
        loss, scalars = method(given, at(0))
        logits = method.classifier(method.encoder(given["streams"]["rgb"][:, 0]))
    known = given["frame_labels"][:, 0] >= 0
    assert not known.all()
    videos = [(scores[shown], of[shown]) for scores, of, shown in zip(logits, given["frame_labels"][:, 0], known)]
    expected = [F.cross_entropy(scores, of) for scores, of in videos]  # a video is a group
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    hits = [(scores.argmax(dim=1) == of).float().mean() for scores, of in videos]
    torch.testing.assert_close(scalars["accuracy"], torch.stack(hits).mean())
    assert {name.partition(".")[0] for name in method.weights()} == {"backbone", "embedder", "classifier"}


def test_a_step_is_a_function_of_seed_and_step() -> None:
    method = tiny().train()
    one, again, later = (method(batch(), at(step))[0].item() for step in (5, 5, 6))
    assert one == again
    assert one != later  # another dropout


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_point_15_twenty_steps_in_half_precision(amp: Any, tmp_path: Path) -> None:
    """On still synthetic videos: no error, finite losses that fall; skipped steps are counted."""

    class Loader:
        steps_per_epoch, replaced = 20, []

        def batches(self, epoch: int, start_step: int) -> Iterator[dict[str, Any]]:
            yield from (batch() for _ in range(self.steps_per_epoch))

    (tmp_path / "checkpoints").mkdir()
    method = tiny(frozen_layers=0, embedder=SMALL["embedder"] | {"dropout": 0.0})
    train(
        method, build_optimizer(AdamConfig(base_lr=0.01), method.parameters()), Loader(), Run(StageFolder(tmp_path)),
        lr_at=lambda step: 0.01, epochs=1, runtime=RuntimeConfig(amp=amp), device=torch.device("cpu"), identity="20",
    )  # fmt: skip
    rows = [row["values"] for row in read_journal(tmp_path / "journal.jsonl")]
    assert len(rows) == 20
    assert all(np.isfinite(row["loss"]) for row in rows)
    assert np.mean([row["loss"] for row in rows[-5:]]) < np.mean([row["loss"] for row in rows[:5]])
    assert all(("skipped" in row) == (amp == "fp16") for row in rows)


def test_a_view_that_shows_nothing_gives_no_nan() -> None:
    given = batch()
    given["steps"][0, 1] = given["lengths"][0]
    method = tiny().train()
    loss, scalars = method(given, at(0))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)
    assert all(torch.as_tensor(value).isfinite() for value in scalars.values())


@pytest.mark.parametrize("over", ["slots", "frames"])
@pytest.mark.parametrize("embedder", ["transformer", "conv"])
def test_masked_slots_enter_the_statistics_of_vectors_or_do_not(embedder: str, over: str) -> None:
    """What a masked slot shows moves nothing where statistics are over frames, but its own slot."""
    conv = {"name": "conv", "conv_dim": 4, "fc_dims": [8, 8], "embedding_dim": 6}
    knobs: dict[str, Any] = {"batchnorm_over": over, "embedder": conv if embedder == "conv" else SMALL["embedder"]}
    config = build(CARLConfig, SMALL | knobs | {"masked_weight": 0.0})
    backbone = TinyFramesConfig(width=2, layers=3 if embedder == "conv" else 4)
    given = batch(side=48 if embedder == "conv" else SIDE)
    other = copy.deepcopy(given)
    other["streams"]["rgb"][0, 0, :, -1] += 5  # masked
    losses, statistics = [], []
    for clips in (given, other):
        method = CARL.from_config(config, backbone, global_batch_size=VIDEOS, seed=0)
        method.train()
        method.encoder.backbone.eval()  # its maps are normalised over all slots in any case
        losses.append(method(clips, at(0))[0].item())
        names = [name for name in method.state_dict() if "running" in name and "backbone" not in name]
        assert names
        statistics.append(torch.cat([method.state_dict()[name] for name in names]))
    assert (losses[0] == losses[1]) == (over == "frames")
    assert torch.equal(*statistics) == (over == "frames")


def test_point_14_weights_hold_the_encoder_and_evaluation_leaves_the_projector_out() -> None:
    method = tiny()
    parts = {name.partition(".")[0] for name in method.weights()}
    assert parts == {"backbone", "embedder", "projector"}
    assert isinstance(method.projector, Projector)
    encoder = FrameEncoder(tiny(1).encoder.backbone, method.config.embedder, frozen_layers=3)
    encoder.load_state_dict({n: t for n, t in method.weights().items() if not n.startswith("projector.")})
    frames = batch()["streams"]["rgb"][:, 0]
    torch.testing.assert_close(encoder.eval()(frames), method.eval().encoder(frames))


def test_what_does_not_go_together_is_refused() -> None:
    for knobs, word in (
        ({"objective": "tcc"}, "another video"),
        ({"negatives": "batch"}, "no other videos"),
        ({"legacy_classification": True}, "goes with tcc and classification"),
        ({"objective": "supervised"}, "takes the number of labels"),
        ({"num_classes": 5}, "objective is scl"),
        ({"embedder": {"name": "transformer", "dim": 9, "heads": 2}}, "multiple of heads"),
    ):
        with pytest.raises(ConfigError, match=word):
            build(CARLConfig, knobs)
