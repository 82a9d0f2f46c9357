"""Frame k of a seek is frame k of a full decode, for every kind of file; broken files are named for what they are."""

import contextlib
import random
import struct
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vssl.data import decode
from vssl.data.decode import BrokenVideo, all_frames, inspect, read_frames, write_video
from vssl.data.generated.motions import _photographs


def moving_frames(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """(count, height, width, 3) of drifting texture in which every frame is unlike every other."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 1), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    texture = texture.repeat(3, 2)
    frames = np.stack([np.roll(texture, (2 * k, 3 * k), (0, 1))[:height, :width] for k in range(count)])
    for k in range(count):
        frames[k, :16] = 5 * k % 256  # a bar whose brightness counts
    return frames


H264 = {"codec": "libx264"}
MPEG4 = {"codec": "mpeg4"}
FRAMES = 120

KINDS = {
    "h264-b-frames": (".mp4", H264 | {"options": {"g": "12", "bf": "3"}}, None),
    "h264-open-gop": (".mp4", H264 | {"options": {"g": "10", "bf": "2", "x264-params": "open-gop=1"}}, None),
    "h264-one-key": (".mkv", H264 | {"options": {"g": "999"}}, None),
    "h264-uneven": (".mp4", H264 | {"options": {"g": "12", "bf": "2"}}, "uneven"),
    "h264-late-start": (".mkv", H264 | {"options": {"g": "8"}}, "late"),
    "h264-late-start-mp4": (".mp4", H264 | {"options": {"g": "8", "bf": "2"}}, "late"),
    "h264-rotated": (".mp4", H264 | {"options": {"g": "12", "bf": "2"}}, "turned"),
    "h264-interlaced": (".mp4", H264 | {"options": {"g": "12", "bf": "2", "x264-params": "tff=1"}}, None),
    "h264-gradual-refresh": (".mp4", H264 | {"options": {"g": "15", "x264-params": "intra-refresh=1"}}, None),
    "h264-transport-stream": (".ts", H264 | {"options": {"g": "12", "bf": "2"}}, None),
    "h264-avi": (".avi", H264 | {"options": {"g": "12", "bf": "2"}}, None),
    "h264-odd-size": (".mp4", H264 | {"pixel_format": "yuv444p", "options": {"g": "9"}}, None),
    "hevc-open-gop": (
        ".mp4",
        {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": "keyint=12:open-gop=1:log-level=none"}},
        None,
    ),
    "mpeg4-avi": (".avi", MPEG4 | {"options": {"g": "12"}}, None),
    "mpeg4-avi-b-frames": (".avi", MPEG4 | {"options": {"g": "12", "bf": "2"}}, None),
    "mpeg4-mp4-b-frames": (".mp4", MPEG4 | {"options": {"g": "12", "bf": "2"}}, None),
    "mpeg2-program-stream": (".mpg", {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}}, None),
    "vp9-webm": (
        ".webm",
        {"codec": "libvpx-vp9", "options": {"g": "16", "deadline": "realtime", "cpu-used": "8"}},
        None,
    ),
    "vp9-webm-hidden-frames": (
        ".webm",
        {"codec": "libvpx-vp9", "options": {"g": "24", "lag-in-frames": "16", "auto-alt-ref": "1", "cpu-used": "5"}},
        None,
    ),
    "ffv1-mkv": (".mkv", {"codec": "ffv1"}, None),
}
DRAWS = 1000 // len(KINDS)
NOT_SOUGHT = {  # decoded from the start
    "h264-avi",  # its time stamps do not name every frame, nor do those of the next
    "mpeg2-program-stream",
    "h264-gradual-refresh",  # has no clean entry point
}


def turn_to_the_left(path: Path) -> None:
    """Write into an MP4 what a phone held upright writes: show it turned by 90 degrees."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    one = 1 << 16
    content[matrix : matrix + 36] = struct.pack(">9i", 0, -one, 0, one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def full_decode(path: Path) -> np.ndarray:
    """Every frame as FFmpeg gives them, one after the other."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames)


@pytest.mark.parametrize("kind", KINDS)
def test_any_frames_equal_those_of_a_full_decode(kind: str, tmp_path: Path) -> None:
    suffix, settings, timing = KINDS[kind]
    height, width = (49, 67) if kind == "h264-odd-size" else (48, 64)
    frames = moving_frames(FRAMES, height, width)
    stamps = None
    if timing == "uneven":
        stamps = np.cumsum(np.random.default_rng(1).integers(1, 5, FRAMES)).tolist()
    if timing == "late":
        stamps = list(range(1000, 1000 + FRAMES))
    path = tmp_path / f"clip{suffix}"
    write_video(path, frames, fps=25, stamps=stamps, **settings)
    whole = full_decode(path)
    if timing == "turned":
        turn_to_the_left(path)
        whole, height, width = np.rot90(whole, axes=(1, 2)), width, height

    found = inspect(path)
    assert (found.frames, found.height, found.width) == (FRAMES, height, width)
    assert np.array_equal(np.stack(list(all_frames(path))), whole)
    if timing != "turned":
        assert np.abs(whole.astype(int) - frames).mean() < 12  # it is the video that was written
        bars = whole[:, 4].mean((1, 2))
        assert (np.abs(bars - 5 * np.arange(FRAMES) % 256) < 12).mean() > 0.95  # in order, none lost
    assert found.seekable == (kind not in NOT_SOUGHT)

    draw = random.Random(kind)
    for _ in range(DRAWS):
        wanted = [draw.randrange(FRAMES) for _ in range(draw.choice([1, 4, 16]))]
        if draw.random() < 0.7:  # a clip
            count, stride = draw.choice([1, 4, 16]), draw.choice([1, 2, 3])
            start = draw.randrange(FRAMES - count * stride + 1)
            wanted = [start + k * stride for k in range(count)]
        assert np.array_equal(read_frames(path, wanted, seekable=found.seekable), whole[wanted]), wanted


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


def test_a_codec_that_nobody_knows_is_named(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, moving_frames(30, 48, 64), codec="libx264", fps=25)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz1").replace(b"avcC", b"zzzC"))
    for read in (lambda: inspect(path), lambda: read_frames(path, [20], seekable=True), lambda: list(all_frames(path))):
        with pytest.raises(BrokenVideo, match=r"no decoder|no video stream|not implemented"):
            read()


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_break_a_file_and_nothing_else(seed: int, tmp_path: Path) -> None:
    """Whatever the damage: frames, or the one error that is expected."""
    draw = random.Random(seed)
    for suffix, settings in ((".mp4", H264), (".mkv", H264), (".avi", MPEG4)):
        write_video(tmp_path / f"good{suffix}", moving_frames(30, 48, 64), fps=25, **settings)
        for number in range(12):
            damaged = bytearray((tmp_path / f"good{suffix}").read_bytes())
            for _ in range(draw.choice([1, 10, 60])):
                damaged[draw.randrange(draw.choice([len(damaged), 1500]))] = draw.randrange(256)
            path = tmp_path / f"{number}{suffix}"
            path.write_bytes(damaged[: draw.choice([len(damaged), draw.randrange(1, len(damaged))])])
            for read in (lambda p=path: inspect(p), lambda p=path: read_frames(p, [3, 25], seekable=True)):
                with contextlib.suppress(BrokenVideo):
                    read()


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_a_file_cut_short_is_found(suffix: str, tmp_path: Path) -> None:
    whole = tmp_path / f"whole{suffix}"
    write_video(whole, moving_frames(60, 48, 64), codec="mpeg4", fps=25)
    cut = tmp_path / f"cut{suffix}"
    for tenths in (6, 7, 8):
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * tenths // 10])
        with pytest.raises(BrokenVideo, match=r"truncated|Invalid data"):  # the latter where the cut is within a frame
            inspect(cut)


def photographed(count: int, height: int, width: int) -> np.ndarray:
    """(count, height, width, 3) of a photograph that moves by."""
    photograph = _photographs()[0].astype(np.uint8)
    return np.stack([photograph[k : k + height, 2 * k : 2 * k + width] for k in range(count)])


@pytest.mark.parametrize(("height", "width"), [(240, 320), (320, 240), (200, 200)])
def test_scaling_in_the_decoder_is_near_a_resize_of_its_frames(height: int, width: int, tmp_path: Path) -> None:
    path = tmp_path / "photograph.mp4"
    write_video(path, photographed(30, height, width), codec="libx264", fps=25, options={"g": "12"})
    wanted = [3, 20, 22]
    scaled = read_frames(path, wanted, seekable=True, short_side=96)
    assert min(scaled.shape[1:3]) == 96
    assert scaled.shape[2] / scaled.shape[1] == pytest.approx(width / height, rel=0.01)
    whole = torch.from_numpy(read_frames(path, wanted, seekable=True)).permute(0, 3, 1, 2).float()
    resized = F.interpolate(whole, size=scaled.shape[1:3], mode="bilinear", antialias=True).permute(0, 2, 3, 1).numpy()
    error = np.abs(scaled - resized)
    assert error.mean() < 3
    assert np.quantile(error, 0.999) < 32
    assert abs((scaled - resized).mean()) < 2


@pytest.mark.parametrize("settings", [{"codec": "ffv1"}, {"codec": "libx264", "pixel_format": "yuv444p"}])
def test_scaling_keeps_to_the_planes_of_the_file(settings: dict[str, str], tmp_path: Path) -> None:
    """Optical flow is stored as RGB, where no channel may bleed into another."""
    flat = np.zeros((20, 60, 80, 3), dtype=np.uint8)
    flat[...] = (128, 30, 220)
    write_video(tmp_path / "flat.mkv", flat, fps=25, **settings)
    scaled = read_frames(tmp_path / "flat.mkv", [0, 15], short_side=20)
    assert scaled.shape == (2, 20, 27, 3)
    assert np.abs(scaled.astype(int) - (128, 30, 220)).max() <= (0 if settings["codec"] == "ffv1" else 4)


def test_nothing_is_enlarged(tmp_path: Path) -> None:
    write_video(tmp_path / "small.mkv", moving_frames(5, 48, 64), codec="ffv1", fps=25)
    assert np.array_equal(
        read_frames(tmp_path / "small.mkv", [2], short_side=100), read_frames(tmp_path / "small.mkv", [2])
    )


def test_a_turned_video_is_scaled_upright(tmp_path: Path) -> None:
    path = tmp_path / "turned.mp4"
    write_video(path, moving_frames(20, 64, 96), codec="libx264", fps=25)
    turn_to_the_left(path)
    assert read_frames(path, [1]).shape == (1, 96, 64, 3)
    assert read_frames(path, [1, 15], seekable=True, short_side=32).shape == (2, 48, 32, 3)


def test_frames_that_a_seek_does_not_bring_are_read_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, moving_frames(60, 48, 64), codec="libx264", fps=25, options={"g": "12", "bf": "2"})
    whole = full_decode(path)
    decoded = decode._decoded

    def forgetful(*of: object) -> object:
        return (frame for number, frame in enumerate(decoded(*of)) if number % 2)

    monkeypatch.setattr(decode, "_decoded", forgetful)
    assert np.array_equal(read_frames(path, range(20, 40), seekable=True), whole[20:40])


def test_a_file_that_refuses_to_seek_is_read_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, moving_frames(60, 48, 64), codec="libx264", fps=25, options={"g": "12", "bf": "2"})
    whole = full_decode(path)
    packets_from = decode._packets_from

    def refusing(container: object, *of: object) -> object:
        def seek(*_: object, **__: object) -> None:
            raise av.error.PermissionError(1, "Operation not permitted")  # what FFmpeg says

        return packets_from(SimpleNamespace(seek=seek), *of)

    monkeypatch.setattr(decode, "_packets_from", refusing)
    assert np.array_equal(read_frames(path, range(20, 40), seekable=True), whole[20:40])


def test_an_open_file_is_closed_again(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, moving_frames(40, 48, 64), codec="libx264", fps=25, options={"g": "12"})
    (tmp_path / "text.mp4").write_text("this is no video\n" * 50)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        read_frames(path, [3, 30], seekable=True)
        next(iter(all_frames(path)))
        with pytest.raises(BrokenVideo):
            read_frames(tmp_path / "text.mp4", [20], seekable=True)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
