"""What a person means by `[PIPELINE[/STAGE]]`: a pipeline of the store, and stages of its plan."""

from dataclasses import dataclass
from pathlib import Path

from launch.plan import Plan, plan_from_mapping
from launch.planning.selection import named
from launch.store import Store, default_root
from vssl.artifacts import read_json
from vssl.config import ConfigError, nearest


@dataclass(frozen=True, kw_only=True)
class Target:
    """A pipeline, and those of its stages that were named."""

    folder: Path
    plan: Plan
    store: Store
    selector: str = ""  # "": the whole pipeline

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that are meant, in the plan's order.

        Raises:
            ConfigError: the selector names none.
        """
        if not self.selector:
            return tuple(self.plan.by_name)
        chosen = named(self.plan, [self.selector], self.folder.name)
        return tuple(name for name in self.plan.by_name if name in chosen)


def find_target(word: str, root: Path | None = None, *, stage_first: bool = False) -> Target:
    """Read the plan that a word names.

    Args:
        word: `PIPELINE`, `PIPELINE/STAGE`, `STAGE` of the newest pipeline, or nothing for the newest pipeline. A
            pipeline may be given by the beginning of its name; of several, the newest is meant.
        root: the store; None: $VSSL_ROOT, else runs/ of the checkout.
        stage_first: a word without a slash is a stage if it can be one, rather than a pipeline.

    Raises:
        ConfigError: no such pipeline or stage.
    """
    base = (root or default_root()).absolute()
    folders = pipelines(base)
    if not folders:
        raise ConfigError(f"no pipelines in {base}; name another store with --root or VSSL_ROOT")
    name, slash, selector = word.partition("/")
    matching = _matching(folders, name)
    if not slash and (stage_first or not matching):
        newest = _open(_newest(folders), name)
        words = _selectors(newest.plan)
        if name in words:
            return newest
        if not matching:
            raise ConfigError(
                f"no pipeline {name!r} in {base}, and no such stage in {newest.folder.name}, the newest one"
                f"{nearest(name, (*words, *_names(folders)))}; pipelines: {', '.join(_names(folders))}"
            )
    if not matching:
        raise ConfigError(
            f"no pipeline {name!r} in {base}{nearest(name, _names(folders))}; there are {', '.join(_names(folders))}"
        )
    target = _open(_newest(matching), selector)
    assert target.stages  # a selector that names nothing is refused here
    return target


def pipelines(root: Path) -> list[Path]:
    """Folders of all pipelines of a store."""
    return sorted(path.parent for path in (root / "pipelines").glob("*/plan.json"))


def store_of(folder: Path) -> Store:
    """The store as a pipeline was submitted to it, wherever it lies now."""
    root = folder.parent.parent
    settings = read_json(folder / "store.json") or Store(root).to_mapping()
    return Store.from_mapping({**settings, "root": str(root), "visibility_s": 0})


def _open(folder: Path, selector: str = "") -> Target:
    plan = plan_from_mapping(read_json(folder / "plan.json"))
    return Target(folder=folder, plan=plan, store=store_of(folder), selector=selector)


def _matching(folders: list[Path], name: str) -> list[Path]:
    exact = [folder for folder in folders if folder.name == name]
    return exact or [folder for folder in folders if folder.name.startswith(name)]


def _names(folders: list[Path]) -> list[str]:
    return [folder.name for folder in folders]


def _newest(folders: list[Path]) -> Path:
    return max(folders, key=lambda found: (found / "plan.json").stat().st_mtime)


def _selectors(plan: Plan) -> set[str]:
    return {word for stage in plan for word in (stage.name, stage.element, stage.template)}
