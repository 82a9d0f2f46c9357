"""Status and report on stores whose records are written by hand."""

import io
import math
from types import SimpleNamespace

import pytest
from rich.console import Console

from launch.plan import Plan, PlannedStage, Reference
from launch.provenance import code_digest
from launch.report import print_report, report_rows, untrained_twins
from launch.running.claims import attempt_path
from launch.running.processes import identity
from launch.status import counts, plan_status
from vssl.artifacts import write_json
from vssl.stages import STAGES

DATA = {"dataset": {"name": "set"}, "modality": "rgb"}


def planned(name, kind, config, inputs, number):
    return PlannedStage(
        name=name, template=name, element=name, lane=None, axes={}, kind=kind, config=config, inputs=inputs,
        stage_id=f"{number:016x}",
    )  # fmt: skip


def reads(parent, artifact):
    kind_makes = STAGES[parent.kind].makes[artifact]
    return (Reference(id=f"{parent.stage_id}/{artifact}", type=kind_makes, stage=parent.name, artifact=artifact),)


@pytest.fixture
def plan():
    videos = {"dataset": (Reference(id="d" * 64, type="dataset", source="dataset:set-1"),)}
    method = {"name": "vicc", "num_prototypes": 100, "queue_len": 0, "bn": "sync", "bn_group_size": None}
    pretrain = {"epochs": 2, "global_batch_size": 4, "method": method, "data": DATA}
    rgb = planned("single-rgb", "pretrain", pretrain, videos, 1)
    trained = {**videos, "weights": reads(rgb, "weights")}
    retrieval = planned("retrieval", "retrieval", {"seed": 0, "data": DATA}, trained, 2)
    chance = planned("retrieval-untrained", "retrieval", {"seed": 5, "data": DATA}, videos, 3)
    other = planned("retrieval-other", "retrieval", {"seed": 0, "data": {**DATA, "crop_size": 64}}, videos, 4)
    linear = planned("linear", "linear", {"data": DATA}, trained, 5)
    base = planned("linear-untrained", "linear", {"data": DATA}, videos, 6)
    fused = {"rgb": reads(retrieval, "features"), "flow": reads(retrieval, "features")}
    unfused = {"rgb": reads(chance, "features"), "flow": reads(chance, "features")}
    stages = (rgb, retrieval, chance, other, linear, base)
    stages += (planned("fusion", "fusion", {}, fused, 7), planned("fusion-untrained", "fusion", {}, unfused, 8))
    return Plan(sweep="small", scale="smoke", stages=stages, datasets={})


@pytest.fixture
def finish(store, plan):
    def finish(name, pipeline=None, code=None, **metrics):
        stage = plan[name]
        inputs = {
            role: [{"id": one.id, "digest": one.id if one.stage is None else "a" * 64, "type": one.type, "origin": ""}
                   for one in ones]
            for role, ones in stage.inputs.items()
        }  # fmt: skip
        artifacts = {made: {"type": kind, "digest": "a" * 64} for made, kind in STAGES[stage.kind].makes.items()}
        folder = store.stage(stage.folder)
        folder.root.mkdir(parents=True)
        write_json(
            folder.done,
            {"metrics": metrics, "artifacts": artifacts, "inputs": inputs, "wall_s": 90.0, "attempts": 1,
             "pipeline": pipeline or store.pipeline(plan).name, "code": code or code_digest(), "earlier_code": []},
        )  # fmt: skip

    return finish


@pytest.fixture
def attempt(store, plan):
    def attempt(name, **outcome):
        folder = store.stage(plan[name].folder)
        folder.attempts.mkdir(parents=True)
        folder.logs.mkdir()
        record = {"token": 1, "nonce": "n", "process": identity(), "started_at_ms": 0, **outcome}
        write_json(attempt_path(folder, 1), record)
        return folder

    return attempt


def states(plan, store):
    return {one.name: one.state for one in plan_status(plan, store)}


def test_every_state(plan, store, finish, attempt):
    assert set(states(plan, store).values()) == {"waiting"}
    finish("single-rgb")
    finish("retrieval-untrained", pipeline="another", code="0" * 64)
    folder = attempt("retrieval")
    folder.beat.write_text("12 40\n")
    attempt("linear", outcome="failed", error="RuntimeError: no")
    attempt("linear-untrained", outcome="saved")
    dead = {**identity(), "pid_started": 1}
    attempt("retrieval-other", process=dead)
    found = {one.name: one for one in plan_status(plan, store)}
    assert states(plan, store) == {
        "single-rgb": "done",
        "retrieval": "running",
        "retrieval-untrained": "reused",
        "retrieval-other": "failed",
        "linear": "failed",
        "linear-untrained": "saved",
        "fusion": "waiting",
        "fusion-untrained": "waiting",
    }
    assert (found["retrieval"].step, found["retrieval"].steps) == (12, 40)
    assert found["retrieval-untrained"].older_code
    assert found["retrieval-untrained"].reason == "made by other code"
    assert found["linear"].reason == "RuntimeError: no"
    assert "died without a word" in found["retrieval-other"].reason
    assert counts(list(found.values())) == {"done": 1, "running": 1, "reused": 1, "failed": 2, "saved": 1, "waiting": 2}


def test_what_hangs_below_a_failure_names_the_culprit(plan, store, finish, attempt):
    attempt("single-rgb", outcome="failed", error="x")
    found = {one.name: one for one in plan_status(plan, store)}
    assert found["fusion"].state == "cancelled"
    assert found["fusion"].reason == "blocked by single-rgb"
    assert found["fusion-untrained"].state == "waiting"


def test_who_had_no_room_to_say_why_is_not_called_wordless(plan, store, attempt, monkeypatch):
    dead = {**identity(), "pid_started": 1}
    folder = attempt("single-rgb", process=dead)
    log = folder.logs / "abc.log"
    log.write_text("step 3\nno space left under /runs (OSError ...); free some: the same line goes on\nand the fail")
    assert plan_status(plan, store)[0].reason == log.read_text().splitlines()[1]
    log.write_text("step 3")
    assert "died without a word (killed" in plan_status(plan, store)[0].reason
    usage = SimpleNamespace(total=1 << 40, used=1 << 40, free=4096)
    monkeypatch.setattr("launch.slurm.standing.shutil.disk_usage", lambda path: usage)
    assert "the disk of" in plan_status(plan, store)[0].reason
    assert "is full" in plan_status(plan, store)[0].reason


def test_a_dead_rank_is_quoted(plan, store, attempt):
    folder = attempt("single-rgb", process={**identity(), "pid_started": 1})
    (folder.logs / "1-rank1.traceback").write_text("Traceback\n ...\nRuntimeError: rank one broke\n")
    assert plan_status(plan, store)[0].reason == "rank1: RuntimeError: rank one broke"


def test_status_writes_nothing(plan, store):
    plan_status(plan, store)
    assert not store.root.exists()


def test_the_untrained_twin_differs_by_weights_and_seed_alone(plan):
    assert untrained_twins(plan) == {
        "retrieval": "retrieval-untrained",
        "linear": "linear-untrained",
        "fusion": "fusion-untrained",
    }


def test_numbers_of_the_report(plan, store, finish):
    finish("single-rgb", loss_first=6.0, loss_last=2.5)
    finish("retrieval", recall_at_1=0.5, recall_at_5=0.9, chance_recall_at_1=0.25)
    finish("retrieval-untrained", recall_at_1=0.3, chance_recall_at_1=0.25)
    finish("linear", top1=0.7, top5=1.0, chance_top1=0.2)
    finish("linear-untrained", top1=0.4, chance_top1=0.2)
    rows = {row.name: row for row in report_rows(plan, plan_status(plan, store))}
    assert (rows["single-rgb"].loss_first, rows["single-rgb"].loss_last, rows["single-rgb"].warning) == (6.0, 2.5, "")
    retrieval, linear = rows["retrieval"], rows["linear"]
    assert (retrieval.recall_at_1, retrieval.untrained, retrieval.chance, retrieval.top1) == (0.5, 0.3, 0.25, None)
    assert (linear.top1, linear.untrained, linear.chance, linear.recall_at_1) == (0.7, 0.4, 0.2, None)
    assert rows["linear-untrained"].untrained is None
    stream = io.StringIO()
    print_report(plan, store, Console(file=stream, width=120))
    text = stream.getvalue()
    assert "6.000 -> 2.500" in text
    assert "2 min" in text
    assert "make ui" in text


def test_a_collapse_is_warned_of(plan, store, finish):
    finish("single-rgb", loss_first=4.7, loss_last=math.log(100) * 1.01)
    assert "may have collapsed" in report_rows(plan, plan_status(plan, store))[0].warning
    stream = io.StringIO()
    print_report(plan, store, Console(file=stream, width=120))
    assert "WARNING: single-rgb may have collapsed" in stream.getvalue()


@pytest.mark.parametrize(("share", "collapsed"), [(0.6, False), (0.9, False), (0.97, False), (0.99, True), (1.0, True)])
def test_a_collapse_is_named_where_the_loss_says_so_alone(plan, store, finish, share, collapsed):
    finish("single-rgb", loss_first=4.7, loss_last=math.log(100) * share, score_entropy_last=0.8)
    assert ("may have collapsed" in report_rows(plan, plan_status(plan, store))[0].warning) == collapsed


def test_uniform_predictions_are_warned_of(plan, store, finish):
    finish("single-rgb", loss_first=4.7, loss_last=3.0, score_entropy_last=0.995)
    assert "predictions are uniform" in report_rows(plan, plan_status(plan, store))[0].warning


@pytest.mark.parametrize(
    ("used", "videos", "warned"),
    [(9.5, 1000.0, True), (10.5, 1000.0, False), (2.5, 20.0, False), (1.5, 4.0, True)],
    ids=["few", "enough", "few videos lie at few", "one"],
)
def test_a_handful_of_used_prototypes_is_warned_of(used, videos, warned, plan, store, finish):
    finish("single-rgb", loss_first=4.7, loss_last=3.0, effective_prototypes_last=used, videos=videos)
    warning = report_rows(plan, plan_status(plan, store))[0].warning
    assert (f"at {used} of 100 prototypes" in warning) == warned
    assert bool(warning) == warned
