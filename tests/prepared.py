"""Datasets after `prepare`."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from vssl.data.dataset_config import DatasetConfig
from vssl.data.prepare import prepare


class Prepared:
    """A dataset in miniature after `prepare`."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.config = DatasetConfig(name="d", path=str(root), **settings)
        self.folder = root.parent / "sources" / self.config.key()
        self.said: list[str] = []
        self.record = prepare(self.config, root.parent / "sources", self.said.append)
        self.table = pd.read_parquet(self.folder / "manifest.parquet").set_index("path")
        self.report = json.loads((self.folder / "report.json").read_text())

    def labels(self) -> dict[str, tuple[str, str]]:
        """Path -> (class, split)."""
        return {
            path: (self.record["classes"][row["label"]], row["split"])
            for path, row in self.table[["label", "split"]].iterrows()
        }


def quiet(_: str) -> None: ...


def config_of(root: Path, **settings: object) -> DatasetConfig:
    return DatasetConfig(name="d", path=str(root), **settings)


def table_of(config: DatasetConfig, sources: Path) -> pd.DataFrame:
    return pd.read_parquet(sources / config.key() / "manifest.parquet").set_index("video_id")
