"""Which code and which packages made a result."""

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vssl.artifacts import canonical_json, sha256_file, sha256_text

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGES = ("vssl", "launch")
FOLDERS = (*PACKAGES, "configs", "sweeps", "slurm_templates")  # all that a line needs
_VERSIONS_OF = ("torch", "torchvision", "av", "numpy", "pandas", "opencv-contrib-python-headless")
_GIT_WAIT_S = 10.0


def search_path() -> str:
    """PYTHONPATH for a process that shall import these very packages, whatever is installed."""
    return os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])


def source_files(checkout: Path, folders: Iterable[str]) -> dict[str, Path]:
    """Relative path -> file of what a person wrote in some folders of a checkout: no caches, nothing hidden; sorted."""
    found: dict[str, Path] = {}
    for folder in folders:
        for place, below, names in os.walk(checkout / folder, followlinks=True):
            below[:] = [name for name in below if not name.startswith(".") and name != "__pycache__"]
            files = (Path(place, name) for name in names if not name.startswith((".", "#")) and not name.endswith("~"))
            found |= {path.relative_to(checkout).as_posix(): path for path in files}
    return dict(sorted(found.items()))


@cache
def code_digest() -> str:
    """Content digest of the sources of both packages: equal text, equal digest, wherever it lies."""
    files = source_files(CHECKOUT, PACKAGES)
    return digest_of_sources({name: sha256_file(path) for name, path in files.items() if name.endswith(".py")})


def digest_of_sources(digests: Mapping[str, str]) -> str:
    """One digest for files given as relative path -> SHA-256."""
    return sha256_text(canonical_json(sorted(digests.items())))


@cache
def git_state(checkout: Path = CHECKOUT) -> dict[str, str | bool] | None:
    """The commit of a checkout, and whether what jobs run differs from it; None outside of git.

    A folder that only lies inside a repository, as a snapshot in `runs/` does, is outside of it.
    """
    try:
        if not _git(checkout, "ls-files", "--", *FOLDERS):
            return None
        # One process for both: the commit stands in a header line, and each further line is a difference.
        lines = _git(checkout, "status", "--porcelain=v2", "--branch", "--", *FOLDERS).splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    headers = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
    return {"commit": headers.get("branch.oid", ""), "dirty": any(not line.startswith("#") for line in lines)}


def _git(checkout: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(checkout), *words],
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # looking writes nothing
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_GIT_WAIT_S,
        check=True,
    )
    return done.stdout


@cache
def versions() -> dict[str, str]:
    """Versions of the interpreter and of the packages that numbers depend on; imports none of them."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _VERSIONS_OF:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def changed_versions(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs between two answers of `versions`, as in "torch 2.11.0 -> 2.12.0"; nothing where they are equal."""
    return ", ".join(
        f"{name} {before.get(name, 'none')} -> {now.get(name, 'none')}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    )
