import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from launch import job
from launch.job import Launch
from launch.provenance import versions
from launch.running import elements, execution
from launch.running.claims import ElsewhereError, attempts, claim, newest
from launch.running.elements import create_batch, element
from launch.running.execution import traceback_path
from launch.running.guard import RefusedError
from launch.status import code_mark
from tests.waiting import wait_until
from vssl.artifacts import create_json, read_json, sha256_text, write_json
from vssl.config import ConfigError
from vssl.run import read_journal


def command(batch, index):
    return [sys.executable, "-P", "-m", "launch.job", str(batch), str(index)]


def environment(**more):
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **more}


def test_a_stage_leaves_its_whole_record(store, chain, run_stage):
    assert run_stage(chain, "first") == 0
    assert run_stage(chain, "second") == 0
    folder = store.stage(chain["second"].folder)
    done = read_json(folder.done)
    parent = read_json(store.stage(chain["first"].folder).done)
    assert done["metrics"] == read_json(folder.result)["metrics"]
    assert done["inputs"]["before"][0]["digest"] == parent["artifacts"]["state"]["digest"]
    assert done["inputs"]["before"][0]["origin"] == chain["first"].folder
    assert done["artifacts"]["state"]["size"] == (folder.artifacts / "state").stat().st_size
    assert (done["generation"], done["attempts"], done["name"]) == (1, 1, "second")
    assert done["journal_bytes"] == folder.journal.stat().st_size
    assert len(done["code"]) == 64
    assert "python" in done["versions"]
    assert read_json(folder.config)["config"] == {"seed": 2}
    assert newest(folder)["outcome"] == "done"
    assert [row["step"] for row in read_journal(folder.journal)] == [0, 1, 2]


def test_a_finished_stage_is_not_run_again(store, chain, run_stage, capsys):
    run_stage(chain, "first")
    before = store.stage(chain["first"].folder).done.stat()
    assert run_stage(chain, "first") == 0
    assert "is done already" in capsys.readouterr().out
    assert store.stage(chain["first"].folder).done.stat() == before
    assert len(attempts(store.stage(chain["first"].folder))) == 1


def test_a_claim_on_what_was_completed_just_before_is_withdrawn(store, chain, run_stage, monkeypatch):
    run_stage(chain, "first")
    folder = store.stage(chain["first"].folder)
    before = folder.done.stat()
    monkeypatch.setattr(execution.Execution, "_is_done", lambda *_: False)  # looked before the other one was through
    assert run_stage(chain, "first") == 0
    assert folder.done.stat() == before
    assert len(attempts(folder)) == 1


def test_a_failure_is_recorded_with_its_traceback_and_a_rerun_resumes(store, chain, run_stage):
    folder = store.stage(chain["first"].folder)
    assert run_stage(chain, "first", fail_at=2) == 1
    attempt = newest(folder)
    assert attempt["outcome"] == "failed"
    assert attempt["exit_code"] == 1
    assert attempt["error"] == "RuntimeError: the probe fails at step 2, as its config asks"
    assert "Traceback" in traceback_path(folder, 1, 0).read_text()
    assert not folder.done.exists()
    assert run_stage(chain, "first") == 0
    assert [row["step"] for row in read_journal(folder.journal)] == [0, 1, 2], "no step is reported twice"
    assert read_json(folder.done)["attempts"] == 2


def test_a_resume_under_other_packages_is_told_and_recorded(chain, run_stage, store, monkeypatch, capsys):
    assert run_stage(chain, "first", fail_at=1) == 1
    assert "other packages" not in capsys.readouterr().out
    upgraded = {**versions(), "torch": "99.0"}
    for module in ("launch.running.execution", "launch.running.completion"):
        monkeypatch.setattr(f"{module}.versions", lambda: upgraded)
    assert run_stage(chain, "first") == 0
    change = f"torch {versions()['torch']} -> 99.0"
    assert f"goes on under other packages than before: {change}" in capsys.readouterr().out
    record = read_json(store.stage(chain["first"].folder).done)
    assert record["earlier_versions"] == [change]
    assert code_mark(record) == f"resumed under other packages ({change})"


def test_a_missing_parent_is_refused(chain, run_stage, store):
    with pytest.raises(RefusedError, match=r"second was not started: its parent probe-.* run the parent first"):
        run_stage(chain, "second")
    assert not store.stage(chain["second"].folder).root.exists()


def test_a_changed_parent_file_is_refused(chain, run_stage, store):
    run_stage(chain, "first")
    state = store.stage(chain["first"].folder).artifacts / "state"
    state.write_text(state.read_text().replace("value", "VALUE"))
    with pytest.raises(RefusedError, match=r"state has changed since .* force="):
        run_stage(chain, "second")
    state.unlink()
    with pytest.raises(RefusedError, match="state is gone"):
        run_stage(chain, "second")


def test_a_half_trained_stage_does_not_go_on_from_other_inputs(chain, run_stage, store):
    run_stage(chain, "first")
    assert run_stage(chain, "second", fail_at=1) == 1
    folder = store.stage(chain["second"].folder)
    record = read_json(folder.inputs)
    record["inputs"]["before"][0]["digest"] = "0" * 64
    write_json(folder.inputs, record)
    with pytest.raises(RefusedError, match="inputs that have changed since; submit again"):
        run_stage(chain, "second")


def test_a_running_stage_is_left_alone(chain, run_stage, store):
    folder = store.prepare_folder(chain["first"].folder, "probe")
    claim(folder, "another launch", {})
    with pytest.raises(ElsewhereError, match="is running elsewhere"):
        run_stage(chain, "first")


def test_a_metric_that_is_not_a_number_fails_the_stage(chain, run_stage, store, monkeypatch):
    monkeypatch.setattr("vssl.stages.probe._fraction", lambda value: float("nan"))
    assert run_stage(chain, "first") == 1
    assert "value=nan: it diverged" in newest(store.stage(chain["first"].folder))["error"]


def test_a_broken_promise_fails_the_stage(chain, run_stage, store, monkeypatch):
    monkeypatch.setattr("vssl.stages.probe.write_json", lambda path, value: None)
    assert run_stage(chain, "first") == 1
    assert "promised the file" in newest(store.stage(chain["first"].folder))["error"]


def test_a_disk_that_fills_up_while_training_fails_with_the_reason(chain, run_stage, store, monkeypatch, capsys):
    def full(path, value):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("vssl.stages.probe.write_json", full)
    assert run_stage(chain, "first") == 1
    assert "No space left on device" in newest(store.stage(chain["first"].folder))["error"]


def test_a_disk_that_is_full_from_the_start_is_bad_input(chain, run_stage, store, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device", str(store.root))

    monkeypatch.setattr("vssl.artifacts.os.fsync", full)
    with pytest.raises(ConfigError, match="no space left under"):
        run_stage(chain, "first")
    folder = store.stage(chain["first"].folder)
    assert [path for path in folder.root.rglob("*") if path.is_file()] == []


def test_threads_are_set_before_the_stage_is_loaded(store, make_plan, monkeypatch):
    seen = {}
    fake = execution.STAGES["probe"].__class__(
        entry="vssl.stages.probe:run", config="vssl.stages.flow_config:FlowConfig", makes={}
    )
    monkeypatch.setitem(execution.STAGES, "probe", fake)
    monkeypatch.setattr("vssl.stages.probe.run", lambda *_: seen.update(threads=os.environ["OMP_NUM_THREADS"]) or {})
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config = {"data": {"dataset": {"name": "x"}}, "runtime": {"threads": 3}}
    record = elements.Element(name="a", kind="probe", stage_id="1", pipeline="p", config=config, inputs={}, after=())
    assert job.run_element(record, store, Launch(nonce="n")) == 0
    assert seen == {"threads": "3"}


def test_exit_codes_of_the_command(store, chain, stage, make_plan, tmp_path):
    batch = create_batch(store, "local", [element(one, chain, "p") for one in chain])

    def run(*words, **more):
        return subprocess.run(words, env=environment(**more), capture_output=True, text=True, cwd="/")

    refused = run(*command(batch, 1))
    assert refused.returncode == 78
    assert "was not started" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert run(*command(batch, 0)).returncode == 0
    array_task = run(*command(batch, 1)[:-1], VSSL_LAUNCHED="1", SLURM_ARRAY_TASK_ID="1")
    assert array_task.returncode == 0, array_task.stderr
    missing = run(*command(batch, 7))
    assert missing.returncode == 2
    assert "no element 7; it has 0, 1" in missing.stderr
    assert run(*command(tmp_path, 0)).returncode == 2


def test_a_signalled_stage_saves_exits_75_and_resumes_to_the_same_bytes(store, stage, make_plan, tmp_path):
    plan = make_plan(stage("slow", seed=4, steps=60, step_s=0.05))
    folder = store.stage(plan["slow"].folder)
    batch = create_batch(store, "local", [element(plan["slow"], plan, "p")])
    for number, rows in ((signal.SIGTERM, 3), (signal.SIGUSR2, 8)):
        child = subprocess.Popen(command(batch, 0), env=environment())
        wait_until(lambda rows=rows: len(read_journal(folder.journal)) > rows)
        child.send_signal(number)
        assert child.wait(120) == 75
        assert newest(folder)["outcome"] == "saved"
    child = subprocess.Popen(command(batch, 0), env=environment())
    assert child.wait(120) == 0
    value = sha256_text("4")
    for step in range(60):
        value = sha256_text(f"{value}/{step}")
    assert json.loads((folder.artifacts / "state").read_text()) == {"seed": 4, "value": value}
    assert [row["step"] for row in read_journal(folder.journal)] == list(range(60))
    assert read_json(folder.done)["attempts"] == 3


def test_the_other_rank_does_not_leave_before_rank_0_has_saved(store, stage, make_plan):
    plan = make_plan(stage("pair", steps=500, step_s=0.2, save_s=0.5))
    folder = store.stage(plan["pair"].folder)
    batch = create_batch(store, "local", [element(plan["pair"], plan, "p")])
    ranks = [
        subprocess.Popen(
            command(batch, 0),
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", VSSL_ATTEMPT="n", VSSL_LAUNCHED="1"),
        )
        for rank in range(2)
    ]
    wait_until(lambda: len(read_journal(folder.journal)) > 2)  # so long that rank 1 is in its stage too
    ranks[1].send_signal(signal.SIGTERM)
    time.sleep(0.6)
    assert ranks[1].poll() is None, "rank 1 has stopped but must wait for rank 0's record"
    ranks[0].send_signal(signal.SIGTERM)
    assert [rank.wait(120) for rank in ranks] == [75, 75]
    assert newest(folder)["outcome"] == "saved"


def test_no_torch_in_the_launcher():
    code = (
        "import launch.job, launch.store, launch.executors.local, launch.cli, sys;"
        "print([name for name in ('torch', 'mlflow', 'pandas', 'av', 'hydra') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_create_json_never_replaces(tmp_path):
    assert create_json(tmp_path / "a.json", 1)
    assert not create_json(tmp_path / "a.json", 2)
    assert read_json(tmp_path / "a.json") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
