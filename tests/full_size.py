"""Tests on clips of the published size, 32 frames of 128 pixels."""

import os
from typing import Literal

import torch

SHAPE = (3, 32, 128, 128)

# Without bfloat16 instructions a clip's way through S3D takes a minute of processor time in it, and seconds in float32.
_HAS_BFLOAT16 = torch.ops.mkldnn._is_mkldnn_bf16_supported() or "VSSL_BFLOAT16" in os.environ
AMP: Literal["bf16", "off"] = "bf16" if _HAS_BFLOAT16 else "off"
