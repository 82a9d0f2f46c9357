"""Tests on clips of the published size, 32 frames of 128 pixels."""

import os

import pytest
import torch

SHAPE = (3, 32, 128, 128)

# Without bfloat16 instructions a clip's way through S3D takes a minute of processor time, with them seconds.
full_size = pytest.mark.skipif(
    not (torch.ops.mkldnn._is_mkldnn_bf16_supported() or os.environ.get("VSSL_FULL_SIZE")),
    reason="minutes on a processor without bfloat16; VSSL_FULL_SIZE=1 runs it",
)
