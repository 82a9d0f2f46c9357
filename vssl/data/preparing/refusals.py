"""What makes a dataset unusable: too many files broken or missing, or splits that share videos."""

from collections.abc import Sequence
from pathlib import Path

from vssl.config import ConfigError
from vssl.data.dataset_config import DatasetConfig
from vssl.data.listing import Excluded, Listing
from vssl.data.preparing.leaks import Leak

_NAMED = 10  # files that an error spells out
_PLACE = "<file>"


class TooMany(Exception):
    """More than an error can spell out: whoever catches it writes `lines` to a file, and names it in the error."""

    def __init__(self, text: str, lines: Sequence[str]) -> None:
        super().__init__(text)
        self.lines = lines

    def naming(self, path: Path) -> str:
        return str(self).replace(_PLACE, str(path))


def _refuse(before: str, lines: Sequence[str], after: str) -> None:
    named = "\n".join(f"  {line}" for line in lines[:_NAMED])
    if len(lines) <= _NAMED:
        raise ConfigError(f"{before}:\n{named}\n{after}")
    raise TooMany(f"{before}:\n{named}\n  ... and {len(lines) - _NAMED} more, all in {_PLACE}\n{after}", lines)


def refuse_broken(config: DatasetConfig, root: Path, listing: Listing, excluded: list[Excluded]) -> None:
    named = len(listing.entries) + len(listing.excluded)
    most_missing = config.max_missing_share
    if most_missing is None and listing.misses_files:
        most_missing = 1.0
    missing = [one for one in excluded if one.kind == "missing"] if most_missing is not None else []
    broken = [one for one in excluded if one not in missing] if missing else excluded
    if most_missing is not None and len(missing) > most_missing * named:
        _refuse(
            f"dataset {config.name}: {len(missing)} of {named} files are not in {root} ({len(missing) / named:.0%}, "
            f"accepted: {most_missing:.0%})",
            [f"{one.path}: {one.why}" for one in missing],
            "get them, or raise data.dataset.max_missing_share",
        )
    share = len(broken) / named
    if share > config.max_broken_share or len(excluded) == named:
        _refuse(
            f"dataset {config.name}: {len(excluded)} of {named} files in {root} cannot be used ({share:.0%}, "
            f"accepted: {config.max_broken_share:.0%})",
            [f"{one.path}: {one.why}" for one in excluded],
            "mend or remove them, or raise data.dataset.max_broken_share",
        )


def refuse_leaks(config: DatasetConfig, leaks: Sequence[Leak]) -> None:
    if leaks:
        _refuse(
            f"dataset {config.name}: its splits share {len(leaks)} contents or recordings, and a test on videos that "
            "were trained on means nothing",
            [str(leak) for leak in leaks],
            "remove one of each; what the published split itself shares is accepted by its path or recording in "
            "data.dataset.known_leaks=[...]",
        )
