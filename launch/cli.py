"""The verbs: `vssl status | report | logs | sync | prepare`, also `python -m launch` and `python launch/cli.py`.

Reads take `--json`. PIPELINE is a folder name under `pipelines/`, the beginning of one, or nothing for the newest.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

_CHECKOUT = Path(__file__).resolve().parent.parent
if __package__ in (None, ""):  # run as a file: the repository goes first on the path, in place of this file's folder
    _elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != _CHECKOUT / "launch"]
    sys.path[:] = [str(_CHECKOUT), *_elsewhere]

import typer

from launch.exit_codes import BAD_INPUT, FAILED
from launch.plan import Plan, plan_from_mapping
from launch.store import Store, default_root
from vssl.artifacts import read_json
from vssl.config import ConfigError, nearest

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

PipelineName = Annotated[str, typer.Argument(metavar="[PIPELINE]", help="folder under pipelines/; default: the newest")]
StageName = Annotated[str, typer.Argument(metavar="[PIPELINE/]STAGE", help="a stage of a pipeline")]
Root = Annotated[Path | None, typer.Option("--root", help="the store; default: $VSSL_ROOT, else runs/ of the checkout")]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable output")]


def main() -> None:
    """The `vssl` command: user errors are one line and exit code 2."""
    try:
        if not (_CHECKOUT / "sweeps").is_dir() or not (_CHECKOUT / "configs").is_dir():
            raise ConfigError(
                f"{_CHECKOUT} has no configs/ and sweeps/: the packages were installed without them; use a checkout, "
                "with `pip install -e CHECKOUT` or `python CHECKOUT/launch/cli.py`"
            )
        app()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)


@app.command()
def status(pipeline: PipelineName = "", root: Root = None, as_json: AsJson = False) -> None:
    """State of every stage: done, reused, running, saved, failed, cancelled or waiting."""
    from launch.display import duration
    from launch.status import counts, plan_status

    folder, plan, store = _open(pipeline, root)
    stages = plan_status(plan, store)
    if as_json:
        _print_json({"pipeline": folder.name, "counts": counts(stages), "stages": [asdict(one) for one in stages]})
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=folder.name, title_justify="left")
    for column in ("stage", "state", "step", "time"):
        table.add_column(column, no_wrap=True)
    table.add_column("", overflow="fold")
    for one in stages:
        step = f"{one.step}/{one.steps}" if one.steps else str(one.step or "")
        took = "" if one.wall_s is None else duration(one.wall_s)
        table.add_row(one.name, one.state, step, took, Text(one.reason))  # its brackets are its own
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    print(", ".join(f"{number} {state}" for state, number in counts(stages).items()))


@app.command()
def report(pipeline: PipelineName = "", root: Root = None, as_json: AsJson = False) -> None:
    """What was trained, and what it is worth beside an untrained network and chance."""
    from launch.report import print_report, report_rows

    folder, plan, store = _open(pipeline, root)
    if as_json:
        _print_json({"pipeline": folder.name, "stages": [asdict(row) for row in report_rows(plan, store)]})
    else:
        print_report(plan, store)


@app.command()
def logs(
    stage: StageName,
    lines: Annotated[int, typer.Option("--lines", "-n", help="lines from the end")] = 50,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """The end of the newest attempt's log."""
    from launch.children import newest_log

    pipeline, _, name = stage.rpartition("/")
    folder, plan, store = _open(pipeline, root)
    if name not in plan.by_name:
        raise ConfigError(f"no stage {name!r} in {folder.name}{nearest(name, plan.by_name)}; it has {_names(plan)}")
    log = newest_log(store.stage(plan[name].folder))
    if log is None:
        raise ConfigError(f"{name} has no log in {store.root}: it was never started here")
    tail = log.read_text(errors="replace").splitlines()[-lines:]
    if as_json:
        _print_json({"stage": name, "log": str(log), "lines": tail})
        return
    print(f"{log}:", file=sys.stderr)
    print("\n".join(tail))


@app.command()
def sync(
    pipeline: Annotated[str, typer.Argument(metavar="[PIPELINE]", help="default: all pipelines of the store")] = "",
    root: Root = None,
    uri: Annotated[str | None, typer.Option(help="of the MLflow server or database")] = None,
) -> None:
    """Push journals and results to MLflow; a push that is repeated stores nothing twice."""
    from vssl import tracking

    newest, _, _ = _open(pipeline, root)
    folders = [newest] if pipeline else sorted(path.parent for path in newest.parent.glob("*/plan.json"))
    problems = 0
    for folder in folders:
        read = _store_of(folder).read
        if not tracking.needs_sync(folder, uri, read):
            print(f"{folder.name}: nothing new")
            continue
        done = tracking.sync(folder, uri, read=read)
        problems += bool(done.problem)
        print(f"{folder.name}: {done.problem or f'{done.metrics} values to {done.uri}'}", flush=True)
    if problems:
        sys.exit(FAILED)


@app.command()
def prepare(
    data: Annotated[str, typer.Argument(help="a name in configs/data, or a folder of videos with a `/` in it")],
    path: Annotated[Path | None, typer.Option(help="where the videos of a named dataset lie")] = None,
    root: Root = None,
) -> None:
    """Read every video of a dataset once: its manifest and digest make it usable in plans."""
    from launch.sources import prepare_sources
    from vssl.config import build, to_mapping
    from vssl.data.dataset_config import DatasetConfig

    if "/" in data:
        folder = Path(data).expanduser().absolute()
        mapping: dict[str, Any] = {"name": folder.name, "path": str(folder), "layout": "auto"}
    else:
        mapping = _named_dataset(data)
    if path is not None:
        mapping = {**mapping, "path": str(path.expanduser().absolute())}
    config = build(DatasetConfig, mapping)
    store = Store(root or default_root(), visibility_s=0)
    prepare_sources({config.key(): to_mapping(config)}, store)
    record = store.source_record(config.key())
    assert record is not None
    counts = ", ".join(f"{number} {split}" for split, number in record["splits"].items())
    print(f"{config.name}: {counts} videos, {len(record['classes'])} classes, digest {record['digest'][:12]}")


def _named_dataset(name: str) -> dict[str, Any]:
    from launch.marked_yaml import load_plain

    folder = _CHECKOUT / "configs" / "data"
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in names:
        raise ConfigError(
            f"no dataset {name!r}{nearest(name, names)}; accepted: {', '.join(names)}, or a folder, as in ./videos"
        )
    dataset: dict[str, Any] = load_plain(folder / f"{name}.yaml")["dataset"]
    return dataset


def _open(name: str, root: Path | None) -> tuple[Path, Plan, Store]:
    """A pipeline's folder, plan and store.

    Raises:
        ConfigError: no such pipeline in the store.
    """
    base = (root or default_root()).absolute()
    folders = [path.parent for path in (base / "pipelines").glob("*/plan.json")]
    if not folders:
        raise ConfigError(f"no pipelines in {base}; name another store with --root or VSSL_ROOT")
    matching = [folder for folder in folders if folder.name == name] or [
        folder for folder in folders if folder.name.startswith(name)
    ]
    if not matching:
        names = sorted(folder.name for folder in folders)
        raise ConfigError(f"no pipeline {name!r} in {base}{nearest(name, names)}; there are {', '.join(names)}")
    folder = max(matching, key=lambda found: (found / "plan.json").stat().st_mtime)
    return folder, plan_from_mapping(read_json(folder / "plan.json")), _store_of(folder)


def _store_of(folder: Path) -> Store:
    """The store as a pipeline was submitted to it, wherever it lies now."""
    root = folder.parent.parent
    settings = read_json(folder / "store.json") or Store(root).to_mapping()
    return Store.from_mapping({**settings, "root": str(root), "visibility_s": 0})


def _names(plan: Plan) -> str:
    return ", ".join(plan.by_name)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))


if __name__ == "__main__":
    main()
