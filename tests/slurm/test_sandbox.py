"""The throw-away Slurm works as a real one does, keeps to itself, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from launch.provenance import CHECKOUT
from tests.slurm import keeper
from tests.slurm.conftest import new_sandbox, skip_without_slurm
from tests.slurm.sandbox import Sandbox, SandboxError, Variant, wait_until
from tests.slurm.variant import slurm_conf

LIGHT = Variant(accounting=False, grace_s=1, kill_wait_s=1, requeue_delay_s=5, message_timeout_s=2)  # up at once
SandboxOf = Callable[[Variant], Sandbox]


def processes(text: str) -> list[str]:
    """Command lines of the processes that have a text in theirs or in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue  # gone meanwhile, or another user's
        if text.encode() in command + environment:
            found.append(command.replace(b"\0", b" ").decode())
    return found


def test_a_job_runs_and_is_accounted_for(sandbox: Sandbox) -> None:
    job = sandbox.submit("--wrap=echo from $SLURMD_NODENAME")
    sandbox.wait(job, "COMPLETED")
    assert (sandbox.folder / f"slurm-{job}.out").read_text() == "from vssl-n1\n"
    sacct = ("sacct", "-nXP", "--format=State,ExitCode", f"--jobs={job}")
    wait_until(lambda: sandbox.run(*sacct).stdout == "COMPLETED|0:0\n", "sacct to know it")  # seconds behind


def test_a_step_spans_nodes(sandbox: Sandbox) -> None:
    script = "srun sh -c 'echo $SLURM_PROCID $SLURM_LOCALID $SLURMD_NODENAME'"
    job = sandbox.submit("--nodes=2", "--ntasks-per-node=2", f"--wrap={script}")
    sandbox.wait(job, "COMPLETED")
    lines = sorted((sandbox.folder / f"slurm-{job}.out").read_text().splitlines())
    assert lines == ["0 0 vssl-n1", "1 1 vssl-n1", "2 0 vssl-n2", "3 1 vssl-n2"]


def test_every_test_starts_with_idle_nodes_and_no_job(sandbox: Sandbox) -> None:
    deaf = "trap '' TERM; srun --ntasks=8 sleep 100; sleep 100"
    job = sandbox.submit("--nodes=4", "--ntasks=8", f"--wrap={deaf}")
    sandbox.submit("--hold", "--array=0-9", "--wrap=true")
    sandbox.wait(job, "RUNNING")
    sandbox.set_node("vssl-n2", "DRAIN")
    sandbox.stop("vssl-n3")
    sandbox.drain()
    assert sandbox.run("squeue", "--noheader").stdout == ""
    assert set(sandbox.node_states().values()) == {"idle"}


def test_two_at_once_do_not_touch_each_other(sandbox: Sandbox, sandbox_of: SandboxOf) -> None:
    other = sandbox_of(LIGHT)
    job = sandbox.submit("--wrap=sleep 100")
    sandbox.wait(job, "RUNNING")
    assert other.run("squeue", "--noheader").stdout == ""
    other.drain()
    assert sandbox.state(job) == "RUNNING"


def test_without_accounting_jobs_run_and_sacct_refuses(sandbox_of: SandboxOf) -> None:
    sandbox = sandbox_of(LIGHT)
    sandbox.wait(sandbox.submit("--wrap=true"), "COMPLETED")
    refused = sandbox.run("sacct", check=False)
    assert refused.returncode == 1
    assert "accounting storage is disabled" in refused.stderr


def test_preemption_requeues_a_job(sandbox_of: SandboxOf) -> None:
    sandbox = sandbox_of(LIGHT)
    script = "echo start $SLURM_RESTART_COUNT; sleep 100"
    job = sandbox.submit("--nodes=4", "--exclusive", "--open-mode=append", f"--wrap={script}")
    sandbox.wait(job, "RUNNING")
    sandbox.wait(sandbox.submit("--partition=high", "--wrap=true"), "COMPLETED")
    sandbox.wait(job, "RUNNING")
    output = sandbox.folder / f"slurm-{job}.out"
    wait_until(lambda: output.read_text().endswith("start 1\n"), "its second start")
    assert "DUE TO PREEMPTION" in output.read_text()


def test_the_limit_of_submitted_jobs_counts_elements(sandbox_of: SandboxOf) -> None:
    sandbox = sandbox_of(Variant(max_submit_jobs=3))
    sandbox.submit("--hold", "--array=0-1", "--wrap=true")
    with pytest.raises(SandboxError, match="AssocMaxSubmitJobLimit"):
        sandbox.submit("--hold", "--array=0-1", "--wrap=true")
    sandbox.submit("--hold", "--wrap=true")


def test_a_step_that_takes_too_much_memory_is_killed(sandbox_of: SandboxOf) -> None:
    sandbox = sandbox_of(LIGHT)
    greedy = "import time; block = bytearray(300_000_000); time.sleep(60)"
    job = sandbox.submit("--mem=100", f"--wrap=srun {sys.executable} -c '{greedy}'")
    sandbox.wait(job, "FAILED")  # a cgroup would have made it OUT_OF_MEMORY
    assert "exceeded memory limit" in (sandbox.folder / f"slurm-{job}.out").read_text()


def test_a_partition_forbids_what_it_says(sandbox_of: SandboxOf) -> None:
    strict = sandbox_of(Variant(accounting=False, enforce_part_limits=True))
    with pytest.raises(SandboxError, match="time limit"):
        strict.submit("--partition=short", "--time=10", "--wrap=true")
    lenient = sandbox_of(LIGHT)
    job = lenient.submit("--partition=short", "--time=10", "--wrap=true")
    reason = ("squeue", "--noheader", "--format=%r", f"--jobs={job}")
    wait_until(lambda: lenient.run(*reason).stdout == "PartitionTimeLimit\n", "the reason")


def test_jobs_outlive_the_controller(sandbox_of: SandboxOf) -> None:
    sandbox = sandbox_of(LIGHT)
    job = sandbox.submit("--wrap=sleep 1; touch done; sleep 100")
    sandbox.wait(job, "RUNNING")
    with sandbox.stopped("slurmctld"):
        assert sandbox.run("squeue", check=False).returncode == 1
        wait_until((sandbox.folder / "done").exists, "the job to go on")
    assert sandbox.state(job) == "RUNNING"


def test_a_frozen_controller_queues_what_sbatch_gave_up(sandbox_of: SandboxOf) -> None:
    sandbox = sandbox_of(LIGHT)
    with sandbox.frozen("slurmctld"), pytest.raises(SandboxError, match="Socket timed out"):
        sandbox.submit("--hold", "--job-name=lost", "--wrap=true")
    found = ("squeue", "--noheader", "--name=lost")
    wait_until(lambda: bool(sandbox.run(*found).stdout), "the job that sbatch said was not submitted")


def test_a_node_that_is_down_stays_down(sandbox_of: SandboxOf) -> None:
    sandbox = sandbox_of(LIGHT)
    sandbox.set_node("vssl-n2", "DOWN")
    sandbox.stop("vssl-n2")
    sandbox.start("vssl-n2")
    assert sandbox.node_states() == {"vssl-n1": "idle", "vssl-n2": "down", "vssl-n3": "idle", "vssl-n4": "idle"}


@pytest.mark.parametrize(
    ("number", "moment", "words"),
    [
        (signal.SIGINT, "mariadbd", []),
        (signal.SIGTERM, "slurmdbd", []),
        (signal.SIGKILL, "slurmctld", ["--no-accounting"]),
        (signal.SIGKILL, "mariadb-install-db", []),
    ],
)
def test_interrupted_while_starting_it_leaves_nothing(
    number: signal.Signals, moment: str, words: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    skip_without_slurm()
    temporary = tmp_path_factory.mktemp("cli")
    line = [sys.executable, "-m", "tests.slurm.sandbox", *words]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    owner = subprocess.Popen(line, cwd=CHECKOUT, env=environment, stdout=subprocess.DEVNULL)
    ours = f"{temporary}/vssl-slurm-"
    wait_until(lambda: any(moment in command for command in processes(ours)), moment)
    owner.send_signal(number)
    assert owner.wait(timeout=30) == {signal.SIGINT: 0, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    wait_until(lambda: not processes(ours), "the end of its processes")
    wait_until(lambda: not list(temporary.iterdir()), "the end of its folder")


def test_what_jobs_have_left_running_ends_with_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    with new_sandbox(tmp_path_factory, LIGHT) as sandbox:
        # Nothing ties this process to the sandbox: another session, another parent, an empty environment.
        sandbox.submit("--wrap=(env -i setsid sleep 1000 & echo $! > id.tmp; mv id.tmp id); sleep 1000")
        wait_until((sandbox.folder / "id").exists, "the job")
        process = int((sandbox.folder / "id").read_text())
        os.kill(process, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert not processes(str(sandbox.folder))


def test_a_daemon_that_does_not_come_up_says_why(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.slurm.sandbox.slurm_conf", lambda *given: slurm_conf(*given) + "NoSuchOption=1\n")
    sandbox = new_sandbox(tmp_path_factory, LIGHT)
    with pytest.raises(SandboxError, match=r"slurmctld ended with 1; it said:\n(.|\n)*NoSuchOption"), sandbox:
        pass
    assert not processes(str(sandbox.folder))


def test_folders_that_it_cannot_use(shared_sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="is not empty"), Sandbox(shared_sandbox.folder):
        pass
    with pytest.raises(SandboxError, match="too long for Unix sockets"), Sandbox(tmp_path / ("x" * 60)):
        pass


def test_variants_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="needs accounting=True"):
        Variant(accounting=False, max_submit_jobs=1)
    with pytest.raises(ValueError, match="less than 5"):
        Variant(requeue_delay_s=1)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.slurm.sandbox.SEARCH", "/nowhere")
    assert "slurmctld" in Sandbox.missing()
    assert "mariadbd" in Sandbox.missing()
    assert "mariadbd" not in Sandbox.missing(LIGHT)
    with pytest.raises(SandboxError, match="slurm-wlm slurmdbd munge mariadb-server"), Sandbox(Path("anywhere")):
        pass


def test_a_daemon_whose_process_id_was_another_ones_before_is_not_taken_for_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "ended", [(77, 0)])
    monkeypatch.setattr(keeper, "begun", {})
    monkeypatch.setattr(keeper.subprocess, "Popen", lambda *_, **__: SimpleNamespace(pid=77, returncode=None))
    assert keeper.answer({"start": ["x"], "environment": {}, "log": str(tmp_path / "log")}) == {"pid": 77}
    assert keeper.answer({"ended": 77}) == {"code": None}
    keeper.ended.append((77, 3))
    assert keeper.answer({"ended": 77}) == {"code": 3}
