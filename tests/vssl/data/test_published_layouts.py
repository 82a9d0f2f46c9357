"""Every dataset's published layout in miniature, of real files, through `prepare`: names and traps of the originals."""

import json
import shutil
from pathlib import Path

import pytest

from launch.planning.marked_yaml import load_plain
from launch.planning.planner import CHECKOUT
from tests import miniatures
from tests.films import film, films
from tests.miniatures import HMDB51, write
from tests.prepared import Prepared
from vssl.artifacts import write_json
from vssl.config import ConfigError, build
from vssl.data.dataset_config import DatasetConfig
from vssl.data.layouts.layout import find_videos

CONFIGS = CHECKOUT / "configs" / "data"


# --- what `data=NAME` says


NAMED = {
    "ucf101": (miniatures.ucf101, 6),
    "ucf101_split2": (miniatures.ucf101, 6),
    "ucf101_split3": (miniatures.ucf101, 6),
    "hmdb51": (miniatures.hmdb51, 9),
    "kinetics400": (miniatures.kinetics, 6),
    "kinetics600": (miniatures.kinetics, 6),
    "something_something_v2": (miniatures.something_something, 5),
    "imagenet": (miniatures.imagenet, 6),
    "pouring": (miniatures.pouring, 5),
    "penn_action": (miniatures.penn_action, 5),
    "finegym99": (miniatures.finegym_pickles, 5),
    "finegym99_annotations": (miniatures.finegym, 2),
}


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_every_named_dataset_builds_and_reads_its_miniature(name: str, root: Path) -> None:
    mapping = load_plain(CONFIGS / f"{name}.yaml")["dataset"]
    assert mapping["name"] == name
    config = build(DatasetConfig, mapping | {"subset": True})
    if name in NAMED:
        make, count = NAMED[name]
        assert len(find_videos(config, make(root)).entries) == count


# --- UCF101: UCF-101/<class>/*.avi, ucfTrainTestlist/{classInd,trainlist01..03,testlist01..03}.txt


@pytest.fixture
def ucf101(root: Path) -> Path:
    return miniatures.ucf101(root)


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


def test_a_listed_video_that_is_missing_fails_before_anything_is_trained(ucf101: Path) -> None:
    (ucf101 / "UCF-101/Biking/v_Biking_g08_c01.avi").unlink()
    lost = r"(?s)1 of 6 files .*accepted: 5%.*v_Biking_g08_c01\.avi: missing \(.*trainlist01\.txt:\d\)"
    with pytest.raises(ConfigError, match=lost):
        Prepared(ucf101, layout="lists")
    assert not list((ucf101.parent / "sources").glob("*/source.json"))


def test_folds_share_what_was_found_in_files(ucf101: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vssl.data.preparing import examine

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


@pytest.fixture
def hmdb51(root: Path) -> Path:
    return miniatures.hmdb51(root)


def test_hmdb51(hmdb51: Path) -> None:
    found = Prepared(hmdb51, layout="hmdb51", subset=True)
    assert found.record["classes"] == ["brush_hair", "catch", "shoot_ball", "shoot_bow"]
    codes = {"1": "train", "2": "test"}
    assert found.labels() == {
        f"videos/{clip}": (clip.partition("/")[0], codes[code]) for clip, code in HMDB51.items() if code != "0"
    }
    groups = found.table["group"].to_dict()
    assert groups["videos/brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_1.avi"] == "brush_hair/April_09"
    assert groups["videos/catch/#20_Ballfangen;_(Timo 3)_catch_f_cm_np10_le_goo_0.avi"].endswith("(Timo 3)")
    # the published splits keep a film's clips apart within a class only
    assert groups["videos/shoot_ball/Two_Towers_6_shoot_ball_u_nm_np1_fr_med_1.avi"] == "shoot_ball/Two_Towers_6"
    assert "fold 1; 1 videos are in neither of its splits" in found.report["notes"]
    assert find_videos(DatasetConfig(name="d", path=str(hmdb51), subset=True), hmdb51).layout == "hmdb51", (
        "recognised, too"
    )


def test_hmdb51_lines_and_files_that_are_not_there(hmdb51: Path) -> None:
    for lists in (hmdb51 / "testTrainMulti_7030_splits").glob("*_split2.txt"):
        lists.unlink()
    with pytest.raises(ConfigError, match=r"no <class>_test_split2.txt in .*fold is 1, 2 or 3"):
        Prepared(hmdb51, layout="hmdb51", fold=2, subset=True)
    name = next(clip for clip in HMDB51 if clip.startswith("catch/Goal"))
    (hmdb51 / "videos" / name).unlink()
    found = Prepared(hmdb51, layout="hmdb51", subset=True, max_missing_share=0.2)
    assert [one["path"] for one in found.report["missing"]] == [f"videos/{name}"]
    write(hmdb51, "testTrainMulti_7030_splits/catch_test_split1.txt", "a_catch_f_cm_np1_ba_bad_3.avi 3")
    with pytest.raises(ConfigError, match=r"catch_test_split1.txt:1: .* expected `<video>.avi 0`, `1` or `2`"):
        Prepared(hmdb51, layout="hmdb51", subset=True)


# --- Kinetics: annotations/{train,val,test}.csv, <split>/<class>/<id>_<start>_<end>.mp4 or flatter, many missing


@pytest.fixture
def kinetics(root: Path) -> Path:
    return miniatures.kinetics(root)


def test_kinetics(kinetics: Path) -> None:
    found = Prepared(kinetics, layout="kinetics")
    assert found.record["classes"] == ["massaging person's head", "petting animal (not cat)", "testifying"]
    assert found.labels() == {
        "train/testifying/---QUuC4vJs_000084_000094.mp4": ("testifying", "train"),
        "train/testifying/xxxxxxxxxxx_000007_000017.mp4": ("testifying", "train"),
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
    with pytest.raises(ConfigError, match=r"(?s)1 of 7 files are not in .* \(14%, accepted: 10%\).*gone_gone_g"):
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


def test_a_dataset_stays_what_it_was_first_recognised_as(kinetics: Path) -> None:
    """By this version or by an earlier one, which knew folders alone: an upgrade must not retrain anybody."""
    found = Prepared(kinetics)
    assert found.record["layout"] == "kinetics"
    source = found.folder / "source.json"
    record = json.loads(source.read_text())
    del record["layout"]
    write_json(source, record)
    assert Prepared(kinetics).record["layout"] == "split-folders"
    shutil.rmtree(kinetics / "annotations")
    assert Prepared(kinetics).record["layout"] == "split-folders"


def test_files_that_are_no_lists_are_said_to_have_been_taken_for_some(root: Path) -> None:
    films(root, "a/1.mp4", "b/2.mp4")
    write(root, "train.csv", "weight,height", "1,2")
    write(root, "test.csv", "weight,height")
    with pytest.raises(
        ConfigError, match=r"train.csv:1: .*taken for layout lists .*layout=class-folders reads it by its"
    ):
        Prepared(root)
    assert Prepared(root, layout="class-folders").record["splits"] == {"train": 2}


# --- Something-Something V2: something-something-v2-*.json, 20bn-something-something-v2/<id>.webm


@pytest.fixture
def something(root: Path) -> Path:
    return miniatures.something_something(root)


def test_something_something_v2(something: Path) -> None:
    found = Prepared(something, layout="something-something-v2")
    place = "20bn-something-something-v2"
    expected = {
        f"{place}/78687.webm": ("Holding something", "train"),
        f"{place}/42326.webm": ("Pretending to put something into something", "train"),
        f"{place}/3.webm": ("Holding something", "train"),
        f"{place}/4.webm": ("Pretending to put something into something", "train"),
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
    miniatures.imagenet(root)
    (root / "train" / "n9" / "broken.JPEG").write_bytes(b"\xff\xd8\xff\xe0no more")
    found = Prepared(root, layout="image-folders", max_broken_share=0.2)
    assert found.record["classes"] == ["n9", "n10"]
    assert found.labels() == {
        "train/n9/n9_2.JPEG": ("n9", "train"),
        "train/n9/n9_4.JPEG": ("n9", "train"),
        "train/n10/n10_1.JPEG": ("n10", "train"),
        "train/n10/n10_3.JPEG": ("n10", "train"),
        "val/n9/ILSVRC2012_val_00000001.JPEG": ("n9", "val"),
        "val/n10/v.JPEG": ("n10", "val"),
    }
    assert set(found.table["frames"]) == {1}
    assert [one["path"] for one in found.report["unreadable"]] == ["train/n9/broken.JPEG"]
    assert find_videos(DatasetConfig(name="d", path=str(root)), root).layout == "image-folders"
