"""What a trained classifier says of one video, and a picture of where its class token looked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vssl.backbones.backbone_config import BackboneConfig
from vssl.backbones.build import build_backbone
from vssl.backbones.vit_video import VideoTransformer
from vssl.config import ConfigError, build, knob
from vssl.data.decode import BrokenVideo, inspect, read_frames
from vssl.data.sampling.samplers import VideoClips, build_sampler
from vssl.data.sampling.sampling_config import SamplingConfig
from vssl.data.views.augment import STATISTICS, normalise
from vssl.data.views.augment_config import TestViewConfig
from vssl.data.views.drawn import TestView, finished
from vssl.nn.heads import ClassifierHead, head_of
from vssl.plots_attention import attention_map
from vssl.randomness import stream
from vssl.run import StageError
from vssl.weights import Weights, fill, read_weights

TOP = 5


@dataclass(frozen=True, kw_only=True)
class SeenConfig:
    """What a classifier was trained to see, as its weights say."""

    num_frames: int = knob(doc="frames of a clip", at_least=1)
    frame_stride: int = knob(doc="source frames from one kept frame to the next", at_least=1)
    crop_size: int = knob(doc="side of a view, pixels", at_least=1)
    sampling: SamplingConfig = knob(doc="which frames make a clip")
    statistics: Literal["imagenet", "kinetics", "half"] = knob(doc="what colours are normalised by")


@dataclass(frozen=True, kw_only=True)
class _Network:
    backbone: BackboneConfig = knob(doc="of the weights")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """(class, probability), the likeliest first, and the picture, which is drawn of TimeSformer and ViViT alone."""

    classes: tuple[tuple[str, float], ...]
    picture: Path | None


def predict(video: Path, checkpoint: Path, *, picture: Path | None, clips: int = 1, crops: int = 3) -> Prediction:
    """Classify a video: probabilities of the mean logits over its clips and crops.

    Args:
        video: a file.
        checkpoint: weights of a linear or a finetune stage, or a published classifier.
        picture: PNG file to draw the attention of the class token into, over the first clip's central crop; None: none.
        clips: spread evenly over the video.
        crops: 1 or 3 along the longer side of each.

    Raises:
        ConfigError: no such video or weights, weights without a classifier or that do not say what it saw, or a number
            of crops that is not 1 or 3.
    """
    if crops not in (1, 3) or clips < 1:
        raise ConfigError(f"clips is {clips} and crops is {crops}; take at least 1 clip, and 1 or 3 crops of each")
    try:
        header, tensors, _ = read_weights(checkpoint)
        if header.get("modality") == "flow":
            raise ConfigError(f"{checkpoint} was trained on optical flow; give weights that were trained on rgb")
        backbone, head = _classifier(Weights(header=header, tensors=tensors, origin=str(checkpoint)))
        views = _views(video, _seen(header, checkpoint), clips=clips, crops=crops)
    except (StageError, BrokenVideo) as error:
        raise ConfigError(str(error)) from None
    with torch.no_grad():
        logits = head(head.pool(backbone(views))).mean(dim=0)
    shares = logits.softmax(dim=0)
    names = header.get("classes") or [f"class {number}" for number in range(len(shares))]
    best = shares.topk(min(TOP, len(shares)))
    drawn = None
    if picture is not None and isinstance(backbone, VideoTransformer):
        central = views[clips * (crops // 2)]  # of the first clip: views come place by place
        attention_map(central, backbone.class_attention(central[None])[0], picture, title=names[int(best.indices[0])])
        drawn = picture
    return Prediction(
        classes=tuple((names[int(index)], float(share)) for share, index in zip(best.values, best.indices)),
        picture=drawn,
    )


def _seen(header: dict[str, Any], path: Path) -> SeenConfig:
    if "clips" not in header:
        raise ConfigError(
            f"{path} does not say what clips its classifier was trained on; bind it to a stage of kind multiview, "
            "whose recipe says it"
        )
    return build(SeenConfig, header["clips"])


def _classifier(weights: Weights) -> tuple[torch.nn.Module, ClassifierHead]:
    tensors = weights.part("head")
    if "linear.weight" not in tensors:
        raise ConfigError(f"{weights.origin} holds no classifier; give the weights of a linear or a finetune stage")
    backbone = build_backbone(build(_Network, {"backbone": weights.header["backbone"]}).backbone)
    fill(backbone, weights.part("backbone"), what=weights.origin)
    head = head_of(tensors)
    fill(head, tensors, what=f"the head in {weights.origin}")
    return backbone.requires_grad_(False).eval(), head.requires_grad_(False).eval()


def _views(video: Path, seen: SeenConfig, *, clips: int, crops: int) -> Tensor:
    """(crops * clips, 3, T, S, S) normalised, the clips of one place along the longer side after those of another."""
    if not video.is_file():
        raise ConfigError(f"there is no video {video}")
    info = inspect(video)
    sampler = build_sampler(seen.sampling, seen.num_frames, seen.frame_stride)
    if not sampler.keeps(info.frames):
        raise ConfigError(f"{video} has {info.frames} frames, fewer than a clip of {seen.num_frames} needs")
    config = TestViewConfig(num_clips=clips, num_crops=3 if crops == 3 else 1, centre_crop=0)
    drawn: Sequence[Any] = TestView(config, seen.crop_size).draw(
        lambda purpose: stream(0, purpose), VideoClips(info.frames, info.fps, sampler)
    )
    found = []
    for view in drawn:
        frames = torch.from_numpy(read_frames(video, view.indices.tolist(), seekable=info.seekable))
        found.append(finished(view, frames, 0))
    return normalise(torch.stack(found), STATISTICS[seen.statistics])
