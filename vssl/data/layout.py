"""Which videos a folder holds, with which label, in which split: by class folders, split folders or lists."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vssl.artifacts import sha256_text
from vssl.config import ConfigError, nearest
from vssl.data.dataset_config import DatasetConfig

SUFFIXES = (
    ".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv",
    ".flv", ".ts", ".mts", ".m2ts", ".3gp", ".ogv", ".vob", ".divx",
)  # fmt: skip
_LINE = re.compile(
    r"(?P<path>.*(?:{}))(?:[\s,]+(?P<label>.*))?".format("|".join(map(re.escape, SUFFIXES))), re.IGNORECASE
)
_EVAL_SPLITS = ("test", "val")


@dataclass(frozen=True)
class Entry:
    """One video as the layout names it."""

    path: str  # relative to the dataset's folder, posix; also the video's id
    label: int
    split: str
    where: str = ""  # "train.txt:12" where a list names it


@dataclass(frozen=True)
class Listing:
    """Every video of a dataset. Files may still be missing or broken."""

    layout: str
    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    ignored: tuple[str, ...] = field(default=())  # files that are no videos by their suffix


def find_videos(config: DatasetConfig, root: Path) -> Listing:
    """Read a dataset's layout.

    Raises:
        ConfigError: no such folder, nothing in it, or a list that cannot be read; names file and line.
    """
    if not root.is_dir():
        raise ConfigError(f"dataset {config.name}: no folder {root}; set data.dataset.path to the folder of the videos")
    layout = config.layout if config.layout != "auto" else _recognise(config, root)
    if layout == "lists":
        listing = _from_lists(config, root)
    elif layout == "split-folders":
        listing = _from_folders(layout, root, sorted(_folders(root)))
    else:
        listing = _from_folders(layout, root, [])
        listing = Listing(layout, listing.classes, _divide(listing.entries, config.test_share), listing.ignored)
    if not listing.entries:
        raise ConfigError(
            f"dataset {config.name}: no videos in {root} (layout {layout}); expected <class>/<video>, "
            "<split>/<class>/<video>, or train.txt and test.txt with a path and a label per line; "
            f"suffixes: {' '.join(SUFFIXES)}"
        )
    return listing


def _recognise(config: DatasetConfig, root: Path) -> str:
    if config.lists or _find_lists(root):
        return "lists"
    names = {folder.name for folder in _folders(root)}
    return "split-folders" if "train" in names and names & set(_EVAL_SPLITS) else "class-folders"


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _find_lists(root: Path) -> dict[str, str]:
    """Split -> list file, by the usual names; of numbered splits the first."""
    found = {}
    for split in ("train", *_EVAL_SPLITS):
        files = sorted(path.name for path in root.glob(f"{split}*.txt"))
        usual = [name for name in files if re.fullmatch(rf"{split}(list)?(01|1)?\.txt", name)]
        if usual:
            found[split] = usual[0]
    return found if "train" in found and len(found) > 1 else {}


def _from_folders(layout: str, root: Path, splits: list[Path]) -> Listing:
    videos: list[tuple[str, str, str]] = []  # path, class, split
    ignored: list[str] = []
    for top, split in [(folder, folder.name) for folder in splits] or [(root, "")]:
        for folder in sorted(_folders(top)):
            for path in sorted(folder.rglob("*")):
                relative = path.relative_to(root).as_posix()
                if path.is_dir() or any(part.startswith(".") for part in path.relative_to(root).parts):
                    continue
                if path.suffix.lower() in SUFFIXES:
                    videos.append((relative, folder.name, split))
                else:
                    ignored.append(relative)
    classes = tuple(sorted({name for _, name, _ in videos}))
    number = {name: index for index, name in enumerate(classes)}
    entries = tuple(Entry(path, number[name], split) for path, name, split in videos)
    return Listing(layout, classes, entries, tuple(ignored))


def _divide(entries: tuple[Entry, ...], test_share: float) -> tuple[Entry, ...]:
    """Give each class's videos to train and test by the digest of their paths, so the split never depends on chance."""
    divided = []
    for label in sorted({entry.label for entry in entries}):
        members = sorted((e for e in entries if e.label == label), key=lambda e: sha256_text(e.path))
        tests = round(test_share * len(members))
        if test_share > 0 and len(members) > 1:
            tests = min(max(tests, 1), len(members) - 1)
        divided += [Entry(e.path, e.label, "test" if i < tests else "train") for i, e in enumerate(members)]
    return tuple(sorted(divided, key=lambda e: e.path))


def _from_lists(config: DatasetConfig, root: Path) -> Listing:
    lists = config.lists or _find_lists(root)
    if not lists:
        raise ConfigError(
            f"dataset {config.name}: layout is lists, but {root} holds no train.txt and test.txt; "
            "name them: data.dataset.lists={train: <file>, test: <file>}"
        )
    missing = [name for name in lists.values() if not (root / name).is_file()]
    if missing:
        raise ConfigError(
            f"dataset {config.name}: no list file {root / missing[0]}; data.dataset.lists names files below {root}"
        )
    rows = [row for split, name in lists.items() for row in _read_list(root, name, split)]
    names = _read_classes([root, *((root / name).parent for name in lists.values())])
    if names is None:  # a class that is only tested is a slip of the pen, unless a file of classes names it
        names = _names_from([row for row in rows if row[2] == "train"] or rows)
    entries: dict[str, Entry] = {}
    for path, written, split, where in rows:
        label = _label(written, path, names, where)
        if path in entries:
            raise ConfigError(f"{where}: {path} was already listed at {entries[path].where}; list each video once")
        entries[path] = Entry(path, label, split, where)
    return Listing("lists", tuple(dict.fromkeys(names.values())), tuple(entries.values()))


def _read_list(root: Path, name: str, split: str) -> list[tuple[str, str, str, str]]:
    """(path, label as written, split, "file:line") of each line of a list. Paths may contain spaces and commas."""
    rows = []
    for number, line in enumerate(_lines(root / name), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{name}:{number}"
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ConfigError(
                f"{where}: {line.strip()!r} names no video; expected a path that ends in one of "
                f"{' '.join(SUFFIXES)}, then a label"
            )
        path = Path(match["path"].strip("\"'"))
        try:
            relative = (path.relative_to(root) if path.is_absolute() else path).as_posix()
        except ValueError:
            relative = ".."
        if ".." in Path(relative).parts:
            raise ConfigError(f"{where}: {path} lies outside {root}; paths are relative to the dataset's folder")
        rows.append((relative, (match["label"] or "").strip("\"' "), split, where))
    return rows


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no UTF-8 text ({error.reason} at byte {error.start}); is it a list?") from None


def _read_classes(folders: list[Path]) -> dict[str, str] | None:
    """Accepted label -> class name, in class order: by number and by name. None where no file of classes is there."""
    for folder in dict.fromkeys(folders):
        for name in ("classes.txt", "classInd.txt"):
            if (folder / name).is_file():
                lines = [line.strip() for line in _lines(folder / name) if line.strip()]
                numbered = [line.split(maxsplit=1) for line in lines]
                if all(len(parts) == 2 and parts[0].isdigit() for parts in numbered):  # "1 ApplyEyeMakeup"
                    pairs = [(parts[0], parts[1]) for parts in numbered]
                else:
                    pairs = [(str(index), line) for index, line in enumerate(lines)]
                return dict(pairs) | {label: label for _, label in pairs}
    return None


def _names_from(rows: list[tuple[str, str, str, str]]) -> dict[str, str]:
    """Classes where no file names them: the labels themselves, as numbers where all are numbers."""
    written = {label for _, label, _, _ in rows if label}
    if all(label.isdigit() for label in written):
        return {str(label): str(label) for label in range(max(map(int, written), default=-1) + 1)}
    return {label: label for label in sorted(written)}


def _label(written: str, path: str, names: Mapping[str, str], where: str) -> int:
    classes = list(dict.fromkeys(names.values()))
    if not written and Path(path).parent.name in classes:  # published test lists name the class by its folder alone
        written = Path(path).parent.name
    if not written:
        raise ConfigError(f"{where}: {path} has no label; expected a class number or name after the path")
    if written not in names:
        accepted = ", ".join(list(names)[:12]) + (", ..." if len(names) > 12 else "")
        raise ConfigError(
            f"{where}: no class {written!r}{nearest(written, names)}; accepted: {accepted} (what classes.txt names, or "
            "else the train list)"
        )
    return classes.index(names[written])
