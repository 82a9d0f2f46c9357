"""CARL's rules: what is frozen, what learns, what a batch is, what is kept (card, section 13)."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.carl_batches import SMALL, batch, tiny
from tests.vicc_steps import at
from vssl.artifacts import StageFolder
from vssl.backbones.backbone_config import TinyConfig, TinyFramesConfig
from vssl.config import ConfigError, build
from vssl.loop import train
from vssl.methods import Method, load_method
from vssl.methods.carl import CARL, FrameEncoder, Projector
from vssl.methods.carl_config import CARLConfig
from vssl.optim import build_optimizer
from vssl.optim_config import AdamConfig
from vssl.run import Run, read_journal
from vssl.stages.runtime_config import RuntimeConfig


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


def test_point_14_weights_hold_the_encoder_and_evaluation_leaves_the_projector_out() -> None:
    method = tiny()
    parts = {name.partition(".")[0] for name in method.weights()}
    assert parts == {"backbone", "embedder", "projector"}
    assert isinstance(method.projector, Projector)
    encoder = FrameEncoder(tiny(1).encoder.backbone, method.config.embedder, frozen_layers=3)
    encoder.load_state_dict({n: t for n, t in method.weights().items() if not n.startswith("projector.")})
    frames = batch()["streams"]["rgb"][:, 0]
    torch.testing.assert_close(encoder.eval()(frames), method.eval().encoder(frames))
