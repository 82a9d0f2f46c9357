"""Every path inside `<root>/batches/<id>` that belongs to one run of an element; nothing else joins those names."""

import re
from dataclasses import dataclass
from pathlib import Path

from vssl.config import ConfigError

# A PYTHONPATH cannot hold a colon, Slurm drops backslashes from paths, and a line break would end an #SBATCH line.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f:\\]")


@dataclass(frozen=True)
class BatchFolder:
    """The folder of one batch. `key` tells the launches of an element apart: on Slurm it is the restart count."""

    root: Path

    @property
    def elements(self) -> Path:
        return self.root / "elements.json"

    def exit_record(self, index: int, key: str, rank: int) -> Path:
        return self.root / "ranks" / f"{index}.{key}-{rank}.json"

    def verdict(self, index: int, restart: int) -> Path:
        return self.root / "settled" / f"{index}.{restart}.json"

    def script_log(self, index: int) -> Path:
        """What the batch script printed; grows over restarts."""
        return self.root / "logs" / f"{index}.log"

    def rank_log(self, index: int, rank: int) -> Path:
        return self.root / "logs" / f"{index}-{rank}.log"


def refuse_unsafe(path: Path) -> None:
    """Refuse a path that cannot be written into a batch script.

    Raises:
        ConfigError: what is in it.
    """
    if _UNSAFE.search(str(path)):
        raise ConfigError(
            f"{str(path)!r} holds a colon, a backslash or a line break, which paths of Slurm jobs cannot; choose "
            "another store with root=FOLDER"
        )
