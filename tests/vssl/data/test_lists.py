"""Lists of the originals, as they wrote them: separators, headers, odd names, other folders, other file types."""

from pathlib import Path

import pytest

from vssl.config import ConfigError
from vssl.data.dataset_config import DatasetConfig
from vssl.data.layouts.layout import find_videos
from vssl.data.listing import UNLABELLED, Listing


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def listing(root: Path, train: str, test: str, name: str = "{}.txt", **settings: object) -> Listing:
    """The listing of a dataset with these two lists; `name` says what their files are called."""
    lists = {split: name.format(split) for split in ("train", "test")}
    for split, text in (("train", train), ("test", test)):
        (root / lists[split]).parent.mkdir(parents=True, exist_ok=True)
        (root / lists[split]).write_text(text, encoding="utf-8")
    return find_videos(DatasetConfig(name="d", path=str(root), layout="lists", lists=lists, **settings), root)


def labels(found: Listing) -> dict[str, tuple[int, str]]:
    return {entry.path: (entry.label, entry.split) for entry in found.entries}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    touch(tmp_path, "a/x 1.mp4", "b/y,z;[1].avi", "b/#2_(w).webm", "a/q.mp4")
    return tmp_path


@pytest.mark.parametrize(
    "lines",
    [
        ("a/x 1.mp4 0", "b/y,z;[1].avi 1"),
        ("a/x 1.mp4\t0", "b/y,z;[1].avi\t1"),
        ("a/x 1.mp4,0", "b/y,z;[1].avi,1"),
        ("a/x 1.mp4;0", "b/y,z;[1].avi;1"),
        ("a/x 1.mp4|0", "b/y,z;[1].avi|1"),
        ("a/x 1.mp4 300 0", "b/y,z;[1].avi 77 1"),  # path, frames, label
        ("a/x 1.mp4, 0", "b/y,z;[1].avi ,1"),
        ('"a/x 1.mp4" 0', "'b/y,z;[1].avi',1"),
        ("./a/x 1.mp4 0\r", "b/../b/y,z;[1].avi 1\r"),
        ("path,label", '"a/x 1.mp4",0', '"b/y,z;[1].avi",1'),
        ("label\tpath", "0\ta/x 1.mp4", "1\tb/y,z;[1].avi"),
        ("filename;frames;class", "a/x 1.mp4;300;0", '"b/y,z;[1].avi";77;1'),
    ],
    ids=str,
)
def test_separators_headers_and_quotes(root: Path, lines: tuple[str, ...]) -> None:
    found = listing(root, "\n".join(lines), "a/q.mp4 0\n")
    assert labels(found) == {"a/x 1.mp4": (0, "train"), "b/y,z;[1].avi": (1, "train"), "a/q.mp4": (0, "test")}


def test_a_line_that_begins_with_a_hash_is_a_comment_unless_a_file_has_that_name(root: Path) -> None:
    found = listing(root, "#2_(w).webm 0\n# a/x 1.mp4 0\n#nothing\n#2_(v).webm 1\n", "", name="b/{}.txt")
    assert labels(found) == {"b/#2_(w).webm": (0, "train")}


@pytest.mark.parametrize("prefix", ["/datasets/set/", "UCF-101/", "/x/y/z/", ""])
def test_paths_of_another_disk_are_found_by_their_ends(root: Path, prefix: str) -> None:
    found = listing(root, f"{prefix}a/x 1.mp4 0\n{prefix}b/gone.avi 1\n", f"{prefix}a/q.mp4 0\n")
    assert set(labels(found)) == {"a/x 1.mp4", "b/gone.avi", "a/q.mp4"}


def test_lists_at_home_in_a_folder_below_or_beside_their_videos(tmp_path: Path) -> None:
    touch(tmp_path, "videos/a/1.avi", "videos/a/2.avi", "videos/b/3.avi")
    found = listing(tmp_path, "a/1.avi 0\nb/3.avi 1\n", "a/2.avi 0\n", name="lists/{}.txt")
    assert set(labels(found)) == {"videos/a/1.avi", "videos/a/2.avi", "videos/b/3.avi"}


def test_a_list_of_avi_files_finds_what_transcoding_made_of_them(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "a/2.mp4")
    found = listing(tmp_path, "a/1.avi 0\n", "a/2.avi 0\n")
    assert labels(found) == {"a/1.mp4": (0, "train"), "a/2.mp4": (0, "test")}


def test_an_absolute_path_below_no_known_folder_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"train.txt:1: /nowhere/of/mine.mp4 lies outside"):
        listing(root, "/nowhere/of/mine.mp4 0\n", "a/q.mp4 0\n")


def test_vicc_csv_of_frame_folders(tmp_path: Path) -> None:
    """`.../Class/video/,frames`: the class is a folder's name, the number counts frames."""
    touch(tmp_path, "Archery/v_Archery_g01_c01.avi", "Biking/v_Biking_g01_c01.avi", "Archery/v_Archery_g08_c01.avi")
    (tmp_path / "ClassInd.txt").write_text("Archery\nBiking\n")
    start = "/scratch/UCF101/frame/"
    found = listing(
        tmp_path,
        f"{start}Archery/v_Archery_g08_c01/,164\n",
        f"{start}Archery/v_Archery_g01_c01/,100\n{start}Biking/v_Biking_g01_c01/,88\n",
        name="{}_split01.csv",
    )
    assert labels(found) == {
        "Archery/v_Archery_g08_c01.avi": (0, "train"),
        "Archery/v_Archery_g01_c01.avi": (0, "test"),
        "Biking/v_Biking_g01_c01.avi": (1, "test"),
    }
    assert [entry.group for entry in found.entries] == ["v_Archery_g08", "v_Archery_g01", "v_Biking_g01"]


def test_names_without_a_type(tmp_path: Path) -> None:
    touch(tmp_path, "78687.webm", "42326.webm", "c/x.mp4")
    found = listing(tmp_path, "78687 33 1\nc/x 0\n", "42326 1\n")
    assert labels(found) == {"78687.webm": (1, "train"), "c/x.mp4": (0, "train"), "42326.webm": (1, "test")}


def test_json_lists(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    found = listing(
        tmp_path,
        '[{"filename": "a.mp4", "label": [1]}, {"filename": "b.mp4", "label": 0}]',
        '[{"path": "c.mp4", "label": "1"}]',
        name="{}.json",
    )
    assert labels(found) == {"a.mp4": (1, "train"), "b.mp4": (0, "train"), "c.mp4": (1, "test")}
    for text in ("{", "{}", "[3]", '[{"filename": "a.mp4", "label": [1, 2]}]'):
        with pytest.raises(ConfigError, match=r"train\.json"):
            listing(tmp_path, text, "[]", name="{}.json")


def test_lists_of_images(tmp_path: Path) -> None:
    touch(tmp_path, "n01/a 1.JPEG", "n02/b.JPEG")
    found = listing(tmp_path, "n01/a 1.JPEG 0\n", "n02/b.JPEG 0\n")
    assert labels(found) == {"n01/a 1.JPEG": (0, "train"), "n02/b.JPEG": (0, "test")}


def test_class_names_in_other_spelling_and_from_a_file_of_classes(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    (tmp_path / "k400.json").write_text('{"playing chess": "1", "massaging person\'s head": "0"}')
    found = listing(
        tmp_path, "1.mp4\tplaying_chess\n2.mp4\t0\n", "3.mp4\tmassaging_person_s_head\n", classes="k400.json"
    )
    assert found.classes == ("massaging person's head", "playing chess")
    assert labels(found) == {"1.mp4": (1, "train"), "2.mp4": (0, "train"), "3.mp4": (0, "test")}
    with pytest.raises(ConfigError, match=r"no file of class names .*nowhere\.txt"):
        listing(tmp_path, "1.mp4 0\n", "2.mp4 0\n", classes="nowhere.txt")


def test_minus_one_is_no_label(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    found = listing(tmp_path, "1.mp4 0 -1\n2.mp4 -1\n", "3.mp4 0\n")
    assert labels(found) == {"1.mp4": (UNLABELLED, "train"), "2.mp4": (UNLABELLED, "train"), "3.mp4": (0, "test")}


def test_a_number_that_is_no_class(tmp_path: Path) -> None:
    touch(tmp_path, "1.mp4", "2.mp4")
    with pytest.raises(ConfigError, match=r"label 98765432; is that a number of frames"):
        listing(tmp_path, "1.mp4 98765432\n", "2.mp4 0\n")


def test_a_list_of_another_encoding_says_how_to_mend_it(root: Path) -> None:
    (root / "train.txt").write_bytes("a/x 1.mp4 跑步\n".encode("gbk"))
    (root / "test.txt").write_text("a/q.mp4 0\n")
    with pytest.raises(ConfigError, match=r"train.txt is no UTF-8 text .*iconv -f gbk"):
        find_videos(DatasetConfig(name="d", path=str(root), layout="lists"), root)


def test_a_row_of_another_width_than_its_header(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"train.txt:3: 3 fields where the header has 2: path, label"):
        listing(root, "path,label\na/q.mp4,0\nb/y,z;[1].avi,1\n", "a/x 1.mp4 0\n")


def test_rare_signs_do_not_break_lines(tmp_path: Path) -> None:
    name = "a\u2028b\x0cc.mp4"
    touch(tmp_path, name, "2.mp4")
    assert name in labels(listing(tmp_path, f"{name} 0\n", "2.mp4 0\n"))


@pytest.mark.parametrize(
    ("names", "fold", "expected"),
    [
        (("trainlist01.txt", "testlist01.txt", "trainlist02.txt", "testlist02.txt"), 2, "trainlist02.txt"),
        (
            ("ucfTrainTestlist/trainlist03.txt", "ucfTrainTestlist/testlist03.txt"),
            3,
            "ucfTrainTestlist/trainlist03.txt",
        ),
        (("train_split01.csv", "test_split01.csv"), 1, "train_split01.csv"),
        (("train.csv", "val.csv", "test.csv"), 1, "train.csv"),
        (("train_video.txt", "val_video.txt"), 1, "train_video.txt"),
        (("train.pkl", "val.pkl"), 1, "train.pkl"),
    ],
)
def test_usual_names_of_lists(tmp_path: Path, names: tuple[str, ...], fold: int, expected: str) -> None:
    from vssl.data.layouts.lists import find_lists

    touch(tmp_path, *names)
    found = find_lists(tmp_path, fold)
    assert found["train"] == expected
    assert len(found) == 2, "of two lists of the same content one is used"


def test_a_fold_that_is_not_there(tmp_path: Path) -> None:
    touch(tmp_path, "trainlist01.txt", "testlist01.txt")
    with pytest.raises(ConfigError, match=r"holds no train.txt and test.txt for fold 2"):
        find_videos(DatasetConfig(name="d", path=str(tmp_path), layout="lists", fold=2), tmp_path)
