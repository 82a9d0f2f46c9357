"""The code that jobs run: a copy by content, so that what is edited while they wait in the queue changes nothing.

`<root>/code/<digest>/` holds everything that a line needs, is never written again, and is shared by all submissions of
equal code. Jobs find it first on their path. No byte code is kept: compiling what a job imports costs it 20 ms, and a
thousand jobs that write into one folder cost more.
"""

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from launch.provenance import CHECKOUT, FOLDERS, PACKAGES, code_digest, digest_of_sources, source_files
from launch.store import Store
from vssl.artifacts import sync
from vssl.config import ConfigError

_AT_ONCE = 8  # files; each waits for the file server
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST)
_WRITE_BITS = 0o222


def snapshot(store: Store, checkout: Path = CHECKOUT) -> Path:
    """The folder with this checkout's code in a store, made where it is not there or lacks files.

    It appears whole or not at all, whoever else makes it at the same time.

    Raises:
        ConfigError: the store cannot be written, or the code was edited since this process read it.
    """
    files = {name: path.read_bytes() for name, path in source_files(checkout, FOLDERS).items()}
    digests = _digests(files)
    _refuse_edited(digests, checkout)
    folder = store.code / _name(digests)
    if _is_whole(folder, files):
        with suppress(OSError):  # another user's, or a store that is only read
            os.utime(folder)  # so that nobody removes it between now and the batch that names it
    else:
        with store.writing():
            store.code.mkdir(parents=True, exist_ok=True)
            aside = store.code / f".{folder.name}.{uuid.uuid4().hex}.tmp"
            try:
                _write(aside, files)
                _put(aside, folder, files)
                sync(store.code)
            finally:
                remove_snapshot(aside)
    return folder


def snapshot_path(store: Store, checkout: Path = CHECKOUT) -> Path:
    """Where the snapshot of this checkout's code lies, or would lie; nothing is written."""
    return store.code / _name(
        _digests({name: path.read_bytes() for name, path in source_files(checkout, FOLDERS).items()})
    )


def remove_snapshot(folder: Path) -> None:
    """Remove a snapshot, which is read-only, or what is left of one."""
    for place, _, _ in os.walk(folder):
        Path(place).chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)


def _digests(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def _name(digests: Mapping[str, str]) -> str:
    return digest_of_sources(digests)[:16]


def _refuse_edited(digests: Mapping[str, str], checkout: Path) -> None:
    packages = tuple(f"{package}/" for package in PACKAGES)
    code = {name: one for name, one in digests.items() if name.startswith(packages) and name.endswith(".py")}
    if checkout == CHECKOUT and digest_of_sources(code) != code_digest():
        raise ConfigError(f"the code in {checkout} was edited while this line ran; type the line again")


def _is_whole(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Whether every file is there in its length: some sites remove single files that nobody has read for weeks."""
    try:
        return all((folder / name).stat().st_size == len(data) for name, data in files.items())
    except OSError:
        return False


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files durably, and take everybody's right to change them."""
    for parent in {(folder / name).parent for name in files}:
        parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda item: _write_file(folder / item[0], item[1]), files.items()))
    for place, _, _ in os.walk(folder, topdown=False):
        sync(Path(place))
        if Path(place) != folder:  # which is still to be renamed
            _make_read_only(Path(place))


def _write_file(path: Path, data: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    _make_read_only(path)


def _make_read_only(path: Path) -> None:
    path.chmod(path.stat().st_mode & ~_WRITE_BITS)


def _put(aside: Path, folder: Path, files: Mapping[str, bytes]) -> None:
    """Give a new snapshot its name, unless another launcher was faster; one that lacks files makes room."""
    while not _renamed(aside, folder):
        if _is_whole(folder, files):
            return
        damaged = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
        with suppress(FileNotFoundError):  # another launcher mends it, too
            folder.rename(damaged)
        remove_snapshot(damaged)
    _make_read_only(folder)


def _renamed(path: Path, target: Path) -> bool:
    """Rename a folder; False where the target's name is taken."""
    try:
        path.rename(target)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True
