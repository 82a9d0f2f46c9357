"""Datasets that a stage makes, work in shards, and what neither may do to the ids of those who read the result."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch import pipeline
from launch.cli import app
from launch.plan import Plan
from launch.planning.selection import without_idle
from tests.lines import SMOKE, folder_of, plan_of, run_here, starts
from tests.planning import plan_text
from vssl.artifacts import read_json
from vssl.config import ConfigError

WHOLE = """
data: ucf101
stages:
  - {name: flow, kind: flow, config: [recipe=vicc_flow], output: motion}
  - {name: single, kind: pretrain, config: [recipe=vicc_single, data.modality=flow], inputs: {motion: motion}}
"""
SHARDED = """
data: ucf101
stages:
  - {name: part, kind: flow, config: [recipe=vicc_flow], output: part}
  - {name: flow, kind: flow, config: [recipe=vicc_flow], inputs: {parts: part}, collect: [shard], output: motion}
  - {name: single, kind: pretrain, config: [recipe=vicc_single, data.modality=flow], inputs: {motion: motion}}
grid:
  part: {shard: [1/2, 2/2]}
"""
EACH = """
data: ucf101
stages:
  - {name: "part-{n}", kind: flow, each: {n: [1, 2, 3]}, config: [recipe=vicc_flow, "shard={n}/3"], output: "part-{n}"}
  - {name: flow, kind: flow, config: [recipe=vicc_flow], inputs: {parts: [part-1, part-2, part-3]}, output: motion}
  - {name: single, kind: pretrain, config: [recipe=vicc_single, data.modality=flow], inputs: {motion: motion}}
"""
FRONT = """
data: ucf101
stages:
  - {name: small, kind: transcode, output: videos}
  - {name: flow, kind: flow, config: [recipe=vicc_flow], inputs: {dataset: videos}, output: motion}
  - name: single-{stream}
    kind: pretrain
    each: {stream: [rgb, flow]}
    config: [recipe=vicc_single, "data.modality={stream}"]
    inputs: {dataset: videos, motion: motion}
    output: "{stream}"
  - {name: linear, kind: linear, config: [recipe=vicc_linear], inputs: {dataset: videos, weights: rgb}}
"""


@pytest.mark.parametrize("text", [SHARDED, SHARDED.replace("collect: [shard], ", ""), EACH])
def test_how_many_shards_there_are_is_in_no_id_but_theirs(text: str, tmp_path: Path) -> None:
    whole, sharded = plan_text(tmp_path, WHOLE), plan_text(tmp_path, text)
    for name in ("flow", "single"):
        assert sharded[name].stage_id == whole[name].stage_id
        assert sharded[name].lane is None
    parts = [stage for stage in sharded if stage.name.startswith("part")]
    assert len({stage.stage_id for stage in parts} | {whole["flow"].stage_id}) == len(parts) + 1
    assert sharded["flow"].parents == tuple(stage.name for stage in parts)
    assert sharded["flow"].dispensable == {stage.name for stage in parts}
    assert sharded["single"].parents == ("flow",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("kind: flow, config: [recipe=vicc_flow], output: part", "kind: flow, config: [bound=30], output: part"),
        ("kind: flow, config: [recipe=vicc_flow], output: part", "kind: flow, config: [data=hmdb51], output: part"),
    ],
)
def test_parts_of_something_else_are_refused(old: str, new: str, tmp_path: Path) -> None:
    assert old in SHARDED
    with pytest.raises(ConfigError, match=r"`part` makes no part of what `flow` makes; .* but for `shard`"):
        plan_text(tmp_path, SHARDED.replace(old, new))


def test_raft_needs_weights_and_others_do_not(tmp_path: Path) -> None:
    raft = WHOLE.replace("vicc_flow", "raft_flow")
    with pytest.raises(ConfigError, match=r"`flow` needs the input `weights` \(weights\)"):
        plan_text(tmp_path, raft)
    (tmp_path / "raft.pth").write_bytes(b"weights")
    bound = f"inputs: {{weights: file:{tmp_path}/raft.pth}}, output: motion"
    plans = [plan_text(tmp_path, text.replace("output: motion", bound)) for text in (raft, WHOLE)]
    assert [list(plan["flow"].inputs) for plan in plans] == [["dataset", "weights"], ["dataset"]]
    assert plans[1]["flow"].stage_id == plan_text(tmp_path, WHOLE)["flow"].stage_id


def test_a_dataset_that_a_stage_makes_is_read_in_its_place(tmp_path: Path) -> None:
    plan = plan_text(tmp_path, FRONT)
    small = plan["small"]
    for name in ("flow", "single-rgb", "single-flow", "linear"):
        (reference,) = plan[name].inputs["dataset"]
        assert (reference.stage, reference.id) == ("small", f"{small.stage_id}/videos")
        assert plan.dataset_of(plan[name]) == plan.dataset_of(small) == next(iter(plan.datasets))
    with pytest.raises(
        ConfigError, match=r"reads the dataset `ucf101`, which no stage writes; .*config: \[data=NAME\]"
    ):
        plan_text(tmp_path, WHOLE.replace("{motion: motion}", "{dataset: ucf101, motion: motion}"))


def _but(plan: Plan, *names: str) -> list[str]:
    return [stage.name for stage in plan if stage.name not in names]


@pytest.mark.parametrize(
    ("finished", "left"),
    [
        ([], lambda plan: _but(plan)),
        (["flow"], lambda plan: _but(plan, "part.0", "part.1")),
        (["part.0", "flow"], lambda plan: _but(plan, "part.1")),
        (["part.0"], lambda plan: _but(plan)),
    ],
)
def test_shards_of_what_is_finished_are_not_made(
    finished: list[str], left: Callable[[Plan], list[str]], tmp_path: Path
) -> None:
    plan = plan_text(tmp_path, SHARDED)
    less = without_idle(plan, finished)
    assert [stage.name for stage in less] == left(plan)
    assert set(less["flow"].parents) <= {stage.name for stage in less}


def test_a_pipeline_with_transcoding_in_front_trains(tmp_path: Path) -> None:
    """Then the same flow in shards is done before any of them starts, and a dataset that moved changes nothing."""
    file = tmp_path / "front.yaml"
    file.write_text(FRONT)
    root = tmp_path / "store"
    said = run_here(f"sweep={file}", *SMOKE, f"root={root}")
    assert said.code == 0, said.out + said.err
    assert len(said.stages("done in")) == 5
    small = read_json(folder_of(root, "front", "small").done)
    assert small["metrics"]["videos"] == 18
    assert small["metrics"]["unusable"] == 0
    assert read_json(folder_of(root, "front", "linear").done)["inputs"]["dataset"][0]["origin"].startswith("transcode-")

    before = starts(root)
    sharded = SHARDED.replace(
        "[recipe=vicc_flow], output: part", "[recipe=vicc_flow], inputs: {dataset: videos}, output: part"
    )
    sharded = sharded.replace("{parts: part}", "{dataset: videos, parts: part}").replace(
        "stages:\n", "stages:\n  - {name: small, kind: transcode, output: videos}\n"
    )
    sharded = sharded.replace("{motion: motion}", "{dataset: videos, motion: motion}")
    (tmp_path / "sharded.yaml").write_text(sharded)
    said = run_here(f"sweep={tmp_path / 'sharded.yaml'}", *SMOKE, f"root={root}")
    assert said.code == 0, said.out + said.err
    assert sorted(plan_of(root, "sharded")) == said.stages("finished before") == ["flow", "single", "small"]
    assert starts(root) == before


def test_the_sweep_of_flow_in_shards_runs_and_is_redone_whole(tmp_path: Path) -> None:
    line = ("sweep=flow", *SMOKE, f"root={tmp_path}", "grid.part.shard=[1/2,2/2]")
    said = run_here(*line)
    assert said.stages("done in") == ["flow", "part.0", "part.1", "transcode"], said.out + said.err
    record = read_json(folder_of(tmp_path, "flow", "flow").done)
    assert list(record["inputs"]) == ["dataset"], "the shards are no part of what it was made from"
    parts = [read_json(folder_of(tmp_path, "flow", name).done)["metrics"]["videos"] for name in ("part.0", "part.1")]
    assert sum(parts) == record["metrics"]["videos"] == 18
    assert len(run_here(*line).stages("finished before")) == 4
    redone = run_here(*line, "force=flow")
    assert redone.stages("done in") == ["flow"], redone.out + redone.err
    again = read_json(folder_of(tmp_path, "flow", "flow").done)
    assert again["artifacts"]["flow"]["digest"] == record["artifacts"]["flow"]["digest"]


def test_the_verb_is_the_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines: list[list[str]] = []
    monkeypatch.setattr(pipeline, "main", lambda words: lines.append(list(words)) or 75)
    words = ["transcode", "ucf101", "scale=smoke", "--path", "/data/ucf", "--root", str(tmp_path)]
    assert CliRunner().invoke(app, words).exit_code == 75
    place = "data.ucf101=/data/ucf"
    assert lines == [["sweep=transcode", "data=ucf101", place, f"root={tmp_path}", "scale=smoke"]]
