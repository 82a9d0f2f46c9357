"""ViCC: video cross-stream prototypical contrasting (Toering et al., WACV 2022, arXiv:2106.10137)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vssl.backbones.backbone_config import BackboneConfig
from vssl.backbones.build import build_backbone
from vssl.config import ConfigError
from vssl.distributed import all_gather_cat_with_grad, all_reduce_sum, rank, world_size
from vssl.losses.swapped_prediction import entropy, sinkhorn, swapped_prediction
from vssl.methods import Position
from vssl.methods.vicc_config import ViCCConfig
from vssl.nn.batchnorm import norm_layer
from vssl.nn.embedding_queue import EmbeddingQueue, gather_rows, local_length, slice_rows
from vssl.nn.heads import Projector
from vssl.nn.prototypes import Prototypes
from vssl.randomness import seeded, stream


class Encoder(nn.Module):
    """Backbone and projector of one stream: (B, 3, T, H, W) -> (B, D) unit vectors."""

    def __init__(self, backbone: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector

    def forward(self, clips: Tensor) -> Tensor:
        embeddings: Tensor = self.projector(self.backbone(clips))
        return embeddings


class ViCC(nn.Module):
    """Predict the prototype assignment of one view of a video from its other views.

    Single-stream, the views are two clips. Cross-stream, a second, frozen stream (flow if RGB is trained, and the other
    way round) adds its features of the same two clips as views 2 and 3, scored by the main stream's prototypes.

    Args:
        config: the objective.
        encoders: the main stream's, and cross-stream the second's too: (B, ...) -> (B, proj_dim) unit vectors.
        global_batch_size: videos per step over all ranks; every step has as many.
        seed: of the shuffles.

    Raises:
        ConfigError: the number of streams, the views or the batch do not fit the config.
    """

    def __init__(self, config: ViCCConfig, encoders: Sequence[nn.Module], *, global_batch_size: int, seed: int) -> None:
        super().__init__()
        streams = 1 if config.main_stream is None else 2
        if len(encoders) != streams:
            raise ConfigError(f"main_stream is {config.main_stream!r}, so {streams} encoders, got {len(encoders)}")
        self.num_views = 2 * streams
        every_view = tuple(range(self.num_views))
        self.assigning_views = every_view if config.views_for_assign is None else config.views_for_assign
        if not self.assigning_views or not set(self.assigning_views) <= set(every_view):
            raise ConfigError(f"views_for_assign is {list(self.assigning_views)}; accepted: some of {list(every_view)}")
        accepted = world_sizes(config, global_batch_size)
        if world_size() not in accepted:
            raise ConfigError(
                f"a global batch of {global_batch_size} with bn={config.bn}, bn_group_size={config.bn_group_size} does "
                f"not split over {world_size()} ranks; it does over {', '.join(map(str, accepted)) or 'none'}"
            )
        self.config = config
        self.global_batch_size = global_batch_size
        self.seed = seed
        self.encoders = nn.ModuleList(encoders)
        for second in self.encoders[1:]:
            second.requires_grad_(False).eval()
        self.prototypes = Prototypes(config.proj_dim, config.num_prototypes)
        self.queues: list[EmbeddingQueue] | None = None  # one per assigning view, from their first epoch on

    @classmethod
    def from_config(
        cls, config: ViCCConfig, backbone_config: BackboneConfig, *, global_batch_size: int, seed: int
    ) -> "ViCC":
        """The method with its backbones and projectors; initial weights depend on the seed alone."""
        layer = norm_layer(config.bn_group_size)  # a shuffled batch is normalised in groups too
        encoders = []
        with seeded(seed, "weights"):
            for _ in range(1 if config.main_stream is None else 2):
                backbone = build_backbone(backbone_config, layer)
                encoders.append(Encoder(backbone, Projector(backbone.num_features, config.proj_dim)))
            return cls(config, encoders, global_batch_size=global_batch_size, seed=seed)

    def train(self, mode: bool = True) -> "ViCC":
        """As ever, except that the second stream stays in evaluation mode.

        A departure from the original code, where a visualisation at step 5 leaves the frozen encoder in training mode
        for the rest of the epoch, so that its running statistics drift.
        """
        super().train(mode)
        for second in self.encoders[1:]:
            second.eval()
        return self

    def forward(self, batch: Mapping[str, Any], position: Position) -> tuple[Tensor, dict[str, Tensor | float]]:
        """One step's loss.

        Args:
            batch: `streams`: modality -> (B, 2, 3, T, H, W), two clips of each of this rank's B videos.
            position: where training stands.

        Returns:
            Float32 scalar, the mean over this rank's videos; and over all ranks' videos `assignment_entropy` (of the
            mean assignment) and `score_entropy` (mean of the predictions'), both divided by ln C: predictions at 1 are
            uniform, which is a collapse.
        """
        self.prototypes.renormalise()
        embeddings = self.embed(batch, position)  # V x (B, D)
        with torch.autocast(embeddings[0].device.type, enabled=False):
            scores = [self.prototypes(z) for z in embeddings]  # V x (B, C), float32
            assignments = self.assign(embeddings, scores, position)
            loss = swapped_prediction(scores, assignments, self.assigning_views, self.config.temperature)
            return loss, self._report(scores, assignments)

    def embed(self, batch: Mapping[str, Any], position: Position) -> list[Tensor]:
        """Unit embeddings (B, D) of the views: main clip 1, main clip 2, second clip 2, second clip 1.

        Without `second_view_grad`, as in every published run, only view 0 carries a gradient to the encoder: in the
        original code the shuffle of clip 2 over ranks runs without gradient. View 1 comes after view 0, which is the
        order in which running statistics are updated.
        """
        clips = self._streams(batch)
        main, *second = self.encoders
        embeddings = [main(clips[0][:, 0])]
        with torch.set_grad_enabled(self.config.second_view_grad and torch.is_grad_enabled()):
            if self.config.bn == "shuffle" and self.training:
                embeddings.append(self._encode_shuffled(main, clips[0][:, 1], position))
            else:
                embeddings.append(main(clips[0][:, 1]))
        with torch.no_grad():
            embeddings += [encoder(clips[1][:, clip]) for encoder in second for clip in (1, 0)]
        return embeddings

    @torch.no_grad()
    def assign(self, embeddings: Sequence[Tensor], scores: Sequence[Tensor], position: Position) -> list[Tensor]:
        """Assignments (B, C) of the assigning views, balanced over batch and queues; then fills the queues."""
        if self.queues is None and position.epoch >= self.config.queue_start_epoch:
            self.queues = self._empty_queues(embeddings[0].device)
        assignments = []
        for index, view in enumerate(self.assigning_views):
            samples = scores[view].detach()
            if self.queues:
                queue = self.queues[index]
                if queue.is_full():
                    samples = torch.cat([self.prototypes(queue.rows), samples])  # (L + B, C)
                queue.push(embeddings[view])
            balanced = sinkhorn(samples, self.config.epsilon, self.config.sinkhorn_iterations)
            assignments.append(balanced[-len(embeddings[view]) :])
        return assignments

    @property
    def backbone(self) -> nn.Module:
        """The main stream's."""
        main = self.encoders[0]
        assert isinstance(main, Encoder)
        return main.backbone

    def project(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, D): the main stream's unit embeddings."""
        embeddings: Tensor = self.encoders[0](clips)
        return embeddings

    def before_update(self, position: Position) -> None:
        """While the prototypes are frozen, neither learning rate control nor decay nor momentum may see them."""
        if position.epoch < self.config.freeze_prototypes_epochs:
            self.prototypes.weight.grad = None

    def after_update(self, position: Position) -> None:
        """Nothing to do: prototypes are renormalised before each forward."""

    def weights(self) -> dict[str, Tensor]:
        """The main stream for later stages: `backbone.*`, `projector.*`, `prototypes.weight` (not unit rows)."""
        tensors = self.encoders[0].state_dict() | {"prototypes.weight": self.prototypes.weight}
        return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}

    def load_streams(self, main: Mapping[str, Tensor], second: Mapping[str, Tensor] | None = None) -> None:
        """Start from earlier stages' `weights`: all of the main stream's; of the second's all but its prototypes.

        Raises:
            RuntimeError: names or shapes differ from this network's.
            ValueError: more or fewer streams than this method has.
        """
        own = {name.removeprefix("prototypes."): t for name, t in main.items() if name.startswith("prototypes.")}
        self.prototypes.load_state_dict(own)
        for encoder, tensors in zip(self.encoders, [main] if second is None else [main, second], strict=True):
            named = {name: tensor for name, tensor in tensors.items() if not name.startswith("prototypes.")}
            encoder.load_state_dict(named)

    def get_extra_state(self) -> dict[str, Tensor | None]:
        """The queues of all ranks as one rank would have kept them, (A, K, D). All ranks call."""
        if self.queues is None:
            return {"queues": None}
        local_batch = self.global_batch_size // world_size()
        rows = [gather_rows(queue.rows, local_batch).cpu() for queue in self.queues]
        return {"queues": torch.stack(rows) if rows else torch.zeros(0, 0, self.config.proj_dim)}

    def set_extra_state(self, state: Mapping[str, Tensor | None]) -> None:
        """This rank's part of the queues that any number of ranks has saved."""
        saved = state["queues"]
        if saved is None:
            self.queues = None
            return
        device = self.prototypes.weight.device
        self.queues = [EmbeddingQueue(slice_rows(rows, self.global_batch_size).to(device)) for rows in saved]

    def _streams(self, batch: Mapping[str, Any]) -> list[Tensor]:
        streams: Mapping[str, Tensor] = batch["streams"]
        if len(streams) != len(self.encoders):
            raise ConfigError(f"the batch has the streams {sorted(streams)}, main_stream={self.config.main_stream}")
        main: str = self.config.main_stream or next(iter(streams))
        return [streams[main], *(clips for modality, clips in streams.items() if modality != main)]

    def _encode_shuffled(self, encoder: nn.Module, clips: Tensor, position: Position) -> Tensor:
        """Encode all ranks' clips in a random order, so that batch statistics do not tell clip 2 from its clip 1."""
        local = len(clips)
        mine = slice(rank() * local, (rank() + 1) * local)
        order = shuffle_order(local * world_size(), self.seed, position.step).to(clips.device)  # the same on all ranks
        shuffled = encoder(all_gather_cat_with_grad(clips)[order[mine]])
        return all_gather_cat_with_grad(shuffled)[order.argsort()[mine]]

    def _empty_queues(self, device: torch.device) -> list[EmbeddingQueue]:
        length = local_length(self.config.queue_len, self.global_batch_size, world_size())
        if not length:
            return []
        return [EmbeddingQueue.empty(length, self.config.proj_dim, device) for _ in self.assigning_views]

    @torch.no_grad()
    def _report(self, scores: Sequence[Tensor], assignments: Sequence[Tensor]) -> dict[str, Tensor | float]:
        usage = torch.stack([assignment.mean(0) for assignment in assignments])  # (A, C)
        predictions = torch.softmax(torch.stack(list(scores)) / self.config.temperature, dim=-1)  # (V, B, C)
        local = torch.cat([usage.flatten(), entropy(predictions).mean()[None]])
        everyone = all_reduce_sum(local) / world_size()
        uniform = math.log(self.config.num_prototypes)
        return {
            "assignment_entropy": entropy(everyone[:-1].view_as(usage)).mean() / uniform,
            "score_entropy": everyone[-1] / uniform,
        }


def world_sizes(config: ViCCConfig, global_batch_size: int) -> list[int]:
    """Numbers of ranks over which a step can be split; its result is the same on each, up to rounding."""
    unit = config.bn_group_size or 1
    return [n for n in range(1, global_batch_size + 1) if global_batch_size % (n * unit) == 0]


def shuffle_order(length: int, seed: int, step: int) -> Tensor:
    """A permutation of all ranks' clips, drawn alike on each rank; the original draws on rank 0 and broadcasts."""
    return torch.randperm(length, generator=stream(seed, step, "shuffle"))
