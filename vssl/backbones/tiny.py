"""A backbone of three convolutions: what is tested with it takes milliseconds."""

from torch import Tensor, nn

from vssl.nn.batchnorm import NormLayer


class Tiny(nn.Module):
    """(B, 3, T, H, W) -> (B, 4 * width, T/4, H/8, W/8), each side rounded up."""

    def __init__(self, width: int, norm_layer: NormLayer) -> None:
        super().__init__()
        self.num_features = 4 * width
        self.features = nn.Sequential(
            *_layer(3, width, (1, 2, 2), norm_layer),
            *_layer(width, 2 * width, (2, 2, 2), norm_layer),
            *_layer(2 * width, 4 * width, (2, 2, 2), norm_layer),
        )

    def forward(self, clips: Tensor) -> Tensor:
        features: Tensor = self.features(clips)
        return features


def _layer(inputs: int, outputs: int, stride: tuple[int, int, int], norm_layer: NormLayer) -> list[nn.Module]:
    convolution = nn.Conv3d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
    return [convolution, norm_layer(outputs), nn.ReLU(inplace=True)]
