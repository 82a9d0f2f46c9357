"""Pickles of plain data from strangers: containers, numbers, text, arrays and tensors; anything else is refused.

A pickle is a program. This reader runs it with a vocabulary in which nothing but data can be said: no name is looked up
in any module, the few that published files use stand for functions of this file.
"""

import io
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vssl.config import ConfigError

_DTYPES = frozenset("biufcSU?")  # kinds of arrays that hold no Python objects


def read_pickle(path: Path) -> Any:
    """The value in a file; arrays and tensors become numpy arrays.

    Raises:
        ConfigError: damaged, or it holds more than plain data.
    """
    try:
        with open(path, "rb") as stream:
            return _plain(_Reader(stream).load())
    except _Refused as error:
        raise ConfigError(f"{path} is no plain data: it asks for {error}; what may run code is not read") from None
    except ConfigError:
        raise
    except Exception as error:  # whatever a damaged program stumbles over
        raise ConfigError(f"{path} cannot be read as a pickle ({type(error).__name__}: {error})") from None


class _Refused(pickle.UnpicklingError):
    """A name outside the vocabulary."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _VOCABULARY:
            raise _Refused(f"{module}.{name}")
        return _Word(_VOCABULARY[module, name])

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"an object outside the file ({pid!r})")


class _Word:
    """A function that a pickle may call. A new one each time: a pickle may also change what it is given."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)


class _Array:
    """An array under construction: numpy makes one empty, then gives it its state."""

    def __init__(self) -> None:
        self.value: np.ndarray[Any, Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _shaped(data, dtype, shape, "F" if fortran else "C")


class _Dtype:
    """A type under construction: numpy gives its byte order afterwards."""

    def __init__(self, code: Any, *_: Any) -> None:
        self._code, self._order = str(code), ""

    def __setstate__(self, state: Any) -> None:
        if state[2] is not None or state[3] is not None or state[4] is not None:
            raise _Refused("an array of records")
        self._order = str(state[1])

    def value(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self._order + self._code if self._order in ("<", ">") else self._code)
        if dtype.kind not in _DTYPES:
            raise _Refused(f"an array of type {self._code}")
        return dtype


def _shaped(data: Any, dtype: Any, shape: Any, order: Literal["C", "F"], *_: Any) -> np.ndarray[Any, Any]:
    if not isinstance(dtype, _Dtype):
        raise _Refused("an array of an unknown type")
    if isinstance(data, str):
        data = data.encode("latin-1")
    if not isinstance(data, bytes | bytearray):
        raise _Refused("an array of objects")
    return np.frombuffer(data, dtype=dtype.value()).reshape(shape, order=order).copy()


def _scalar(dtype: Any, data: Any) -> Any:
    return _shaped(data, dtype, (1,), "C")[0].item()


def _encode(text: str, encoding: str) -> bytes:
    return text.encode(encoding)


class _StorageReader(_Reader):
    """Reads the file inside a file that is the storage of a pickled tensor: three headers, what it is, its bytes."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        _, dtype, _, _, count, *view = pid
        if any(view) or not isinstance(dtype, str):
            raise _Refused(f"a tensor of an unknown kind ({pid!r})")
        return np.dtype(dtype), int(count)


def _storage(data: bytes) -> np.ndarray[Any, Any]:
    stream = io.BytesIO(data)
    for _ in ("magic number", "protocol", "machine"):
        _StorageReader(stream).load()
    dtype, count = _StorageReader(stream).load()
    _StorageReader(stream).load()  # names of the storages: one
    stream.read(8)  # the count again
    return np.frombuffer(stream.read(), dtype=dtype, count=count)


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> np.ndarray[Any, Any]:
    if not isinstance(storage, np.ndarray) or min((offset, *size, *stride)) < 0 or math.prod(size) > len(storage):
        raise _Refused("a tensor that does not fit its storage")
    if math.prod(size) and offset + sum((length - 1) * step for length, step in zip(size, stride)) >= len(storage):
        raise _Refused("a tensor that does not fit its storage")
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps).copy()


def _plain(value: Any) -> Any:
    """The value with arrays in the place of what stood for them while reading."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, _Dtype):
        raise _Refused("a type without an array")
    return value


def _mapping(*pairs: Any) -> dict[Any, Any]:
    return dict(*pairs)


_STORAGES = {  # little-endian, as every machine that trains networks
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8", "IntStorage": "<i4",
    "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1", "BoolStorage": "?",
}  # fmt: skip
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_VOCABULARY: dict[tuple[str, str], Callable[..., Any]] = {
    **{(module, "_reconstruct"): lambda *_: _Array() for module in _MODULES},
    **{(module, "scalar"): _scalar for module in _MODULES},
    **{(module, "_frombuffer"): _shaped for module in ("numpy.core.numeric", "numpy._core.numeric")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _mapping,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
}
