"""What a stage reads: clips of a split, and a backbone with the weights that were bound to it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from vssl.artifacts import Artifact, Inputs
from vssl.backbones.backbone_config import BackboneConfig
from vssl.backbones.build import build_backbone
from vssl.config import to_mapping
from vssl.data.clips import ClipDataset
from vssl.data.dataset_config import ClipsConfig
from vssl.data.views import ViewMaker
from vssl.randomness import seeded
from vssl.run import Run, StageError
from vssl.weights import Weights, fill, load_weights


def one(inputs: Inputs, role: str) -> Artifact | None:
    """The artifact bound to a role, if any is."""
    artifacts = inputs.get(role, ())
    return artifacts[0] if artifacts else None


def clips(config: ClipsConfig, split: str, inputs: Inputs, *, seed: int, view: ViewMaker) -> ClipDataset:
    """The videos of a split, seen through a view."""
    dataset = one(inputs, "dataset")
    if dataset is None:
        raise StageError("no artifact is bound to the role `dataset`; bind a prepared dataset")
    return ClipDataset(config, split, dataset=dataset, motion=one(inputs, "motion"), seed=seed, view=view)


def stream_weights(artifact: Artifact, backbone: BackboneConfig, modality: str) -> Weights:
    """Weights of a network of this backbone for this modality.

    Raises:
        StageError: they belong to another backbone or modality.
    """
    weights = load_weights(artifact, backbone=to_mapping(backbone))
    if weights.header.get("modality") != modality:
        raise StageError(
            f"the weights of {artifact.origin} were trained on {weights.header.get('modality')}, this stage reads "
            f"{modality}; bind the {modality} weights, or set the modality to what the weights were trained on"
        )
    return weights


def frozen_backbone(
    config: BackboneConfig, inputs: Inputs, run: Run, *, modality: str, seed: int, device: torch.device
) -> nn.Module:
    """The backbone under evaluation, in eval mode and without gradients: of the bound weights, or untrained."""
    with seeded(seed, "weights"):
        backbone = build_backbone(config)
    artifact = one(inputs, "weights")
    if artifact is None:
        run.say("no weights are bound: evaluating an untrained network")
    else:
        weights = stream_weights(artifact, config, modality)
        fill(backbone, weights.part("backbone"), what=f"the weights of {artifact.origin}")
    return backbone.requires_grad_(False).eval().to(device)


def header(kind: str, run: Run, *, backbone: BackboneConfig, modality: str, **more: Any) -> Mapping[str, Any]:
    """What a weights file says of itself."""
    return {"kind": kind, "stage": run.dir.name, "backbone": to_mapping(backbone), "modality": modality, **more}
