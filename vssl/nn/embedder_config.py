"""From maps of frames to an embedding of each frame. Torch-free. Defaults are CARL's (CVPR 2022)."""

from dataclasses import dataclass
from typing import Literal

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class TransformerEmbedderConfig:
    """Frames are pooled, and then look at all frames of the sequence."""

    name: Literal["transformer"] = "transformer"
    layers: int = knob(3, doc="encoder layers", at_least=1)
    positions: bool = knob(
        True,
        doc="codes of a frame's place are added; by these alone an untrained encoder puts frames in order of time, "
        "whatever they show",
    )
    dim: int = knob(256, doc="size of a frame in the encoder; an even number", at_least=2)
    heads: int = knob(8, doc="heads of the attention", at_least=1)
    ff_dim: int = knob(1024, doc="hidden size of a layer's perceptron", at_least=1)
    fc_dims: tuple[int, int] = knob((512, 512), doc="sizes of the two linear layers below the encoder", at_least=1)
    embedding_dim: int = knob(128, doc="size of an embedding", at_least=1)
    dropout: float = knob(0.1, doc="probability, in training", at_least=0, at_most=1)

    def __post_init__(self) -> None:
        if self.dim % self.heads or self.dim % 2:
            raise ValueError(
                f"dim is {self.dim} and heads is {self.heads}; dim must be even and a multiple of heads, such as "
                f"{2 * self.heads * max(1, self.dim // (2 * self.heads))}"
            )


@dataclass(frozen=True, kw_only=True)
class ConvEmbedderConfig:
    """3D convolutions over each frame's map and its context's, frame by frame."""

    name: Literal["conv"] = "conv"
    conv_dim: int = knob(512, doc="channels of the two convolutions", at_least=1)
    fc_dims: tuple[int, int] = knob((512, 512), doc="sizes of the two linear layers above them", at_least=1)
    embedding_dim: int = knob(128, doc="size of an embedding", at_least=1)
    dropout: float = knob(0.1, doc="probability, in training", at_least=0, at_most=1)


@dataclass(frozen=True, kw_only=True)
class FrameEmbedderConfig:
    """Linear layers on each frame's pooled map alone."""

    name: Literal["frame"] = "frame"
    fc_dims: tuple[int, int] = knob((512, 512), doc="sizes of the first two linear layers", at_least=1)
    embedding_dim: int = knob(128, doc="size of an embedding", at_least=1)
    dropout: float = knob(0.1, doc="probability, in training", at_least=0, at_most=1)


EmbedderConfig = TransformerEmbedderConfig | ConvEmbedderConfig | FrameEmbedderConfig


def refuse_unread_context(embedder: EmbedderConfig, num_context_frames: int) -> None:
    """
    Raises:
        ValueError: frames come with a context that the embedder does not read.
    """
    if embedder.name == "transformer" and num_context_frames != 1:
        raise ValueError(
            f"data.sampling.num_context_frames is {num_context_frames}, which a transformer embedder does not read; "
            "set it to 1, or take an embedder of name conv or frame"
        )
