"""FGKVMem: BYOL with a key-value memory as predictor, and concepts (Li et al., ACM Multimedia 2023, pp. 2264-2274)."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vssl.backbones.backbone_config import BackboneConfig
from vssl.backbones.build import build_backbone
from vssl.distributed import all_gather_cat
from vssl.losses.concepts import address_sparsity, alignment, decorrelation, reconstruction, sharpened
from vssl.losses.cosine_regression import cosine_regression
from vssl.losses.swapped_prediction import entropy
from vssl.methods import Position
from vssl.methods.fgkvmem_config import ConceptsConfig, FGKVMemConfig
from vssl.nn.batchnorm import NormLayer, norm_layer
from vssl.nn.concepts import Centre, ConceptCode, ConceptDictionary
from vssl.nn.ema import ema_decay, move_towards
from vssl.nn.initial import he_convolutions
from vssl.nn.key_value_memory import KeyValueMemory
from vssl.nn.mlp import MLP
from vssl.randomness import seeded

Terms = dict[str, Tensor]  # name -> scalar


class Encoder(nn.Module):
    """Trunk f, mean over time and space, projector g: (B, 3, T, H, W) -> features y (B, F) and embeddings z (B, D)."""

    def __init__(self, backbone: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        maps: Tensor = self.backbone(clips)
        with torch.autocast(maps.device.type, enabled=False):
            features = maps.to(torch.promote_types(maps.dtype, torch.float32)).mean(dim=(2, 3, 4))
            return features, self.projector(features)


class Concepts(nn.Module):
    """What the concept losses train. A part that no loss of a weight above 0 needs does not exist.

    Args:
        config: of the concepts.
        dim: D, of an embedding.
        num_features: F, of the trunk.
        layer: number of channels -> normalisation layer.
    """

    def __init__(self, config: ConceptsConfig, dim: int, num_features: int, layer: NormLayer) -> None:
        super().__init__()
        self.config = config
        self.source = ConceptCode(dim, config.num, config.similarity)
        self.target = ConceptCode(dim, config.num, config.similarity)
        self.source_dictionary = ConceptDictionary(config.num, num_features, layer) if config.w_recon_src else None
        self.target_dictionary = ConceptDictionary(config.num, num_features, layer) if config.w_recon_tgt else None
        self.centre = Centre(config.num, config.center_momentum, config.center_scale)
        self.source.requires_grad_(bool(config.w_recon_src or config.w_align))
        self.target.requires_grad_(bool(config.w_recon_tgt))  # alignment alone leaves it as it was drawn

    def forward(self, y: Tensor, z: Tensor, target_y: Tensor, target_z: Tensor) -> tuple[Terms, Tensor]:
        """Losses of one direction, and the target's (B, K) shares of concepts. Then the centre takes its codes in."""
        config, terms = self.config, {}
        codes, target_codes = self.source(z), self.target(target_z.detach())  # (B, K) each
        shares = sharpened(target_codes, self.centre.value, config.tau_t)
        if self.source_dictionary:
            found = self.source_dictionary(codes)
            terms["loss_recon_src"] = reconstruction(found, y, loss=config.recon, reduction=config.reduction)
        if self.target_dictionary:
            found = self.target_dictionary(target_codes)
            terms["loss_recon_tgt"] = reconstruction(found, target_y, loss=config.recon, reduction=config.reduction)
        if config.w_align:
            terms["loss_align"] = alignment(codes, shares, config.tau_s)
        self.centre.update(target_codes)
        return terms, shares


class FGKVMem(nn.Module):
    """Predict the embedding that a slowly moving target network has of one clip from the other clip of its video.

    The target network is a moving average of the online one; the predictor is a memory or, as in BYOL, a perceptron.

    Args:
        config: the objective.
        backbone: trunk with an attribute `num_features`.
    """

    def __init__(self, config: FGKVMemConfig, backbone: Any) -> None:
        super().__init__()
        self.config = config
        layer = norm_layer(config.bn_group_size)
        features, dim = backbone.num_features, config.proj_dim
        self.online = Encoder(backbone, MLP(features, config.mlp_dim, dim, config.projector_layers, layer))
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.predictor = _predictor(config, layer)
        self.concepts = Concepts(config.concepts, dim, features, layer) if config.concepts else None
        self.weight_of = {
            "loss_pred": config.w_pred,
            "loss_sparsity": config.kvmemory.w_sparsity,
            "loss_key_decorrelation": config.kvmemory.w_key_decorrelation,
            "loss_value_decorrelation": config.kvmemory.w_value_decorrelation,
        }
        if config.concepts:
            self.weight_of |= {
                "loss_recon_src": config.concepts.w_recon_src,
                "loss_recon_tgt": config.concepts.w_recon_tgt,
                "loss_align": config.concepts.w_align,
            }
        if not config.w_pred:
            for name, parameter in self.predictor.named_parameters():
                parameter.requires_grad_(name.partition(".")[0] in self._taught_without_prediction())

    @classmethod
    def from_config(
        cls, config: FGKVMemConfig, backbone_config: BackboneConfig, *, global_batch_size: int, seed: int
    ) -> "FGKVMem":
        """The method with its backbone; initial weights depend on the seed alone, convolutions are He normal."""
        with seeded(seed, "weights"):
            backbone = build_backbone(backbone_config, norm_layer(config.bn_group_size))
            he_convolutions(backbone)
            return cls(config, backbone)

    def forward(self, batch: Mapping[str, Any], position: Position) -> tuple[Tensor, dict[str, Tensor | float]]:
        """One step's loss.

        Args:
            batch: `streams`: modality -> (B, 2, 3, T, H, W), two clips of each of this rank's B videos.
            position: where training stands.

        Returns:
            Float32 scalar, the sum over both directions, so that the gradients of the two clips add up. Of both
            directions together `cosine` of prediction and target and each loss before its weight; `ema_decay`;
            `spread` of the embeddings (1: as noise, 0: collapsed to a point) and `target_similarity` among the videos;
            of memory and concepts `slot_entropy` and `concept_entropy`, of what a clip looks up, over its maximum.
        """
        (clips,) = batch["streams"].values()
        decay = self.ema_decay(position)
        if self.training:
            move_towards(self.target, self.online, decay if position.step else 0.0)  # a copy at first
        with torch.no_grad():
            targets = [self.target(clips[:, clip]) for clip in (0, 1)]
        online = [self.online(clips[:, clip]) for clip in (0, 1)]
        with torch.autocast(clips.device.type, enabled=False):
            directions = [self.direction(*online[0], *targets[1]), self.direction(*online[1], *targets[0])]
            loss = torch.stack([self.weight_of[n] * t for terms, _ in directions for n, t in terms.items()]).sum()
            scalars = _means([terms | figures for terms, figures in directions])
            scalars["cosine"] = -self.config.temperature * scalars["loss_pred"]
            everyone = all_gather_cat(torch.cat([z for _, z in online + targets], dim=1))  # (global B, 4 D)
            views = everyone.chunk(4, dim=1)
            scalars["spread"] = torch.stack([_spread(z) for z in views[:2]]).mean()
            scalars["target_similarity"] = torch.stack([_similarity(z) for z in views[2:]]).mean()
            return loss, scalars | {"ema_decay": decay}

    def direction(self, y: Tensor, z: Tensor, target_y: Tensor, target_z: Tensor) -> tuple[Terms, Terms]:
        """Losses from one clip to the other before their weights, and figures that are only reported.

        In evaluation mode there are no concept losses: a departure from the original, whose centre moves then too.

        Args:
            y, z: (B, F) features and (B, D) embeddings of the online network.
            target_y, target_z: the target network's of the other clip.
        """
        terms: Terms = {}
        figures: Terms = {}
        if isinstance(self.predictor, KeyValueMemory):
            shares = self.predictor.address(z)  # (B, H, S)
            prediction = self.predictor.read(shares, z)
            figures["slot_entropy"] = _relative_entropy(shares)
            terms |= self._of_memory(self.predictor, shares)
        else:
            prediction = self.predictor(z)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.w_pred > 0):  # reported in any case
            terms["loss_pred"] = cosine_regression(prediction, target_z, self.config.temperature)
        if self.concepts and self.training:
            of_concepts, concepts = self.concepts(y, z, target_y, target_z)
            terms |= of_concepts
            figures["concept_entropy"] = _relative_entropy(concepts)
        return terms, figures

    def _of_memory(self, memory: KeyValueMemory, shares: Tensor) -> Terms:
        """Losses of how the slots are used and lie, as far as they have a weight."""
        terms = {}
        if self.weight_of["loss_sparsity"]:
            terms["loss_sparsity"] = address_sparsity(shares, self.config.kvmemory.sparsity_top_k)
        for part, slots in (("key", memory.key), ("value", memory.value)):
            if self.weight_of[f"loss_{part}_decorrelation"]:
                terms[f"loss_{part}_decorrelation"] = decorrelation(slots)  # of all heads together
        return terms

    def _taught_without_prediction(self) -> set[str]:
        """Parts of the predictor that other losses teach; the rest stays as it was drawn."""
        of = {
            "loss_sparsity": {"query", "key"},
            "loss_key_decorrelation": {"key"},
            "loss_value_decorrelation": {"value"},
        }
        return {part for loss, parts in of.items() if self.weight_of[loss] for part in parts}

    @property
    def backbone(self) -> nn.Module:
        """The online trunk."""
        return self.online.backbone

    def project(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, D): the online projector's embeddings."""
        embeddings: Tensor = self.online(clips)[1]
        return embeddings

    def ema_decay(self, position: Position) -> float:
        """Of the update before a step.

        The original's lags one step behind, and starts anew after a resume; here it is a function of the step.
        """
        start = self.config.ema_decay
        return ema_decay(position.progress, start) if self.config.ema_annealing else start

    def before_update(self, position: Position) -> None:
        """Nothing to do."""

    def after_update(self, position: Position) -> None:
        """Nothing to do: the target moves before the next forward."""

    def weights(self) -> dict[str, Tensor]:
        """The online network: `backbone.*` and `projector.*`; `predictor.*` and `concepts.*` for looking into them."""
        tensors = self.online.state_dict()
        for name, part in (("predictor", self.predictor), ("concepts", self.concepts)):
            if part is not None:
                tensors |= {f"{name}.{key}": tensor for key, tensor in part.state_dict().items()}
        return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}


def _predictor(config: FGKVMemConfig, layer: NormLayer) -> nn.Module:
    if config.predictor == "mlp":
        return MLP(config.proj_dim, config.mlp_dim, config.proj_dim, config.predictor_layers, layer)
    memory = config.kvmemory
    return KeyValueMemory(
        config.proj_dim,
        slots=memory.slots,
        heads=memory.heads,
        query_dim=memory.query_dim,
        value_dim=memory.value_dim,
        scale=memory.scale,
        query_layers=memory.query_layers,
        output_layers=memory.output_layers,
        residual=memory.residual,
        norm_layer=layer,
    )


def _means(directions: list[Terms]) -> dict[str, Tensor | float]:
    return {name: torch.stack([terms[name].detach() for terms in directions]).mean() for name in directions[0]}


def _spread(embeddings: Tensor) -> Tensor:
    """Mean deviation of unit embeddings along each axis, times sqrt(D)."""
    unit = F.normalize(embeddings, dim=1)
    deviation: Tensor = unit.std(dim=0, correction=0)  # (D,)
    return deviation.mean() * math.sqrt(unit.shape[1])


def _similarity(embeddings: Tensor) -> Tensor:
    """Mean |cos| over all pairs of a batch, a sample with itself counting 0."""
    return decorrelation(embeddings) / len(embeddings)


@torch.no_grad()
def _relative_entropy(shares: Tensor) -> Tensor:
    """Mean entropy of distributions (..., S) over ln S: 1 uniform, 0 all on one."""
    return entropy(shares).mean() / math.log(max(2, shares.shape[-1]))
