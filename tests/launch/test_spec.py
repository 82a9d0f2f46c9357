from pathlib import Path

import pytest

from launch.planning.unroll import unroll
from launch.spec import read_sweep
from tests.planning import plan_text
from vssl.config import ConfigError

PROBE = "stages:\n  - {name: a, kind: probe}\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, ["needs `stages`"]),
        ("stages: []\n", 1, ["needs `stages`"]),
        ("stages: [\n", 2, ["not YAML"]),
        ("data: x\nstage:\n  - {name: a, kind: probe}\n", 2, ["`stage`", "did you mean `stages`", "grid"]),
        ("data: 3\n" + PROBE, 1, ["`data` is 3"]),
        (PROBE + "  - {name: b}\n", 3, ["needs `kind`"]),
        (PROBE + "  - name: b\n    kind: prob\n", 4, ["`prob`", "did you mean `probe`", "pretrain"]),
        (PROBE + "  - name: b\n    kind: probe\n    input: {before: a}\n", 5, ["`input`", "did you mean `inputs`"]),
        (PROBE + "  - name: b\n    kind: probe\n    inputs: {befor: a}\n", 5, ["`befor`", "did you mean `before`"]),
        (PROBE + "  - name: b\n    kind: linear\n    inputs: {dataset: a}\n", 3, ["dataset `a`", "data="]),
        (PROBE + "  - name: b\n    kind: linear\n    inputs: {weights: [a, a]}\n", 5, ["takes one artifact, not 2"]),
        (PROBE + "  - name: a\n    kind: probe\n", 3, ["template `a`", ":2;"]),
        (PROBE + "  - name: all\n    kind: probe\n", 3, ["not `all`"]),
        (PROBE + "  - name: 1b\n    kind: probe\n", 3, ["`1b`", "expected a letter"]),
        (
            PROBE + "  - repeat: 0\n    as: n\n    stages: [{name: b, kind: probe}]\n",
            3,
            ["`repeat` is 0", "at least 1"],
        ),
        (PROBE + "  - repeat: 2\n    stages: [{name: b, kind: probe}]\n", 3, ["needs `as`"]),
        (PROBE + "  - name: b{x}\n    kind: probe\n    each: {x: 3}\n", 5, ["expected a list"]),
        (PROBE + "  - name: b{x}\n    kind: probe\n    each: [{x: 3}, {y: 3}]\n", 5, ["different variables"]),
        (PROBE + "  - name: b\n    kind: probe\n    name: c\n", 5, ["`name` is given twice", "line 3"]),
        (PROBE + "  - name: b{x}\n    kind: probe\n", 3, ["{x}", "no `each`"]),
        (PROBE + "  - name: b{strem}\n    kind: probe\n    each: {stream: [r]}\n", 3, ["did you mean `stream`"]),
        (PROBE + "  - name: b-{x}\n    kind: probe\n    each: {x: [0.1]}\n", 3, ["`b-0.1`", "tag"]),
        (PROBE + "  - name: b\n    kind: probe\n    each: {x: [1, 2]}\n", 3, ["two stages are named `b`"]),
        (PROBE + "  - name: '{x}{y}'\n    kind: probe\n    each: {x: [a], y: [b]}\n", 3, ["so the template is ``"]),
        (PROBE + "  - name: b\n    kind: probe\n    output: x.y\n", 3, ["output is `x.y`"]),
    ],
)
def test_an_error_names_file_line_value_and_what_is_accepted(
    tmp_path: Path, text: str, line: int, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_text(tmp_path, text)
    assert f"{tmp_path}/written.yaml:{line}: " in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_each_and_repeat_unroll_in_the_order_of_reading(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(
        "stages:\n"
        "  - {name: 'a-{x}-{y}', kind: probe, each: {x: [1, 2], y: [p, q]}, output: 'o-{x}'}\n"
        "  - repeat: 2\n    as: n\n    stages:\n"
        "      - {name: 'b{n}-{z}', kind: probe, each: [{z: u, w: 7}, {z: v, w: 8}], config: ['seed={w}{n}']}\n"
    )
    elements = unroll(read_sweep(file))
    assert [element.name for element in elements] == [
        *("a-1-p", "a-1-q", "a-2-p", "a-2-q", "b1-u", "b1-v", "b2-u", "b2-v"),
    ]
    assert {element.template.name for element in elements} == {"a", "b"}
    assert [element.config for element in elements[4:]] == [("seed=71",), ("seed=81",), ("seed=72",), ("seed=82",)]


def test_a_template_is_its_written_name_without_variables_hyphens_collapsed(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("stages:\n  - {name: 'cross{n}-rgb--{m}-x', kind: probe, each: {n: [1], m: [2]}}\n")
    (template,) = read_sweep(file).templates()
    assert template.name == "cross-rgb-x"


def test_braces_that_hold_no_variable_are_left_to_hydra(tmp_path: Path) -> None:
    plan = plan_text(tmp_path, "stages:\n  - {name: 'a{n}', kind: probe, each: {n: [1]}, config: ['seed={n}']}\n")
    assert plan["a1"].config["seed"] == 1
    text = "stages:\n  - {name: a, kind: linear, config: [recipe=vicc_linear, 'optim={base_lr: 0.5}']}\n"
    assert plan_text(tmp_path, text)["a"].config["optim"]["base_lr"] == 0.5
