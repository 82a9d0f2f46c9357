"""`vssl prepare DATA`: one dataset, made usable in plans before any plan asks for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.compose import parse_override
from launch.planning.marked_yaml import load_plain
from launch.planning.sources import prepare_sources
from launch.provenance import CHECKOUT
from launch.store import Store, default_root
from vssl.config import ConfigError, build, changed, nearest, to_mapping
from vssl.data.dataset_config import DatasetConfig


def prepare_dataset(data: str, settings: Sequence[str] = (), path: Path | None = None, root: Path | None = None) -> str:
    """Read every video of a dataset once; returns a line that says what was found.

    Args:
        data: a name in configs/data, or a folder with a `/` in it.
        settings: KEY=VALUE of the dataset's config, as a line says them after `stages.all.data.dataset.`.
        path: where the videos of a named dataset lie.
        root: the store; None: $VSSL_ROOT, else runs/ of the checkout.

    Raises:
        ConfigError: no such dataset, or it cannot be used.
    """
    if "/" in data:
        folder = Path(data).expanduser().absolute()
        mapping: dict[str, Any] = {"name": folder.name, "path": str(folder), "layout": "auto"}
    else:
        mapping = _named(data)
    if path is not None:
        mapping = {**mapping, "path": str(path.expanduser().absolute())}
    config = changed(build(DatasetConfig, mapping), dict(map(parse_override, settings)), "dataset")
    store = Store(root or default_root(), visibility_s=0)
    prepare_sources({config.key(): to_mapping(config)}, store)
    record = store.source_record(config.key())
    assert record is not None
    counts = ", ".join(f"{number} {split}" for split, number in record["splits"].items())
    return f"{config.name}: {counts} videos, {len(record['classes'])} classes, digest {record['digest'][:12]}"


def _named(name: str) -> dict[str, Any]:
    folder = CHECKOUT / "configs" / "data"
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        raise ConfigError(
            f"no dataset {name!r}{nearest(name, names)}; accepted: {', '.join(names)}, or a folder, as in ./videos"
        )
    dataset: dict[str, Any] = load_plain(folder / f"{name}.yaml")["dataset"]
    return dataset
