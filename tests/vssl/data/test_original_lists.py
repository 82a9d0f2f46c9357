"""Lists of HMDB51 and UCF101 at their full number of classes, where the tools of FGKVMem's public code get them wrong.

Files are empty: what is tested is which class, which number and which split each of them gets.
"""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.miniatures import write
from vssl.config import ConfigError
from vssl.data.dataset_config import DatasetConfig
from vssl.data.layouts.layout import find_videos
from vssl.data.listing import Listing

_NAMES = (
    "brush_hair cartwheel catch chew clap climb climb_stairs dive draw_sword dribble drink eat fall_floor fencing "
    "flic_flac golf handstand hit hug jump kick kick_ball kiss laugh pick pour pullup punch push pushup ride_bike "
    "ride_horse run shake_hands shoot_ball shoot_bow shoot_gun sit situp smile smoke somersault stand swing_baseball "
    "sword sword_exercise talk throw turn walk wave"
)
HMDB51 = _NAMES.split()
CODES = [1] * 70 + [2] * 30 + [0] * 3  # of a class's videos, in a split


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture(scope="module")
def hmdb51(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hmdb51")
    for name in HMDB51:
        videos = [f"film{n}_{name}_f_cm_np1_fr_med_{n}.avi" for n in range(len(CODES))]
        for video in videos:
            touch(root / name / video)
        for fold in (1, 2, 3):
            codes = CODES[fold:] + CODES[:fold]
            lines = [f"{video} {code}" for video, code in zip(videos, codes)]
            write(root, f"testTrainMulti_7030_splits/{name}_test_split{fold}.txt", *lines)
    return root


def listed(root: Path, **settings: object) -> Listing:
    return find_videos(DatasetConfig(name="d", path=str(root), **settings), root)  # type: ignore[arg-type]


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_hmdb51_has_51_classes_of_3570_training_and_1530_test_videos(hmdb51: Path, fold: int) -> None:
    """The original counts 45 classes: it takes the class for what stands before the first underscore."""
    found = listed(hmdb51, layout="hmdb51", fold=fold)
    assert len(HMDB51) == 51
    assert list(found.classes) == sorted(HMDB51), "in order of their names, not in which a disk lists them"
    assert Counter(entry.split for entry in found.entries) == {"train": 3570, "test": 1530}
    for entry in found.entries:
        assert (hmdb51 / entry.path).is_file(), "the original's paths name folders that do not exist"
        assert found.classes[entry.label] == Path(entry.path).parent.name
    per_class = Counter((entry.label, entry.split) for entry in found.entries)
    assert set(per_class.values()) == {70, 30}


def test_hmdb51_without_some_split_file_is_refused_and_accepted_by_name(hmdb51: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(hmdb51, tmp_path / "hmdb51"))
    (root / "testTrainMulti_7030_splits" / "wave_test_split1.txt").unlink()
    with pytest.raises(ConfigError, match=r"name 50 classes, 0 of them .* 51 are published: .*dataset\.subset=true"):
        listed(root, layout="hmdb51")
    assert len(listed(root, layout="hmdb51", subset=True).classes) == 50
    lines = root / "testTrainMulti_7030_splits" / "walk_test_split2.txt"
    lines.write_text(lines.read_text().partition("\n")[2])
    with pytest.raises(ConfigError, match=r"name 51 classes, 1 of them .* than 70 train and 30 test .*walk"):
        listed(root, layout="hmdb51", fold=2)


def test_hmdb51_keeps_classes_apart_that_begin_alike(hmdb51: Path) -> None:
    found = listed(hmdb51, layout="hmdb51")
    alike = [name for name in found.classes if name.split("_")[0] in ("shoot", "ride", "kick", "climb", "sword")]
    assert len(alike) == 11
    labels = {name: {e.label for e in found.entries if Path(e.path).parent.name == name} for name in alike}
    assert all(len(one) == 1 for one in labels.values())
    assert len(set.union(*labels.values())) == 11


@pytest.fixture(scope="module")
def ucf101(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training lines end in 1 to 101, test lines in nothing, as published."""
    root = tmp_path_factory.mktemp("ucf101")
    names = [f"Action{letter}{n}" for letter in "ABCDE" for n in range(25)][:101]
    write(root, "ucfTrainTestlist/classInd.txt", *(f"{n} {name}" for n, name in enumerate(names, start=1)))
    train = [f"{name}/v_{name}_g08_c01.avi {n}" for n, name in enumerate(names, start=1)]
    test = [f"{name}/v_{name}_g01_c01.avi" for name in names]
    write(root, "ucfTrainTestlist/trainlist01.txt", *train)
    write(root, "ucfTrainTestlist/testlist01.txt", *test)
    for line in train + test:
        touch(root / "UCF-101" / line.split(" ")[0])
    return root


def test_ucf101_counts_from_0_and_its_test_videos_have_their_own_labels(ucf101: Path) -> None:
    """The original's list has labels 1 to 101 in training, out of range for 101 classes, and 0 for all test videos."""
    found = listed(ucf101, layout="lists")
    assert len(found.classes) == 101
    for split in ("train", "test"):
        labels = [entry.label for entry in found.entries if entry.split == split]
        assert sorted(labels) == list(range(101)), split
    assert all(found.classes[entry.label] == Path(entry.path).parent.name for entry in found.entries)


def test_ucf101_with_a_label_of_no_class_fails_before_anything_is_trained(ucf101: Path, tmp_path: Path) -> None:
    write(tmp_path, "classInd.txt", "1 Archery", "2 Biking")
    write(tmp_path, "trainlist01.txt", "Archery/v_Archery_g08_c01.avi 1", "Biking/v_Biking_g08_c01.avi 3")
    write(tmp_path, "testlist01.txt", "Archery/v_Archery_g01_c01.avi")
    for name in ("Archery/v_Archery_g08_c01.avi", "Biking/v_Biking_g08_c01.avi", "Archery/v_Archery_g01_c01.avi"):
        touch(tmp_path / name)
    with pytest.raises(ConfigError, match=r"trainlist01\.txt:2"):
        listed(tmp_path, layout="lists")
