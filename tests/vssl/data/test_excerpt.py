from pathlib import Path

from vssl.artifacts import Artifact
from vssl.data.manifest import load_source
from vssl.data.preparing.excerpt import excerpt


def test_an_excerpt_is_a_dataset_of_few_short_videos(prepared_source: Artifact, tmp_path: Path) -> None:
    whole = load_source(prepared_source.path)
    record = excerpt(prepared_source.path, tmp_path / "few", videos={"train": 3, "test": 1}, min_frames=19)
    few = load_source(tmp_path / "few")
    assert (few.root, few.classes) == (whole.root, whole.classes)
    assert few.digest != whole.digest
    assert record["splits"] == {"train": 3, "test": 1}
    assert (record["of_videos"], record["of_frames"]) == (len(whole.videos), whole.videos["frames"].sum())
    assert record["frames"] == few.videos["frames"].sum()
    assert few.videos["frames"].min() >= 19
    train = few.videos[few.videos["split"] == "train"]
    assert train["label"].nunique() == 2, "both classes"
    left = whole.videos[(whole.videos["split"] == "train") & (whole.videos["frames"] >= 19)]
    assert train["frames"].max() <= left.sort_values("frames")["frames"].iloc[3]
    assert list(few.videos["video_id"]) == sorted(few.videos["video_id"])


def test_where_too_few_are_long_enough_the_longest_of_the_others_join(
    prepared_source: Artifact, tmp_path: Path
) -> None:
    whole = load_source(prepared_source.path).videos
    longest = whole[whole["split"] == "train"].sort_values("frames")["frames"].iloc[-1]
    excerpt(prepared_source.path, tmp_path / "few", videos={"train": 4}, min_frames=int(longest))
    few = load_source(tmp_path / "few").videos
    assert few["frames"].max() == longest
    assert len(few) == 4
    assert few["frames"].min() > whole["frames"].min()
    excerpt(prepared_source.path, tmp_path / "all", videos={"test": 100}, min_frames=0)
    assert len(load_source(tmp_path / "all").videos) == (whole["split"] == "test").sum()
