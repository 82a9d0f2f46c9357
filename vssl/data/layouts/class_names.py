"""Names and numbers of classes: from the files that name them, and as lists write them."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vssl.config import ConfigError, nearest
from vssl.data.layouts.list_lines import text_lines
from vssl.data.listing import UNLABELLED

_USUAL = ("classes.txt", "classInd.txt")
_OTHER = ("ClassInd.txt", "label_map.txt")  # looked at only where a list gives no labels of its own
_MANY = 100_000  # more classes than any dataset has

Names = Mapping[str, str]  # accepted label -> class name, in class order: by number and by name


def read_class_file(path: Path) -> dict[str, str]:
    """Classes of a file: a name a line, `number name` a line, or a JSON object from names to numbers.

    Raises:
        ConfigError: no such file, or none of these.
    """
    if not path.is_file():
        raise ConfigError(f"no file of class names {path}; data.dataset.classes names one below the dataset's folder")
    if path.suffix.lower() == ".json":
        pairs = _from_json(path)
    else:
        lines = [line.strip() for line in text_lines(path) if line.strip()]
        numbered = [line.split(maxsplit=1) for line in lines]
        if all(len(parts) == 2 and parts[0].isdigit() for parts in numbered):  # "1 ApplyEyeMakeup"
            pairs = [(parts[0], parts[1]) for parts in numbered]
        else:
            pairs = [(str(index), line) for index, line in enumerate(lines)]
    return dict(pairs) | {name: name for _, name in pairs}


def _from_json(path: Path) -> list[tuple[str, str]]:
    try:
        mapping = json.loads(path.read_text(encoding="utf-8-sig"))
        pairs = sorted(((int(number), str(name)) for name, number in mapping.items()), key=lambda pair: pair[0])
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path}: {error}; expected one object from class names to numbers") from None
    return [(str(number), name) for number, name in pairs]


def find_classes(folders: Iterable[Path], *, unlabelled: bool) -> dict[str, str] | None:
    """The first file of classes in these folders, if there is one.

    Args:
        folders: where to look, in this order.
        unlabelled: whether lists leave the class to the folder that a video lies in.
    """
    places = list(dict.fromkeys(folders))
    for names in (_USUAL, _OTHER) if unlabelled else (_USUAL,):
        for folder in places:
            for name in names:
                if (folder / name).is_file():
                    return read_class_file(folder / name)
    return None


def names_from(labels: Iterable[str]) -> dict[str, str]:
    """Classes where no file names them: the labels themselves, as numbers where all are numbers."""
    written = {label for label in labels if label and label != str(UNLABELLED)}
    if all(label.isdecimal() for label in written):
        last = max(map(int, written), default=-1)
        if last >= _MANY:
            raise ConfigError(f"a list gives the label {last}; is that a number of frames, or an id, and not a class?")
        return {str(label): str(label) for label in range(last + 1)}
    return {label: label for label in sorted(written)}


class Classes:
    """Turns labels as written into class numbers.

    Args:
        names: accepted labels.
    """

    def __init__(self, names: Names) -> None:
        self.names = tuple(dict.fromkeys(names.values()))
        self._number = {name: index for index, name in enumerate(self.names)}
        self._accepted = names
        self._loose: dict[str, str] = {}  # "playing_chess" -> "playing chess"
        for name in self.names:
            self._loose.setdefault(_loose(name), name)

    def of_folder(self, path: str) -> str:
        """The label of a video whose list leaves it to its folder; "" where that is no class."""
        folder = path.rpartition("/")[0].rpartition("/")[2]
        return self._loose.get(_loose(folder), "") if folder else ""

    def number(self, label: str, where: str) -> int:
        """
        Raises:
            ConfigError: no such class; offers the nearest.
        """
        if label == str(UNLABELLED):
            return UNLABELLED
        name = self._accepted.get(label) or self._loose.get(_loose(label))
        if name is None:
            accepted = ", ".join(list(self._accepted)[:12]) + (", ..." if len(self._accepted) > 12 else "")
            raise ConfigError(
                f"{where}: no class {label!r}{nearest(label, self._accepted)}; accepted: {accepted} (what a file of "
                "class names says, or else the train list)"
            )
        return self._number[name]


def _loose(name: Any) -> str:
    """Kinetics' names are written with spaces, underscores and without signs, as folders allow."""
    return re.sub(r"[\s_\"'\u2018\u2019]+", "_", str(name)).strip("_")
