"""What a stage reads: clips of a split, and a backbone with the weights that were bound to it."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from vssl.artifacts import Artifact, Inputs, one
from vssl.backbones.backbone_config import BackboneConfig, starts_video
from vssl.backbones.build import Backbone, build_backbone
from vssl.backbones.image_init import start_from_image
from vssl.backbones.image_init_config import ImageInitConfig
from vssl.backbones.mvit import MViTB
from vssl.backbones.vit_video import VideoTransformer
from vssl.config import ConfigError, to_mapping
from vssl.data.clips import ClipDataset
from vssl.data.dataset_config import ClipsConfig
from vssl.data.label_runs import Labels, load_frame_labels
from vssl.data.loader import TrainLoader
from vssl.data.views.drawn import ViewMaker
from vssl.device import placed
from vssl.distributed import is_main, rank, world_size
from vssl.nn.batchnorm import NormLayer, SyncBatchNorm3d
from vssl.randomness import seeded
from vssl.run import Run, StageError
from vssl.stages.finetune_config import FinetuneConfig
from vssl.stages.image_pretrain_config import ImagePretrainConfig
from vssl.stages.linear_config import LinearConfig
from vssl.stages.pretrain_config import PretrainConfig
from vssl.stages.retrieval_config import RetrievalConfig
from vssl.weights import Weights, fill, load_weights

_COPIES = ImageInitConfig()


def clips(config: ClipsConfig, split: str, inputs: Inputs, *, seed: int, view: ViewMaker) -> ClipDataset:
    """The videos of a split, seen through a view."""
    dataset = one(inputs, "dataset")
    if dataset is None:
        raise StageError("no artifact is bound to the role `dataset`; bind a prepared dataset")
    return ClipDataset(config, split, dataset=dataset, motion=one(inputs, "motion"), seed=seed, view=view)


def frame_labels(inputs: Inputs, video_ids: Iterable[str], split: str) -> dict[str, Labels]:
    """Video id -> labels of its frames, of all videos of the dataset; of these every one has some.

    Raises:
        StageError: one has not.
    """
    dataset = one(inputs, "dataset")
    labels = load_frame_labels(dataset.path) if dataset else {}
    if not set(video_ids) <= set(labels):
        raise StageError(
            f"videos of the split {split} have no labels of frames, which this stage needs; take a dataset that has "
            "them: data=pouring, penn_action, finegym99 or phases_demo"
        )
    return labels


def stream_weights(artifact: Artifact, backbone: BackboneConfig, modality: str, run: Run) -> Weights:
    """Weights of a network of this backbone for this modality; of a published file, what was taken is said.

    Raises:
        StageError: they belong to another backbone or modality.
    """
    weights = load_weights(artifact, backbone=to_mapping(backbone))
    if weights.report and is_main():
        run.say(f"{artifact.origin}: {weights.report}")
    if weights.header.get("modality") not in (None, modality):  # a published file does not say
        raise StageError(
            f"the weights of {artifact.origin} were trained on {weights.header.get('modality')}, this stage reads "
            f"{modality}; bind the {modality} weights, or set the modality to what the weights were trained on"
        )
    return weights


def train_loader(
    config: PretrainConfig | LinearConfig | FinetuneConfig | ImagePretrainConfig,
    dataset: ClipDataset,
    device: torch.device,
    *,
    class_group_size: int | None = None,
    frame_labels: Mapping[str, Labels] | None = None,
) -> TrainLoader:
    """This rank's batches for training, with labels of their frames where these are given."""
    return TrainLoader(
        dataset,
        config.global_batch_size,
        seed=config.seed,
        rank=rank(),
        world_size=world_size(),
        workers=config.runtime.workers,
        prefetch=config.runtime.prefetch,
        device=device,
        looks_on_device=config.runtime.looks_on == "device",
        repeats=config.repeats if isinstance(config, ImagePretrainConfig) else 1,
        group_size=config.bn_group_size if isinstance(config, ImagePretrainConfig) else None,
        class_group_size=class_group_size,
        frame_labels=frame_labels,
    )


def bound_weights(config: LinearConfig | RetrievalConfig | FinetuneConfig, inputs: Inputs, run: Run) -> Weights | None:
    """The weights that a stage starts from; None, which is said, where none are bound."""
    artifact = one(inputs, "weights")
    if artifact is None:
        run.say("no weights are bound: this is an untrained network")
        return None
    return stream_weights(artifact, config.backbone, config.data.modality, run)


def initial_backbone(
    config: LinearConfig | RetrievalConfig | FinetuneConfig, weights: Weights | None, run: Run, norm_layer: NormLayer
) -> Backbone:
    """A backbone on the CPU: of these weights, or as it starts from the seed."""
    with seeded(config.seed, "weights"):
        backbone = build_backbone(config.backbone, norm_layer)
    if weights is not None:
        start_from(backbone, weights, run, config.image_init if isinstance(config, FinetuneConfig) else _COPIES)
    return backbone


def start_from(backbone: Backbone, weights: Weights, run: Run, image_init: ImageInitConfig = _COPIES) -> None:
    """Fill a backbone: whole, or a video transformer from an image transformer's weights, of which is said what came.

    Raises:
        StageError: they do not fit.
    """
    tensors, what = weights.part("backbone"), f"the weights of {weights.origin}"
    if isinstance(backbone, VideoTransformer) and starts_video(
        weights.header["backbone"], {"attention": backbone.attention}
    ):
        patches = tensors["patch_embed.weight"]
        if patches.ndim == 5:  # of a network here, over single frames
            tensors["patch_embed.weight"] = patches.squeeze(2)
        try:
            coverage = start_from_image(backbone, tensors, image_init)
        except ConfigError as error:
            raise StageError(f"{what}: {error}") from None
        if is_main():
            run.say(f"{what}: {coverage.line()}")
        return
    if isinstance(backbone, VideoTransformer | MViTB):
        tensors = backbone.adapted(tensors)
    fill(backbone, tensors, what=what)


def frozen_backbone(config: LinearConfig | RetrievalConfig, inputs: Inputs, run: Run, device: torch.device) -> Backbone:
    """The backbone under evaluation, in eval mode and without gradients: of the bound weights, or untrained."""
    drifts = isinstance(config, LinearConfig) and config.trunk == "train"
    norm_layer: NormLayer = SyncBatchNorm3d if drifts else nn.BatchNorm3d
    backbone = initial_backbone(config, bound_weights(config, inputs, run), run, norm_layer)
    return placed(backbone.requires_grad_(False).eval(), config.runtime, device)


def seen(config: ClipsConfig) -> dict[str, Any]:
    """What clips a classifier learned from, for whoever shows it another video."""
    values = to_mapping(config)
    return {key: values[key] for key in ("num_frames", "frame_stride", "crop_size", "sampling", "statistics")}


def header(kind: str, run: Run, *, backbone: BackboneConfig, modality: str, **more: Any) -> Mapping[str, Any]:
    """What a weights file says of itself."""
    return {"kind": kind, "stage": run.dir.name, "backbone": to_mapping(backbone), "modality": modality, **more}
