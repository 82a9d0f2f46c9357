"""S3D: Inception-v1 with separable spatial and temporal convolutions (Xie et al. 2018, arXiv:1712.04851)."""

from torch import Tensor, nn
from torchvision.models.video import s3d

from vssl.nn.batchnorm import NormLayer


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
