"""What a batch script sees when its job is stopped. Not our code but Slurm's ways, which the end of a job relies on."""

from collections.abc import Callable

import pytest

from tests.slurm.sandbox import Sandbox, Variant, wait_until

SandboxOf = Callable[[Variant], Sandbox]
VARIANT = Variant(accounting=False, grace_s=10, requeue_delay_s=5)

# The trap lets the script live on while srun waits for its tasks: without it, SIGTERM would end it at once.
SCRIPT = """#!/bin/bash
trap : TERM USR2
srun sh -c 'trap "exit 75" TERM USR2; touch started; while :; do sleep 0.1; done'
echo "srun $?"
scontrol show job -o $SLURM_JOB_ID
"""
ELEMENT = """#!/bin/bash
echo start $SLURM_RESTART_COUNT
if [ $SLURM_ARRAY_TASK_ID = 1 ] && [ -z "$SLURM_RESTART_COUNT" ]; then
    scontrol requeue ${SLURM_ARRAY_JOB_ID}_1
    exit 0
fi
sleep 1000
"""


@pytest.fixture
def cluster(sandbox_of: SandboxOf) -> Sandbox:
    return sandbox_of(VARIANT)


def running(cluster: Sandbox) -> str:
    """A job whose task has started and leaves with 75 when it is told to."""
    (cluster.folder / "started").unlink(missing_ok=True)
    (cluster.folder / "script.sh").write_text(SCRIPT)
    job = cluster.submit("--signal=USR2@30", "--nodelist=vssl-n1", "--exclusive", "--open-mode=append", "script.sh")
    wait_until((cluster.folder / "started").exists, "the job's task")
    return job


def said(cluster: Sandbox, job: str) -> str:
    """What the script said after srun; `JobState=` is in its last line."""
    output = cluster.folder / f"slurm-{job}.out"
    wait_until(lambda: "JobState=" in output.read_text(), "the lines after srun")
    return output.read_text()


@pytest.mark.parametrize(
    ("words", "state", "restarts"),
    [
        (["scancel", "--signal=USR2"], "RUNNING", 0),
        (["scancel"], "COMPLETING", 0),
        (["scontrol", "requeue"], "COMPLETING", 1),
    ],
)
def test_stopped_by_a_person(cluster: Sandbox, words: list[str], state: str, restarts: int) -> None:
    job = running(cluster)
    cluster.run(*words, job)
    text = said(cluster, job)
    assert "srun 75\n" in text
    assert f"JobState={state} " in text
    assert f"Restarts={restarts} " in text


def test_preempted_it_is_told_so_while_it_still_runs(cluster: Sandbox) -> None:
    job = running(cluster)
    cluster.submit("--partition=high", "--nodelist=vssl-n1", "--exclusive", "--wrap=true")
    text = said(cluster, job)
    assert "srun 75\n" in text
    assert "JobState=RUNNING " in text
    assert "PreemptTime=2" in text  # a year; None for every other cause
    cluster.wait(job, "COMPLETED")  # a script that ends by itself in the grace is over: Slurm does not requeue it


def test_srun_says_success_when_its_only_node_is_down(cluster: Sandbox) -> None:
    job = running(cluster)
    cluster.set_node("vssl-n1", "DOWN")
    output = cluster.folder / f"slurm-{job}.out"
    wait_until(lambda: "srun " in output.read_text(), "the end of srun")
    assert "Node failure on vssl-n1" in output.read_text()
    assert "srun 0\n" in output.read_text()  # while its task had just been asked to stop


def test_an_element_that_requeues_itself_leaves_its_siblings_alone(cluster: Sandbox) -> None:
    (cluster.folder / "element.sh").write_text(ELEMENT)
    array = cluster.submit("--array=0-1", "--open-mode=append", "--output=%a.txt", "element.sh")
    first, second = (cluster.folder / f"{index}.txt" for index in (0, 1))
    wait_until(lambda: second.exists() and second.read_text().endswith("start 1\n"), "its second start")
    assert first.read_text() == "start\n"
    assert cluster.state(f"{array}_0") == cluster.state(f"{array}_1") == "RUNNING"
