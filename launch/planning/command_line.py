"""The line a person types after `pipeline.py`, as a value."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.compose import parse_override
from vssl.config import ConfigError, nearest
from vssl.stages import STAGES

KEYS = (
    *("sweep", "action", "scale", "executor", "cluster", "data", "root"),
    *("only", "from", "until", "force", "store", "grid", "stages"),
)
FLAGS = ("--follow", "--mermaid")
ACTIONS = ("submit", "plan", "preflight", "render")
EXECUTORS = ("auto", "slurm", "local", "debug")
_SETTING = "STAGE.KEY=VALUE, with `all` as STAGE for every stage"
_STORE_KEYS = (
    "store.read=[FOLDER,...], store.artifact_root.KIND=FOLDER, store.visibility_s=SECONDS and store.strict=true|false"
)
Values = tuple[tuple[str, Any], ...]  # (dotted key, value), in the order given


@dataclass(frozen=True, kw_only=True)
class CommandLine:
    sweep: str  # a name in sweeps/, or an absolute path of a YAML file
    action: str = "submit"
    scale: str = "paper"
    executor: str = "auto"
    cluster: str | None = None
    data: str | None = None  # a name in configs/data, or an absolute folder
    folders: Mapping[str, Path] = field(default_factory=dict)  # name of a dataset -> where it lies
    root: Path | None = None
    only: tuple[str, ...] = ()
    from_: tuple[str, ...] = ()
    until: tuple[str, ...] = ()
    force: tuple[str, ...] = ()
    store_read: tuple[Path, ...] = ()
    artifact_root: Mapping[str, Path] = field(default_factory=dict)  # kind -> folder
    visibility_s: float | None = None  # how long a name made on one node may be invisible on another
    strict: bool = False  # refuse to go on with what other code or packages began
    follow: bool = False  # stay until the queue has taken everything
    mermaid: bool = False  # the graph as text for a Mermaid diagram
    grid: Values = ()  # ("linear.optim.base_lr", [0.1, 0.3])
    stages: Values = ()  # ("linear.optim.weight_decay", 1e-4)


def parse(arguments: Sequence[str], cwd: Path) -> CommandLine:
    """Read the line; relative folders are meant from `cwd`.

    Raises:
        ConfigError: an unknown key, a value of the wrong form, a key given twice, or no sweep.
    """
    given: dict[str, Any] = {}
    flags = {text for text in arguments if text.startswith("--")}
    for flag in sorted(flags - set(FLAGS)):
        raise ConfigError(
            f"no flag `{flag}`{nearest(flag, FLAGS)}; accepted: {', '.join(FLAGS)}, all else is KEY=VALUE"
        )
    for text in (text for text in arguments if text not in flags):
        key, value = parse_override(text)
        top = key.partition(".")[0]
        if top not in KEYS:
            raise ConfigError(f"unknown key `{top}` in `{text}`{nearest(top, KEYS)}; accepted: {', '.join(KEYS)}")
        if top not in ("data", "grid", "stages", "store") and "." in key:
            raise ConfigError(f"`{text}`: `{top}` takes a value, as in {top}=...")
        if key in given:
            raise ConfigError(f"`{key}` is given twice: {given[key]!r} and {value!r}; keep one")
        given[key] = value
    if not given.get("sweep"):
        raise ConfigError("no sweep; say which, as in sweep=vicc_cross")
    action = _choice(given, "action", ACTIONS)
    if "--mermaid" in flags and action != "plan":
        raise ConfigError(f"--mermaid draws a plan; say action=plan, not action={action}")
    if "--follow" in flags and action != "submit":
        raise ConfigError(f"--follow stays with a submission; leave it out, or action={action}")
    return CommandLine(
        sweep=_sweep(_text(given, "sweep", ""), cwd),
        action=action,
        scale=_text(given, "scale", "paper"),
        executor=_choice(given, "executor", EXECUTORS),
        cluster=_text(given, "cluster", "") or None,
        data=_data(_text(given, "data", ""), cwd),
        folders={
            key.removeprefix("data."): _folder(value, key, cwd) for key, value in given.items() if key[:5] == "data."
        },
        root=_folder(given["root"], "root", cwd) if given.get("root") is not None else None,
        only=_selectors(given, "only"),
        from_=_selectors(given, "from"),
        until=_selectors(given, "until"),
        force=_selectors(given, "force"),
        **_store(given, cwd),
        follow="--follow" in flags,
        mermaid="--mermaid" in flags,
        grid=_under(given, "grid", f"grid.{_SETTING}"),
        stages=_under(given, "stages", f"stages.{_SETTING}"),
    )


def _text(given: Mapping[str, Any], key: str, default: str) -> str:
    value = given.get(key)
    if value is None:
        return default
    if isinstance(value, list | dict | bool):
        raise ConfigError(f"`{key}` is {value!r}; expected one name")
    return str(value)


def _choice(given: Mapping[str, Any], key: str, accepted: Sequence[str]) -> str:
    value = _text(given, key, accepted[0])
    if value not in accepted:
        raise ConfigError(f"{key} is `{value}`{nearest(value, accepted)}; accepted: {', '.join(accepted)}")
    return value


def _sweep(value: str, cwd: Path) -> str:
    """A name, or a file, which is made absolute here, where the caller's working directory is known."""
    is_file = "/" in value or value.endswith((".yaml", ".yml"))
    return str(_folder(value, "sweep", cwd)) if is_file else value


def _data(value: str, cwd: Path) -> str | None:
    """A folder is made absolute here, where the caller's working directory is known."""
    if "/" not in value:
        return value or None
    return str(_folder(value, "data", cwd))


def _folder(value: Any, key: str, cwd: Path) -> Path:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"`{key}` is {value!r}; expected a folder")
    # Not resolved: a link in the path is the user's way to move a folder.
    return Path(cwd, Path(value).expanduser())


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _selectors(given: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = given.get(key)
    if value is None:
        return ()
    for item in _list(value):
        if not isinstance(item, str):
            raise ConfigError(f"`{key}` is {value!r}; expected stage names, as in {key}=[linear-rgb,retrieval]")
    return tuple(_list(value))


def _store(given: Mapping[str, Any], cwd: Path) -> dict[str, Any]:
    """Stores to read, kind -> where its artifacts lie, how late names may come into sight, and what may go on."""
    read: tuple[Path, ...] = ()
    roots: dict[str, Path] = {}
    visibility_s: float | None = None
    strict = False
    for key, value in _under(given, "store", _STORE_KEYS):
        top, _, kind = key.partition(".")
        if key == "read":
            read = tuple(_folder(item, "store.read", cwd) for item in _list(value))
        elif key == "visibility_s" and isinstance(value, int | float) and 0 <= value < math.inf:
            visibility_s = float(value)
        elif key == "strict" and isinstance(value, bool):
            strict = value
        elif top == "artifact_root" and (kind or isinstance(value, dict)):
            for name, folder in {kind: value}.items() if kind else value.items():
                if name not in STAGES:
                    raise ConfigError(
                        f"store.artifact_root: no kind `{name}`{nearest(name, STAGES)}; accepted: {', '.join(STAGES)}"
                    )
                roots[name] = _folder(folder, f"store.artifact_root.{name}", cwd)
        else:
            known = ("read", "artifact_root", "visibility_s", "strict")
            near = "" if top in known else nearest(top, known)
            raise ConfigError(f"`store.{key}` is {value!r}{near}; accepted: {_STORE_KEYS}")
    return {"store_read": read, "artifact_root": roots, "visibility_s": visibility_s, "strict": strict}


def _under(given: Mapping[str, Any], top: str, form: str) -> Values:
    """Everything below `grid`, `stages` or `store`, a mapping's entries one by one."""
    found: list[tuple[str, Any]] = []
    for key, value in given.items():
        if key == top == "grid" and isinstance(value, list):
            found.append(("", value))  # one axis, whose mappings name stages and keys
            continue
        if key == top and not isinstance(value, dict):
            raise ConfigError(f"`{top}` is {value!r}; write {form}")
        if key == top:
            found += value.items()
        elif key.startswith(f"{top}."):
            found.append((key.removeprefix(f"{top}."), value))
    return tuple(found)
