"""Frame k of a seek is frame k of a full decode, for every kind of file; broken files are named for what they are."""

import random
from pathlib import Path

import numpy as np
import pytest

from vssl.data.decode import BrokenVideo, inspect, read_frames, write_video


def moving_frames(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """(count, height, width, 3) of drifting texture in which every frame is unlike every other."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 1), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    texture = texture.repeat(3, 2)
    frames = np.stack([np.roll(texture, (2 * k, 3 * k), (0, 1))[:height, :width] for k in range(count)])
    for k in range(count):
        frames[k, :16] = 5 * k % 256  # a bar whose brightness counts
    return frames


KINDS = {
    "h264-b-frames": (".mp4", {"codec": "libx264", "options": {"g": "12", "bf": "3"}}, None),
    "h264-open-gop": (
        ".mp4",
        {"codec": "libx264", "options": {"g": "10", "bf": "2", "x264-params": "open-gop=1"}},
        None,
    ),
    "h264-one-key": (".mkv", {"codec": "libx264", "options": {"g": "999"}}, None),
    "h264-uneven": (".mp4", {"codec": "libx264", "options": {"g": "12", "bf": "2"}}, "uneven"),
    "h264-late-start": (".mkv", {"codec": "libx264", "options": {"g": "8"}}, "late"),
    "h264-gradual-refresh": (
        ".mp4",
        {"codec": "libx264", "options": {"g": "15", "x264-params": "intra-refresh=1"}},
        None,
    ),
    "h264-transport-stream": (".ts", {"codec": "libx264", "options": {"g": "12", "bf": "2"}}, None),
    "h264-odd-size": (".mp4", {"codec": "libx264", "pixel_format": "yuv444p", "options": {"g": "9"}}, None),
    "mpeg4-avi": (".avi", {"codec": "mpeg4", "options": {"g": "12"}}, None),
    "mpeg4-avi-b-frames": (".avi", {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}}, None),
    "ffv1-mkv": (".mkv", {"codec": "ffv1"}, None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_frames_equal_those_of_a_full_decode(kind: str, tmp_path: Path) -> None:
    suffix, settings, timing = KINDS[kind]
    height, width = (49, 67) if kind == "h264-odd-size" else (48, 64)
    frames = moving_frames(50, height, width)
    stamps = None
    if timing == "uneven":
        stamps = np.cumsum(np.random.default_rng(1).integers(1, 5, 50)).tolist()
    if timing == "late":
        stamps = list(range(1000, 1050))
    path = tmp_path / f"clip{suffix}"
    write_video(path, frames, fps=25, stamps=stamps, **settings)

    found = inspect(path)
    assert (found.frames, found.height, found.width) == (50, height, width)
    whole = read_frames(path, range(50))
    assert np.abs(whole.astype(int) - frames).mean() < 12  # it is the video that was written
    bars = whole[:, 4].mean((1, 2))
    assert (np.abs(bars - 5 * np.arange(50)) < 12).all()  # in order, none lost

    draw = random.Random(kind)
    for _ in range(12):
        wanted = [draw.randrange(50) for _ in range(draw.choice([1, 4, 16]))]
        assert np.array_equal(read_frames(path, wanted, seekable=found.seekable), whole[wanted]), wanted
    start = 30
    clip = range(start, start + 8)
    assert np.array_equal(read_frames(path, clip, seekable=found.seekable), whole[list(clip)])


def test_most_files_can_be_sought_in(tmp_path: Path) -> None:
    for name, settings in {
        "a.mp4": {"codec": "libx264", "options": {"g": "12", "bf": "3"}},
        "b.mkv": {"codec": "ffv1"},
    }.items():
        write_video(tmp_path / name, moving_frames(40, 48, 64), fps=25, **settings)
        assert inspect(tmp_path / name).seekable


def test_ffv1_keeps_every_value(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 33, 47, 3), dtype=np.uint8)
    write_video(tmp_path / "noise.mkv", frames, codec="ffv1", fps=25)
    assert np.array_equal(read_frames(tmp_path / "noise.mkv", range(5)), frames)


def test_equal_frames_make_equal_files(tmp_path: Path) -> None:
    """Else optical flow that is made again would have another digest, and everything trained on it would be redone."""
    frames = moving_frames(5, 32, 40)
    for codec, suffix in (("ffv1", ".mkv"), ("libx264", ".mp4")):
        first, second = (tmp_path / f"{name}{suffix}" for name in ("first", "second"))
        for path in (first, second):
            write_video(path, frames, codec=codec, fps=25)
        assert first.read_bytes() == second.read_bytes()


def test_rate_and_duration(tmp_path: Path) -> None:
    write_video(tmp_path / "slow.mp4", moving_frames(20, 48, 64), codec="libx264", fps=10)
    found = inspect(tmp_path / "slow.mp4")
    assert found.fps == pytest.approx(10)
    assert found.duration_s == pytest.approx(2.0)


def test_broken_files_say_what_is_wrong(tmp_path: Path) -> None:
    good = tmp_path / "good.mp4"
    write_video(good, moving_frames(30, 48, 64), codec="libx264", fps=25)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is no video\n" * 50)
    (tmp_path / "half.mp4").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    reasons = {}
    for name in ("empty", "text", "half"):
        with pytest.raises(BrokenVideo) as raised:
            inspect(tmp_path / f"{name}.mp4")
        reasons[name] = raised.value.reason
        for seekable in (False, True):
            with pytest.raises(BrokenVideo):
                read_frames(tmp_path / f"{name}.mp4", [20], seekable=seekable)
    assert "empty" in reasons["empty"]
    with pytest.raises(BrokenVideo, match="frame 30"):
        read_frames(good, [3, 30])


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_a_file_cut_short_is_found(suffix: str, tmp_path: Path) -> None:
    whole = tmp_path / f"whole{suffix}"
    write_video(whole, moving_frames(60, 48, 64), codec="mpeg4", fps=25)
    cut = tmp_path / f"cut{suffix}"
    for tenths in (6, 7, 8):
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * tenths // 10])
        with pytest.raises(BrokenVideo, match=r"truncated|Invalid data"):  # the latter where the cut is within a frame
            inspect(cut)
