"""CARL of the published size: how much is trained, and the original's numbers (card, section 13, point 9)."""

import json
import zlib

import numpy as np
import torch
import torch.nn.functional as F

from tests import carl_names
from tests.goldens import golden
from vssl.backbones.backbone_config import FrameResNet50Config
from vssl.config import build
from vssl.methods.carl import CARL
from vssl.methods.carl_config import CARLConfig
from vssl.optim import build_optimizer
from vssl.optim_config import AdamConfig


def test_point_09_sizes_of_the_published_model() -> None:
    with torch.device("meta"):
        counts = {}
        for layers in (2, 3):
            config = build(CARLConfig, {"embedder": {"name": "transformer", "layers": layers}})
            method = CARL.from_config(config, FrameResNet50Config(), global_batch_size=1, seed=0)
            counts[layers] = sum(p.numel() for p in method.parameters())
            handed = [
                p for group in build_optimizer(AdamConfig(), method.parameters()).param_groups for p in group["params"]
            ]
        conv = build(CARLConfig, {"embedder": {"name": "conv"}, "frozen_layers": 0})
        no_layer4 = CARL.from_config(conv, FrameResNet50Config(layers=3), global_batch_size=1, seed=0)
    assert counts == {2: 26_598_848, 3: 27_388_608}
    assert sum(p.numel() for p in handed) == 18_845_312
    norms = [module for module in method.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    trained = [p for norm in norms for p in norm.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == 24_832
    backbone = sum(p.numel() for p in method.backbone.parameters())
    assert backbone == 8_543_296 + 14_964_736
    # the original builds layer4 beside the convolutional embedder and never runs it
    assert sum(p.numel() for p in no_layer4.parameters()) == 45_369_024 - 14_964_736


def test_whole_model_golden() -> None:
    """Every weight by the rule of the golden file, in evaluation mode."""
    arrays = golden("full_model", "carl")
    trained, offset = int(arrays["train_num_frames"]), int(arrays["seed_offset"])
    config = build(CARLConfig, {"embedder": {"name": "transformer", "layers": int(arrays["num_layers"])}, "block": 3})
    with torch.device("meta"):
        method = CARL.from_config(config, FrameResNet50Config(), global_batch_size=1, seed=0)
    state = {}
    for _, name, shape in json.loads(str(arrays["keys_json"])):
        if name.endswith("num_batches_tracked"):
            continue
        rs = np.random.RandomState((zlib.crc32(name.encode()) + offset) & 0x7FFFFFFF)
        if name.endswith("running_mean"):
            values = 0.05 * rs.randn(*shape)
        elif name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            values = rs.uniform(0.8, 1.2, shape)
        else:
            values = rs.randn(*shape) * (0.02 if len(shape) == 1 else np.sqrt(1 / np.prod(shape[1:])))
        state[carl_names.of_model(name)] = torch.from_numpy(values.astype(np.float32))
    unknown = method.load_state_dict(state, strict=False, assign=True)
    assert not unknown.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in unknown.missing_keys)
    method.eval()
    frames = torch.from_numpy(arrays["x"]).transpose(1, 2)
    mask = torch.ones(1, frames.shape[2], dtype=torch.bool)
    masked = mask.clone()
    masked[0, -1] = False
    with torch.no_grad():
        parts = method.encoder.backbone.parts()
        maps = frames[0].transpose(0, 1)
        for number, part in enumerate(parts):
            for module in part:
                maps = module(maps)
            if f"layer{number}_stats" in arrays:
                found = torch.stack([maps.mean(), maps.std(), maps.amin(), maps.amax(), maps.abs().sum()])
                expected = torch.from_numpy(arrays[f"layer{number}_stats"]).float()
                torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
        pooled = method.encoder.features(frames)
        torch.testing.assert_close(pooled[0], torch.from_numpy(arrays["pooled"]), rtol=1e-3, atol=1e-4)
        assert method.projector is not None
        for given, key in ((mask, "embs"), (masked, "embs_masked")):
            embeddings = method.encoder.embedder(pooled, given, trained_count=trained)
            torch.testing.assert_close(F.normalize(embeddings, dim=2), torch.from_numpy(arrays[key]), rtol=0, atol=1e-4)
        projected = F.normalize(method.projector(embeddings), dim=2)
        torch.testing.assert_close(projected, torch.from_numpy(arrays["embs_masked_projected"]), rtol=0, atol=1e-4)
