"""Which code and which packages made a result."""

import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vssl.artifacts import canonical_json, sha256_file, sha256_text

CHECKOUT = Path(__file__).resolve().parent.parent
_PACKAGES = ("torch", "torchvision", "av", "numpy", "pandas", "opencv-contrib-python-headless")


def search_path() -> str:
    """PYTHONPATH for a process that shall import these very packages, whatever is installed."""
    return os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])


@cache
def code_digest() -> str:
    """Content digest of the sources of both packages: equal text, equal digest, wherever it lies."""
    files = sorted(path for name in ("vssl", "launch") for path in (CHECKOUT / name).rglob("*.py"))
    return sha256_text(canonical_json([(path.relative_to(CHECKOUT).as_posix(), sha256_file(path)) for path in files]))


@cache
def versions() -> dict[str, str]:
    """Versions of the interpreter and of the packages that numbers depend on; imports none of them."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
