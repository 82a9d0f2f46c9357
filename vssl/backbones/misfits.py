"""What keeps a state from filling a network."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import Tensor

_SHOWN = 5  # names of each kind


def misfits(own: Mapping[str, Tensor], given: Mapping[str, Tensor], *, may_miss: Iterable[str] = ()) -> str:
    """Tensors that are missing, unexpected or of another shape, the first few of each; nothing where all fit.

    Args:
        own: state of the network.
        given: what is to fill it.
        may_miss: patterns of names that need not be given.
    """
    patterns = tuple(may_miss)
    missing = [name for name in own if name not in given and not any(fnmatchcase(name, one) for one in patterns)]
    unexpected = [name for name in given if name not in own]
    shapes = [
        f"{name} is {tuple(given[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in given and given[name].shape != own[name].shape
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    return "; ".join(f"{len(names)} {kind}: {first_few(names)}" for kind, names in kinds if names)


def first_few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
