"""A split of a dataset as samples: manifest row -> clips -> views, of RGB, flow, or both in step."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Generator, Tensor

from vssl.artifacts import Artifact
from vssl.data.dataset_config import ClipsConfig
from vssl.data.decode import Frames, read_frames
from vssl.data.manifest import check_unchanged, in_split, load_source, long_enough, with_motion
from vssl.data.sampling.samplers import VideoClips, build_sampler
from vssl.data.views.augment import STATISTICS, Statistics, to_view
from vssl.data.views.drawn import DrawnView, ViewMaker, finished
from vssl.data.views.looks import Look
from vssl.randomness import stream
from vssl.run import StageError

MODALITIES = ("rgb", "flow")  # position = number of the modality in what is drawn per frame


class Sample(TypedDict):
    """The views of one video. V is 2 in pretraining, 1 in classification, the number of windows in tests."""

    streams: dict[str, Tensor]  # modality -> (V, 3, T, S, S) uint8
    looks: list[Look]  # of the V views, already given to them or not
    steps: Tensor  # (V, T) int64 frame numbers as drawn, outside of the video where a slot is masked
    total: int  # frames of the video
    label: int
    video_id: str
    index: int


@dataclass(frozen=True)
class _Video:
    video_id: str
    label: int
    total: int  # frames that every modality has
    fps: float
    size: int
    mtime_ns: int
    seekable: bool
    paths: dict[str, Path]  # modality -> file


class ClipDataset:
    """Videos of one split that are long enough for a clip.

    Args:
        config: clip length, stride, modality.
        split: name of the split.
        dataset: the prepared source.
        motion: the tree of optical flow; needed unless the modality is rgb.
        seed: of everything that is drawn.
        view: how a video becomes views.

    Raises:
        StageError: no such split, no flow for its videos, or no video long enough.
    """

    def __init__(
        self, config: ClipsConfig, split: str, *, dataset: Artifact, motion: Artifact | None, seed: int, view: ViewMaker
    ) -> None:
        self.config, self.seed, self.view = config, seed, view
        self.modalities = MODALITIES if config.modality == "both" else (config.modality,)
        self._source = source = load_source(dataset.path)
        rows = in_split(source, split)
        lengths = {"rgb": "frames", "flow": "flow_frames"}
        before = len(rows)
        if "flow" in self.modalities:
            if motion is None:
                raise StageError(f"data.modality is {config.modality} and no optical flow is given; bind `motion`")
            rows = with_motion(rows, motion)
        self.sampler = build_sampler(config.sampling, config.num_frames, config.frame_stride)
        what = f"clips of {config.num_frames} frames at stride {config.frame_stride}"
        rows = long_enough(rows, [lengths[m] for m in self.modalities], self.sampler.keeps, what)
        self.videos = rows
        self.dropped_short = before - len(rows)
        self._videos = [self._video(row, motion) for row in rows.to_dict("records")]

    def __len__(self) -> int:
        return len(self._videos)

    @property
    def labels(self) -> Tensor:
        """(videos,) int64."""
        return torch.tensor([video.label for video in self._videos])

    @property
    def video_ids(self) -> list[str]:
        return [video.video_id for video in self._videos]

    @property
    def statistics(self) -> Statistics:
        """What colours are normalised by."""
        return STATISTICS[self.config.statistics]

    @property
    def classes(self) -> tuple[str, ...]:
        return self._source.classes

    def sample(self, epoch: int, index: int, *, finish: bool = True, repeat: int = 0) -> Sample:
        """The views of a video in an epoch: a function of (seed, epoch, video id) and nothing else.

        Where an epoch shows a video several times, `repeat` counts them, and each has draws of its own. Without
        `finish` views are cropped alone: what else was drawn is for `apply_looks`.

        Raises:
            BrokenVideo: a file does not decode.
            StageError: a file is not the one that `prepare` saw.
        """
        video = self._videos[index]
        try:
            tensors, views = self._streams(epoch, video, finish, repeat)
        except Exception as error:
            error.add_note(f"while reading {video.video_id} in epoch {epoch}")
            raise
        return Sample(
            streams=tensors,
            looks=[view.look for view in views],
            steps=torch.from_numpy(np.stack([view.steps for view in views])),
            total=video.total,
            label=video.label,
            video_id=video.video_id,
            index=index,
        )

    def still(self, index: int, *, short_side: int) -> Frames:
        """(H, W, 3) uint8 RGB: a video's middle frame as a person sees it, whatever the modality.

        Raises:
            BrokenVideo, StageError: as `sample`.
        """
        video = self._videos[index]
        frame: Frames = self._read(video, "rgb", [video.total // 2], short_side)[0]
        return frame

    def frames(self, index: int, wanted: Sequence[int]) -> Frames:
        """(n, H, W, 3) uint8 RGB: some of a video's frames, in any order, and as often as they are asked for.

        Raises:
            BrokenVideo, StageError: as `sample`.
        """
        numbers, places = np.unique(np.asarray(wanted), return_inverse=True)
        read = self._read(self._videos[index], "rgb", numbers.tolist(), self.config.decode_short_side)
        picked: Frames = read[places]
        return picked

    def total(self, index: int) -> int:
        """Frames of a video."""
        return self._videos[index].total

    def area(self, index: int) -> int:
        """Pixels of a frame of a video, as stored."""
        row = self.videos.iloc[index]
        return int(row["width"] * row["height"])

    def _streams(
        self, epoch: int, video: _Video, finish: bool, repeat: int
    ) -> tuple[dict[str, Tensor], Sequence[DrawnView]]:
        again = (f"repeat {repeat}",) if repeat else ()  # the first is drawn as where there is one

        def streams(purpose: str) -> Generator:
            return stream(self.seed, epoch, video.video_id, purpose, *again)

        views = self.view.draw(streams, VideoClips(video.total, video.fps, self.sampler))
        wanted = np.unique(np.concatenate([view.indices for view in views]))
        tensors = {}
        for modality in self.modalities:
            read = self._read(video, modality, wanted.tolist(), self.config.decode_short_side)
            frames = torch.from_numpy(read)  # (n, H, W, 3)
            number = MODALITIES.index(modality)
            picked = (torch.from_numpy(np.searchsorted(wanted, view.indices)) for view in views)
            tensors[modality] = torch.stack(
                [
                    finished(view, frames[at], number) if finish else to_view(view.crop(frames[at]))
                    for view, at in zip(views, picked)
                ]
            )
        return tensors, views

    def _read(self, video: _Video, modality: str, wanted: list[int], short_side: int) -> Frames:
        path = video.paths[modality]
        if modality == "flow":  # a tree that a stage wrote; its digest was checked as a whole
            return read_frames(path, wanted, seekable=True, short_side=short_side)
        check_unchanged(path, video.size, video.mtime_ns)
        return read_frames(path, wanted, seekable=video.seekable, short_side=short_side)

    def _video(self, row: dict[Any, Any], motion: Artifact | None) -> _Video:
        paths = {"rgb": self._source.root / row["path"]}
        if motion is not None and "flow" in self.modalities:
            paths["flow"] = motion.path / row["flow_path"]
        known = ("video_id", "label", "total", "fps", "size", "mtime_ns", "seekable")
        return _Video(paths=paths, **{key: row[key] for key in known})
