"""FGKVMem's own knobs (Li et al., ACM Multimedia 2023). Torch-free. Defaults are those of the public code."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from vssl.config import knob, nested


@dataclass(frozen=True, kw_only=True)
class KeyValueMemoryConfig:
    """The predictor that reads a learned memory."""

    slots: int = knob(4096, doc="keys, and values, over all heads", at_least=1)
    heads: int = knob(1, doc="heads, each with its own slots and queries", at_least=1)
    query_dim: int = knob(256, doc="size of a query and of a key", at_least=1)
    value_dim: int = knob(256, doc="size of a value", at_least=1)
    scale: float = knob(16.0, doc="factor of the cosine before the softmax over slots (the paper: 64)", above=0)
    query_layers: int = knob(2, doc="linear layers from an embedding to its queries", at_least=1)
    output_layers: int = knob(0, doc="linear layers from values to the prediction; 0: none", at_least=0)
    residual: bool = knob(False, doc="add the embedding to what was read")
    w_sparsity: float = knob(0.0, doc="weight of what lies outside of the largest shares of a query", at_least=0)
    sparsity_top_k: int = knob(500, doc="slots that a query may use without being penalised", at_least=1)
    w_key_decorrelation: float = knob(
        0.0, doc="weight of how alike the keys are; the published runs: 0", at_least=0, since="0.2", neutral=0.0
    )
    w_value_decorrelation: float = knob(
        0.0, doc="weight of how alike the values are; the published runs: 0", at_least=0, since="0.2", neutral=0.0
    )

    def __post_init__(self) -> None:
        if self.slots % self.heads:
            raise ValueError(
                f"slots is {self.slots} and heads is {self.heads}; slots must be a multiple of heads, such as "
                f"{self.slots - self.slots % self.heads or self.heads}"
            )
        if self.w_sparsity and self.sparsity_top_k > self.slots // self.heads:
            raise ValueError(
                f"sparsity_top_k is {self.sparsity_top_k} and a head has {self.slots // self.heads} slots; set it to "
                "fewer, or w_sparsity to 0"
            )


@dataclass(frozen=True, kw_only=True)
class ConceptsConfig:
    """Concept codes of both networks, aligned, and each giving its network's features back."""

    num: int = knob(4096, doc="concepts", at_least=1)
    similarity: Literal["dot", "cosine"] = knob("dot", doc="of an embedding and a concept")
    tau_s: float = knob(0.05, doc="divisor of the online network's codes before the softmax", above=0)
    tau_t: float = knob(0.05, doc="divisor of the target network's codes before the softmax", above=0)
    center_momentum: float = knob(0.9, doc="decay of the mean of the target's codes", at_least=0, at_most=1)
    center_scale: float = knob(
        1.0,
        doc="factor of each batch's mean: 1 takes their mean off the target's codes, as the public code does; -1 adds "
        "it, as the paper writes; 0: no centre; 0.125 is what the public code, which divides by the number of GPUs "
        "twice, comes to on 8 of them",
    )
    w_recon_src: float = knob(0.1, doc="weight of the online features' reconstruction (the paper: 0.01)", at_least=0)
    w_recon_tgt: float = knob(0.1, doc="weight of the target features' reconstruction (the paper: 0.01)", at_least=0)
    w_align: float = knob(0.01, doc="weight of the alignment of codes", at_least=0)
    recon: Literal["cosine", "l2"] = knob("cosine", doc="distance of reconstructed features (the paper: l2)")
    reduction: Literal["numel", "batch"] = knob(
        "numel", doc="reconstructions are summed, and divided by the number of features too (numel) or by the batch"
    )


@dataclass(frozen=True, kw_only=True)
class FGKVMemConfig:
    """BYOL on two clips of a video; with predictor `mlp` and without concepts, plain BYOL."""

    main_stream: ClassVar[None] = None  # one modality

    name: Literal["fgkvmem"] = "fgkvmem"
    predictor: Literal["kvmemory", "mlp"] = knob("kvmemory", doc="from the online embedding to the target's")
    kvmemory: KeyValueMemoryConfig = nested(KeyValueMemoryConfig, doc="the predictor `kvmemory`")
    concepts: ConceptsConfig | None = knob(ConceptsConfig(), doc="the concept module; null: none")
    proj_dim: int = knob(256, doc="size of an embedding", at_least=1)
    mlp_dim: int = knob(4096, doc="hidden size of the projector and of the predictor `mlp`", at_least=1)
    projector_layers: int = knob(2, doc="linear layers of the projector", at_least=1)
    predictor_layers: int = knob(2, doc="linear layers of the predictor `mlp`", at_least=1)
    w_pred: float = knob(
        1.0,
        doc="weight of the prediction; 0: the predictor learns nothing from it. The public code tells 0 from the rest "
        "alone",
        at_least=0,
        since="0.2",
        neutral=1.0,
    )
    temperature: float = knob(0.5, doc="divisor of the cosine of prediction and target", above=0)
    ema_decay: float = knob(0.996, doc="decay per step of the target network at the start", at_least=0, at_most=1)
    ema_annealing: bool = knob(True, doc="the decay rises to 1 along half a cosine; else it stays")
    bn_group_size: int | None = knob(
        None, doc="clips per normalisation group; null: the global batch, as the published runs", at_least=1
    )

    def __post_init__(self) -> None:
        memory = self.kvmemory
        read = memory.heads * memory.value_dim
        if self.predictor == "kvmemory" and read != self.proj_dim and (memory.residual or not memory.output_layers):
            raise ValueError(
                f"kvmemory reads {memory.heads} x {memory.value_dim} numbers (heads x value_dim) and proj_dim is "
                f"{self.proj_dim}; set kvmemory.value_dim to {max(1, self.proj_dim // memory.heads)}, or "
                "kvmemory.output_layers to 2 without residual"
            )
        if not (self.w_pred or self._teaches_without_prediction()):
            raise ValueError(
                "w_pred is 0 and no other loss with a weight teaches the backbone; set w_pred to 1, or give "
                "concepts.w_align or concepts.w_recon_src a weight above 0"
            )

    def _teaches_without_prediction(self) -> bool:
        looks_up = self.predictor == "kvmemory" and self.kvmemory.w_sparsity > 0
        return looks_up or bool(self.concepts and (self.concepts.w_align or self.concepts.w_recon_src))
