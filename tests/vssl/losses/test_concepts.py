"""The losses of FGKVMem against slow twins, closed forms and the original's numbers."""

import math

import pytest
import torch
from torch import Tensor

from tests.goldens import golden_tensors
from vssl.losses.concepts import address_sparsity, alignment, decorrelation, reconstruction, sharpened
from vssl.losses.cosine_regression import cosine_regression
from vssl.nn.concepts import Centre


def rows(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_alignment_and_its_centre_golden() -> None:
    arrays = golden_tensors("dino_align", "fgkvmem")
    cases = [key.removesuffix(".temps_teacher_student") for key in arrays if key.endswith(".temps_teacher_student")]
    assert cases
    for case in cases:
        target_temperature, temperature = arrays[f"{case}.temps_teacher_student"].tolist()
        calls = sorted(
            {int(key.split(".")[1]) for key in arrays if key.startswith(f"{case}.") and key.endswith("loss")}
        )
        centre = Centre(arrays[f"{case}.{calls[0]}.teacher"].shape[1], 0.9, 1.0).double()
        centre.value.copy_(arrays[f"{case}.{calls[0]}.center_before"][0])
        for call in calls:
            of = {key.split(".")[2]: array for key, array in arrays.items() if key.startswith(f"{case}.{call}.")}
            torch.testing.assert_close(centre.value, of["center_before"][0], atol=1e-8, rtol=0)
            student = of["student"].clone().requires_grad_()
            loss = alignment(student, sharpened(of["teacher"], centre.value, target_temperature), temperature)
            loss.backward()
            centre.update(of["teacher"])
            torch.testing.assert_close(loss, of["loss"], atol=1e-8, rtol=0)
            torch.testing.assert_close(student.grad, of["grad_student"], atol=1e-8, rtol=0)
            torch.testing.assert_close(centre.value, of["center_after"][0], atol=1e-8, rtol=0)


def test_alignment_is_a_cross_entropy() -> None:
    codes, target, centre = rows(0, 4, 7), rows(1, 4, 7), rows(2, 7)
    total = 0.0
    for s, t in zip(codes.tolist(), (target - centre).tolist()):
        p = [math.exp(x / 0.3) / sum(math.exp(y / 0.3) for y in t) for x in t]
        q = [math.exp(x / 0.2) / sum(math.exp(y / 0.2) for y in s) for x in s]
        total -= sum(a * math.log(b) for a, b in zip(p, q))
    assert alignment(codes, sharpened(target, centre, 0.3), 0.2).item() == pytest.approx(total / 4)
    uniform = alignment(torch.zeros(4, 7), sharpened(target, centre, 0.3), 0.2)
    assert uniform.item() == pytest.approx(math.log(7))


@pytest.mark.parametrize("reduction", ["numel", "batch"])
@pytest.mark.parametrize("loss", ["cosine", "l2"])
def test_reconstruction_twin(loss: str, reduction: str) -> None:
    found, features = rows(0, 5, 9).requires_grad_(), rows(1, 5, 9).requires_grad_()
    total = 0.0
    for a, b in zip(found.tolist(), features.tolist()):
        if loss == "l2":
            total += sum((x - y) ** 2 for x, y in zip(a, b))
        else:
            total += abs(1 - sum(x * y for x, y in zip(a, b)) / math.hypot(*a) / math.hypot(*b))
    value = reconstruction(found, features, loss=loss, reduction=reduction)  # type: ignore[arg-type]
    assert value.item() == pytest.approx(total / (45 if reduction == "numel" else 5))
    value.backward()
    assert found.grad is not None
    assert features.grad is None
    same = reconstruction(2 * features if loss == "cosine" else features, features, loss=loss)  # type: ignore[arg-type]
    assert same.item() == pytest.approx(0, abs=1e-12)


def test_cosine_regression_twin_and_ends() -> None:
    prediction, target = rows(0, 6, 3).requires_grad_(), rows(1, 6, 3).requires_grad_()
    cosines = [
        sum(x * y for x, y in zip(a, b)) / math.hypot(*a) / math.hypot(*b)
        for a, b in zip(prediction.tolist(), target.tolist())
    ]
    loss = cosine_regression(prediction, target, 0.5)
    assert loss.item() == pytest.approx(-sum(cosines) / 6 / 0.5)
    loss.backward()
    assert prediction.grad is not None
    assert target.grad is None
    assert cosine_regression(3 * target, target, 0.5).item() == pytest.approx(-2)
    assert cosine_regression(-target, target, 0.25).item() == pytest.approx(4)
    with pytest.raises(ValueError, match=r"\(6, 3\) and \(3, 3\)"):
        cosine_regression(prediction, target[:3], 0.5)


def test_sparsity_is_what_the_largest_shares_leave_out() -> None:
    shares = torch.tensor([[[0.5, 0.3, 0.1, 0.1]], [[0.25, 0.25, 0.25, 0.25]]])
    assert address_sparsity(shares, 2).item() == pytest.approx((0.2 + 0.5) / 2)
    assert address_sparsity(shares, 4).item() == pytest.approx(0, abs=1e-6)


def test_decorrelation_twin_and_ends() -> None:
    slots = rows(0, 5, 3).requires_grad_()
    total = 0.0
    for i, a in enumerate(slots.tolist()):
        for j, b in enumerate(slots.tolist()):
            total += abs((i == j) - sum(x * y for x, y in zip(a, b)) / math.hypot(*a) / math.hypot(*b))
    loss = decorrelation(slots)
    assert loss.item() == pytest.approx(total / 5)
    loss.backward()
    assert slots.grad is not None
    assert slots.grad.any()
    assert decorrelation(3 * torch.eye(4)).item() == pytest.approx(0)
    assert decorrelation(torch.ones(4, 2)).item() == pytest.approx(3)
