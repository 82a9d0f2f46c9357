"""Embedders: what becomes of the maps of a sequence's frames. Each gives (N, T, D), one embedding a frame.

`reduce` is applied to maps block by block, where they are made, so that whole sequences of them are never held.
Source: CARL (Chen et al., CVPR 2022, arXiv:2203.14957), section 3.2, and its public code.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vssl.nn.batchnorm import SyncBatchNorm
from vssl.nn.dropout import Drop, keep_all
from vssl.nn.embedder_config import (
    ConvEmbedderConfig,
    EmbedderConfig,
    FrameEmbedderConfig,
    TransformerEmbedderConfig,
)


def sincos_positions(count: int, dim: int, trained_count: int | None = None) -> Tensor:
    """(count, dim) float64 codes of positions 0, 1, ..., or of as many spread evenly over the `trained_count` first.

    Channel i turns with 10000^(-i / dim): the original takes each channel's own number, where the usual formula gives a
    cosine the number of its sine.
    """
    if trained_count is None or count == trained_count:
        positions = torch.arange(count, dtype=torch.float64)
    else:
        positions = torch.linspace(0, trained_count - 1, count, dtype=torch.float64)
    channels = torch.arange(dim, dtype=torch.float64)
    angles = positions[:, None] / torch.pow(10000.0, channels / dim)
    return torch.where(channels.long() % 2 == 0, angles.sin(), angles.cos())


class EncoderLayer(nn.Module):
    """Attention, then a perceptron, each on normalised input and added to it.

    Matrices start Xavier uniform, biases as torch has them.

    Args:
        dim: D.
        heads: of the attention.
        ff_dim: hidden size of the perceptron.
        dropout: of what is added, in training.
    """

    def __init__(self, dim: int, heads: int, ff_dim: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))
        self.ff1, self.ff2 = nn.Linear(dim, ff_dim), nn.Linear(ff_dim, dim)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, frames: Tensor, mask: Tensor | None, drop: Drop = keep_all) -> Tensor:
        """(N, T, D) and (N, T) -> (N, T, D); masked frames are seen by none, and see the others."""
        frames = frames + drop(self.attention(self.norm1(frames), mask), self.dropout)
        return frames + drop(self.ff2(F.relu(self.ff1(self.norm2(frames)))), self.dropout)

    def attention(self, frames: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = (
            torch.unflatten(layer(frames), 2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )  # (N, heads, T, D / heads) each
        seen = None if mask is None else mask[:, None, None, :]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        output: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return output


class TransformerEmbedder(nn.Module):
    """Pooled frames through two normalised linear layers, an encoder over the sequence, and a linear layer.

    There is no normalisation after the encoder, and its layers start alike, as in the original.

    Args:
        config: sizes.
        num_features: F, of the maps.
    """

    def __init__(self, config: TransformerEmbedderConfig, num_features: int) -> None:
        super().__init__()
        self.config = config
        first, second = config.fc_dims
        self.fc1, self.norm1 = nn.Linear(num_features, first), SyncBatchNorm(first)
        self.fc2, self.norm2 = nn.Linear(first, second), SyncBatchNorm(second)
        self.enter = nn.Linear(second, config.dim)
        layer = EncoderLayer(config.dim, config.heads, config.ff_dim, config.dropout)
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(config.layers))
        self.embed = nn.Linear(config.dim, config.embedding_dim)

    def reduce(self, maps: Tensor) -> Tensor:
        """(n, F, h, w) -> (n, F): the largest value of each map."""
        return maps.amax(dim=(2, 3))

    def forward(
        self,
        features: Tensor,
        mask: Tensor | None = None,
        *,
        counted: Tensor | None = None,
        num_context_frames: int = 1,
        trained_count: int | None = None,
        drop: Drop = keep_all,
    ) -> Tensor:
        """
        Args:
            features: (N, T, F).
            mask: (N, T) which frames are there; None: all. Of a sequence without any, all are seen.
            counted: (N, T) which frames batch normalisation is taken over in training; None: all, those of masked
                slots too, which repeat the video's last frame.
            num_context_frames: 1, since frames see each other anyway.
            trained_count: frames of a sequence in training, over whose positions those of another length are spread.
            drop: dropout.
        """
        _refuse_context(num_context_frames, "transformer")
        probability, (sequences, count) = self.config.dropout, features.shape[:2]
        for linear, norm in ((self.fc1, self.norm1), (self.fc2, self.norm2)):
            vectors = linear(drop(features, probability)).flatten(0, 1)
            features = torch.unflatten(F.relu(norm(vectors, _flat(counted))), 0, (sequences, count))
        frames = self.enter(features)
        if self.config.positions:
            frames = frames + sincos_positions(count, self.config.dim, trained_count).to(frames)
        frames = drop(frames, probability)
        if mask is not None:
            mask = mask | ~mask.any(dim=1, keepdim=True)  # attention to nothing is not a number
        for layer in self.layers:
            frames = layer(frames, mask, drop)
        embeddings: Tensor = self.embed(frames)
        return embeddings


class ConvEmbedder(nn.Module):
    """Two 3D convolutions over a frame's map and those of its context, the largest values, three linear layers.

    Args:
        config: sizes.
        num_features: F, of the maps.
    """

    def __init__(self, config: ConvEmbedderConfig, num_features: int) -> None:
        super().__init__()
        self.config = config
        padding = (1, 0, 0)  # of time alone
        self.conv1 = nn.Conv3d(num_features, config.conv_dim, 3, padding=padding)
        self.conv2 = nn.Conv3d(config.conv_dim, config.conv_dim, 3, padding=padding)
        self.norm1, self.norm2 = SyncBatchNorm(config.conv_dim), SyncBatchNorm(config.conv_dim)
        first, second = config.fc_dims
        self.fc1, self.fc2 = nn.Linear(config.conv_dim, first), nn.Linear(first, second)
        self.embed = nn.Linear(second, config.embedding_dim)

    def reduce(self, maps: Tensor) -> Tensor:
        """(n, F, h, w), as they are; h and w are at least 5."""
        return maps

    def forward(
        self,
        features: Tensor,
        mask: Tensor | None = None,
        *,
        counted: Tensor | None = None,
        num_context_frames: int = 1,
        trained_count: int | None = None,
        drop: Drop = keep_all,
    ) -> Tensor:
        """(N, T * num_context_frames, F, h, w) -> (N, T, D); each frame by itself, whatever the others show."""
        sequences = len(features)
        clips = torch.unflatten(features.flatten(0, 1), 0, (-1, num_context_frames)).transpose(
            1, 2
        )  # (N T, F, context, h, w)
        clips = F.relu(self.norm1(self.conv1(clips), _flat(counted)))
        clips = F.relu(self.norm2(self.conv2(clips), _flat(counted)))
        return _embedded(self, torch.unflatten(clips.amax(dim=(2, 3, 4)), 0, (sequences, -1)), drop)


class FrameEmbedder(nn.Module):
    """Three linear layers on each frame's pooled map, the largest values of its context's taken in.

    Args:
        config: sizes.
        num_features: F, of the maps.
    """

    def __init__(self, config: FrameEmbedderConfig, num_features: int) -> None:
        super().__init__()
        self.config = config
        first, second = config.fc_dims
        self.fc1, self.fc2 = nn.Linear(num_features, first), nn.Linear(first, second)
        self.embed = nn.Linear(second, config.embedding_dim)

    def reduce(self, maps: Tensor) -> Tensor:
        """(n, F, h, w) -> (n, F): the largest value of each map."""
        return maps.amax(dim=(2, 3))

    def forward(
        self,
        features: Tensor,
        mask: Tensor | None = None,
        *,
        counted: Tensor | None = None,
        num_context_frames: int = 1,
        trained_count: int | None = None,
        drop: Drop = keep_all,
    ) -> Tensor:
        """(N, T * num_context_frames, F) -> (N, T, D); nothing is normalised."""
        return _embedded(self, torch.unflatten(features, 1, (-1, num_context_frames)).amax(dim=2), drop)


Embedder = TransformerEmbedder | ConvEmbedder | FrameEmbedder


def build_embedder(config: EmbedderConfig, num_features: int) -> Embedder:
    """An embedder of maps with so many channels; initial weights come from torch's global generator."""
    if isinstance(config, ConvEmbedderConfig):
        return ConvEmbedder(config, num_features)
    if isinstance(config, FrameEmbedderConfig):
        return FrameEmbedder(config, num_features)
    return TransformerEmbedder(config, num_features)


def _embedded(embedder: ConvEmbedder | FrameEmbedder, vectors: Tensor, drop: Drop) -> Tensor:
    for linear in (embedder.fc1, embedder.fc2):
        vectors = F.relu(linear(drop(vectors, embedder.config.dropout)))
    embeddings: Tensor = embedder.embed(vectors)
    return embeddings


def _flat(counted: Tensor | None) -> Tensor | None:
    """(N, T) -> (N T,)"""
    return None if counted is None else counted.flatten()


def _refuse_context(num_context_frames: int, name: str) -> None:
    if num_context_frames != 1:
        raise ValueError(
            f"frames come with {num_context_frames - 1} context frames, which the embedder {name} does not read; set "
            "data.sampling.num_context_frames to 1"
        )
