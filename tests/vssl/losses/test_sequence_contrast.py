"""CARL's loss against the original's numbers, a slow twin and closed forms (card, section 13, points 1 to 4)."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.goldens import golden
from vssl.losses.sequence_contrast import gaussian_targets, log_denominators, sequence_contrast

ARRAYS = golden("scl_loss", "carl")
CASES = sorted({key.partition("_")[0] for key in ARRAYS})
MODES = ("single_noself", "single", "batch_noself", "batch")


def case(name: str, dtype: torch.dtype) -> dict[str, Any]:
    of = {key.partition("_")[2]: array for key, array in ARRAYS.items() if key.startswith(f"{name}_")}
    return {
        "embeddings": torch.from_numpy(of["embs"]).to(dtype).requires_grad_(),
        "steps": torch.from_numpy(of["steps"]),
        "lengths": torch.from_numpy(of["seq_lens"]),
        "mask": torch.from_numpy(of["masks"]).bool(),
        "variance": float(of["var"]),
        "temperature": float(of["tau"]),
        "negatives": str(of["neg"]),
    } | {key: torch.from_numpy(of[key]) for key in ("label", "logp", "loss32", "grad32", "loss64", "grad64")}


def inputs_of(case: dict[str, Any]) -> dict[str, Any]:
    expected = ("label", "logp", "loss32", "grad32", "loss64", "grad64")
    return {key: value for key, value in case.items() if key not in expected}


def views(seed: int, videos: int = 2, slots: int = 7, size: int = 5, *, masked: bool = True) -> dict[str, Any]:
    """Random views of videos, the tails of some masked as they come from the sampler."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(slots, 40, (videos, 1), generator=generator).expand(-1, 2)
    steps = torch.stack(
        [torch.randperm(int(n), generator=generator)[:slots].sort().values for n in lengths.reshape(-1)]
    ).view(videos, 2, slots)
    shown = torch.randint(slots // 2, slots + 1, (videos, 2, 1), generator=generator) if masked else slots
    mask = torch.arange(slots).expand(videos, 2, -1) < shown
    embeddings = torch.randn(videos, 2, slots, size, dtype=torch.float64, generator=generator)
    return {
        "embeddings": F.normalize(embeddings, dim=3), "lengths": lengths, "mask": mask,
        "steps": torch.where(mask, steps, lengths[..., None] - 1),
    }  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_point_02_loss_and_gradient_golden(name: str) -> None:
    for dtype, loss_atol, grad_atol in ((torch.float32, 1e-5, 1e-6), (torch.float64, 1e-6, 1e-6)):
        given = case(name, dtype)
        bits = str(dtype)[-2:]
        if dtype == torch.float64 and (given["label"].sum(dim=1) == 0).any() and given["mask"].all():
            continue  # rows without weight there are in float32 alone
        loss = sequence_contrast(**inputs_of(given))
        loss.backward()
        assert loss.dtype == dtype
        torch.testing.assert_close(loss, given[f"loss{bits}"].to(dtype), atol=loss_atol, rtol=0)
        torch.testing.assert_close(given["embeddings"].grad, given[f"grad{bits}"].to(dtype), atol=grad_atol, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_point_02_shares_golden(name: str) -> None:
    """Logarithms of all frames' shares in one another's denominators: the loss reads those of two views of a video."""
    given = case(name, torch.float64)
    unit = given["embeddings"].detach()
    below = log_denominators(unit, given["mask"], given["temperature"], given["negatives"], 1e-6)
    rows = unit.flatten(0, 2)
    shares = (rows @ rows.T / given["temperature"] - below.flatten()[:, None]).exp()
    torch.testing.assert_close((shares + 1e-6).log(), given["logp"].double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_point_01_targets_golden_and_nowhere_else(name: str) -> None:
    given = case(name, torch.float32)
    found = gaussian_targets(given["steps"], given["lengths"], given["mask"], given["variance"])
    videos, views_, slots = given["mask"].shape
    label = given["label"].view(videos, 2, slots, videos, 2, slots)
    for video in range(videos):
        for view in range(views_):
            expected = label[video, view, :, video, 1 - view].float()
            torch.testing.assert_close(found[video, view], expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.sum(), given["label"].sum().float(), atol=1e-4, rtol=0)  # no mass elsewhere


def test_point_01_targets_are_distributions_around_the_nearest_frame() -> None:
    for seed in range(20):
        given = views(seed)
        steps, mask = given["steps"], given["mask"]
        q = gaussian_targets(steps, given["lengths"], mask, 10.0)
        near = (steps[..., None] - steps.flip(1)[:, :, None]).abs().masked_fill(~mask.flip(1)[:, :, None], 10**6)
        reached = mask & (near.amin(dim=3) < 40)
        torch.testing.assert_close(q.sum(dim=3)[reached], torch.ones(int(reached.sum())), atol=1e-6, rtol=0)
        assert (q[~mask] == 0).all()
        assert (q.transpose(2, 3)[~mask.flip(1)] == 0).all()
        assert torch.equal(near.gather(3, q.argmax(dim=3, keepdim=True))[..., 0][reached], near.amin(dim=3)[reached])


def test_frames_too_far_from_the_other_view_count_nothing_unless_asked() -> None:
    steps = torch.tensor([[[0, 1], [300, 302]]])
    lengths, mask = torch.tensor([[400, 400]]), torch.ones(1, 2, 2, dtype=torch.bool)
    assert (gaussian_targets(steps, lengths, mask, 10.0) == 0).all()
    stable = gaussian_targets(steps, lengths, mask, 10.0, zero_rows=False)
    torch.testing.assert_close(stable.sum(dim=3), torch.ones(1, 2, 2))
    assert stable[0, 0, :, 0].min() > 0.99  # frame 300 is nearest to both


def slowly(given: dict[str, Any], negatives: str, variance: float, temperature: float, weight: float) -> float:
    """The loss, one pair of frames after the other."""
    z, steps, mask = given["embeddings"], given["steps"], given["mask"]
    videos, _, slots = mask.shape
    frames = [(b, v, t) for b in range(videos) for v in range(2) for t in range(slots)]
    total = 0.0
    for b, v, t in frames:
        if not mask[b, v, t]:
            continue
        below = 0.0
        for c, w, s in frames:
            if not mask[c, w, s]:
                share = weight
            elif negatives.startswith("single") and c != b:
                share = 0.0
            else:
                share = 0.0 if negatives.endswith("noself") and (c, w) == (b, v) else 1.0
            below += share * math.exp(float(z[b, v, t] @ z[c, w, s]) / temperature)
        gauss = [
            math.exp(-((int(steps[b, v, t]) - int(steps[b, 1 - v, s])) ** 2) / (2 * variance)) * bool(mask[b, 1 - v, s])
            for s in range(slots)
        ]
        for s in range(slots):
            q = gauss[s] / sum(gauss)
            p = math.exp(float(z[b, v, t] @ z[b, 1 - v, s]) / temperature) / below
            total += q * (math.log(q) - math.log(p + 1e-6)) if q else 0.0
    return total / int(mask.sum())


@pytest.mark.parametrize("negatives", MODES)
def test_loss_equals_its_slow_twin(negatives: Any) -> None:
    for seed, weight in ((0, 1e-6), (1, 0.0)):
        given = views(seed, slots=5)
        found = sequence_contrast(**given, negatives=negatives, variance=20.0, temperature=0.3, masked_weight=weight)
        assert float(found) == pytest.approx(slowly(given, negatives, 20.0, 0.3, weight), abs=1e-5)


@pytest.mark.parametrize("negatives", MODES)
def test_point_03_views_may_be_swapped(negatives: Any) -> None:
    given = views(3)
    swapped = {key: value.flip(1) for key, value in given.items()}
    one, other = (float(sequence_contrast(**views_, negatives=negatives)) for views_ in (given, swapped))
    assert one == pytest.approx(other, abs=1e-12)


@pytest.mark.parametrize("negatives", MODES)
def test_point_03_masked_frames_hardly_count(negatives: Any) -> None:
    for seed in range(5):
        given = views(seed, size=64)
        noise = F.normalize(torch.randn(given["embeddings"].shape, dtype=torch.float64), dim=3)
        other = given | {"embeddings": torch.where(given["mask"][..., None], given["embeddings"], noise)}
        for weight, tolerance in ((1e-6, 3e-4), (0.0, 0.0)):
            one, two = (
                float(sequence_contrast(**v, negatives=negatives, masked_weight=weight)) for v in (given, other)
            )
            assert one == pytest.approx(two, abs=tolerance)


@pytest.mark.parametrize("negatives", ["single", "single_noself"])
@pytest.mark.parametrize("masked", [False, True])
def test_point_04_a_batch_is_the_weighted_mean_of_its_videos(negatives: Any, masked: bool) -> None:
    given = views(4, videos=3, masked=masked)
    parts = [{key: value[n : n + 1] for key, value in given.items()} for n in range(3)]
    weights = [int(part["mask"].sum()) for part in parts]
    expected = sum(
        weight * float(sequence_contrast(**part, negatives=negatives)) for weight, part in zip(weights, parts)
    )
    found = float(sequence_contrast(**given, negatives=negatives))
    assert found == pytest.approx(expected / sum(weights), abs=1e-4 if masked else 1e-12)


def test_uniform_similarities_give_the_entropy_that_is_missing() -> None:
    given = views(5, videos=1, masked=False)
    alike = given | {"embeddings": torch.ones_like(given["embeddings"]) / math.sqrt(5)}
    q = gaussian_targets(given["steps"], given["lengths"], given["mask"], 10.0).double()
    entropy = -(torch.xlogy(q, q)).sum(dim=3).mean()
    slots = given["mask"].shape[2]
    missing = -math.log(1 / slots + 1e-6) - float(entropy)
    assert float(sequence_contrast(**alike)) == pytest.approx(missing, abs=1e-6)


@pytest.mark.parametrize("negatives", ["single_noself", "batch"])
def test_ten_thousand_random_sequences_give_no_nan(negatives: Any) -> None:
    """Of any similarity, length and mask, in batches; gradients too. Half precision is lifted to float32."""
    generator = torch.Generator().manual_seed(0)
    videos, batches = 50, 100  # of two views each
    for number in range(batches):
        length = torch.randint(1, 3000, (videos, 1), generator=generator).expand(-1, 2)
        steps = (torch.rand(videos, 2, 4, generator=generator).sort(dim=2).values * length[..., None]).long()
        mask = torch.rand(videos, 2, 4, generator=generator) < torch.rand(videos, 2, 1, generator=generator)
        raw = torch.randn(videos, 2, 4, 4, generator=generator) * 10 ** (4 * torch.rand((), generator=generator) - 2)
        raw = raw.half() if number % 2 else raw
        embeddings = F.normalize(raw.float(), dim=3).to(raw.dtype).requires_grad_()
        loss = sequence_contrast(
            embeddings, steps, length, mask, negatives=negatives, temperature=(0.01, 0.1)[number % 3 == 0]
        )
        loss.backward()
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert embeddings.grad is not None
        assert embeddings.grad.isfinite().all()


def test_nothing_is_computed_in_half_precision() -> None:
    given = views(6)
    with torch.autocast("cpu", torch.bfloat16):
        inside = sequence_contrast(**given | {"embeddings": given["embeddings"].float()})
    assert float(inside) == float(sequence_contrast(**given | {"embeddings": given["embeddings"].float()}))


def test_what_does_not_belong_together_is_refused() -> None:
    given = views(7)
    with pytest.raises(ValueError, match=r"\(B, 2, T, C\)"):
        sequence_contrast(**given | {"embeddings": given["embeddings"][:, 0]})
    with pytest.raises(ValueError, match="no slot shows a frame"):
        sequence_contrast(**given | {"mask": Tensor.zero_(given["mask"].clone())})
