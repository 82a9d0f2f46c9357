"""What a node runs, on a real Slurm: every way in which a stage can end, and what becomes of its job."""

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from launch.executors.slurm import script_text
from launch.plan import PlannedStage, Resources
from launch.provenance import CHECKOUT
from launch.running.claims import attempts, newest
from launch.slurm.begin_time import clear_begin_times
from launch.slurm.profiles import Profile
from launch.slurm.scheduler import Scheduler
from launch.store import Store
from tests.launch.conftest import planned
from tests.launch.slurm_batches import make_batch
from tests.slurm.sandbox import Sandbox
from vssl.artifacts import StageFolder, read_json
from vssl.run import read_journal

SOON_S = 90.0  # far less than the two minutes for which Slurm keeps a requeued job waiting
POLICY = {"signal_delay_s": 10}
KILL_WAIT_S = 5  # of the sandbox


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = SOON_S) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for {what}"
        time.sleep(0.1)
    return found


class Batch:
    """One array of probes, submitted as the launcher would; the first stage has index 1."""

    def __init__(
        self,
        sandbox: Sandbox,
        store: Store,
        *stages: PlannedStage,
        nodes: int = 1,
        tasks_per_node: int = 1,
        policy: Mapping[str, Any] = POLICY,
        profile: Profile | None = None,
        options: Sequence[str] = (),
        timeout_min: int = 10,
    ) -> None:
        self.sandbox, self.store, self.stages = sandbox, store, stages
        resources = Resources(
            nodes=nodes, tasks_per_node=tasks_per_node, cpus_per_task=1, mem_gb=1.0, timeout_min=timeout_min
        )
        self.folder = make_batch(store, stages, ranks=resources.ranks, policy=policy)
        text = script_text(
            self.folder,
            resources,
            profile or Profile(name="test"),
            indices=range(1, len(stages) + 1),
            dependency="",
            snapshot=CHECKOUT,
        ).replace("USR2@120", f"USR2@{policy['signal_delay_s']}")
        (self.folder / "script.sh").write_text(text)
        words = ["sbatch", "--parsable", f"--chdir={self.folder}", *options, str(self.folder / "script.sh")]
        self.array = sandbox.run(*words).stdout.strip()

    def job(self, index: int = 1) -> str:
        return f"{self.array}_{index}"

    def stage(self, index: int = 1) -> StageFolder:
        return self.store.stage(self.stages[index - 1].folder)

    def show(self, index: int = 1) -> dict[str, str]:
        return Scheduler().show_job(self.job(index))

    def verdict(self, index: int = 1, restart: int = 0) -> Any:
        return read_json(self.folder / "settled" / f"{index}.{restart}.json")

    def settled(self, index: int = 1, restart: int = 0) -> Any:
        return wait_until(lambda: self.verdict(index, restart), f"the verdict on {index}.{restart}: {self.log(index)}")

    def log(self, index: int = 1) -> str:
        path = self.folder / "logs" / f"{index}.log"
        return path.read_text() if path.exists() else ""

    def runs(self, index: int = 1, steps: int = 2, restart: int = 0) -> None:
        """Wait until a start has made some steps."""

        def has_begun() -> bool:
            last = newest(self.stage(index))
            return last is not None and last["slurm"]["restart"] == restart and self.steps(index) >= steps

        wait_until(has_begun, f"{steps} steps of {index}: {self.log(index)}")

    def steps(self, index: int = 1) -> int:
        return len(read_journal(self.stage(index).journal))

    def done(self, index: int = 1) -> Any:
        return wait_until(lambda: read_json(self.stage(index).done), f"the end of {index}: {self.log(index)}")

    def ended(self, index: int = 1) -> tuple[str, str]:
        """(state, exit code) in Slurm, once the job has ended."""

        def state() -> tuple[str, str] | None:
            job = self.show(index)
            over = job["JobState"] not in ("PENDING", "RUNNING", "COMPLETING")
            return (job["JobState"], job["ExitCode"]) if over else None

        found: tuple[str, str] = wait_until(state, f"the end of job {index}: {self.log(index)}")
        return found

    def help(self) -> None:
        """What any verb does."""
        clear_begin_times(self.store, Scheduler())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root", visibility_s=0)


@pytest.fixture
def cluster(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    for name, value in sandbox.environment.items():
        monkeypatch.setenv(name, value)
    yield sandbox
    sandbox.run("scancel", "--me", "--signal=KILL", "--full", check=False)  # probes that would go on for minutes
    sandbox.run("scancel", "--me")


def slow(seed: int, **config: Any) -> PlannedStage:
    return planned(f"slow{seed}", seed=seed, **{"steps": 600, "step_s": 0.1, **config})


def test_an_element_whose_raw_id_is_the_arrays_requeues_itself_alone_and_is_helped_to_start(
    cluster: Sandbox, store: Store
) -> None:
    batch = Batch(cluster, store, *(slow(seed, steps=250) for seed in range(3)))
    for index in (1, 2, 3):
        batch.runs(index)
    (raw,) = (index for index in (1, 2, 3) if batch.show(index)["JobId"] == batch.array)
    cluster.run("scancel", "--signal=USR2", batch.job(raw))
    verdict = batch.settled(raw)
    assert (verdict["cause"], verdict["decision"]) == ("signal", "requeue")
    batch.runs(raw, restart=1)
    again_s = (newest(batch.stage(raw))["started_at_ms"] - verdict["at_ms"]) / 1000
    assert again_s < SOON_S
    for index in (1, 2, 3):
        batch.done(index)
        assert batch.ended(index) == ("COMPLETED", "0:0")
        assert len(attempts(batch.stage(index))) == (2 if index == raw else 1)
        assert [row["step"] for row in read_journal(batch.stage(index).journal)] == list(range(250))
    wait_until(lambda: not list(store.requeued.glob("*.json")) or batch.help(), "the marker to go")


def test_misfortunes_of_one_rank(cluster: Sandbox, store: Store) -> None:
    common = {"steps": 40, "step_s": 0.05, "rank": 1}
    batch = Batch(
        cluster,
        store,
        planned("raises", seed=1, fail_at=3, **common),
        planned("is killed", seed=2, kill_at=3, **common),
        planned("hangs", seed=3, hang_at=3, **{**common, "rank": 0}),
        nodes=2,
        policy=POLICY | {"hang_min": 0.05},
    )
    raised, killed, hung = (batch.settled(index) for index in (1, 2, 3))
    assert (raised["cause"], raised["decision"], raised["exit_code"]) == ("exception", "end", 1)
    assert raised["error"].startswith("rank 1 on vssl-n")
    assert raised["error"].endswith("RuntimeError: the probe fails at step 3, as its config asks")
    assert batch.ended(1) == ("FAILED", "1:0")
    assert (killed["cause"], killed["decision"]) == ("killed", "requeue")
    assert killed["error"].endswith("Killed")
    assert (hung["cause"], hung["decision"]) == ("hung", "requeue")
    assert "_misfortune" in (batch.folder / "logs" / "3-0.log").read_text(), "where the thread hung"
    wait_until(lambda: batch.help() or batch.verdict(2, 1), "the second start")
    assert batch.ended(2) == ("COMPLETED", "0:0"), "it is killed once"
    again = wait_until(lambda: batch.help() or batch.verdict(3, 1), "the second hang")
    assert (again["cause"], again["decision"], again["exit_code"]) == ("hung", "end", 75)
    assert batch.ended(3) == ("FAILED", "75:0")


def test_a_rank_that_raises_ends_the_step_though_the_other_one_does_not_listen(cluster: Sandbox, store: Store) -> None:
    """As one in a collective: SIGTERM reaches it, and its Python does not run."""
    batch = Batch(cluster, store, planned("raises", seed=1, steps=2, step_s=300, fail_at=0, rank=1), nodes=2)
    verdict = batch.settled()
    raised_ms = read_json(batch.folder / "ranks" / "1.0-1.json")["at_ms"]
    assert (verdict["at_ms"] - raised_ms) / 1000 <= KILL_WAIT_S + 10
    assert verdict["cause"] == "exception"
    assert read_json(batch.folder / "ranks" / "1.0-0.json") is None
    assert newest(batch.stage())["outcome"] == "failed"
    assert batch.ended() == ("FAILED", "1:0")


def test_a_save_longer_than_the_grace_of_a_step_ends_requeued(cluster: Sandbox, store: Store) -> None:
    """KillWait is for the ranks that are left when one leaves: so none does before rank 0 has saved."""
    batch = Batch(cluster, store, slow(1, save_s=KILL_WAIT_S + 3.0), nodes=2, tasks_per_node=2)
    batch.runs(steps=1)
    cluster.run("scancel", "--signal=USR2", batch.job())
    verdict = batch.settled()
    assert (verdict["cause"], verdict["decision"], verdict["rc"]) == ("signal", "requeue", 75)
    assert newest(batch.stage())["outcome"] == "saved"
    assert wait_until(lambda: cluster.state(batch.job()) == "PENDING", "its place in the queue")
    assert len(list((batch.folder / "ranks").glob("1.0-*.json"))) == 4


def test_memory(cluster: Sandbox, store: Store) -> None:
    eats = "x = b'x' * (400 << 20); import runpy, sys; sys.argv[1:] = sys.argv[-1:]; "
    program = f"{eats}runpy.run_module('launch.job', run_name='__main__')"
    profile = Profile(name="test", python=f"{sys.executable} -c {shlex.quote(program)}")
    batch = Batch(cluster, store, slow(1), profile=profile, options=["--mem=300M"])
    verdict = batch.settled()
    assert (verdict["cause"], verdict["decision"], verdict["exit_code"]) == ("out_of_memory", "end", 1)
    assert "exceeded memory limit" in verdict["error"]
    state, code = batch.ended()
    assert state in ("FAILED", "OUT_OF_MEMORY")
    assert code.startswith("1:")


def test_no_python(cluster: Sandbox, store: Store) -> None:
    batch = Batch(cluster, store, slow(1), profile=Profile(name="test", python="/no/such/python"))
    verdict = batch.settled()
    assert (verdict["cause"], verdict["decision"]) == ("no_start", "end")
    assert "/no/such/python" in verdict["error"]
    assert batch.ended() == ("FAILED", "1:0")


def test_a_preemption(cluster: Sandbox, store: Store) -> None:
    batch = Batch(cluster, store, slow(1, steps=100), nodes=2, options=["--nodelist=vssl-n1,vssl-n2"])
    batch.runs()
    urgent = cluster.submit("--partition=high", "--nodelist=vssl-n1", "--exclusive", "--wrap=sleep 3")
    verdict = batch.settled()
    assert (verdict["cause"], verdict["decision"]) == ("preempted", "requeue")
    cluster.wait(urgent, "COMPLETED")
    wait_until(lambda: batch.help() or batch.verdict(1, 1), "the second start")
    assert batch.ended() == ("COMPLETED", "0:0")
    assert [row["step"] for row in read_journal(batch.stage().journal)] == list(range(100))
    assert batch.verdict(1, 2) is None, "it was requeued once"


def test_the_time_limit(cluster: Sandbox, store: Store) -> None:
    """Slurm warns up to a minute early, so a limit of one minute is near at once."""
    batch = Batch(cluster, store, slow(1), timeout_min=1, policy={"signal_delay_s": 50})
    verdict = batch.settled()
    assert (verdict["cause"], verdict["decision"]) == ("time_limit", "requeue")
    assert newest(batch.stage())["outcome"] == "saved"


def test_a_node_that_fails(cluster: Sandbox, store: Store) -> None:
    """Its script is ended with it, or has a moment to speak; either way it counts once."""
    batch = Batch(cluster, store, slow(1, steps=60), nodes=2, options=["--nodelist=vssl-n1,vssl-n2"])
    batch.runs()
    cluster.set_node("vssl-n2", "DOWN")
    batch.settled()
    cluster.set_node("vssl-n2", "RESUME")
    wait_until(lambda: batch.show()["JobState"] == "PENDING", "its place in the queue")
    cluster.run("scontrol", "update", f"JobId={batch.job()}", "StartTime=now+3")
    batch.done()
    assert (batch.verdict()["cause"], batch.verdict()["decision"]) == ("node_failure", "requeue")
    assert batch.ended() == ("COMPLETED", "0:0")
    assert batch.show()["Restarts"] == "1"


def test_what_is_cancelled_stays_cancelled(cluster: Sandbox, store: Store) -> None:
    batch = Batch(cluster, store, slow(1))
    batch.runs()
    cluster.run("scancel", batch.job())
    verdict = batch.settled()
    assert (verdict["decision"], verdict["exit_code"]) == ("end", 75)
    assert batch.ended()[0] == "CANCELLED"
    assert newest(batch.stage())["outcome"] == "saved"
    assert not list(store.requeued.glob("*.json")) if store.requeued.exists() else True


def test_a_controller_that_is_away_when_a_job_ends(cluster: Sandbox, store: Store) -> None:
    batch = Batch(cluster, store, slow(1))
    batch.runs()
    with cluster.stopped("slurmctld"):
        os.kill(newest(batch.stage())["process"]["pid"], signal.SIGUSR2)
        wait_until(lambda: newest(batch.stage()).get("outcome"), "the save")
        time.sleep(3)  # long enough for it to ask in vain
        assert batch.verdict() is None
    assert batch.settled()["decision"] == "requeue"
    assert wait_until(lambda: cluster.state(batch.job()) == "PENDING", "its place in the queue")
