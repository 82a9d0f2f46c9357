"""S3D: Inception-v1 with separable spatial and temporal convolutions (Xie et al. 2018, arXiv:1712.04851)."""

import torch
from torch import Tensor, nn
from torchvision.models.video import s3d

from vssl.nn.batchnorm import NormLayer

_MIXED = (5, 6, 8, 9, 10, 11, 12, 14, 15)  # Inception blocks among torchvision's layers


class S3D(nn.Module):
    """(B, 3, T, H, W) -> (B, 1024, T/8, H/32, W/32), without pooling. 7,910,048 parameters.

    torchvision's layers, with the normalisation and the initial weights of ViCC's code: BatchNorm eps 1e-5 and momentum
    0.1 (torchvision, after the TensorFlow original: 1e-3 and 1e-3), convolutions from N(0, 0.01).
    """

    num_features = 1024

    def __init__(self, norm_layer: NormLayer) -> None:
        super().__init__()
        self.features = s3d(norm_layer=norm_layer).features
        for module in self.features.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.normal_(module.weight, std=0.01)

    def forward(self, clips: Tensor) -> Tensor:
        features: Tensor = self.features(clips)
        return features


class S3DG(S3D):
    """S3D with self-gating: every branch of every Inception block scales its channels by what they hold on average.

    Shapes as of S3D; 9,098,000 parameters.
    """

    def __init__(self, norm_layer: NormLayer) -> None:
        super().__init__(norm_layer)
        for index in _MIXED:
            self.features[index] = _GatedInception(self.features[index])


class _GatedInception(nn.Module):
    """The four branches of an Inception block with a gate each; the branches keep their names."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        gates = []
        for name, branch in block.named_children():
            self.add_module(name, branch)
            last = [module for module in branch.modules() if isinstance(module, nn.Conv3d)][-1]
            gates.append(_Gate(last.out_channels))
        self.gates = nn.ModuleList(gates)

    def forward(self, x: Tensor) -> Tensor:
        branches = [module for name, module in self.named_children() if name != "gates"]
        return torch.cat([gate(branch(x)) for branch, gate in zip(branches, self.gates, strict=True)], dim=1)


class _Gate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = torch.sigmoid(self.fc(x.mean(dim=(2, 3, 4))))
        return weights[:, :, None, None, None] * x
