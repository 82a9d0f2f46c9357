"""Datasets with a label for every frame, in miniature, through `prepare`: CARL's pickles, and FineGym as published."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests import miniatures
from tests.films import film, films
from tests.miniatures import FINEGYM, dump, record, write
from tests.prepared import Prepared, config_of
from vssl.config import ConfigError
from vssl.data.decode import read_frames
from vssl.data.label_runs import load_frame_labels
from vssl.data.layouts.layout import find_videos
from vssl.data.prepare import changed


def test_pouring(root: Path) -> None:
    found = Prepared(miniatures.pouring(root), layout="lists", lists={"train": "train.pkl", "val": "val.pkl"})
    assert found.record["classes"] == ["pouring"]
    assert found.record["splits"] == {"train": 4, "val": 1}
    assert found.record["frame_classes"] == ["0", "1", "2", "3", "4"]
    labels = load_frame_labels(found.folder)
    assert labels["videos/creamsoda_to_clear1_real_view_0.mp4"].tolist() == [0, 0, 1, 3, 3, 4]
    assert found.report["frames_per_label"] == {"0": 9, "1": 5, "2": 1, "3": 9, "4": 6}


def test_labels_of_frames_are_part_of_the_identity(root: Path) -> None:
    films(root, "videos/a.mp4", "videos/b.mp4")
    dump(root, "val.pkl", [record(0, "videos/b.mp4", [0] * 6)])
    digests = []
    for labels in ([0] * 6, [0] * 5 + [1], [0] * 6):
        dump(root, "train.pkl", [record(0, "videos/a.mp4", labels)])
        digests.append(Prepared(root, layout="lists", lists={"train": "train.pkl", "val": "val.pkl"}).record["digest"])
    assert digests[0] == digests[2] != digests[1]


def test_frame_labels_of_another_length(root: Path) -> None:
    """Two frames more or less are a container's way of counting; more is another video."""
    films(root, *(f"videos/{name}.mp4" for name in "abcd"))
    lengths = {"a": 5, "b": 8, "c": 9}
    dump(root, "train.pkl", [record(0, f"videos/{n}.mp4", [1] * length) for n, length in lengths.items()])
    dump(root, "val.pkl", [record(0, "videos/d.mp4", [0, 0, 0, -1, 1, 1])])
    found = Prepared(root, lists={"train": "train.pkl", "val": "val.pkl"}, max_broken_share=0.3)
    labels = load_frame_labels(found.folder)
    assert labels["videos/a.mp4"].tolist() == [1] * 5 + [-1]
    assert labels["videos/b.mp4"].tolist() == [1] * 6
    assert labels["videos/d.mp4"].tolist() == [0, 0, 0, -1, 1, 1]
    assert found.report["frame_labels"] == [
        {"path": "videos/c.mp4", "reason": "6 frames and 9 frame labels (train.pkl:3)"}
    ]


def test_penn_action(root: Path) -> None:
    """Classes keep the published numbers, whatever the order of their names."""
    found = Prepared(miniatures.penn_action(root), layout="lists", lists={"train": "train.pkl", "val": "val.pkl"})
    classes = found.record["classes"]
    assert (classes[0], classes[7], classes[8], len(classes)) == ("baseball_pitch", "pushup", "pullup", 9)
    assert found.labels()["videos/0400_pullup.mp4"] == ("pullup", "val")
    assert "baseball_pitch" in found.report["label_gaps"]["val"]


PENN_ACTION = {  # action -> videos of training and of validation that are published, in the order of the numbers
    "baseball_pitch": (103, 63), "baseball_swing": (113, 57), "bench_press": (69, 71), "bowl": (134, 85),
    "clean_and_jerk": (40, 42), "golf_swing": (87, 77), "jumping_jacks": (56, 56), "pushup": (102, 106),
    "pullup": (98, 101), "situp": (50, 50), "squat": (111, 115), "tennis_forehand": (79, 74), "tennis_serve": (98, 69),
}  # fmt: skip


def test_penn_action_at_its_published_size(root: Path) -> None:
    """Of every action as many videos as the lists name, and no other."""
    splits = ("train", "val")
    for split, counts in zip(splits, zip(*PENN_ACTION.values())):
        records = [
            {"name": f"{n:04}_{action}", "video_file": f"videos/{split}{n}_{action}.mp4", "frame_label": np.zeros(1),
             "seq_len": 1, "action_label": number}
            for number, (action, count) in enumerate(zip(PENN_ACTION, counts)) for n in range(count)
        ]  # fmt: skip
        dump(root, f"{split}.pkl", (records, [[] for _ in counts]))
    config = config_of(root, layout="lists", lists={split: f"{split}.pkl" for split in splits})
    listing = find_videos(config, root)
    assert listing.classes == tuple(PENN_ACTION)
    found = Counter((entry.split, listing.classes[entry.label]) for entry in listing.entries)
    assert {action: tuple(found[split, action] for split in splits) for action in PENN_ACTION} == PENN_ACTION
    assert len(listing.entries) == 1140 + 966


@pytest.mark.parametrize("lost", ["0001_baseball_pitch", "0300_pullup"])
def test_a_video_that_is_left_out_takes_no_other_with_it(root: Path, lost: str) -> None:
    """The first or the last of a list; with the last one the original's writer loses what it has gathered before."""
    (miniatures.penn_action(root) / f"videos/{lost}.mp4").unlink()
    lists = {"train": "train.pkl", "val": "val.pkl"}
    found = Prepared(root, layout="lists", lists=lists, max_missing_share=0.2)
    assert found.record["splits"] == {"train": 3, "val": 1}
    assert [one["path"] for one in found.report["missing"]] == [f"videos/{lost}.mp4"]
    assert set(load_frame_labels(found.folder)) == set(found.table.index)


def test_a_pickle_of_no_records_or_of_code(root: Path) -> None:
    films(root, "videos/a.mp4")
    dump(root, "val.pkl", [record(0, "videos/a.mp4", [0] * 6)])
    for value, message in (
        ([{"name": "a"}], r"train.pkl:1: a record without 'video_file'; it has name"),
        ({}, r"holds no list of records"),
        ([record(0, "videos/a.mp4", [0] * 6) | {"seq_len": 7}], r"has 6 frame labels and seq_len 7"),
        ([record(0, "videos/a.mp4", [0]) | {"frame_label": np.array([0.5])}], r"no list of whole numbers"),
        (Path("x"), r"it asks for pathlib\.\w+; what may run code is not read"),
    ):
        dump(root, "train.pkl", value)
        with pytest.raises(ConfigError, match=message):
            Prepared(root, lists={"train": "train.pkl", "val": "val.pkl"})


def test_finegym_pickles(root: Path) -> None:
    films(root, *(f"processed_videos/{event}.mp4" for event in FINEGYM))
    train, val = (f"processed_videos/{event}.mp4" for event in FINEGYM)
    dump(root, "gym99_train_v1.0.pkl", [record(0, train, [7, 7, 7, -1, 74, 74], event_label=1)])
    dump(root, "gym99_val.pkl", [record(0, val, [-1, 12, 12, 12, -1, -1], event_label=4)])
    found = Prepared(root, layout="lists", lists={"train": "gym99_train_v1.0.pkl", "val": "gym99_val.pkl"})
    assert found.record["classes"] == ["0", "1", "2", "3", "4"]
    assert load_frame_labels(found.folder)[val].tolist() == [-1, 12, 12, 12, -1, -1]
    assert len(found.record["frame_classes"]) == 75


def test_finegym_annotations_give_what_the_pickles_give(root: Path) -> None:
    miniatures.finegym(root)
    found = Prepared(
        root, layout="finegym", lists={"train": "gym99_train_element_v1.0.txt", "val": "gym99_val_element.txt"}
    )
    train, val = (f"processed_videos/{event}.mp4" for event in FINEGYM)
    labels = load_frame_labels(found.folder)
    assert labels[train].tolist() == [7, 7, 7, -1, 74, 74]
    assert labels[val].tolist() == [-1, 12, 12, 12, -1, -1]
    assert found.table["label"].to_dict() == {train: 1, val: 4}
    assert found.table.loc[train, "group"] == "0LtLS9wROrk"
    assert found.record["frame_classes"][7] == "(FX) switch leap with 1 turn"
    write(root, "gym99_val_element.txt", "zfqS-wCJSsw_E_006732_006824_A_0009_0010 3")
    with pytest.raises(
        ConfigError, match=r"gym99_val_element.txt:1: the annotations of zfqS-wCJSsw_E_006732_006824 lack"
    ):
        Prepared(
            root, layout="finegym", lists={"train": "gym99_train_element_v1.0.txt", "val": "gym99_val_element.txt"}
        )


def test_finegym_events_are_cut_from_whole_videos(root: Path) -> None:
    """One video is there, one is not; the cut begins at the annotated frame, and is not made twice."""
    miniatures.finegym(root, whole=True)
    lists = {"train": "gym99_train_element_v1.0.txt", "val": "gym99_val_element.txt"}
    found = Prepared(root, layout="finegym", lists=lists)
    train, val = (f"{event}.mp4" for event in FINEGYM)
    assert found.record["splits"] == {"train": 1}
    reason = "FineGym_Raw_database/zfqS-wCJSsw.mp4: missing (gym99_val_element.txt:1)"
    assert found.report["missing"] == [{"path": val, "reason": reason}]
    row = found.table.loc[train]
    assert (row["frames"], row["fps"], row["height"]) == (6, 25.0, 32), "a small video is not made larger"
    event = Path(found.record["root"]) / train
    assert event.is_file()
    whole = read_frames(root / "FineGym_Raw_database" / "0LtLS9wROrk.mkv", range(20))
    for number, frame in enumerate(read_frames(event, range(6))):
        differences = np.abs(whole.astype(int) - frame).mean(axis=(1, 2, 3))
        assert differences.argmin() == 5 + number
    assert load_frame_labels(found.folder)[train].tolist() == [7, 7, 7, -1, 74, 74]

    before = event.stat().st_mtime_ns
    assert Prepared(root, layout="finegym", lists=lists).record["digest"] == found.record["digest"]
    assert event.stat().st_mtime_ns == before
    sources = found.folder.parent
    assert changed(found.config, sources) == []
    film(root / "FineGym_Raw_database" / "zfqS-wCJSsw.mkv", frames=20)
    assert changed(found.config, sources) == [f"{val} is there now"]
    assert Prepared(root, layout="finegym", lists=lists).record["splits"] == {"train": 1, "val": 1}
    assert changed(found.config, sources) == []
    event.unlink()
    assert changed(found.config, sources) == [f"{train} has another size or time"]
