"""Slurm's answers, in the formats that the launcher reads, on this very release."""

import time
from collections import Counter

import pytest

from launch.slurm.scheduler import SchedulerRefusedError
from tests.slurm.daemons import wait_until
from tests.slurm.lines import lanes


def test_slurms_answers_are_understood(line):
    one = line(lanes(2, "first", steps=100, step_s=0.2))
    assert one.type() == 0
    slurm = one.scheduler
    first, second = (entry.job for entry in one.queue())
    wait_until(lambda: {entry.state for entry in one.queue()} == {"RUNNING"}, "both elements to run")
    entry = one.queue()[0]
    assert entry.end_s - entry.start_s == 600
    assert abs(entry.start_s - time.time()) < 60
    assert (entry.nodes.startswith("vssl-n"), entry.restarts, entry.partition) == (True, 0, "cpu")
    job = slurm.show_job(first)
    assert (job["JobState"], job["ArrayTaskId"], float(job["EndTime"])) == ("RUNNING", "0", entry.end_s)
    slurm.requeue(first)
    wait_until(lambda: one.queue()[0].reason == "BeginTime", "the requeued element to wait")
    assert one.queue()[0].restarts == 1
    slurm.start_now(first)
    wait_until(lambda: one.queue()[0].state == "RUNNING", "the requeued element to start")
    slurm.start_now(first)  # which runs already
    slurm.cancel([second, "99999", "99999_1"])
    wait_until(lambda: [entry.job for entry in one.queue()] == [first], "the cancelled element to end")
    slurm.cancel([first.partition("_")[0]])
    one.wait()

    def rows() -> list[dict[str, str]]:
        return slurm.accounting([first.partition("_")[0]], time.time() - 3600)

    wait_until(lambda: {row["State"].partition(" ")[0] for row in rows()} == {"REQUEUED", "CANCELLED"}, "the books")
    assert Counter(row["JobID"] for row in rows()) == {first: 2, second: 1}, "every execution is a row"
    assert all(row["Start"].isdigit() for row in rows())
    assert slurm.show_job("99999_1") == {}
    slurm.release(["99999"])
    (batch,) = one.store.batches.iterdir()
    assert "to start at" in slurm.test_only(batch / "script.sh", batch)
    with pytest.raises(SchedulerRefusedError, match="Invalid job id"):
        slurm.requeue("99999_1")
    assert slurm.config()["MaxArraySize"] == "1001"
    assert slurm.submit_limit() is None
