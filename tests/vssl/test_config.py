from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vssl.config import (
    ConfigError,
    build,
    changed,
    keys,
    knob,
    merged,
    nearest,
    nested,
    semantic,
    to_mapping,
)


@dataclass(frozen=True, kw_only=True)
class Round:
    name: Literal["round"] = "round"
    radius: float = knob(1.0, doc="radius")


@dataclass(frozen=True, kw_only=True)
class Square:
    name: Literal["square"] = "square"
    side: int = knob(2, doc="side")
    tilt: float = knob(0.0, doc="added later", since="0.2", neutral=0.0)


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = knob(3, doc="size")
    colour: Literal["red", "blue"] = knob("red", doc="colour")

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}; at least 1")


@dataclass(frozen=True, kw_only=True)
class Outer:
    count: int = knob(doc="how many")
    rate: float = knob(0.5, doc="rate")
    flag: bool = knob(False, doc="flag")
    label: str | None = knob(None, doc="label")
    sizes: tuple[int, ...] = knob((1, 2), doc="sizes")
    pair: tuple[int, float] = knob((1, 2.0), doc="pair")
    names: dict[str, str] = knob({}, doc="names")
    shape: Round | Square = nested(Round, doc="shape")
    inner: Inner = nested(Inner, doc="inner")
    path: str = knob("/", doc="place", semantic=False)


def test_a_config_survives_the_way_to_plain_values_and_back() -> None:
    config = build(Outer, {"count": 1, "shape": {"name": "square", "side": 5}, "sizes": [4], "names": {"a": "b"}})
    assert config.shape == Square(side=5)
    assert build(Outer, to_mapping(config)) == config


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({}, ["`count` is missing", "how many"]),
        ({"count": 1, "cuont": 2}, ["unknown key `cuont`", "did you mean `count`", "rate"]),
        ({"count": 1, "inner": {"sise": 2}}, ["`inner.sise`", "did you mean `size`", "colour"]),
        ({"count": "1"}, ["`count` is '1' (str)", "expected int"]),
        ({"count": 1.5}, ["expected int"]),
        ({"count": True}, ["expected int"]),
        ({"count": 1, "flag": 1}, ["expected bool"]),
        ({"count": 1, "rate": "fast"}, ["expected a number"]),
        ({"count": 1, "rate": float("nan")}, ["expected a finite number"]),
        ({"count": 1, "sizes": 3}, ["expected a list, as in [3]"]),
        ({"count": 1, "sizes": [1, "x"]}, ["`sizes[1]` is 'x'"]),
        ({"count": 1, "pair": [1]}, ["expected 2 values"]),
        ({"count": 1, "names": [1]}, ["expected a mapping"]),
        ({"count": 1, "inner": 3}, ["inner: expected a mapping"]),
        ({"count": 1, "inner": {"colour": "rde"}}, ["did you mean `red`", "accepted: red, blue"]),
        ({"count": 1, "shape": {"name": "sqare"}}, ["did you mean `square`", "accepted: round, square"]),
        ({"count": 1, "shape": {"side": 1}}, ["`shape.name` is None"]),
        ({"count": 1, "shape": "round"}, ["expected a mapping with a `name`"]),
        ({"count": 1, "inner": {"size": 0}}, ["inner: size is 0; at least 1"]),
    ],
)
def test_a_wrong_value_is_named_with_what_is_accepted(mapping: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Outer, mapping)
    for word in words:
        assert word in str(caught.value)


def test_values_are_coerced_to_the_field_so_that_equal_configs_are_equal() -> None:
    assert build(Outer, {"count": 2.0, "rate": 1}) == build(Outer, {"count": 2, "rate": 1.0})
    assert build(Outer, {"count": 1, "rate": "1e-4"}).rate == 1e-4
    assert type(to_mapping(build(Outer, {"count": 1, "rate": 1}))["rate"]) is float


def test_what_cannot_change_a_result_is_not_semantic() -> None:
    here, there = build(Outer, {"count": 1, "path": "/a"}), build(Outer, {"count": 1, "path": "/b"})
    assert semantic(here) == semantic(there)
    assert "path" not in semantic(here)


def test_a_later_field_is_semantic_only_away_from_its_neutral_value() -> None:
    assert semantic(Square()) == {"name": "square", "side": 2}
    assert semantic(Square(tilt=0.1)) == {"name": "square", "side": 2, "tilt": 0.1}
    with pytest.raises(TypeError, match="both `since` and `neutral`"):
        knob(1, doc="half said", since="0.2")


def test_keys_are_those_of_every_member_of_a_union() -> None:
    found = keys(Outer)
    assert {"count", "inner.size", "shape.radius", "shape.side", "shape.name"} <= found
    assert "names.a" not in found


def test_merging_goes_key_by_key_and_drops_another_members_values() -> None:
    base = to_mapping(build(Outer, {"count": 1, "names": {"a": "b"}}))
    assert merged(Outer, base, {"inner": {"size": 9}})["inner"] == {"size": 9, "colour": "red"}
    assert merged(Outer, base, {"shape": {"radius": 4.0}})["shape"] == {"name": "round", "radius": 4.0}
    assert merged(Outer, base, {"shape": {"name": "square"}})["shape"] == {"name": "square"}
    assert merged(Outer, base, {"names": {"c": "d"}})["names"] == {"c": "d"}
    assert base["inner"] == {"size": 3, "colour": "red"}


PATCHES = st.fixed_dictionaries(
    {},
    optional={
        "count": st.integers(0, 9),
        "rate": st.floats(0, 1),
        "label": st.sampled_from([None, "", "x"]),
        "sizes": st.lists(st.integers(0, 3), max_size=3),
        "inner": st.fixed_dictionaries({}, optional={"size": st.integers(1, 5), "colour": st.just("blue")}),
        "shape": st.sampled_from(
            [{"radius": 3.0}, {"name": "round"}, {"name": "square"}, {"name": "square", "side": 7}]
        ),
    },
)


@given(patch=PATCHES)
def test_changing_an_object_equals_building_the_merged_mapping(patch: dict[str, Any]) -> None:
    base = build(Outer, {"count": 1})
    found = changed(base, patch)
    assert found == build(Outer, merged(Outer, to_mapping(base), patch))
    if "inner" not in patch:
        assert found.inner is base.inner


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"cuont": 1}, "did you mean `count`"),
        ({"inner": {"sise": 1}}, "`inner.sise`"),
        ({"inner": {"size": 0}}, "inner: size is 0"),
        ({"inner": {"size": "x"}}, "`inner.size` is 'x'"),
        ({"shape": {"name": "squar"}}, "did you mean `square`"),
    ],
)
def test_changing_refuses_what_building_refuses(patch: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(build(Outer, {"count": 1}), patch)


def test_nested_configs_can_be_remembered_by_the_caller() -> None:
    config = build(Outer, {"count": 1})
    seen: list[Any] = []

    def part(inner: Any) -> str:
        seen.append(inner)
        return type(inner).__name__

    assert to_mapping(config, part)["inner"] == "Inner"
    assert semantic(config, part)["shape"] == "Round"
    assert seen == [config.shape, config.inner, config.shape, config.inner]


def test_the_nearest_word_is_offered_only_when_near() -> None:
    assert nearest("lineer", ["linear", "fusion"]) == " (did you mean `linear`?)"
    assert nearest("qqq", ["linear", "fusion"]) == ""


@dataclass(frozen=True, kw_only=True)
class Bounded:
    share: float = knob(0.5, doc="share", at_least=0, at_most=1)
    rate: float | None = knob(None, doc="rate", above=0)
    sizes: tuple[int, ...] = knob((1,), doc="sizes", at_least=1)


def test_bounds_hold_for_numbers_and_for_each_of_a_list() -> None:
    fitting = {"share": 1, "rate": 0.1, "sizes": [1, 9]}
    config = build(Bounded, fitting)
    assert changed(build(Bounded, {}), fitting) == config
    assert build(Bounded, {"rate": None}).rate is None


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"share": 1.5}, "`share` is 1.5; expected at least 0 and at most 1"),
        ({"share": -0.1}, "`share` is -0.1; expected at least 0 and at most 1"),
        ({"rate": 0}, "`rate` is 0.0; expected more than 0"),
        ({"sizes": [3, 0]}, r"`sizes` is \(3, 0\); expected at least 1"),
    ],
)
def test_a_number_out_of_bounds_is_refused_however_it_comes(patch: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(Bounded, patch)
    with pytest.raises(ConfigError, match=message):
        changed(build(Bounded, {}), patch)
