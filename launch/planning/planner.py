"""A command line becomes a plan: reads a checkout's sweep, scale and classes, then expands. Writes nothing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from launch.compose import Composer
from launch.plan import Plan
from launch.planning import templates
from launch.planning.command_line import CommandLine
from launch.planning.expand import Expansion
from launch.planning.grid import read_axes
from launch.planning.resolve import Resolver
from launch.planning.resource_classes import ResourceClasses
from launch.planning.scale import read_scale
from launch.planning.unroll import unroll
from launch.planning.wiring import wire
from launch.provenance import CHECKOUT
from launch.spec import NAME, read_sweep
from vssl.artifacts import sha256_file
from vssl.config import ConfigError, nearest


def make_plan(
    line: CommandLine,
    digest_of: Callable[[str], str | None],
    *,
    checkout: Path = CHECKOUT,
    sweep_file: Path | None = None,
    composer: Composer | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Plan:
    """The plan of a line.

    Args:
        digest_of: digest of a prepared dataset by its key, None where it is not prepared (ids are then pending).
        checkout: folder with configs/, sweeps/ and slurm_templates/.
        sweep_file: a sweep outside `sweeps/`.
        composer: of an earlier plan of the same checkout, which remembers what it composed.
        overrides: resource class -> what it asks for on the cluster that is submitted to.

    Raises:
        ConfigError: anything in the line, the sweep or the configs that cannot be used.
    """
    composer = composer or Composer(checkout / "configs")
    sweep = read_sweep(sweep_file or _sweep_file(checkout / "sweeps", line.sweep))
    if line.cluster is not None:
        templates.named("cluster", line.cluster, checkout)
    scale = read_scale(checkout / "configs" / "scale", line.scale, composer.options("recipe"))
    elements = unroll(sweep)
    resolver = Resolver(
        elements,
        composer=composer,
        classes=ResourceClasses(templates.files("resources", checkout), overrides),
        scale=scale,
        data=line.data or scale.dataset(sweep.name) or sweep.data,
        folders=line.folders,
        stages=line.stages,
    )
    plan = Expansion(
        sweep=sweep.name,
        scale=scale.name,
        elements=elements,
        wiring=wire(elements),
        axes=read_axes(sweep.grid, sweep.where, line.grid),
        resolver=resolver,
        digest_of=digest_of,
        digest_of_file=_digest_of_file,
    ).plan()
    _refuse_unread(line.folders, plan)
    return plan


def _refuse_unread(folders: Mapping[str, Path], plan: Plan) -> None:
    names = {str(dataset["name"]) for dataset in plan.datasets.values()}
    for name in folders:
        if name not in names:
            raise ConfigError(
                f"data.{name}: no stage of this plan reads dataset `{name}`{nearest(name, names)}; they read: "
                f"{', '.join(sorted(names))}"
            )


def _sweep_file(folder: Path, sweep: str) -> Path:
    path = Path(sweep)
    if not path.is_absolute():
        return _named_file(folder, "sweep", sweep)
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise ConfigError(f"no sweep file {path}; give an existing file, or a name without a `/`: {names}")
    if not NAME.fullmatch(path.stem):  # it names pipelines
        raise ConfigError(
            f"sweep is {path}, so its name is `{path.stem}`; rename the file: a letter, then letters, digits, `_` "
            "and `-`"
        )
    return path


def _named_file(folder: Path, what: str, name: str) -> Path:
    accepted = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in accepted:
        raise ConfigError(
            f"{what} is `{name}`{nearest(name, accepted)}; accepted: {', '.join(accepted) or 'none'} "
            f"(files of {folder})"
        )
    return folder / f"{name}.yaml"


def _digest_of_file(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise ConfigError(
            f"input file:{path} cannot be read: {error.strerror}; name a weights file under `inputs` of the sweep, by "
            "its absolute path"
        ) from None
