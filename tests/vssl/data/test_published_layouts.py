"""Every dataset's published layout in miniature, of real files, through `prepare`: names and traps of the originals."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.films import film, films
from vssl.config import ConfigError
from vssl.data.dataset_config import DatasetConfig
from vssl.data.label_runs import load_frame_labels
from vssl.data.layout import find_videos
from vssl.data.prepare import prepare


class Prepared:
    """A dataset in miniature after `prepare`."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.config = DatasetConfig(name="d", path=str(root), **settings)
        self.folder = root.parent / "sources" / self.config.key()
        self.said: list[str] = []
        self.record = prepare(self.config, root.parent / "sources", self.said.append)
        self.table = pd.read_parquet(self.folder / "manifest.parquet").set_index("path")
        self.report = json.loads((self.folder / "report.json").read_text())

    def labels(self) -> dict[str, tuple[str, str]]:
        """Path -> (class, split)."""
        return {
            path: (self.record["classes"][row["label"]], row["split"])
            for path, row in self.table[["label", "split"]].iterrows()
        }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def write(root: Path, name: str, *lines: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("".join(f"{line}\n" for line in lines))


# --- UCF101: UCF-101/<class>/*.avi, ucfTrainTestlist/{classInd,trainlist01..03,testlist01..03}.txt


@pytest.fixture
def ucf101(root: Path) -> Path:
    clips = [f"{name}/v_{name}_g{g:02}_c01.avi" for name in ("Archery", "Biking") for g in (1, 8, 15)]
    films(root / "UCF-101", *clips)
    write(root, "ucfTrainTestlist/classInd.txt", "1 Archery", "2 Biking")
    for fold, tested in enumerate(("01", "08", "15"), start=1):
        train = [f"{clip} {1 + clip.startswith('B')}" for clip in clips if f"_g{tested}_" not in clip]
        write(root, f"ucfTrainTestlist/trainlist{fold:02}.txt", *train)
        write(root, f"ucfTrainTestlist/testlist{fold:02}.txt", *(c for c in clips if f"_g{tested}_" in c))
    return root


@pytest.mark.parametrize(("fold", "tested"), [(1, "01"), (2, "08"), (3, "15")])
def test_ucf101_in_three_folds(ucf101: Path, fold: int, tested: str) -> None:
    found = Prepared(ucf101, layout="lists", fold=fold)
    assert found.record["splits"] == {"train": 4, "test": 2}
    assert found.record["classes"] == ["Archery", "Biking"]
    for path, (name, split) in found.labels().items():
        assert f"/{name}/" in path
        assert split == ("test" if f"_g{tested}_" in path else "train")
    row = found.table.loc["UCF-101/Biking/v_Biking_g08_c01.avi"]
    assert (row["group"], row["label"], row["frames"], row["fps"]) == ("v_Biking_g08", 1, 6, 25.0)
    assert (row["width"], row["height"]) == (40, 32)
    assert (row["size"], row["duration_s"]) == ((ucf101 / row.name).stat().st_size, pytest.approx(6 / 25))


def test_folds_share_what_was_found_in_files(ucf101: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vssl.data import examine

    first = Prepared(ucf101, layout="lists", fold=1)
    monkeypatch.setattr(examine, "isolated", None)  # would fail if a file were read
    assert Prepared(ucf101, layout="lists", fold=2).record["digest"] != first.record["digest"]


def test_a_recording_in_two_splits_is_refused_and_accepted_by_name(ucf101: Path) -> None:
    film(ucf101 / "UCF-101" / "Archery" / "v_Archery_g01_c02.avi")
    lists = ucf101 / "ucfTrainTestlist" / "trainlist01.txt"
    lists.write_text(lists.read_text() + "Archery/v_Archery_g01_c02.avi 1\n")
    with pytest.raises(
        ConfigError,
        match=r"(?s)v_Archery_g01_c01.avi \(test\) and UCF-101/Archery/v_Archery_g01_c02.avi \(train\) are of one "
        r"recording, v_Archery_g01 \(1 and 1 videos of it\).*known_leaks",
    ):
        Prepared(ucf101, layout="lists")
    found = Prepared(ucf101, layout="lists", known_leaks=("v_Archery_g01",))
    assert len(found.report["accepted_leaks"]) == 1
    assert any("accepted: " in line for line in found.said)


# --- HMDB51: <class>/*.avi, testTrainMulti_7030_splits/<class>_test_split<1..3>.txt

HMDB = {
    "brush_hair/Brushing_Her_Hair__[_NEW_AUDIO_]_UPDATED!!!!_brush_hair_h_cm_np1_le_goo_2.avi": "2",
    "brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi": "1",
    "brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_1.avi": "1",
    "catch/Goalkeeper_Training_Day_#_2_catch_f_cm_np1_ba_bad_3.avi": "2",
    "catch/#20_Ballfangen;_(Timo 3)_catch_f_cm_np10_le_goo_0.avi": "1",
    "catch/96-_Torwarttraining_1_catch_f_cm_np1_le_bad_0.avi": "0",
    "shoot_ball/FOOT_2009_(REMI_GAILLARD)_shoot_ball_f_cm_np1_ba_med_5.avi": "1",
    "shoot_ball/Two_Towers_6_shoot_ball_u_nm_np1_fr_med_1.avi": "2",
    "shoot_bow/Two_Towers_6_shoot_bow_u_nm_np1_fr_med_1.avi": "1",
    "shoot_bow/kick__Baddest!_-_Part_1_of_2_shoot_bow_u_cm_np1_ba_med_1.avi": "2",
}


@pytest.fixture
def hmdb51(root: Path) -> Path:
    films(root / "videos", *HMDB)
    for name in {clip.partition("/")[0] for clip in HMDB}:
        lines = [f"{clip.partition('/')[2]} {code} " for clip, code in HMDB.items() if clip.startswith(f"{name}/")]
        write(root, f"testTrainMulti_7030_splits/{name}_test_split1.txt", *lines)
    return root


def test_hmdb51(hmdb51: Path) -> None:
    found = Prepared(hmdb51, layout="hmdb51")
    assert found.record["classes"] == ["brush_hair", "catch", "shoot_ball", "shoot_bow"]
    codes = {"1": "train", "2": "test"}
    assert found.labels() == {
        f"videos/{clip}": (clip.partition("/")[0], codes[code]) for clip, code in HMDB.items() if code != "0"
    }
    groups = found.table["group"].to_dict()
    assert groups["videos/brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_1.avi"] == "brush_hair/April_09"
    assert groups["videos/catch/#20_Ballfangen;_(Timo 3)_catch_f_cm_np10_le_goo_0.avi"].endswith("(Timo 3)")
    # the published splits keep a film's clips apart within a class only
    assert groups["videos/shoot_ball/Two_Towers_6_shoot_ball_u_nm_np1_fr_med_1.avi"] == "shoot_ball/Two_Towers_6"
    assert "fold 1; 1 videos are in neither of its splits" in found.report["notes"]
    assert find_videos(DatasetConfig(name="d", path=str(hmdb51)), hmdb51).layout == "hmdb51", "recognised, too"


def test_hmdb51_lines_and_files_that_are_not_there(hmdb51: Path) -> None:
    with pytest.raises(ConfigError, match=r"no <class>_test_split2.txt in .*fold is 1, 2 or 3"):
        Prepared(hmdb51, layout="hmdb51", fold=2)
    name = next(clip for clip in HMDB if clip.startswith("catch/Goal"))
    (hmdb51 / "videos" / name).unlink()
    found = Prepared(hmdb51, layout="hmdb51", max_missing_share=0.2)
    assert [one["path"] for one in found.report["missing"]] == [f"videos/{name}"]
    write(hmdb51, "testTrainMulti_7030_splits/catch_test_split1.txt", "a_catch_f_cm_np1_ba_bad_3.avi 3")
    with pytest.raises(ConfigError, match=r"catch_test_split1.txt:1: .* expected `<video>.avi 0`, `1` or `2`"):
        Prepared(hmdb51, layout="hmdb51")


# --- Kinetics: annotations/{train,val,test}.csv, <split>/<class>/<id>_<start>_<end>.mp4 or flatter, many missing

KINETICS = (
    "testifying,---QUuC4vJs,84,94,train,0",
    '"massaging person\'s head",-_a_b-c_d-e,3,13,train,0',
    "petting animal (not cat),0123456789a,0,10,train,1",
    "testifying,gone_gone_g,5,15,train,0",
    "testifying,KvWk7T6ZAHE,20,30,validate,0",
    '"massaging person\'s head",abcdefghijk,100,110,validate,0',
)
HEADER = "label,youtube_id,time_start,time_end,split,is_cc"


@pytest.fixture
def kinetics(root: Path) -> Path:
    write(root, "annotations/train.csv", HEADER, *KINETICS[:4])
    write(root, "annotations/validate.csv", HEADER, *KINETICS[4:])
    write(root, "annotations/test.csv", "youtube_id,time_start,time_end,split", "zzzzzzzzzzz,1,11,test")
    films(
        root,
        "train/testifying/---QUuC4vJs_000084_000094.mp4",
        "train/massaging_person_s_head/-_a_b-c_d-e_000003_000013.mp4",
        "train/petting animal (not cat)/0123456789a_000000_000010.mkv",
        "val/KvWk7T6ZAHE_000020_000030.mp4",
        "replacement/abcdefghijk_000100_000110.mp4",
        "val/massaging/abcdefghijk_000100_000110.mp4",
        "val/massaging/notes_of_mine.mp4",
    )
    return root


def test_kinetics(kinetics: Path) -> None:
    found = Prepared(kinetics, layout="kinetics")
    assert found.record["classes"] == ["massaging person's head", "petting animal (not cat)", "testifying"]
    assert found.labels() == {
        "train/testifying/---QUuC4vJs_000084_000094.mp4": ("testifying", "train"),
        "train/massaging_person_s_head/-_a_b-c_d-e_000003_000013.mp4": ("massaging person's head", "train"),
        "train/petting animal (not cat)/0123456789a_000000_000010.mkv": ("petting animal (not cat)", "train"),
        "val/KvWk7T6ZAHE_000020_000030.mp4": ("testifying", "val"),
        "val/massaging/abcdefghijk_000100_000110.mp4": ("massaging person's head", "val"),
    }
    assert found.report["missing"] == [{"path": "gone_gone_g_000005_000015", "reason": "missing (train.csv:5)"}]
    assert found.record["excluded"] == found.report["missing"]
    assert found.report["label_gaps"] == {"val": ["petting animal (not cat)"]}
    assert found.report["notes"] == ["test.csv names no classes: its 1 videos are left out"]
    assert found.table.loc["val/KvWk7T6ZAHE_000020_000030.mp4", "group"] == "KvWk7T6ZAHE"


def test_kinetics_limits_what_may_be_missing_and_keeps_videos_apart(kinetics: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)1 of 6 files are not in .* \(17%, accepted: 10%\).*gone_gone_g"):
        Prepared(kinetics, layout="kinetics", max_missing_share=0.1)
    film(kinetics / "val" / "---QUuC4vJs_000200_000210.mp4")
    with open(kinetics / "annotations" / "validate.csv", "a") as stream:
        stream.write("testifying,---QUuC4vJs,200,210,validate,0\n")
    with pytest.raises(ConfigError, match=r"are of one recording, ---QUuC4vJs \(1 and 1 videos of it\)"):
        Prepared(kinetics, layout="kinetics")
    with open(kinetics / "annotations" / "validate.csv", "a") as stream:
        stream.write("testifying,---QUuC4vJs,84,94,validate,0\n")
    with pytest.raises(ConfigError, match=r"validate.csv:5: ---QUuC4vJs_000084_000094 is `testifying` in val, and at"):
        Prepared(kinetics, layout="kinetics")


def test_a_folder_of_kinetics_that_an_earlier_version_read_by_its_folders_is_still_read_so(kinetics: Path) -> None:
    found = find_videos(DatasetConfig(name="d", path=str(kinetics)), kinetics)
    assert found.layout == "split-folders"
    assert "layout=kinetics" in found.notes[0]


# --- Something-Something V2: something-something-v2-*.json, 20bn-something-something-v2/<id>.webm


@pytest.fixture
def something(root: Path) -> Path:
    films(root / "20bn-something-something-v2", "78687.webm", "42326.webm", "1.webm", "2.webm")
    labels = {"Holding something": "1", "Pretending to put something into something": "0"}
    start = "something-something-v2-"
    write(root, f"labels/{start}labels.json", json.dumps(labels))
    train = [
        {"id": "78687", "label": "holding potato", "template": "Holding [something]", "placeholders": ["potato"]},
        {"id": 42326, "label": "x", "template": "Pretending to put [something] into [something]", "placeholders": []},
    ]
    write(root, f"labels/{start}train.json", json.dumps(train))
    write(root, f"labels/{start}validation.json", json.dumps([train[0] | {"id": "1"}]))
    write(root, f"labels/{start}test.json", json.dumps([{"id": "2"}]))
    return root


def test_something_something_v2(something: Path) -> None:
    found = Prepared(something, layout="something-something-v2")
    place = "20bn-something-something-v2"
    expected = {
        f"{place}/78687.webm": ("Holding something", "train"),
        f"{place}/42326.webm": ("Pretending to put something into something", "train"),
        f"{place}/1.webm": ("Holding something", "val"),
    }
    assert found.record["classes"] == ["Pretending to put something into something", "Holding something"]
    assert found.labels() == expected
    assert "test is left out" in found.report["notes"][0]
    write(something, "labels/something-something-v2-test-answers.csv", "2;Holding something")
    labelled = Prepared(something, layout="something-something-v2")
    assert labelled.labels() == expected | {f"{place}/2.webm": ("Holding something", "test")}
    assert find_videos(DatasetConfig(name="d", path=str(something)), something).layout == "something-something-v2"


def test_something_something_v2_with_a_template_of_no_class(something: Path) -> None:
    write(
        something,
        "labels/something-something-v2-validation.json",
        json.dumps([{"id": "1", "template": "Folding [something]"}]),
    )
    with pytest.raises(ConfigError, match=r"validation.json:1: no class 'Folding something' \(did you mean `Holding"):
        Prepared(something, layout="something-something-v2")


# --- ImageNet: {train,val}/<class>/*.JPEG


def test_image_folders_in_natural_order(root: Path) -> None:
    films(root, "train/n10/n10_1.JPEG", "train/n9/n9_2.JPEG", "val/n9/ILSVRC2012_val_00000001.JPEG", "val/n10/v.JPEG")
    shutil.move(film(root / "other.png"), root / "train" / "n9" / "n9_3.JPEG")  # ImageNet has a PNG of that name
    (root / "train" / "n9" / "broken.JPEG").write_bytes(b"\xff\xd8\xff\xe0no more")
    found = Prepared(root, layout="image-folders", max_broken_share=0.2)
    assert found.record["classes"] == ["n9", "n10"]
    assert found.labels() == {
        "train/n9/n9_2.JPEG": ("n9", "train"),
        "train/n9/n9_3.JPEG": ("n9", "train"),
        "train/n10/n10_1.JPEG": ("n10", "train"),
        "val/n9/ILSVRC2012_val_00000001.JPEG": ("n9", "val"),
        "val/n10/v.JPEG": ("n10", "val"),
    }
    assert set(found.table["frames"]) == {1}
    assert [one["path"] for one in found.report["unreadable"]] == ["train/n9/broken.JPEG"]
    assert find_videos(DatasetConfig(name="d", path=str(root)), root).layout == "image-folders"


# --- CARL's pickles: Pouring, PennAction, FineGym


def dump(root: Path, name: str, value: object) -> None:
    (root / name).write_bytes(pickle.dumps(value))


def record(number: int, video: str, labels: list[int], **more: object) -> dict[str, object]:
    import torch  # the published pickles hold tensors

    labelled = torch.tensor(labels, dtype=torch.float32 if -1 in labels else torch.int64)
    name = Path(video).stem
    return {"id": number, "name": name, "video_file": video, "frame_label": labelled, "seq_len": len(labels), **more}


def test_pouring(root: Path) -> None:
    films(root, "videos/creamsoda_to_clear1_real_view_0.mp4", "videos/milk_to_clear2_real_view_0.mp4")
    dump(root, "train.pkl", [record(0, "videos/creamsoda_to_clear1_real_view_0.mp4", [0, 0, 1, 3, 3, 4])])
    dump(root, "val.pkl", [record(0, "videos/milk_to_clear2_real_view_0.mp4", [0, 1, 2, 3, 4, 4])])
    found = Prepared(root, layout="lists", lists={"train": "train.pkl", "val": "val.pkl"})
    assert found.record["classes"] == ["pouring"]
    assert found.record["splits"] == {"train": 1, "val": 1}
    assert found.record["frame_classes"] == ["0", "1", "2", "3", "4"]
    labels = load_frame_labels(found.folder)
    assert labels["videos/creamsoda_to_clear1_real_view_0.mp4"].tolist() == [0, 0, 1, 3, 3, 4]
    assert found.report["frames_per_label"] == {"0": 3, "1": 2, "2": 1, "3": 3, "4": 3}


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
    """A pair of records and indices per action; classes keep the published numbers."""
    names = {0: "0001_baseball_pitch", 7: "0200_pushup", 8: "0300_pullup"}
    films(root / "penn_action", *(f"videos/{name}.mp4" for name in names.values()), "videos/0400_pullup.mp4")
    records = [
        record(i, f"videos/{name}.mp4", [0, 0, 1, 1, 2, 3], action_label=action)
        for i, (action, name) in enumerate(names.items())
    ]
    indices: list[list[int]] = [[] for _ in range(13)]
    (root / "penn_action" / "train.pkl").write_bytes(pickle.dumps((records, indices)))
    tested = [record(0, "videos/0400_pullup.mp4", [0, 0, 0, 1, 1, 1], action_label=8)]
    (root / "penn_action" / "val.pkl").write_bytes(pickle.dumps((tested, indices)))
    found = Prepared(root / "penn_action", layout="lists", lists={"train": "train.pkl", "val": "val.pkl"})
    classes = found.record["classes"]
    assert (classes[0], classes[7], classes[8], len(classes)) == ("baseball_pitch", "pushup", "pullup", 9)
    assert found.labels()["videos/0400_pullup.mp4"] == ("pullup", "val")
    assert "baseball_pitch" in found.report["label_gaps"]["val"]


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


EVENTS = {  # event -> split, elements with class and times
    "0LtLS9wROrk_E_002407_002435": (
        "train",
        [("A_0000_0001", 7, [[0.0, 0.08]]), ("A_0001_0002", 74, [[0, 1], [0.16, 0.2]])],
    ),
    "zfqS-wCJSsw_E_006732_006824": (
        "val",
        [("A_0000_0001", 12, [[0.04, 0.12]]), ("A_0004_0005", None, [[0.2, 0.24]])],
    ),
}


def test_finegym_pickles(root: Path) -> None:
    films(root, *(f"processed_videos/{event}.mp4" for event in EVENTS))
    train, val = (f"processed_videos/{event}.mp4" for event in EVENTS)
    dump(root, "gym99_train_v1.0.pkl", [record(0, train, [7, 7, 7, -1, 74, 74], event_label=1)])
    dump(root, "gym99_val.pkl", [record(0, val, [-1, 12, 12, 12, -1, -1], event_label=4)])
    found = Prepared(root, layout="lists", lists={"train": "gym99_train_v1.0.pkl", "val": "gym99_val.pkl"})
    assert found.record["classes"] == ["0", "1", "2", "3", "4"]
    assert load_frame_labels(found.folder)[val].tolist() == [-1, 12, 12, 12, -1, -1]
    assert len(found.record["frame_classes"]) == 75


def test_finegym_annotations_give_what_the_pickles_give(root: Path) -> None:
    films(root, *(f"processed_videos/{event}.mp4" for event in EVENTS))
    annotations: dict[str, Any] = {}
    for event, (split, elements) in EVENTS.items():
        video, key = event[:11], event[12:]
        segments = {name: {"stages": len(times), "timestamps": times} for name, _, times in elements}
        annotations[video] = {
            key: {"event": 1 if split == "train" else 4, "segments": segments, "timestamps": [[2407, 2435]]}
        }
        lists = "gym99_train_element_v1.0.txt" if split == "train" else "gym99_val_element.txt"
        write(root, lists, *(f"{event}_{name} {label}" for name, label, _ in elements if label is not None))
    write(root, "finegym_annotation_info_v1.0.json", json.dumps(annotations))
    write(
        root,
        "gym99_categories.txt",
        "Clabel:   0; set:  1; Glabel:   1; (VT) round-off",
        "Clabel:  7; set: 21; Glabel:  68; (FX) switch leap with 1 turn",
    )
    found = Prepared(
        root, layout="finegym", lists={"train": "gym99_train_element_v1.0.txt", "val": "gym99_val_element.txt"}
    )
    train, val = (f"processed_videos/{event}.mp4" for event in EVENTS)
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
