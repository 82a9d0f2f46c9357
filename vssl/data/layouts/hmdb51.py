"""HMDB51 as published: <class>/*.avi, and 3 x 51 files that say of each video whether it trains, tests or does neither.

`testTrainMulti_7030_splits/<class>_test_split<1|2|3>.txt` has lines `<video>.avi <code>`: 1 train, 2 test, 0 unused.
"""

import re
from pathlib import Path

from vssl.config import ConfigError
from vssl.data.dataset_config import DatasetConfig
from vssl.data.layouts.folders import folders_in, homes
from vssl.data.layouts.list_lines import text_lines
from vssl.data.layouts.places import Folders, find_rule
from vssl.data.listing import Entry, Listing

_SPLITS = {"1": "train", "2": "test", "0": ""}
_CLASSES, _PUBLISHED = 51, {"train": 70, "test": 30}  # and the videos of each
# <source>_<class>_<body part>_<camera>_np<people>_<view>_<quality>_<number>.avi
_ENDING = re.compile(r"_[fulh]_(cm|nm)_np\d+_(fr|ba|le|ri)_(goo|med|bad)_\d+\.\w+$")


def split_files(root: Path, fold: int) -> list[Path]:
    """The files of one division by class, in the dataset's folder or in one directly below it."""
    for folder in (root, *sorted(folders_in(root))):
        if files := list(folder.glob(f"*_test_split{fold}.txt")):
            return sorted(files, key=lambda path: _class(path, fold))  # `climb` before `climb_stairs`
    return []


def _class(path: Path, fold: int) -> str:
    return path.name.removesuffix(f"_test_split{fold}.txt")


def from_splits(config: DatasetConfig, root: Path) -> Listing:
    """
    Raises:
        ConfigError: no split files, a line that is none of theirs, or not the classes and counts that are published.
    """
    files = split_files(root, config.fold)
    if not files:
        raise ConfigError(
            f"dataset {config.name}: no <class>_test_split{config.fold}.txt in {root} or a folder of it; unpack "
            "test_train_splits.rar (testTrainMulti_7030_splits) there; data.dataset.fold is 1, 2 or 3"
        )
    classes = [_class(path, config.fold) for path in files]
    named: list[tuple[str, str, str, str]] = []  # class, file, split, where
    unused = 0
    for name, path in zip(classes, files):
        for number, line in enumerate(text_lines(path), start=1):
            if not line.strip():
                continue
            video, _, code = line.strip().rpartition(" ")
            if code not in _SPLITS or not video:
                raise ConfigError(f"{path.name}:{number}: {line.strip()!r}; expected `<video>.avi 0`, `1` or `2`")
            if _SPLITS[code]:
                named.append((name, video.strip(), _SPLITS[code], f"{path.name}:{number}"))
            else:
                unused += 1
    written = [f"{name}/{video}" for name, video, _, _ in named]
    place = find_rule(written, homes(root), Folders(root))
    entries = tuple(
        Entry(place(path), classes.index(name), split, where, _recording(name, video))
        for path, (name, video, split, where) in zip(written, named)
    )
    notes = [f"fold {config.fold}; {unused} videos are in neither of its splits"]
    other = [name for name in classes if any(_count(named, name, split) != n for split, n in _PUBLISHED.items())]
    if (other or len(classes) != _CLASSES) and not config.subset:
        raise ConfigError(
            f"dataset {config.name}: the split files in {files[0].parent} name {len(classes)} classes, {len(other)} of "
            f"them with other counts than {' and '.join(f'{n} {split}' for split, n in _PUBLISHED.items())} videos"
            + (f" (the first is {other[0]})" if other else "")
            + f"; {_CLASSES} are published: unpack them again, or set data.dataset.subset=true if it is meant"
        )
    return Listing("hmdb51", tuple(classes), entries, notes=tuple(notes))


def _recording(name: str, video: str) -> str:
    """The film or clip that a video was cut from. The published splits keep these apart within a class, not across."""
    source = _ENDING.sub("", video)
    return f"{name}/{source.removesuffix(f'_{name}')}" if source != video else ""


def _count(named: list[tuple[str, str, str, str]], name: str, split: str) -> int:
    return sum(1 for one in named if one[0] == name and one[2] == split)
