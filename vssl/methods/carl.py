"""CARL: embeddings of the frames of long videos by sequence contrast (Chen et al., CVPR 2022, arXiv:2203.14957)."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vssl.backbones.backbone_config import BackboneConfig
from vssl.backbones.build import build_backbone
from vssl.backbones.frames import FrameResNet50, TinyFrames, apply_parts
from vssl.config import ConfigError
from vssl.distributed import rank
from vssl.losses.cycle_consistency import cycle_consistency
from vssl.losses.frame_cross_entropy import frame_cross_entropy
from vssl.losses.sequence_contrast import sequence_contrast
from vssl.losses.time_contrast import time_contrast
from vssl.methods import Position
from vssl.methods.carl_config import CARLConfig
from vssl.nn.batchnorm import SyncBatchNorm, SyncBatchNorm3d
from vssl.nn.dropout import Drop, SequenceDropout, keep_all
from vssl.nn.embedder_config import EmbedderConfig
from vssl.nn.frame_embedders import build_embedder
from vssl.nn.recomputation import recomputed
from vssl.randomness import seeded, stream


class FrameEncoder(nn.Module):
    """Backbone, of which the lower layers may be frozen, and embedder: sequences of frames -> an embedding of each.

    What is frozen stays in evaluation mode, has no gradients and keeps its running statistics.

    Args:
        backbone: of single frames.
        embedder: what becomes of its maps.
        frozen_layers: residual layers that are frozen, and the stem with them; 0: none, nor the stem.
        block: frames of each sequence that go through the backbone at a time.
        recompute: in training, activations of a block are computed again in the backward pass.
    """

    def __init__(
        self,
        backbone: FrameResNet50 | TinyFrames,
        embedder: EmbedderConfig,
        *,
        frozen_layers: int,
        block: int = 40,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.embedder = build_embedder(embedder, backbone.num_features)
        self.block, self.recompute = block, recompute
        parts = backbone.parts()
        self.num_frozen = min(frozen_layers + 1, len(parts)) if frozen_layers else 0
        for module in self._frozen():
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "FrameEncoder":
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def forward(
        self,
        frames: Tensor,
        mask: Tensor | None = None,
        *,
        counted: Tensor | None = None,
        num_context_frames: int = 1,
        trained_count: int | None = None,
        drop: Drop = keep_all,
    ) -> Tensor:
        """(N, 3, T, H, W) -> (N, T, D) in float32; see the embedders for the arguments."""
        features = self.features(frames)
        with torch.autocast(frames.device.type, enabled=False):
            embeddings: Tensor = self.embedder(
                features.to(torch.promote_types(features.dtype, torch.float32)),
                mask,
                counted=counted,
                num_context_frames=num_context_frames,
                trained_count=trained_count,
                drop=drop,
            )
            return embeddings

    def features(self, frames: Tensor) -> Tensor:
        """(N, 3, T, H, W) -> (N, T, F), or (N, T, F, h, w) for an embedder of maps; a block of frames at a time."""
        parts = [self._block(block) for block in torch.split(frames.transpose(1, 2), self.block, dim=1)]
        return torch.cat(parts, dim=1)

    def _block(self, frames: Tensor) -> Tensor:
        """(N, t, 3, H, W) -> (N, t, F, ...)."""
        lower, upper = self.backbone.parts()[: self.num_frozen], self.backbone.parts()[self.num_frozen :]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not lower):
            maps = apply_parts(lower, frames.flatten(0, 1))

        def trained(maps: Tensor) -> Tensor:
            return self.embedder.reduce(apply_parts(upper, maps))

        if self.recompute and self.training and upper:
            reduced = recomputed(trained, maps, self.backbone)
        else:
            reduced = trained(maps)
        return torch.unflatten(reduced, 0, (len(frames), -1))

    def _frozen(self) -> list[nn.Module]:
        return [module for part in self.backbone.parts()[: self.num_frozen] for module in part]


class Projector(nn.Module):
    """Linear, batch normalisation, ReLU, linear: (N, T, D) -> (N, T, P), over the frames of all sequences."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.fc1, self.norm, self.fc2 = nn.Linear(inputs, hidden), SyncBatchNorm(hidden), nn.Linear(hidden, outputs)

    def forward(self, embeddings: Tensor, counted: Tensor | None = None) -> Tensor:
        """`counted`: (N, T) which frames batch normalisation is taken over in training; None: all."""
        rows = None if counted is None else counted.flatten()
        hidden = F.relu(self.norm(self.fc1(embeddings.flatten(0, 1)), rows))
        return torch.unflatten(self.fc2(hidden), 0, embeddings.shape[:2])


class CARL(nn.Module):
    """Two views of a video are embedded frame by frame, and follow one another's time; or what that is compared with.

    Args:
        config: the objective.
        backbone: of single frames.
        seed: of dropout.
    """

    def __init__(self, config: CARLConfig, backbone: FrameResNet50 | TinyFrames, *, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        self.encoder = FrameEncoder(
            backbone,
            config.embedder,
            frozen_layers=config.frozen_layers,
            block=config.block,
            recompute=config.recompute,
        )
        size, dim = config.proj_dim if config.objective == "scl" else 0, config.embedder.embedding_dim
        self.projector = Projector(dim, size, size) if size else None
        self.classifier = nn.Linear(dim, config.num_classes) if config.objective == "supervised" else None

    @classmethod
    def from_config(
        cls, config: CARLConfig, backbone_config: BackboneConfig, *, global_batch_size: int, seed: int
    ) -> "CARL":
        """The method with its backbone; initial weights depend on the seed alone.

        Raises:
            ConfigError: a backbone of clips.
        """
        with seeded(seed, "weights"):
            backbone = build_backbone(backbone_config, SyncBatchNorm3d)
            if not isinstance(backbone, FrameResNet50 | TinyFrames):
                raise ConfigError(
                    f"backbone is {backbone_config.name}, which sees clips; method carl takes frame_resnet50 or "
                    "tiny_frames"
                )
            return cls(config, backbone, seed=seed)

    def forward(self, batch: Mapping[str, Any], position: Position) -> tuple[Tensor, dict[str, Tensor | float]]:
        """One step's loss: the mean over groups of `videos_per_loss` videos.

        Args:
            batch: `streams`: modality -> (B, V, 3, T * context, H, W), V views of each of this rank's B videos; `steps`
                (B, V, T) frame numbers, outside of the video where a slot shows nothing; `lengths` (B,) of the videos;
                for the supervised objective `frame_labels` (B, V, T), below 0 where there is none.
            position: where training stands.

        Returns:
            Float32 scalar; `spread` of the embeddings of a video's frames (1: as noise, 0: all alike), of two views
            `time_error`: how far a frame's nearest one in the other view is from it, as a share of the video, and of
            the supervised objective `accuracy`.

        Raises:
            ConfigError: the rank's videos are no whole groups.
        """
        (clips,) = batch["streams"].values()
        steps, lengths = batch["steps"].to(clips.device), batch["lengths"].to(clips.device)
        videos, views, count = steps.shape
        if videos % self.config.videos_per_loss:
            raise ConfigError(
                f"a rank has {videos} videos and method.videos_per_loss is {self.config.videos_per_loss}; choose it so "
                "that it divides global_batch_size / ranks"
            )
        mask = (steps >= 0) & (steps < lengths[:, None, None])
        frames = steps.clamp(min=0).minimum(lengths[:, None, None] - 1)
        seen = mask.flatten(0, 1)
        counted = seen if self.config.batchnorm_over == "frames" else None
        drop = self._dropout(videos, views, position) if self.training else keep_all
        embeddings = self.encoder(
            clips.flatten(0, 1),
            seen,
            counted=counted,
            num_context_frames=clips.shape[3] // count,
            drop=drop,
        )  # (B V, T, D)
        with torch.autocast(clips.device.type, enabled=False):
            if self.projector is not None:
                embeddings = self.projector(embeddings, counted)
            if self.config.objective == "scl" or self.config.unit_embeddings:
                embeddings = F.normalize(embeddings, dim=2)
            lengths, shape = lengths[:, None].expand(-1, views), (videos, views)
            figures = _figures(torch.unflatten(embeddings.detach(), 0, shape), frames, lengths, mask)
            if self.classifier is not None:
                logits = self.classifier(drop(embeddings, self.config.embedder.dropout))  # (B V, T, K)
                labels = batch["frame_labels"].to(clips.device)
                parts = self._groups(torch.unflatten(logits, 0, shape), labels, mask)
                losses, hits = zip(*(frame_cross_entropy(*group) for group in parts))
                return torch.stack(losses).mean(), figures | {"accuracy": torch.stack(hits).mean()}
            parts = self._groups(torch.unflatten(embeddings, 0, shape), frames, lengths, mask)
            return torch.stack([self._loss(*group) for group in parts]).mean(), figures

    def _groups(self, *parts: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """What is of all videos, for each group of them whose frames are averaged."""
        return zip(*(torch.split(part, self.config.videos_per_loss) for part in parts))

    def _loss(self, embeddings: Tensor, frames: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        """Of a group of videos: (b, V, T, D), (b, V, T), (b, V), (b, V, T)."""
        config = self.config
        if config.objective == "tcc":
            return cycle_consistency(
                embeddings.flatten(0, 1),
                frames.flatten(0, 1),
                lengths.flatten(),
                penalty=config.penalty,
                similarity=config.similarity,
                normalised_times=config.normalised_times,
                temperature=config.temperature,
                legacy_classification=config.legacy_classification,
            )
        if config.objective == "tcn":
            return time_contrast(embeddings.flatten(0, 1))
        return sequence_contrast(
            embeddings,
            frames,
            lengths,
            mask,
            variance=config.variance,
            temperature=config.temperature,
            negatives=config.negatives,
            masked_weight=config.masked_weight,
            zero_rows=config.zero_rows,
        )

    def _dropout(self, videos: int, views: int, position: Position) -> Drop:
        """A stream for each sequence of the global batch."""
        first = rank() * videos * views
        names = range(first, first + videos * views)
        return SequenceDropout([stream(self.seed, position.step, "dropout", name) for name in names])

    @property
    def backbone(self) -> nn.Module:
        """The network of single frames."""
        return self.encoder.backbone

    def before_update(self, position: Position) -> None:
        """Nothing to do."""

    def after_update(self, position: Position) -> None:
        """Nothing to do."""

    def weights(self) -> dict[str, Tensor]:
        """`backbone.*`, `embedder.*`, and `projector.*` or `classifier.*`, which evaluations leave out."""
        tensors = self.encoder.state_dict()
        for name, head in (("projector", self.projector), ("classifier", self.classifier)):
            if head is not None:
                tensors |= {f"{name}.{key}": tensor for key, tensor in head.state_dict().items()}
        return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


@torch.no_grad()
def _figures(embeddings: Tensor, frames: Tensor, lengths: Tensor, mask: Tensor) -> dict[str, Tensor | float]:
    """Means over videos, so that ranks that have as many of them agree with one that has all."""
    unit = F.normalize(embeddings, dim=3)
    spreads = [of[shown].std(dim=0, correction=0).mean() for of, shown in zip(unit, mask) if shown.any()]
    figures: dict[str, Tensor | float] = {"spread": torch.stack(spreads).mean() * unit.shape[3] ** 0.5}
    if embeddings.shape[1] == 2:
        similarity = unit @ unit.flip(1).transpose(2, 3)  # (B, 2, T, T)
        nearest = similarity.masked_fill(~mask.flip(1)[:, :, None], -torch.inf).argmax(dim=3)
        error = (frames - frames.flip(1).gather(2, nearest)).abs() / lengths[..., None]
        figures["time_error"] = torch.stack([of[shown].mean() for of, shown in zip(error, mask) if shown.any()]).mean()
    return figures
