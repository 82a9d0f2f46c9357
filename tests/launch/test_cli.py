"""The verbs as a person types them: from any folder, on files written by hand, with a squeue that says what we like."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from launch.provenance import CHECKOUT
from tests.launch.slurm_records import ELSEWHERE, attempt, finish, send, settle


@pytest.fixture
def plan(stage, make_plan):
    first = stage("first", seed=1)
    lanes = [replace(stage(f"lane.{one}", [first], seed=10 + one), template="lane", element="lane") for one in (0, 1)]
    return make_plan(first, *lanes, sweep="small")


@pytest.fixture
def folder(plan, store):
    return store.save_plan(plan)


@pytest.fixture
def commands(tmp_path):
    """A folder of Slurm's commands that answer with some text and an exit code."""

    def commands(**answers):
        places = tmp_path / "commands"
        places.mkdir(exist_ok=True)
        for name, (text, code) in answers.items():
            script = places / name
            channel = "" if code == 0 else " >&2"
            answer = f"cat <<'E'{channel}\n{text}\nE\nexit {code}\n"
            script.write_text(f'#!/bin/sh\necho "$0" "$@" >> {places}/calls\n{answer}')
            script.chmod(0o755)
        return places

    return commands


def line_of_squeue(job, state, batch, reason="None"):
    array, _, index = job.partition("_")
    where = ("n1", "cpu", "(null)", str(batch), "N/A")
    return "\x1f".join((array, index, state, reason, "N/A", "N/A", "0", *where, f"vssl-{batch.name}")) + "\x1f"


@pytest.fixture
def vssl(store):
    def vssl(*words, path=None, **more):
        environment = {**os.environ, "VSSL_ROOT": str(store.root), **more}
        environment.pop("PYTHONPATH", None)
        if path is not None:
            environment["PATH"] = f"{path}:{environment['PATH']}"
        script = [sys.executable, str(CHECKOUT / "launch" / "cli.py"), *words]
        return subprocess.run(script, env=environment, capture_output=True, text=True, cwd="/", timeout=120)

    return vssl


def test_status_of_a_pipeline_and_of_one_stage(plan, store, folder, vssl):
    finish(store, plan, "first")
    attempt(store, plan, "lane.0", outcome="failed", error="no video [/data/x] [bold]")
    shown = json.loads(vssl("status", "--json").stdout)
    assert shown["pipeline"] == folder.name
    assert shown["counts"] == {"done": 1, "failed": 1, "waiting": 1}
    named = json.loads(vssl("status", f"{folder.name}/lane.0", "--json").stdout)
    assert [one["name"] for one in named["stages"]] == ["lane.0"]
    assert json.loads(vssl("status", "lane.1", "--json").stdout)["counts"] == {"waiting": 1}
    table = vssl("status", "small")
    assert table.returncode == 0, table.stderr
    assert "no video [/data/x] [bold]" in table.stdout, "a reason is shown as it is"
    assert "1 done, 1 failed, 1 waiting" in table.stdout


def test_the_queue_is_asked_once(plan, store, folder, vssl, commands):
    batch = send(store, plan, ["first", "lane.0", "lane.1"])
    (store.requeued).mkdir()
    (store.requeued / "100_1.json").write_text(json.dumps({"restart": 0, "at_ms": 0}))
    lines = [
        line_of_squeue("100_0", "RUNNING", batch),
        line_of_squeue("100_1", "PENDING", batch, "BeginTime"),
        line_of_squeue("100_2", "PENDING", batch, "Dependency"),
    ]
    path = commands(squeue=("\n".join(lines), 0), scontrol=("", 0))
    shown = json.loads(vssl("status", "--json", path=path).stdout)
    assert shown["counts"] == {"running": 1, "queued": 2}
    asked = [line.rpartition("/")[2].split()[0] for line in (path / "calls").read_text().splitlines()]
    assert asked == ["squeue", "scontrol"], "one look, and one begin time cleared"


def test_a_silent_controller_is_75_and_the_store_still_answers(plan, store, folder, vssl, commands):
    send(store, plan, ["first"])
    path = commands(squeue=("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", 1))
    for verb in ("status", "why", "report"):
        done = vssl(verb, "--json", path=path)
        assert done.returncode == 75, done.stderr
        assert "Slurm does not answer" in done.stderr
        assert json.loads(done.stdout)["pipeline"] == folder.name
    assert vssl("cancel", path=path).returncode == 75
    assert vssl("gc", path=path).returncode == 75


def test_why_in_sentences_and_as_json(plan, store, folder, vssl):
    attempt(store, plan, "first", outcome="failed", error="RuntimeError: no")
    done = vssl("why")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"first failed: RuntimeError: no; see `vssl logs {folder.name}/first`; mend it and run the same line again",
        "lane.0, lane.1 were cancelled because first failed; mend that and run the same line again",
    ]
    said = json.loads(vssl("why", "small/lane", "--json").stdout)["why"]
    assert [one["stages"] for one in said] == [["lane.0", "lane.1"]]


class TestLogs:
    @pytest.fixture
    def batch(self, plan, store):
        batch = send(store, plan, ["first"], ended=True)
        attempt(store, plan, "first", batch, "100_0", outcome="failed")
        settle(batch, 0, "exception", error="exception in rank 1 on n2: no")
        (batch / "logs" / "0.log").write_text("module load cuda\nsrun ends\n")
        for rank in (0, 1):
            (batch / "logs" / f"0-{rank}.log").write_text(f"one\ntwo of rank {rank}\nthree\n")
        return batch

    def test_what_the_script_printed_and_then_the_stage(self, batch, folder, vssl):
        done = vssl("logs", "first", "-n", "2")
        assert done.stdout == "module load cuda\nsrun ends\ntwo of rank 0\nthree\n"
        assert [line.rpartition("/")[2] for line in done.stderr.splitlines()] == ["0.log:", "0-0.log:"]
        assert "two of rank 1" in vssl("logs", f"{folder.name}/first", "--rank", "1").stdout
        said = json.loads(vssl("logs", "first", "--json").stdout)
        assert said["script_lines"] == ["module load cuda", "srun ends"]
        assert said["lines"][-1] == "three"

    def test_without_a_stage_the_one_that_wrote_last(self, plan, store, batch, folder, vssl):
        other = attempt(store, plan, "lane.0", outcome="failed")
        (other.logs / "abc.log").write_text("later\n")
        os.utime(other.logs / "abc.log", (time.time() + 60, time.time() + 60))
        assert vssl("logs").stdout == "later\n"

    def test_an_empty_log_is_said_to_be_one(self, batch, folder, vssl):
        (batch / "logs" / "0.log").write_text("")
        (batch / "logs" / "0-0.log").unlink()
        done = vssl("logs", "first")
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == f"first has printed nothing so far: {batch / 'logs' / '0.log'} is empty\n"

    def test_following_ends_with_the_stage(self, batch, folder, vssl):
        done = vssl("logs", "first", "--follow", "-n", "1")
        assert done.returncode == 0
        assert done.stdout == "srun ends\nthree\n"

    def test_a_local_rank(self, plan, store, folder, vssl):
        logs = attempt(store, plan, "first", outcome="failed").logs
        (logs / "abc.log").write_text("rank zero\n")
        (logs / "abc.rank1.log").write_text("rank one\n")
        assert vssl("logs", "first").stdout == "rank zero\n"
        assert vssl("logs", "first", "--rank", "1").stdout == "rank one\n"


def test_following_prints_what_is_added(plan, store, folder):
    logs = attempt(store, plan, "first", process=ELSEWHERE)
    logs.beat.touch()
    log = logs.logs / "abc.log"
    log.write_text("one\n")
    script = [sys.executable, "-u", str(CHECKOUT / "launch" / "cli.py"), "logs", "first", "-f"]
    environment = {**os.environ, "VSSL_ROOT": str(store.root)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(script, env=environment, **streams) as child:
        assert child.stdout.readline() == "one\n"
        with open(log, "a") as stream:
            stream.write("two\nhalf a li")
        assert child.stdout.readline() == "two\n"
        with open(log, "a") as stream:
            stream.write("ne\n")
        assert child.stdout.readline() == "half a line\n"
        finish(store, plan, "first")
        assert child.wait(30) == 0


@pytest.mark.parametrize(
    ("states", "code"),
    [((), 75), (("first", "lane.0", "lane.1"), 0), (("first", "lane.0", None), 1)],
)
def test_watch_ends_when_nothing_can_change(plan, store, folder, vssl, states, code):
    for name, done in zip(plan.by_name, states):
        if done:
            finish(store, plan, name)
        else:
            attempt(store, plan, name, outcome="failed", error="no")
    done = vssl("watch")
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith(f"{folder.name}: ")


def test_watch_says_what_changes(plan, store, folder):
    running = attempt(store, plan, "first")
    running.beat.write_text("1 2\n")
    code = "import launch.verbs.watch as w; w.LOOK_EVERY_S = 0.1; from launch.cli import main; main()"
    script = [sys.executable, "-u", "-c", code, "watch"]
    environment = {**os.environ, "VSSL_ROOT": str(store.root), "PYTHONPATH": str(CHECKOUT)}
    with subprocess.Popen(script, env=environment, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == f"{folder.name}: 1 running, 2 waiting\n"
        for name in plan.by_name:
            finish(store, plan, name)
        rest = child.stdout.read()
        assert child.wait(30) == 0
    assert "[3/3] lane.1: done" in rest


def test_pins_and_garbage(plan, store, folder, vssl):
    assert vssl("pin", folder.name).stdout == f"{folder.name} is pinned\n"
    assert (folder / "pinned.json").exists()
    assert "removed 0 folders" in vssl("gc", "--delete").stdout
    assert json.loads(vssl("gc", "--json", "--older-than", "0").stdout)["garbage"] == []
    assert vssl("unpin").stdout == f"{folder.name} is no longer pinned\n"
    assert [one["why"] for one in json.loads(vssl("gc", "--json", "--older-than", "0").stdout)["garbage"]] != []


def test_report_has_hours(plan, store, folder, vssl):
    done = attempt(store, plan, "first", ago_s=3600.0, outcome="done", ended_at_ms=time.time_ns() // 1_000_000)
    assert done.root.is_dir()
    finish(store, plan, "first")
    attempt(store, plan, "lane.0", ago_s=1800.0, outcome="failed", error="no", ended_at_ms=time.time_ns() // 1_000_000)
    hours = json.loads(vssl("report", "--json").stdout)["hours"]
    assert hours["core"]["used_h"] == pytest.approx(1.5, rel=0.01)
    assert "core-hours: 1.5 used, 0.5 of them lost (1 x exception: 0.5)" in vssl("report").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["status", "tiny"], "no pipeline 'tiny'"),
        (["status", "small/frist"], "did you mean `first`?"),
        (["why", "frist"], "did you mean `first`?"),
        (["logs", "frist"], "did you mean `first`?"),
        (["logs", "first"], "never started"),
        (["prepare", "ucf11"], "did you mean `ucf101`?"),
        (["prepare", "ucf101", "fodl=2", "--path", "/data/ucf"], "unknown key `dataset.fodl` (did you mean `fold`?)"),
        (["status", "--root", "/nowhere"], "no pipelines in /nowhere"),
    ],
)
def test_bad_words_are_one_line_and_exit_code_2(folder, vssl, words, message):
    done = vssl(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_install_without_configs_says_so():
    code = "import launch.cli, pathlib; launch.cli._CHECKOUT = pathlib.Path('/site-packages'); launch.cli.main()"
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install -e" in done.stderr


def test_status_starts_without_what_it_does_not_need(folder, store):
    code = (
        "import sys; sys.argv = ['vssl', 'status', '--json']\n"
        "from launch.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'rich', 'torch', 'mlflow', 'hydra', 'submitit'}\n"
        "print(heavy & set(sys.modules) or 'light', file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "VSSL_ROOT": str(store.root)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stderr.strip() == "light"
