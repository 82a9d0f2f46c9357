"""Videos that two splits share: the same content under two names, or clips that were cut from one recording."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

Row = Mapping[str, Any]  # of the manifest


@dataclass(frozen=True)
class Leak:
    """One content, or one recording, in two splits, with the first video of it in each."""

    first: Row
    second: Row
    what: str

    def __str__(self) -> str:
        one, other = (f"{row['path']} ({row['split']})" for row in (self.first, self.second))
        return f"{one} and {other} {self.what}"


def find_leaks(rows: Sequence[Row], known: Collection[str]) -> tuple[list[Leak], list[Leak]]:
    """(leaks, those that are accepted by name), each in the order of paths.

    Args:
        rows: of a manifest, sorted by path.
        known: paths and recordings that two splits may share.
    """
    refused: list[Leak] = []
    accepted: list[Leak] = []
    for column in ("sha256", "group"):
        for shared in _shared(rows, column):
            names = {row["path"] for row in shared} | {row["group"] for row in shared}
            (accepted if names & set(known) else refused).extend(_leaks(shared, column))
    return refused, accepted


def duplicates(rows: Sequence[Row]) -> list[list[str]]:
    """Paths of one content within one split."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        found[row["split"], row["sha256"]].append(row["path"])
    return [paths for paths in found.values() if len(paths) > 1]


def _shared(rows: Sequence[Row], column: str) -> list[list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row[column]:
            found[row[column]].append(row)
    return [same for same in found.values() if len({row["split"] for row in same}) > 1]


def _leaks(shared: list[Row], column: str) -> list[Leak]:
    by_split: dict[str, list[Row]] = defaultdict(list)
    for row in shared:
        by_split[row["split"]].append(row)
    leaks = []
    for one, other in combinations(by_split.values(), 2):
        what = "have the same content"
        if column == "group":
            what = f"are of one recording, {one[0]['group']} ({len(one)} and {len(other)} videos of it)"
        leaks.append(Leak(one[0], other[0], what))
    return leaks
