import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vssl.config import ConfigError
from vssl.data.layouts.plain_pickles import read_pickle

TENSORS = [
    torch.tensor([1, 2, 3]),
    -torch.ones(4),
    torch.arange(10)[2:7:2],
    torch.arange(6).reshape(2, 3).t(),
    torch.zeros(0),
    torch.tensor(3),
    torch.tensor([True, False]),
    torch.tensor([0.5], dtype=torch.float64),
    torch.tensor([1], dtype=torch.uint8),
    torch.tensor([0.5], dtype=torch.float16),
]


@pytest.fixture
def reread(tmp_path: Path) -> Callable[..., Any]:
    def reread(value: object, protocol: int = 4) -> Any:
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(value, protocol=protocol))
        return read_pickle(tmp_path / "x.pkl")

    return reread


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_of_every_protocol(reread: Callable[..., Any], protocol: int) -> None:
    value = {"a": [1, 2.5, "ü", None, True, b"x", (3,)], 4: OrderedDict(z=1)}
    assert reread(value, protocol) == value
    for tensor in TENSORS:
        found = reread([tensor], protocol)[0]
        np.testing.assert_array_equal(found, tensor.numpy())
        assert found.dtype == tensor.numpy().dtype
    for array in (np.arange(6).reshape(2, 3), np.asfortranarray(np.eye(2)), np.array(["a", "bb"]), np.zeros(3, ">i4")):
        np.testing.assert_array_equal(reread((array,), protocol)[0], array)
    assert reread([np.float64(2.5), np.int64(3)], protocol) == [2.5, 3]


@given(arrays.arrays(dtype=st.sampled_from(["i8", "f4", "u1", "?", "c8"]), shape=arrays.array_shapes(max_dims=3)))
def test_any_array(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("pickles") / "x.pkl"
    path.write_bytes(pickle.dumps({"x": array}))
    np.testing.assert_array_equal(read_pickle(path)["x"], array)


class Calls:
    """What a hostile pickle does: calls anything by name."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


@pytest.mark.parametrize(
    "value",
    [
        lambda mark: Calls(os.system, f"touch {mark}"),
        lambda mark: {"frame_label": Calls(eval, f"open({str(mark)!r}, 'w')")},
        lambda mark: np.array([Calls(os.mkdir, str(mark))], dtype=object),
        lambda mark: Calls(getattr, [], "append"),
        lambda mark: Calls(torch.storage._load_from_bytes, pickle.dumps(Calls(os.mkdir, str(mark)))),
        lambda mark: Path("x"),
        lambda mark: np.zeros(2, dtype=[("a", int)]),
        lambda mark: torch.zeros(1).expand(10**10),
        lambda mark: Calls(torch._utils._rebuild_tensor_v2, b"x", 0, (1,), (1,), False, {}),
    ],
)
def test_code_is_refused_and_not_run(value: Callable[[Path], object], tmp_path: Path) -> None:
    path, mark = tmp_path / "x.pkl", tmp_path / "mark"
    path.write_bytes(pickle.dumps([value(mark)]))
    with pytest.raises(ConfigError, match=r"x.pkl is no plain data: it asks for .*; what may run code is not read"):
        read_pickle(path)
    assert not mark.exists()


@pytest.mark.parametrize("change", [b"", b"\x80\x04", b"not a pickle", b"\x80\x04cos\nsystem\n."])
def test_damage_is_an_error_with_the_files_name(change: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(change)
    with pytest.raises(ConfigError, match=r"x.pkl"):
        read_pickle(tmp_path / "x.pkl")


def test_words_cannot_be_bent_to_other_meanings(tmp_path: Path) -> None:
    """A pickle may set the state of what it is given; the next pickle must not notice."""
    bend = b"\x80\x04c_codecs\nencode\n}(X\x05\x00\x00\x00_callX\x01\x00\x00\x00xu\x86b."
    (tmp_path / "bend.pkl").write_bytes(bend)
    with pytest.raises(ConfigError):
        read_pickle(tmp_path / "bend.pkl")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([b"abc"], protocol=0))
    assert read_pickle(tmp_path / "x.pkl") == [b"abc"]
