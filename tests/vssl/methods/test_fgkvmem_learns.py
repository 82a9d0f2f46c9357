"""FGKVMem learns what two clips of a video share, in seconds on one core (card, section 13, point 17)."""

from dataclasses import dataclass
from statistics import fmean

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vssl.backbones.backbone_config import TinyConfig
from vssl.config import build
from vssl.evals.knn import knn_scores
from vssl.evals.metrics import top_k
from vssl.methods import Position
from vssl.methods.fgkvmem import FGKVMem
from vssl.methods.fgkvmem_config import FGKVMemConfig
from vssl.optim import build_optimizer, set_learning_rate
from vssl.optim_config import JoinedCosineConfig, LARCConfig, SGDConfig
from vssl.schedules import learning_rate

SIDE, FRAMES, PATCH = 16, 4, 10
TRAIN, TEST, BATCH, DIM = 96, 160, 32, 8
EPOCHS, STEPS, RATE = 60, TRAIN // BATCH, 0.3
ROW, COLUMN = torch.meshgrid(torch.arange(PATCH) // 2, torch.arange(PATCH) // 2, indexing="ij")
SQUARE = F.pad(torch.ones(PATCH - 2, PATCH - 2), (1, 1, 1, 1))
SHAPES = F.pad(torch.stack([ROW % 2, COLUMN % 2, (ROW + COLUMN) % 2, SQUARE]), (0, SIDE - PATCH, 0, SIDE - PATCH))
MOVES = torch.tensor([(0, 1), (1, 0), (1, 1), (1, -1)])  # pixels down and right per frame, of each class


def clips(classes: Tensor, generator: Generator) -> Tensor:
    """(N, 3, FRAMES, SIDE, SIDE) of videos: stripes, a chequer or a square, each on its way, which comes back on the
    other side. From about the same place, but in other colours each time, and with noise."""
    start = torch.randint(4, (len(classes), 1, 2), generator=generator)
    at = start + torch.arange(FRAMES)[None, :, None] * MOVES[classes][:, None]  # (N, T, 2)
    rows, columns = ((torch.arange(SIDE) - at[..., axis, None]) % SIDE for axis in (0, 1))  # (N, T, SIDE) each
    masks = SHAPES[classes[:, None, None, None], rows[..., :, None], columns[..., None, :]]
    ground, height = torch.rand(2, len(classes), 3, 1, 1, 1, generator=generator)
    coloured = ground + (1 + height) * masks[:, None]
    return coloured + 0.5 * torch.randn(coloured.shape, generator=generator)


@dataclass(frozen=True)
class Learned:
    before: float  # top-1 by nearest neighbours, of the network as it was drawn
    after: float
    cosines: list[float]
    spreads: list[float]
    deviations: Tensor  # (D,) of the training videos' unit embeddings, times sqrt(D)


def learned(seed: int) -> Learned:
    """After training with memory and concepts."""
    generator = torch.Generator().manual_seed(seed)
    known, asked = torch.arange(TRAIN) % len(SHAPES), torch.arange(TEST) % len(SHAPES)
    bank, queries = clips(known, generator), clips(asked, generator)
    sizes = {
        "proj_dim": DIM,
        "mlp_dim": 64,
        "kvmemory": {"slots": 64, "query_dim": DIM, "value_dim": DIM},
        "concepts": {"num": 64},
        "ema_decay": 0.99,  # so few steps are over before 0.996 follows
    }
    config = build(FGKVMemConfig, sizes)
    method = FGKVMem.from_config(config, TinyConfig(width=8), global_batch_size=BATCH, seed=seed)
    optim = SGDConfig(base_lr=RATE, larc=LARCConfig(trust=0.02), nesterov=True, decay_1d=False)
    optimizer, schedule = build_optimizer(optim, method.parameters()), JoinedCosineConfig(warmup_epochs=EPOCHS // 10)

    @torch.no_grad()
    def top1() -> float:
        method.eval()
        features, others = (method.backbone(one).mean(dim=(2, 3, 4)) for one in (queries, bank))
        method.train()
        return top_k(knn_scores(features, others, known, num_classes=len(SHAPES), k=5), asked, 1)

    before, cosines, spreads = top1(), [], []
    for step in range(EPOCHS * STEPS):
        if step % STEPS == 0:
            order = torch.randperm(TRAIN, generator=generator)
        classes = known[order[step % STEPS * BATCH :][:BATCH]]
        pairs = torch.stack([clips(classes, generator) for _ in range(2)], dim=1)
        rate = learning_rate(schedule, RATE, step=step, epochs=EPOCHS, steps_per_epoch=STEPS)
        set_learning_rate(optimizer, rate)
        position = Position(step=step, epoch=step // STEPS, steps_per_epoch=STEPS, epochs=EPOCHS)
        loss, scalars = method({"streams": {"rgb": pairs}}, position)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cosines.append(float(scalars["cosine"]))
        spreads.append(float(scalars["spread"]))
    with torch.no_grad():
        unit = F.normalize(method.eval().online(bank)[1], dim=1)
    return Learned(before, top1(), cosines, spreads, unit.std(dim=0, correction=0) * DIM**0.5)


@pytest.mark.parametrize("seed", [0, 1])
def test_point_17_what_moves_is_learned_without_collapse(seed: int) -> None:
    found = learned(seed)
    assert found.after > found.before + 0.2, found
    assert fmean(found.cosines[-STEPS:]) > fmean(found.cosines[:STEPS]) + 0.3, found
    assert min(found.spreads) > 0.3, found
    assert found.deviations.min() > 0.3, found
