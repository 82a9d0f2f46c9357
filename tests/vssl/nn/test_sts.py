"""The STS convolution against the original's numbers and its closed form (card, section 13, points 1, 2, 3 and 14)."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.goldens import golden_tensors
from vssl.nn.sts import Size, STSConv3d, set_sts

EXACT = {"atol": 1e-10, "rtol": 0}


def convolution(weight: Tensor, inputs: int, stride: int = 1) -> STSConv3d:
    outputs, per_group, *kernel = weight.shape
    layer = STSConv3d(inputs, outputs, (kernel[0], kernel[1], kernel[2]), stride=stride, groups=inputs // per_group)
    layer = layer.to(weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def depthwise(stride: int = 1, channels: int = 4) -> STSConv3d:
    layer = convolution(randn(channels, 1, 3, 3, 3), channels, stride)
    set_sts(layer, True)
    return layer


def test_point_01_golden() -> None:
    arrays = golden_tensors("sts_conv", "sts")
    cases = [key.removesuffix("_w") for key in arrays if key.endswith("_w")]
    assert cases
    for case in cases:
        x = arrays[f"{case}_x"].clone().requires_grad_()
        layer = convolution(arrays[f"{case}_w"], x.shape[1], x.shape[3] // arrays[f"{case}_y"].shape[3])
        torch.testing.assert_close(layer(x), arrays[f"{case}_plain"], **EXACT)
        set_sts(layer, True)
        output = layer(x)
        output.backward(arrays[f"{case}_g"])
        torch.testing.assert_close(output, arrays[f"{case}_y"], **EXACT)
        torch.testing.assert_close(x.grad, arrays[f"{case}_gx"], **EXACT)
        torch.testing.assert_close(layer.weight.grad, arrays[f"{case}_gw"], **EXACT)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_static_half_is_its_closed_form(stride: int) -> None:
    """Frames as one line, row by row (f) and column by column (g), zero before and after it."""
    layer, height, width = depthwise(stride), 4, 6
    x = randn(1, 4, 1, height, width, seed=1)
    found = layer(x)[0, :2, 0]
    for channel in range(2):
        f, g = x[0, channel, 0].flatten().tolist(), x[0, channel, 0].T.flatten().tolist()
        row, column = (layer.weight[channel, 0, tap].flatten().tolist() for tap in (0, 2))
        plain = F.conv2d(x[:, channel], layer.weight[None, None, channel, 0, 1], stride=stride, padding=1)[0]
        for i in range(height // stride):
            for j in range(width // stride):
                value = plain[i, j].item() if plain.ndim == 2 else plain[0, i, j].item()
                for m in range(9):
                    at = stride**2 * (i * (width // stride) + j) + m - 4
                    value += row[m] * f[at] if 0 <= at < height * width else 0
                    at = stride**2 * (j * (height // stride) + i) + m - 4
                    value += column[m] * g[at] if 0 <= at < height * width else 0
                assert found[channel, i, j].item() == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("kind", ["depthwise", "dense"])
def test_point_02_the_dynamic_half_is_plain_and_the_static_one_sees_one_frame(kind: str, aligned: bool) -> None:
    layer = depthwise() if kind == "depthwise" else convolution(randn(8, 4, 3, 1, 1), 4)
    half = layer.out_channels // 2
    x = randn(2, 4, 5, 4, 6, seed=1)
    set_sts(layer, False)
    plain = layer(x)
    set_sts(layer, True, aligned=aligned)
    output = layer(x)
    assert (output[:, half:] - plain[:, half:]).abs().max() <= 1e-12
    other = x.clone()
    other[:, :, [0, 1, 3, 4]] += randn(2, 4, 4, 4, 6, seed=2)
    changed = layer(other)
    assert torch.equal(changed[:, :half, 2], output[:, :half, 2])
    assert not torch.equal(changed[:, half:, 2], output[:, half:, 2])
    assert not torch.allclose(output[:, :half], plain[:, :half])


def test_aligned_windows_are_true_rows_and_columns() -> None:
    layer = depthwise(stride=2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, 0, 1, 1] = 1.0  # the middle of the nine along rows
        layer.weight[1, 0, 2, 1, 1] = 1.0  # and along columns
    x = randn(1, 4, 1, 6, 8, seed=1)
    set_sts(layer, True, aligned=True)
    torch.testing.assert_close(layer(x)[:, :2], x[:, :2, :, ::2, ::2])
    set_sts(layer, True)
    assert not torch.allclose(layer(x)[:, :2], x[:, :2, :, ::2, ::2])
    # at a border the published windows run on, the aligned ones see nothing
    corner = torch.zeros(1, 4, 1, 6, 8, dtype=torch.float64)
    corner[0, 0, 0, 0, 7] = 1.0
    with torch.no_grad():
        layer.weight[0, 0, 0] = 1.0
    layer.stride = (1, 1, 1)
    assert layer(corner)[0, 0, 0, 1, 0] == 1
    set_sts(layer, True, aligned=True)
    assert layer(corner)[0, 0, 0, 1, 0] == 0


def test_point_03_switching_keeps_names_and_shapes() -> None:
    layer = depthwise()
    before = {name: tensor.shape for name, tensor in layer.state_dict().items()}
    set_sts(layer, False)
    assert {name: tensor.shape for name, tensor in layer.state_dict().items()} == before == {"weight": (4, 1, 3, 3, 3)}


def test_of_one_frame_a_dense_one_is_plain() -> None:
    layer, x = convolution(randn(6, 4, 1, 1, 1), 4), randn(1, 4, 2, 3, 3)
    plain = layer(x)
    set_sts(layer, True)
    assert torch.equal(layer(x), plain)


def test_point_14_odd_sizes_under_a_stride_are_refused() -> None:
    with pytest.raises(ValueError, match=r"5x6 meet an STS convolution of stride 2.*multiple of 32"):
        depthwise(stride=2)(randn(1, 4, 2, 5, 6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 4, (5, 3, 3), 4), "even groups"),
        ((5, 5, (3, 3, 3), 5), "even groups"),
        ((4, 4, (3, 3, 3), 1), "dense"),
        ((4, 6, (3, 1, 1), 1), "quarters"),
    ],
)
def test_shapes_without_an_sts_form_are_refused(arguments: tuple[int, int, Size, int], message: str) -> None:
    inputs, outputs, kernel, groups = arguments
    with pytest.raises(ValueError, match=message):
        STSConv3d(inputs, outputs, kernel, groups=groups)
