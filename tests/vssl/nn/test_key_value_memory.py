"""The key-value memory and the concepts' parts (card of FGKVMem, section 13, points 2, 5 and 7)."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.gloo import run_ranks
from tests.goldens import golden_tensors
from vssl.distributed import rank
from vssl.nn.batchnorm import norm_layer
from vssl.nn.concepts import Centre, ConceptCode
from vssl.nn.ema import ema_decay, move_towards
from vssl.nn.key_value_memory import KeyValueMemory
from vssl.nn.mlp import MLP


def memory(**changes: Any) -> KeyValueMemory:
    sizes: dict[str, Any] = {"slots": 12, "heads": 1, "query_dim": 5, "value_dim": 8, "scale": 16.0}
    layers: dict[str, Any] = {"query_layers": 2, "output_layers": 0, "residual": False, "norm_layer": norm_layer(None)}
    torch.manual_seed(0)
    return KeyValueMemory(8, **(sizes | layers | changes)).double()


def rows(n: int, dim: int = 8) -> Tensor:
    return torch.randn(n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("heads", [1, 3])
def test_point_02_shares_are_a_distribution_per_head_and_lengths_do_not_matter(heads: int) -> None:
    reader = memory(heads=heads, query_layers=1, output_layers=2)
    z = rows(6)
    shares = reader.address(z)
    assert shares.shape == (6, heads, 12 // heads)
    assert (shares >= 0).all()
    torch.testing.assert_close(shares.sum(-1), torch.ones(6, heads, dtype=torch.float64), atol=1e-6, rtol=0)
    with torch.no_grad():
        reader.key *= torch.linspace(0.1, 30, len(reader.key))[:, None]
    torch.testing.assert_close(reader.address(7.5 * z), shares)


def test_point_02_queries_that_are_a_key_read_its_value() -> None:
    reader = memory(scale=5000.0)
    reader.query = nn.Identity()  # type: ignore[assignment]
    chosen = torch.tensor([3, 0, 11])
    queries = 2 * reader.key[chosen].detach()
    torch.testing.assert_close(reader.read(reader.address(queries), rows(3)), reader.value[chosen])


@torch.no_grad()
def test_a_slow_twin_reads_slot_by_slot() -> None:
    reader = memory(heads=2, value_dim=4, residual=True, scale=3.0)
    z = rows(5)
    queries = reader.query(z)
    for found, embedding, query in zip(reader(z), z, queries):
        read = []
        for head in range(2):
            q, keys, values = query[head * 5 : head * 5 + 5], reader.key[head * 6 :][:6], reader.value[head * 6 :][:6]
            weights = [math.exp(3.0 * float(q @ k) / float(q.norm() * k.norm())) for k in keys]
            read.append(sum(w * v for w, v in zip(weights, values)) / sum(weights))
        torch.testing.assert_close(found, torch.cat(read) + embedding)


def test_initial_weights() -> None:
    reader = memory(slots=4000, query_dim=16)
    assert reader.key.abs().max().item() == pytest.approx(0.25, rel=1e-3)
    assert reader.value.std().item() == pytest.approx(0.02, rel=0.02)
    first, _, _, last = reader.query.layers
    assert first.bias is None
    assert not last.bias.any()
    assert first.weight.abs().max().item() == pytest.approx((3 / 8) ** 0.5, rel=0.05)
    assert ConceptCode(50, 400, "dot").weight.std().item() == pytest.approx(0.01, rel=0.02)


def test_one_layer_has_no_bias_and_the_published_heads_have_their_parameters() -> None:
    def count(*sizes: int) -> int:
        return sum(p.numel() for p in MLP(*sizes, norm_layer(None)).parameters())

    assert count(256, 256, 256, 1) == 256 * 256
    assert count(512, 4096, 256, 2) == 3_154_176
    assert count(256, 4096, 256, 2) == 2_105_600


def test_cosine_codes_are_cosines() -> None:
    code = ConceptCode(8, 6, "cosine").double()
    found = code(rows(4))
    expected = torch.cosine_similarity(rows(4)[:, None], code.weight[None], dim=-1)
    torch.testing.assert_close(found, expected)


def test_point_07_ema_schedule_golden() -> None:
    arrays = golden_tensors("ema_momentum_schedule", "fgkvmem")
    names = [key.removesuffix(".epoch") for key in arrays if key.endswith(".epoch")]
    assert names
    for name in names:
        start, epochs = arrays[f"{name}.base_max"].tolist()
        for epoch, expected in zip(arrays[f"{name}.epoch"].tolist(), arrays[f"{name}.momentum"].tolist()):
            assert ema_decay(epoch / epochs, start) == pytest.approx(expected, abs=1e-12)
        assert ema_decay(0.0, start) == pytest.approx(start, abs=1e-15)
        assert ema_decay(1.0, start) == 1.0


def test_point_07_the_average_moves_parameters_and_no_buffers() -> None:
    target, online = nn.BatchNorm1d(3).double(), nn.BatchNorm1d(3).double()
    with torch.no_grad():
        online.weight.copy_(torch.tensor([2.0, -1.0, 1.0]))
    online.running_mean += 5
    for decay in (0.9, 0.25):
        old = target.weight.detach().clone()
        move_towards(target, online, decay)
        torch.testing.assert_close(target.weight, decay * old + (1 - decay) * online.weight, atol=1e-12, rtol=0)
    assert not target.running_mean.any()
    move_towards(target, online, 0.0)
    assert torch.equal(target.weight, online.weight)


def centred(steps: list[list[Tensor]], scale: float) -> list[Tensor]:
    """The centre after each step, of this rank."""
    centre = Centre(steps[0][0].shape[1], 0.9, scale).double()
    values = []
    for step in steps:
        centre.update(step[rank()])
        values.append(centre.value.clone())
    return values


def normalised(x: list[Tensor], w: list[Tensor]) -> list[Tensor]:
    """Output, gradient of sum(output * w), running mean and variance of one rank's part of a batch."""
    given = x[rank()].clone().requires_grad_()
    norm = norm_layer(None)(given.shape[1]).double()
    output = norm(given[:, :, None, None, None]).flatten(1)
    (output * w[rank()]).sum().backward()
    return [output.detach(), given.grad, norm.running_mean, norm.running_var]  # type: ignore[list-item]


def test_point_05_centre_and_normalisation_of_two_ranks_golden() -> None:
    arrays = golden_tensors("distributed_ws2", "fgkvmem")
    ranks = len({key.partition(".")[0] for key in arrays if key.startswith("rank")})
    steps = len([key for key in arrays if key.endswith("_correct")])
    teachers = [[arrays[f"rank{r}.teacher{s}"] for r in range(ranks)] for s in range(steps)]
    expected = [arrays[f"center{s}_correct"][0] for s in range(steps)]
    torch.testing.assert_close(expected[0], 0.1 * torch.cat(teachers[0]).mean(0))
    for found in run_ranks(centred, ranks, teachers, 1.0):
        torch.testing.assert_close(found, expected, atol=1e-8, rtol=0)
    alone = centred([[torch.cat(step)] for step in teachers], 1.0)
    torch.testing.assert_close(alone, expected, atol=1e-8, rtol=0)
    published = [arrays[f"rank0.center{s}"][0] for s in range(steps)]  # divided by the number of ranks once more
    torch.testing.assert_close(centred([[torch.cat(s)] for s in teachers], 1 / ranks), published, atol=1e-8, rtol=0)

    def each(name: str) -> list[Tensor]:
        return [arrays[f"rank{r}.bn_{name}"] for r in range(ranks)]

    samples = ranks * len(each("x")[0])
    for r, (output, gradient, mean, variance) in enumerate(run_ranks(normalised, ranks, each("x"), each("w"))):
        torch.testing.assert_close(output, each("y")[r], atol=1e-8, rtol=0)
        torch.testing.assert_close(gradient, each("gx")[r], atol=1e-8, rtol=0)
        torch.testing.assert_close(mean, each("rm")[r], atol=1e-8, rtol=0)
        # the original keeps the biased variance, we keep what a single process would: that of n - 1
        biased = 0.9 + (variance - 0.9) * (samples - 1) / samples
        torch.testing.assert_close(biased, each("rv")[r], atol=1e-8, rtol=0)
