"""The main line, end to end: what a person types, with real videos and stages and, where it matters, real processes."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.lines import (
    SMOKE,
    MainLine,
    Said,
    command,
    environment,
    files,
    folder_of,
    plan_of,
    run_here,
    run_line,
    stage_folders,
    starts,
)
from tests.tiny_stages import fingerprint
from vssl.artifacts import read_json
from vssl.run import read_journal

SWEEP = """
data: ucf101
stages:
  - {name: single-rgb, kind: pretrain, config: [recipe=vicc_single], output: rgb}
  - {name: flow, kind: flow, config: [recipe=vicc_flow], output: motion}
  - name: single-flow
    kind: pretrain
    config: [recipe=vicc_single, data.modality=flow]
    inputs: {motion: motion}
    output: flow
  - name: cross1-rgb
    kind: pretrain
    config: [recipe=vicc_cross, method.main_stream=rgb]
    inputs: {motion: motion, main: rgb, second: flow}
    output: rgb
  - {name: before, kind: retrieval, config: [recipe=vicc_retrieval], inputs: {weights: rgb@single-rgb}}
  - {name: after, kind: retrieval, config: [recipe=vicc_retrieval], inputs: {weights: rgb}}
  - {name: probe-rgb, kind: linear, config: [recipe=vicc_linear], inputs: {weights: rgb}, output: scores}
  - {name: mean, kind: summary, inputs: {metrics: scores.metrics}, collect: [seed]}
"""


@pytest.fixture
def store(main_line: MainLine) -> Path:
    return main_line.root


@pytest.fixture
def copy_of_store(store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(store, tmp_path / "store", symlinks=True))


def test_one_line_completes_the_whole_graph_with_records_artifacts_and_a_report(main_line: MainLine) -> None:
    said, plan = main_line.said, main_line.stages
    assert said.code == 0, said.out + said.err
    assert len(plan) == 24
    assert said.stages("done in") == sorted(plan)
    ended = {}
    for name in plan:
        folder = main_line.folder(name)
        record = read_json(folder.done)
        assert record is not None, name
        ended[name] = record
        for artifact in record["artifacts"]:
            assert (folder.artifacts / artifact).exists(), (name, artifact)
    for name in ("single-rgb", "cross1-flow", "cross2-rgb"):
        assert ended[name]["metrics"]["loss_last"] < ended[name]["metrics"]["loss_first"]
        assert [row["step"] for row in read_journal(main_line.folder(name).journal)] == list(range(6))
    batches = (read_json(folder / "elements.json") for folder in (main_line.root / "batches").iterdir())
    assert 24 in [len(batch["elements"]) for batch in batches if batch is not None]
    table = said.out[said.out.index("vicc_cross at smoke scale") :]
    for name in plan:
        assert any(line.split()[:2] == [name, "done"] for line in table.splitlines()), name
    top1 = ended["linear-rgb"]["metrics"]["top1"]
    untrained = ended["untrained-linear-rgb"]["metrics"]["top1"]
    (row,) = (line.split() for line in table.splitlines() if line.split()[:1] == ["linear-rgb"])
    assert row[-3:] == [f"{top1:.3f}", f"{untrained:.3f}", "0.333"]
    assert f"`make ui VSSL_ROOT={main_line.root}` opens the MLflow UI" in table
    assert (main_line.root / "mlflow.db").stat().st_size > 0


def test_the_same_line_again_reuses_every_stage_and_starts_no_process(main_line: MainLine) -> None:
    store = main_line.root
    before = starts(store), sorted(path.name for path in (store / "batches").iterdir()), files(store / "stages")
    said = run_line("sweep=vicc_cross", *SMOKE, f"root={store}")
    assert said.code == 0, said.err
    assert said.stages("finished before") == sorted(main_line.stages)
    after = starts(store), sorted(path.name for path in (store / "batches").iterdir()), files(store / "stages")
    assert after == before


def test_another_lr_of_the_probe_reruns_the_probes_and_what_joins_them_alone(store: Path) -> None:
    said = run_here("sweep=vicc_cross", *SMOKE, "stages.linear.optim.base_lr=0.33", f"root={store}")
    assert said.code == 0, said.out + said.err
    assert said.stages("done in") == ["linear-flow", "linear-fused", "linear-rgb"]
    assert len(said.stages("finished before")) == 21


def test_an_axis_of_the_probe_makes_one_pretraining_and_n_probes(store: Path) -> None:
    """In another sweep, whose pretraining is the one that the first sweep has made."""
    before = stage_folders(store)
    axis = "grid.linear.optim.base_lr=[0.11,0.22,0.44]"
    said = run_here("sweep=vicc_single", *SMOKE, "until=linear-rgb", axis, f"root={store}")
    assert said.code == 0, said.out + said.err
    assert said.stages("finished before") == ["single-rgb"]
    probes = ["linear-rgb.0", "linear-rgb.1", "linear-rgb.2"]
    assert said.stages("done in") == probes
    new = {folder: name for folder, name in stage_folders(store).items() if folder not in before}
    assert sorted(new.values()) == probes
    rates = [read_journal(folder_of(store, "vicc_single", name).journal)[0]["values"]["lr"] for name in probes]
    assert rates[1] / rates[0] == pytest.approx(2)
    assert rates[2] / rates[0] == pytest.approx(4)

    said = run_here("sweep=vicc_single", *SMOKE, "only=linear-rgb.1", axis, f"root={store}")
    assert said.stages("finished before") == ["linear-rgb.1"], "one lane of it"


def test_lanes_over_seeds_and_rates_with_a_value_for_all_and_a_cluster_that_is_not_here(store: Path) -> None:
    grid = ("grid.linear.optim.base_lr=[0.1,0.3]", "grid.all.seed=[0,1,2]")
    words = ("cluster=a100", *grid, "stages.linear.optim.weight_decay=1e-4")
    said = run_here("sweep=vicc_cross", *SMOKE, *words, "until=linear-rgb", f"root={store}")
    assert said.code == 0, said.out + said.err
    assert "cluster=a100 is ignored" in said.err
    assert len(said.stages("done in")) == 3 * 5 + 3 * 2, "five pretrainings a seed, whose two probes share them"
    assert said.stages("finished before") == ["flow"], "which has no seed"
    plan = plan_of(store, "vicc_cross")
    probes = [
        stage for stage in plan.values() if stage["template"] == "linear" and stage["name"].startswith("linear-rgb")
    ]
    assert len({stage["inputs"]["weights"][0]["id"] for stage in probes}) == 3
    assert {stage["config"]["optim"]["weight_decay"] for stage in probes} == {1e-4}


def test_a_sweep_of_ones_own_reads_an_older_name_and_collects_lanes(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text(SWEEP)
    line = ("sweep=mine.yaml", *SMOKE, "grid.probe-rgb.seed=[0,1,2]", f"root={store}")
    monkeypatch.chdir(tmp_path)
    said = run_here(*line)
    assert said.code == 0, said.out + said.err
    assert said.stages("finished before") == ["cross1-rgb", "flow", "single-flow", "single-rgb"]
    assert len(said.stages("done in")) == 6
    inputs = {
        name: read_json(folder_of(store, "mine", name).done)["inputs"]["weights"][0] for name in ("before", "after")
    }  # type: ignore[index]
    assert inputs["before"]["origin"] == folder_of(store, "mine", "single-rgb").root.name
    assert inputs["after"]["origin"] == folder_of(store, "mine", "cross1-rgb").root.name
    summary = read_json(folder_of(store, "mine", "mean").artifacts / "metrics")
    probes = [read_json(folder_of(store, "mine", f"probe-rgb.{lane}").artifacts / "metrics") for lane in range(3)]
    assert summary["lanes"] == 3  # type: ignore[index]
    assert summary["train_loss_last_mean"] == pytest.approx(sum(one["train_loss_last"] for one in probes) / 3)  # type: ignore[index]


def test_parts_of_a_sweep_and_a_redo_whose_equal_bytes_keep_the_children(copy_of_store: Path) -> None:
    root = f"root={copy_of_store}"
    said = run_here("sweep=vicc_cross", *SMOKE, "from=retrieval-rgb", "force=retrieval-rgb", root)
    assert said.code == 0, said.out + said.err
    assert said.stages("redone as asked") == said.stages("done in") == ["retrieval-rgb"]
    assert said.stages("finished before") == ["retrieval-fused"]
    folder = folder_of(copy_of_store, "vicc_cross", "retrieval-rgb")
    older = folder.root.with_name(f"{folder.root.name}~1")
    record, before = read_json(folder.done), read_json(older / "done.json")
    assert record is not None
    assert before is not None
    assert (record["generation"], record["artifacts"]) == (2, before["artifacts"])

    said = run_here("sweep=vicc_cross", *SMOKE, "until=cross1-rgb", root)
    assert said.stages("finished before") == ["cross1-rgb", "flow", "single-flow", "single-rgb"]
    said = run_here("sweep=vicc_cross", *SMOKE, "only=[single-rgb,linear-rgb]", root)
    assert said.stages("finished before") == ["linear-rgb", "single-rgb"]
    said = run_here("sweep=vicc_cross", *SMOKE, "only=single-rgb", "stages.single.epochs=1", root)
    assert said.stages("done in") == ["single-rgb"]
    assert not said.stages("finished before")


def test_data_is_known_by_content_and_never_by_path(store: Path, tiny_videos: Path, tmp_path: Path) -> None:
    videos = Path(shutil.copytree(tiny_videos, tmp_path / "videos"))

    def line(folder: Path) -> Said:
        return run_here("sweep=vicc_single", *SMOKE, "until=single-rgb", f"data={folder}", f"root={store}")

    def stage_id() -> str:
        return str(plan_of(store, "vicc_single")["single-rgb"]["stage_id"])

    said = line(videos)
    assert said.code == 0, said.out + said.err
    assert said.stages("done in") == ["single-rgb"], "another folder reuses nothing"
    first = stage_id()

    moved = videos.rename(tmp_path / "elsewhere")
    said = line(moved)
    assert said.stages("finished before") == ["single-rgb"], "the folder moved with equal content reuses all"
    assert stage_id() == first

    victim, donor = moved / "run" / "run 1.mp4", moved / "run" / "run 2.mp4"
    content = victim.read_bytes()
    victim.write_bytes(donor.read_bytes())
    donor.write_bytes(content)
    said = line(moved)
    assert said.code == 0, said.out + said.err
    assert "dataset elsewhere changed since it was prepared: run/run 1.mp4 has another size or time" in said.out
    assert said.stages("done in") == ["single-rgb"], "files replaced are noticed at submission, and rerun"
    assert stage_id() != first


def test_a_file_changed_while_stages_run_is_refused(store: Path, tiny_videos: Path, tmp_path: Path) -> None:
    videos = Path(shutil.copytree(tiny_videos, tmp_path / "changing"))
    words = (
        "sweep=vicc_single",
        *SMOKE,
        "only=single-rgb",
        "stages.single.epochs=200",
        "stages.single.schedule_epochs=200",
    )
    process = subprocess.Popen(
        command(*words, f"data={videos}", f"root={store}"), env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        _wait_for_steps(store, "single-rgb", 3)
        for video in videos.rglob("*.mp4"):
            os.utime(video)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "single-rgb: failed: data changed since prepare: " in out
    assert "has another size or time than in the manifest" in out


def test_ctrl_c_in_a_pretraining_saves_and_the_same_line_ends_with_the_same_bits(
    store: Path, copy_of_store: Path
) -> None:
    words = (
        "sweep=vicc_single",
        *SMOKE,
        "only=single-rgb",
        "stages.single.epochs=50",
        "stages.single.schedule_epochs=60",
    )
    calm = run_here(*words, f"root={copy_of_store}")
    assert calm.stages("done in") == ["single-rgb"]

    process = subprocess.Popen(
        command(*words, f"root={store}"),
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _wait_for_steps(store, "single-rgb", 10)
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to every process of the line
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 75, out
    assert "single-rgb: stopped and saved" in out
    assert "the same line goes on from here" in out
    folder = folder_of(store, "vicc_single", "single-rgb")
    assert not folder.done.exists()
    steps = len(read_journal(folder.journal))
    assert 10 <= steps < 150

    again = run_line(*words, f"root={store}")
    assert again.code == 0, again.out + again.err
    assert again.stages("goes on") == ["single-rgb"]
    assert "resuming pretrain-" in "".join(path.read_text() for path in folder.logs.glob("*.log"))
    assert fingerprint(folder.root) == fingerprint(folder_of(copy_of_store, "vicc_single", "single-rgb").root)


def _wait_for_steps(root: Path, stage: str, steps: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (root / "pipelines").is_dir() and list((root / "pipelines").glob("vicc_single-*/plan.json")):
            folder = folder_of(root, "vicc_single", stage)
            if not folder.done.exists() and len(read_journal(folder.journal)) >= steps:
                return
        time.sleep(0.02)
    raise AssertionError(f"{stage} did not reach step {steps}")
