"""Published datasets in miniature, each in an empty folder: lists and odd names as published, tiny real files."""

import json
import pickle
from pathlib import Path
from typing import Any

from tests.films import film, films


def write(root: Path, name: str, *lines: str) -> None:
    """A text file of these lines."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("".join(f"{line}\n" for line in lines))


def ucf101(root: Path) -> Path:
    """Two classes of three recordings each; every fold tests on another recording. Test lists give no labels."""
    clips = [f"{name}/v_{name}_g{g:02}_c01.avi" for name in ("Archery", "Biking") for g in (1, 8, 15)]
    films(root / "UCF-101", *clips)
    write(root, "ucfTrainTestlist/classInd.txt", "1 Archery", "2 Biking")
    for fold, tested in enumerate(("01", "08", "15"), start=1):
        train = [f"{clip} {1 + clip.startswith('B')}" for clip in clips if f"_g{tested}_" not in clip]
        write(root, f"ucfTrainTestlist/trainlist{fold:02}.txt", *train)
        write(root, f"ucfTrainTestlist/testlist{fold:02}.txt", *(c for c in clips if f"_g{tested}_" in c))
    return root


HMDB51 = {  # video -> code of split 1
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


def hmdb51(root: Path) -> Path:
    films(root / "videos", *HMDB51)
    for name in {clip.partition("/")[0] for clip in HMDB51}:
        lines = [f"{clip.partition('/')[2]} {code} " for clip, code in HMDB51.items() if clip.startswith(f"{name}/")]
        write(root, f"testTrainMulti_7030_splits/{name}_test_split1.txt", *lines)
        for split in (2, 3):  # what split 1 trains on is tested, and the reverse
            write(root, f"testTrainMulti_7030_splits/{name}_test_split{split}.txt", *(_swapped(line) for line in lines))
    return root


def _swapped(line: str) -> str:
    """A line of a split with the codes of training (1) and testing (2) swapped."""
    clip, _, code = line.strip().rpartition(" ")
    return f"{clip} {code.translate(str.maketrans('12', '21'))} "


def kinetics(root: Path) -> Path:
    """Ids with dashes and underscores, class folders spelt in several ways or missing, a file that is nowhere."""
    rows = (
        "testifying,---QUuC4vJs,84,94,train,0",
        '"massaging person\'s head",-_a_b-c_d-e,3,13,train,0',
        "petting animal (not cat),0123456789a,0,10,train,1",
        "testifying,gone_gone_g,5,15,train,0",
        "testifying,xxxxxxxxxxx,7,17,train,0",
        "testifying,KvWk7T6ZAHE,20,30,validate,0",
        '"massaging person\'s head",abcdefghijk,100,110,validate,0',
    )
    header = "label,youtube_id,time_start,time_end,split,is_cc"
    write(root, "annotations/train.csv", header, *rows[:5])
    write(root, "annotations/validate.csv", header, *rows[5:])
    write(root, "annotations/test.csv", "youtube_id,time_start,time_end,split", "zzzzzzzzzzz,1,11,test")
    films(
        root,
        "train/testifying/---QUuC4vJs_000084_000094.mp4",
        "train/testifying/xxxxxxxxxxx_000007_000017.mp4",
        "train/massaging_person_s_head/-_a_b-c_d-e_000003_000013.mp4",
        "train/petting animal (not cat)/0123456789a_000000_000010.mkv",
        "val/KvWk7T6ZAHE_000020_000030.mp4",
        "replacement/abcdefghijk_000100_000110.mp4",
        "val/massaging/abcdefghijk_000100_000110.mp4",
        "val/massaging/notes_of_mine.mp4",
    )
    return root


SSV2 = "something-something-v2-"


def something_something(root: Path) -> Path:
    """Four training videos, one of validation, one of test without an answer; ids as text and as numbers."""
    films(root / "20bn-something-something-v2", *(f"{n}.webm" for n in ("78687", "42326", "3", "4", "1", "2")))
    labels = {"Holding something": "1", "Pretending to put something into something": "0"}
    write(root, f"labels/{SSV2}labels.json", json.dumps(labels))
    holding = {"id": "78687", "label": "holding potato", "template": "Holding [something]", "placeholders": ["potato"]}
    putting = {"id": 42326, "label": "x", "template": "Pretending to put [something] into [something]"}
    train = [holding, putting, holding | {"id": "3"}, putting | {"id": "4"}]
    write(root, f"labels/{SSV2}train.json", json.dumps(train))
    write(root, f"labels/{SSV2}validation.json", json.dumps([holding | {"id": "1"}]))
    write(root, f"labels/{SSV2}test.json", json.dumps([{"id": "2"}]))
    return root


def record(number: int, video: str, labels: list[int], **more: object) -> dict[str, object]:
    """One record of CARL's pickles: they hold tensors, of floats where frames have no label."""
    import torch

    labelled = torch.tensor(labels, dtype=torch.float32 if -1 in labels else torch.int64)
    name = Path(video).stem
    return {"id": number, "name": name, "video_file": video, "frame_label": labelled, "seq_len": len(labels), **more}


def dump(root: Path, name: str, value: Any) -> None:
    (root / name).write_bytes(pickle.dumps(value))


def penn_action(root: Path) -> Path:
    """Five videos of three actions; a pair of records and indices per action."""
    train = {"0001_baseball_pitch": 0, "0002_baseball_pitch": 0, "0200_pushup": 7, "0300_pullup": 8}
    films(root, *(f"videos/{name}.mp4" for name in (*train, "0400_pullup")))
    records = [
        record(number, f"videos/{name}.mp4", [0, 0, 1, 1, 2, 3], action_label=action)
        for number, (name, action) in enumerate(train.items())
    ]
    indices: list[list[int]] = [[] for _ in range(13)]
    dump(root, "train.pkl", (records, indices))
    tested = [record(0, "videos/0400_pullup.mp4", [0, 0, 0, 1, 1, 1], action_label=8)]
    dump(root, "val.pkl", (tested, indices))
    return root


FINEGYM = {  # event -> split, elements with class and times; the last pair of times counts
    "0LtLS9wROrk_E_002407_002435": (
        "train",
        [("A_0000_0001", 7, [[0.0, 0.08]]), ("A_0001_0002", 74, [[0, 1], [0.16, 0.2]])],
    ),
    "zfqS-wCJSsw_E_006732_006824": (
        "val",
        [("A_0000_0001", 12, [[0.04, 0.12]]), ("A_0004_0005", None, [[0.2, 0.24]])],
    ),
}


def finegym(root: Path, *, classes: int = 99, whole: bool = False, more: int = 0) -> Path:
    """FineGym's own annotations, with the events cut out, or with whole videos of which they are frames 5 to 10.

    `more` events of training, of as many other videos, show the elements of the first.
    """
    (first, shown), *others = FINEGYM.items()
    events = {first: shown, **{f"{number:011}{first[11:]}": shown for number in range(more)}, **dict(others)}
    if whole:
        film(root / "FineGym_Raw_database" / "0LtLS9wROrk.mkv", frames=20)
    else:
        films(root, *(f"processed_videos/{event}.mp4" for event in events))
    annotations: dict[str, Any] = {}
    lists = {"train": f"gym{classes}_train_element_v1.0.txt", "val": f"gym{classes}_val_element.txt"}
    lines: dict[str, list[str]] = {name: [] for name in lists.values()}
    for event, (split, elements) in events.items():
        segments = {name: {"stages": len(times), "timestamps": times} for name, _, times in elements}
        about = {"event": 1 if split == "train" else 4, "segments": segments, "timestamps": [[0.2, 0.44]]}
        annotations[event[:11]] = {event[12:]: about}
        lines[lists[split]] += [f"{event}_{name} {label}" for name, label, _ in elements if label is not None]
    for name, some in lines.items():
        write(root, name, *some)
    write(root, "finegym_annotation_info_v1.0.json", json.dumps(annotations))
    write(
        root,
        f"gym{classes}_categories.txt",
        "Clabel:   0; set:  1; Glabel:   1; (VT) round-off",
        "Clabel:   7; set: 21; Glabel:  68; (FX) switch leap with 1 turn",
    )
    return root


def finegym_pickles(root: Path, *, classes: int = 99) -> Path:
    """Four events of training and one of validation, as CARL publishes them."""
    train = [f"{name}_E_002407_002435" for name in ("0LtLS9wROrk", "-_a-b_c-d_e", "aaaaaaaaaaa", "bbbbbbbbbbb")]
    (val,) = (event for event, (split, _) in FINEGYM.items() if split == "val")
    films(root, *(f"processed_videos/{event}.mp4" for event in (*train, val)))
    labels = [7, 7, 7, -1, 74, 74]
    records = [record(n, f"processed_videos/{event}.mp4", labels, event_label=1) for n, event in enumerate(train)]
    dump(root, f"gym{classes}_train_v1.0.pkl", records)
    tested = record(0, f"processed_videos/{val}.mp4", [-1, 12, 12, 12, -1, -1], event_label=4)
    dump(root, f"gym{classes}_val.pkl", [tested])
    return root


def pouring(root: Path) -> Path:
    """Four videos of training and one of validation; every frame has its phase."""
    names = [f"{what}_real_view_0" for what in ("creamsoda_to_clear1", "milk_to_clear2", "tea_to_mug 3", "cup_to_cup4")]
    films(root, *(f"videos/{name}.mp4" for name in (*names, "water_to_glass5_real_view_1")))
    dump(root, "train.pkl", [record(n, f"videos/{name}.mp4", [0, 0, 1, 3, 3, 4]) for n, name in enumerate(names)])
    dump(root, "val.pkl", [record(0, "videos/water_to_glass5_real_view_1.mp4", [0, 1, 2, 3, 4, 4])])
    return root


def imagenet(root: Path) -> Path:
    """Images of two classes in several sizes; a file of training is a PNG whatever its name says, as one is there."""
    sizes = {"train/n10/n10_1": (32, 40), "train/n9/n9_2": (50, 36), "train/n10/n10_3": (33, 41)}
    for name, size in {**sizes, "val/n9/ILSVRC2012_val_00000001": (40, 64), "val/n10/v": (36, 36)}.items():
        film(root / f"{name}.JPEG", size=size)
    film(root / "train/n9/n9_4.png", size=(44, 32)).rename(root / "train/n9/n9_4.JPEG")
    return root


def any_list(root: Path) -> Path:
    """`path label` lists with a header, spaces, commas and three file types."""
    names = ["jump/high jump, 1.mp4", "jump/b.avi", "run/c d.webm", "run/e.mkv", "jump/f.mp4", "run/g.mp4"]
    films(root, *names)
    rows = [f'"{name}",{name.partition("/")[0]}' for name in names]
    write(root, "train.csv", "path,label", *rows[:4])
    write(root, "test.csv", "path,label", *rows[4:])
    return root
