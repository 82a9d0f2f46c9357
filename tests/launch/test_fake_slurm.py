"""The fake does what was measured on a real Slurm 22.05."""

from pathlib import Path

import pytest

from launch.slurm.arrays import index_text
from launch.slurm.scheduler import SchedulerRefusedError
from tests.launch.fake_slurm import FakeSlurm, Job


class Cluster(FakeSlurm):
    """Nothing runs by itself; `started` names what could."""

    def __init__(self, folder: Path) -> None:
        self.now_s, self.folder = 1000.0, folder
        self.started: list[str] = []
        self.killed: list[str] = []
        super().__init__(
            lambda: self.now_s, lambda job: self.started.append(job.id), lambda job: self.killed.append(job.id)
        )

    def sbatch(self, array: str, dependency: str = "", *, hold: bool = False) -> str:
        script = self.folder / "script.sh"
        options = {"job-name": "vssl-b", "array": array, "kill-on-invalid-dep": "yes", "dependency": dependency}
        lines = [f"#SBATCH --{key}={value}" for key, value in options.items() if value]
        script.write_text("\n".join(["#!/bin/bash", *lines, "#SBATCH --requeue", "true"]))
        job = self.submit(script, self.folder)
        if not hold:
            self.release([job])
        return job

    def end(self, job: str, exit_code: int = 0) -> None:
        self.finish(self[job], exit_code)
        self.wait(1.0)

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.tick()

    def states(self) -> dict[str, str]:
        return {one.job: one.state if one.state != "PENDING" else one.reason for one in self.queue()}

    def __getitem__(self, job: str) -> Job:
        array, _, index = job.partition("_")
        return self.jobs[int(array), int(index)]


@pytest.fixture
def slurm(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_an_array_is_held_until_it_is_released(slurm: Cluster) -> None:
    job = slurm.sbatch("0,3-5:2", hold=True)
    assert slurm.states() == dict.fromkeys(("1_0", "1_3", "1_5"), "JobHeldUser")
    slurm.release([job])
    assert slurm.states() == dict.fromkeys(("1_0", "1_3", "1_5"), "RUNNING")
    assert (slurm.reads, slurm.writes, slurm.queued_total()) == (2, 2, 3)


def test_corresponding_elements_wait_for_each_other_alone(slurm: Cluster) -> None:
    slurm.hosts = ["n1", "n2"]
    slurm.sbatch("2,7")
    slurm.sbatch("2,7", "aftercorr:1")
    slurm.end("1_2")
    assert slurm.states() == {"1_7": "RUNNING", "2_2": "RUNNING", "2_7": "Dependency"}
    slurm.end("1_7", 1)
    assert slurm.states() == {"2_2": "RUNNING"}  # 2_7 is killed with its parent


def test_an_index_without_counterpart_waits_for_the_whole_array(slurm: Cluster) -> None:
    slurm.sbatch("0,1")
    slurm.sbatch("5", "aftercorr:1")
    slurm.end("1_0")
    assert slurm.states()["2_5"] == "Dependency"
    slurm.end("1_1")
    assert slurm.states()["2_5"] == "RUNNING"


def test_a_failure_passes_down_the_chain(slurm: Cluster) -> None:
    slurm.sbatch("0")
    slurm.sbatch("0", "afterok:1_0")
    slurm.sbatch("0", "aftercorr:2")
    slurm.end("1_0", 1)
    slurm.tick()
    assert slurm.states() == {}
    assert [row["State"] for row in slurm.accounting(["1", "2", "3"], 0)] == ["FAILED", "CANCELLED", "CANCELLED"]
    slurm.has_accounting = False
    assert slurm.accounting(["1"], 0) == []


def test_a_child_of_a_forgotten_failure_runs(slurm: Cluster) -> None:
    slurm.sbatch("0")
    slurm.sbatch("0", "afterok:1_0", hold=True)
    slurm.end("1_0", 1)
    assert slurm.states() == {"2_0": "JobHeldUser"}, "not cancelled while it is held"
    slurm.wait(slurm.min_job_age_s)
    assert slurm.show_job("1_0") == {}
    slurm.sbatch("0", "afterok:1_0:9_9")
    slurm.release(["2"])
    assert slurm.states() == {"2_0": "RUNNING", "3_0": "RUNNING"}


def test_a_requeued_element_keeps_its_id_and_waits(slurm: Cluster) -> None:
    slurm.sbatch("0,1")
    slurm.sbatch("0,1", "aftercorr:1")
    slurm.requeue("1_0")
    assert slurm.killed == ["1_0"]
    assert slurm.states() == {"1_0": "BeginTime", "1_1": "RUNNING", "2_0": "Dependency", "2_1": "Dependency"}
    slurm.wait(120)
    assert slurm.states()["1_0"] == "BeginTime"
    slurm.start_now("1_0")
    assert slurm.states()["1_0"] == "RUNNING"
    assert slurm.show_job("1_0")["Restarts"] == "1"


def test_cancelling_kills_what_runs_and_passes_over_what_is_gone(slurm: Cluster) -> None:
    slurm.sbatch("0,1")
    slurm.end("1_0")
    slurm.cancel(["1", "7_0"])
    assert (slurm.killed, slurm.states()) == (["1_1"], {})


def test_limits(slurm: Cluster) -> None:
    slurm.max_submit = 3
    slurm.sbatch("0,1")
    with pytest.raises(SchedulerRefusedError, match="AssocMaxSubmitJobLimit") as refused:
        slurm.sbatch("0,1")
    assert refused.value.is_limit
    with pytest.raises(SchedulerRefusedError, match="Invalid job array"):
        slurm.sbatch("1001")
    slurm.max_array_size = 20_001
    with pytest.raises(SchedulerRefusedError, match="Invalid job array"):
        slurm.sbatch(index_text(7 * lane // 4 for lane in range(10_000)))


def test_elements_take_turns_on_few_nodes(slurm: Cluster) -> None:
    slurm.hosts = ["n1"]
    slurm.sbatch("0,1")
    assert slurm.states() == {"1_0": "RUNNING", "1_1": "Resources"}
    slurm.finish(slurm["1_0"], 0)
    assert slurm.states() == {"1_0": "COMPLETING", "1_1": "Resources"}
    slurm.wait(1)
    assert slurm.states() == {"1_1": "RUNNING"}
