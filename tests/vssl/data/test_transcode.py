"""A transcoded video has the frames of its original, each at its moment, in its colours, upright and quick to reach."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.conftest import drifting
from tests.vssl.data.test_decode import FRAMES, KINDS, moving_frames, turn_to_the_left
from vssl.data.decode import BrokenVideo, all_frames, inspect, write_video
from vssl.data.transcode import Target, transcode

CHECKOUT = Path(__file__).resolve().parents[3]
FINE = Target(short_side=0, keyframe_interval=16, quality=6, preset="veryfast")
SMALL = Target(short_side=32, keyframe_interval=16, quality=18, preset="ultrafast")


def moments(path: Path) -> list[Fraction]:
    """When each frame is shown, seconds after the first one."""
    with av.open(str(path)) as container:
        found = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    return [one - found[0] for one in found]


def key_frames(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [number for number, frame in enumerate(container.decode(video=0)) if frame.key_frame]


@pytest.mark.parametrize("kind", KINDS)
def test_frame_k_stays_frame_k_at_its_moment(kind: str, tmp_path: Path) -> None:
    suffix, settings, timing = KINDS[kind]
    height, width = (49, 67) if kind == "h264-odd-size" else (48, 64)
    stamps = None
    if timing == "uneven":
        stamps = np.cumsum(np.random.default_rng(1).integers(1, 5, FRAMES)).tolist()
    if timing == "late":
        stamps = list(range(1000, 1000 + FRAMES))
    original, path = tmp_path / f"original{suffix}", tmp_path / "made.mp4"
    write_video(original, moving_frames(FRAMES, height, width), fps=25, stamps=stamps, **settings)
    if timing == "turned":
        turn_to_the_left(original)
        height, width = width, height

    assert transcode(original, path, FINE, 25.0) == FRAMES
    found = inspect(path)
    assert (found.frames, found.height, found.width) == (FRAMES, height // 2 * 2, width // 2 * 2)
    assert found.seekable
    assert moments(path) == moments(original) or kind == "h264-avi"  # that one has no moments of its own
    before, after = (np.stack(list(all_frames(one))).astype(int) for one in (original, path))
    before = before[:, : height // 2 * 2, : width // 2 * 2]
    limit = 14 if kind == "h264-odd-size" else 5  # scaled by a pixel, and colour at half the resolution
    assert np.abs(before - after).mean() < limit
    assert np.diff(key_frames(path)).max() <= 16


def test_the_short_side_is_scaled_down_and_never_up(tmp_path: Path) -> None:
    for size, meant in (((48, 63), (32, 42)), ((96, 64), (48, 32)), ((32, 40), (32, 40)), ((20, 90), (20, 90))):
        write_video(tmp_path / "a.mkv", drifting(3, *size, seed=0), codec="ffv1", fps=25)
        transcode(tmp_path / "a.mkv", tmp_path / "b.mp4", SMALL, 25.0)
        found = inspect(tmp_path / "b.mp4")
        assert (found.height, found.width) == meant


@pytest.mark.parametrize("space", [1, 5, 9])  # BT.709, BT.601, BT.2020
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_stay_what_they_were(space: int, full_range: bool, tmp_path: Path) -> None:
    original, path = tmp_path / "a.mp4", tmp_path / "b.mp4"
    with av.open(str(original), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "6"})
        stream.height, stream.width, stream.pix_fmt = 32, 40, "yuv420p"
        stream.codec_context.colorspace = space
        stream.codec_context.color_range = 2 if full_range else 1
        for pixels in drifting(4, 32, 40, seed=1):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    transcode(original, path, FINE, 25.0)
    before, after = (np.stack(list(all_frames(one))).astype(int) for one in (original, path))
    assert np.abs(before - after).mean() < 2


def test_sound_is_dropped(tmp_path: Path) -> None:
    original, path = tmp_path / "a.mkv", tmp_path / "b.mp4"
    with av.open(str(original), "w") as output:
        picture = output.add_stream("libx264", rate=25)
        picture.height, picture.width, picture.pix_fmt = 32, 40, "yuv420p"
        sound = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        for pixels in drifting(4, 32, 40, seed=1):
            output.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        noise = av.AudioFrame.from_ndarray(np.zeros((1, 1280), dtype=np.int16), format="s16", layout="mono")
        noise.sample_rate = 8000
        output.mux(sound.encode(noise))
        output.mux(picture.encode())
    transcode(original, path, SMALL, 25.0)
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_equal_originals_make_equal_files(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", drifting(6, 48, 64, seed=0), codec="libx264", fps=25)
    for name in ("b.mp4", "c.tmp"):
        transcode(tmp_path / "a.mp4", tmp_path / name, SMALL, 25.0)
    assert (tmp_path / "b.mp4").read_bytes() == (tmp_path / "c.tmp").read_bytes()


@pytest.mark.parametrize("codec", ["libx264", "libx264rgb"])
def test_what_lies_in_memory_is_no_part_of_a_file(codec: str, tmp_path: Path) -> None:
    """Fresh memory holds another value in each process; x264 looked at some of it, where the CPU has AVX-512."""
    code = (
        "import sys; from pathlib import Path; from tests.conftest import drifting; "
        "from vssl.data.decode import write_video; from vssl.data.transcode import Target, transcode; "
        "a, b = map(Path, sys.argv[2:]); write_video(a, drifting(24, 48, 64, seed=1), codec=sys.argv[1], fps=25, "
        "pixel_format='rgb24' if sys.argv[1] == 'libx264rgb' else None); "
        "transcode(a, b, Target(short_side=32, keyframe_interval=16, quality=18, preset='medium'), 25.0)"
    )
    found = set()
    for value in ("1", "170", "254"):
        paths = tmp_path / f"{value}.mkv", tmp_path / f"{value}.mp4"
        changes = {"MALLOC_PERTURB_": value}
        words = [sys.executable, "-c", code, codec, *map(str, paths)]
        subprocess.run(words, env=os.environ | changes, cwd=CHECKOUT, check=True)
        found.add(tuple(path.read_bytes() for path in paths))
    assert len(found) == 1


def test_a_broken_original_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    with pytest.raises(BrokenVideo, match=r"a\.mp4"):
        transcode(tmp_path / "a.mp4", tmp_path / "b.mp4", SMALL, 25.0)
