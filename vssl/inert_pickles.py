"""Files of torch.save from strangers, read without running anything: what is no tensor or plain value becomes inert.

`torch.load(weights_only=True)` refuses a file that holds anything else, as the arguments of the program that wrote it.
Here such an object becomes an empty stand-in, whatever class it asks for: no name outside the vocabulary below is ever
looked up in a module, so nothing that a file says can run.
"""

import pickle
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

_TENSORS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")
_VOCABULARY: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    **{("torch._utils", name): getattr(torch._utils, name) for name in _TENSORS},
    **{
        ("torch", name): getattr(torch, name)
        for name in ("FloatStorage", "DoubleStorage", "HalfStorage", "LongStorage", "IntStorage", "ByteStorage")
    },
}


class Inert:
    """What stands for an object that is not read. It takes whatever a pickle does to it and keeps none of it."""

    def __init__(self, *arguments: object, **keywords: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, value: object) -> None: ...

    def extend(self, values: object) -> None: ...

    def __call__(self, *arguments: object) -> "Inert":
        return self


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _VOCABULARY.get((module, name), Inert)


def _load(file: Any, **keywords: Any) -> Any:
    return _Unpickler(file, **keywords).load()


_PICKLE: Any = SimpleNamespace(Unpickler=_Unpickler, load=_load, __name__="inert")  # what torch.load takes for `pickle`


def read_inert(path: Path) -> Any:
    """The value in a file, tensors on the CPU."""
    return torch.load(path, map_location="cpu", pickle_module=_PICKLE, weights_only=False)


def without_inert(value: Any) -> Any:
    """A copy without stand-ins, and without the entries that hold one."""
    if isinstance(value, dict):
        return {key: without_inert(item) for key, item in value.items() if not isinstance(item, Inert)}
    if isinstance(value, list | tuple):
        return [without_inert(item) for item in value if not isinstance(item, Inert)]
    return value
