"""One line of a `path label` list, in any of the spellings that published lists have.

`path label`, `path,label`, `path;label`, `path|label` or tabs; `path frames label`; a path alone; quoted paths; paths
with spaces, commas, brackets and semicolons; frame folders (`.../Class/video/,frames`), which stand for the video file
of that name; with a header line or none.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vssl.config import ConfigError
from vssl.data.listing import IMAGE_SUFFIXES, VIDEO_SUFFIXES

_SEPARATORS = r"[\s,;|]+"
_SUFFIX = "|".join(map(re.escape, (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES)))
_FILE = re.compile(rf"(?P<path>.*(?:{_SUFFIX}))(?:{_SEPARATORS}(?P<rest>.*))?", re.IGNORECASE)
_QUOTED = re.compile(rf"(?P<quote>[\"'])(?P<path>.+)(?P=quote)(?:{_SEPARATORS}(?P<rest>.*))?")
_FOLDER = re.compile(rf"(?P<path>.+?/)(?:{_SEPARATORS}(?P<rest>.*))?")  # a frame folder, as ViCC writes it
_BARE = re.compile(rf"(?P<path>\S.*?){_SEPARATORS}(?P<rest>-?\d+(?:{_SEPARATORS}-?\d+)?)")  # no suffix: numbers follow
_FRAMES_AND_LABEL = re.compile(rf"-?\d+{_SEPARATORS}(-?\d+)")
_PATH_COLUMNS = ("path", "video_path", "file", "filename", "filepath", "video", "clip", "name")
_LABEL_COLUMNS = ("label", "class", "class_name", "class_id", "action", "category", "target")
_GROUP_COLUMNS = ("group", "recording")


@dataclass(frozen=True)
class Line:
    """What one line says."""

    path: str
    label: str  # as written; "" where none is given
    where: str  # "train.txt:12"
    group: str = ""
    comment: bool = False  # begins with #: a comment, unless a file has that name
    folder: bool = False  # a frame folder: numbers after it count frames


def read_lines(path: Path, name: str) -> Iterator[Line]:
    """
    Args:
        path: a text list.
        name: how messages call it.

    Raises:
        ConfigError: no UTF-8 text, or a line that names no video.
    """
    lines = text_lines(path)
    header = next((number for number, line in enumerate(lines) if line.strip()), None)
    if header is not None and (columns := _columns(lines[header])):
        yield from _table(lines, header, columns, name)
        return
    for number, line in enumerate(lines, start=1):
        if line.strip() and (read := _parse(line.strip(), f"{name}:{number}")):
            yield read


def text_lines(path: Path) -> list[str]:
    """Lines of a text file, whatever system wrote it.

    Raises:
        ConfigError: no UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is no UTF-8 text ({error.reason} at byte {error.start}); is it a list? One of another encoding "
            "becomes UTF-8 by: iconv -f gbk -t utf-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")  # splitlines would break names at rarer signs


def _parse(line: str, where: str) -> Line | None:
    comment = line.startswith("#")
    match = _QUOTED.fullmatch(line) or _FILE.fullmatch(line)
    folder = match is None and (match := _FOLDER.fullmatch(line)) is not None
    match = match or _BARE.fullmatch(line)
    if match is None:
        if comment:
            return None
        suffixes = " ".join(VIDEO_SUFFIXES)
        raise ConfigError(
            f"{where}: {line!r} names no video; expected a path that ends in one of {suffixes}, then a label"
        )
    rest = (match["rest"] or "").strip().strip("\"'")
    counted = _FRAMES_AND_LABEL.fullmatch(rest)
    if counted:
        rest = counted[1]
    elif folder and rest.isdecimal():
        rest = ""  # ViCC: the number of frames; the class is the folder above
    return Line(match["path"].rstrip("/").strip("\"'"), rest, where, comment=comment, folder=folder)


def _columns(line: str) -> tuple[str, list[str]] | None:
    """(delimiter, column names in lower case) of a header line; None where the line is none."""
    for delimiter in (",", "\t", ";", "|", " "):
        names = [name.strip().lower() for name in next(csv.reader([line], delimiter=delimiter), [])]
        if set(names) & set(_PATH_COLUMNS) and (set(names) & set(_LABEL_COLUMNS) or len(names) == 1):
            return delimiter, names
    return None


def _table(lines: list[str], header: int, columns: tuple[str, list[str]], name: str) -> Iterator[Line]:
    delimiter, names = columns
    path, label, group = (
        next((names.index(known) for known in accepted if known in names), None)
        for accepted in (_PATH_COLUMNS, _LABEL_COLUMNS, _GROUP_COLUMNS)
    )
    assert path is not None
    rows = csv.reader(lines[header + 1 :], delimiter=delimiter)
    for row in rows:
        if not any(row):
            continue
        where = f"{name}:{header + 1 + rows.line_num}"
        if len(row) != len(names):
            raise ConfigError(f"{where}: {len(row)} fields where the header has {len(names)}: {', '.join(names)}")
        yield Line(
            row[path].strip(),
            "" if label is None else row[label].strip(),
            where,
            group="" if group is None else row[group].strip(),
        )
