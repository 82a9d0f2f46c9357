"""Embeddings of every frame of a split, written video by video as they are made, and brought to all ranks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vssl.data.clips import ClipDataset
from vssl.data.label_runs import Labels
from vssl.data.sampling.long import chunks
from vssl.data.sampling.samplers import Long
from vssl.data.whole_files import clear_leftovers, made_whole
from vssl.data.whole_videos import Chunk, frame_chunks
from vssl.device import autocast
from vssl.distributed import all_gather_object, any_true, is_main, rank, world_size
from vssl.methods.carl import FrameEncoder
from vssl.run import Run, Stopped
from vssl.stages.alignment_config import AlignmentConfig

Embeddings = NDArray[np.float32]  # (T, D)


@dataclass(frozen=True)
class EmbeddedVideo:
    """All frames of a video, in order."""

    video_id: str
    index: int  # in its dataset
    action: int  # class of the video
    embeddings: Embeddings  # (T, D)
    labels: Labels  # (T,), -1 where a frame has none


@torch.no_grad()
def embed_split(
    config: AlignmentConfig,
    encoder: FrameEncoder,
    dataset: ClipDataset,
    chosen: Sequence[int],
    labels: Mapping[str, Labels],
    run: Run,
    *,
    split: str,
    device: torch.device,
) -> list[EmbeddedVideo]:
    """Every frame of the chosen videos of a split, in their order; all ranks call, and each embeds a part of them.

    Writes `<split>/<video>.npz` with `embeddings` and `labels` into the artifact `features`. Whole files from an
    earlier attempt are kept and read: the stage's folder stands for the network and every setting that matters.

    Raises:
        Stopped: some rank was asked to stop; what is finished stays.
    """
    names, actions = dataset.video_ids, dataset.labels.tolist()
    tree = run.artifact("features") / split

    def path(index: int) -> Path:
        return tree / f"{names[index]}.npz"

    def described(index: int, embeddings: Embeddings) -> EmbeddedVideo:
        return EmbeddedVideo(names[index], index, actions[index], embeddings, labels[names[index]])

    count = len(chosen)
    videos = chosen[count * rank() // world_size() : count * (rank() + 1) // world_size()]
    clear_leftovers(tree)
    own = {index: described(index, _read(path(index))) for index in videos if path(index).exists()}
    if own and is_main():
        run.say(f"{len(own)} of {len(videos)} videos of {split} are embedded already")
    assert isinstance(dataset.sampler, Long)
    context = dataset.sampler.config.num_context_frames
    parts = frame_chunks(
        dataset,
        [index for index in videos if index not in own],
        dataset.sampler,
        chunk=config.block,
        side=config.data.crop_size,
        centre_crop=config.centre_crop,
        workers=config.runtime.workers,
        prefetch=config.runtime.prefetch,
        device=device,
    )
    features: list[Tensor] = []  # of the video that is being read
    while True:
        part: Chunk | None = next(parts, None)
        if not any(any_true(part is not None)):
            break
        if part is not None:
            with autocast(config.runtime, device):
                features.append(encoder.features(part.frames[None]))
            if part.is_last:
                video = described(part.index, _embedded(config, encoder, torch.cat(features, dim=1), context))
                run.check_ownership()
                _write(path(part.index), video)
                own[part.index] = video
                features = []
            if is_main():  # rank 0 has the first videos
                run.beat(len(own), len(videos))
        if any(any_true(run.should_stop())):
            raise Stopped(f"embedding of {split}: {len(own)} of {len(videos)} videos are done and kept")
    return [video for of_rank in all_gather_object([own[index] for index in videos]) for video in of_rank]


def _embedded(config: AlignmentConfig, encoder: FrameEncoder, features: Tensor, context: int) -> Embeddings:
    """(1, T * context, ...) -> (T, D) in float32."""
    total = features.shape[1] // context
    pieces = [
        encoder.embedder(
            features[:, piece.start * context : piece.stop * context].float(),
            num_context_frames=context,
            trained_count=config.data.num_frames,
        )[0]
        for piece in chunks(total, config.sequence or total)
    ]
    embeddings = torch.cat(pieces)
    found: Embeddings = (F.normalize(embeddings, dim=1) if config.unit_embeddings else embeddings).cpu().numpy()
    return found


def _write(path: Path, video: EmbeddedVideo) -> None:
    with made_whole(path) as aside, open(aside, "wb") as stream:
        np.savez(stream, embeddings=video.embeddings, labels=video.labels)


def _read(path: Path) -> Embeddings:
    with np.load(path) as arrays:
        embeddings: Embeddings = arrays["embeddings"]
    return embeddings
