"""Slurm's commands, played by small programs that give answers recorded from Slurm 22.05."""

import json
import stat
import sys
import time
from pathlib import Path

import pytest

from launch.slurm import scheduler
from launch.slurm.scheduler import Scheduler, SchedulerRefusedError, SchedulerSilentError
from vssl.config import ConfigError

S = "\x1f"


def row(array, index, state, reason, start, end, restarts, nodes, dependency, folder, name):
    words = [
        array,
        index,
        state,
        reason,
        start,
        end,
        restarts,
        nodes,
        "cpu",
        dependency,
        folder,
        "1795257100",
        name,
        "",
    ]
    return S.join(words)


QUEUE = "\n".join(
    [
        row("9", "N/A", "RUNNING", "None", "1", "2", "0", "n1", "(null)", "/x", "notebook | my own"),
        row("26", "3", "RUNNING", "None", "1795257170", "1826793037", "2", "n[4-5]", "(null)", "/s/b/a", "vssl-a"),
        row("7", "11", "PENDING", "Dependency", "N/A", "N/A", "0", "", "aftercorr:5(waits)", "/x", "vssl-b"),
        row("7", "2", "PENDING", "BeginTime", "1795257293", "N/A", "1", "", "(null)", "/x", "vssl-b"),
        row("8", "N/A", "PENDING", "Priority", "N/A", "N/A", "0", "", "(null)", "/x", "vssl-is a single job"),
        "a line of somebody's job name that holds a line break",
        "",
    ]
)
SILENT = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
FORGOTTEN = "slurm_load_jobs error: Invalid job id specified"


@pytest.fixture
def answer(tmp_path, monkeypatch):
    """Make a program of Slurm's answer: `answer("squeue", QUEUE)`. Returns what it was called with."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))

    def make(name, stdout="", stderr="", code=0):
        program, calls = programs / name, tmp_path / f"{name}.calls"
        told = {"argv": "sys.argv[1:]", "env": "dict(os.environ)", "cwd": "os.getcwd()"}
        record = ", ".join(f"{key!r}: {value}" for key, value in told.items())
        program.write_text(
            f"#!{sys.executable} -S\nimport json, os, sys\n"
            f"open({str(calls)!r}, 'a').write(json.dumps({{{record}}}) + '\\n')\n"
            f"sys.stdout.write({stdout!r}); sys.stderr.write({stderr!r}); sys.exit({code})\n"
        )
        program.chmod(program.stat().st_mode | stat.S_IEXEC)
        return lambda: [json.loads(line) for line in calls.read_text().splitlines()]

    return make


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(scheduler, "_PAUSE_S", 0.0)


def test_the_queue_holds_our_elements_sorted_and_counts_all(answer):
    calls = answer("squeue", QUEUE)
    slurm = Scheduler()
    queue = slurm.queue()
    assert [one.job for one in queue] == ["7_2", "7_11", "26_3"]
    assert (queue[0].reason, queue[0].start_s, queue[0].restarts) == ("BeginTime", 1795257293.0, 1)
    assert (queue[1].start_s, queue[1].dependency) == (None, "aftercorr:5(waits)")
    assert (queue[2].end_s, queue[2].nodes, queue[2].dependency) == (1826793037.0, "n[4-5]", "")
    assert (queue[2].folder, queue[2].submitted_s) == ("/s/b/a", 1795257100.0)
    assert slurm.queued_total() == 5, "jobs that are not ours count against the same limit"
    assert (len(calls()), slurm.reads, slurm.writes) == (1, 1, 0)


def test_an_empty_queue(answer):
    answer("squeue")
    slurm = Scheduler()
    assert slurm.queue() == []
    assert slurm.queued_total() == 0


def test_a_silent_controller_is_asked_again_a_bounded_number_of_times(answer):
    calls = answer("squeue", stderr=SILENT, code=1)
    slurm = Scheduler()
    with pytest.raises(SchedulerSilentError, match=r"squeue: .*Unable to contact"):
        slurm.queue()
    assert len(calls()) == slurm.reads == scheduler.READ_TRIES


@pytest.mark.parametrize(
    "said",
    [
        SILENT,
        "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
        "slurm_suspend error: Unexpected message received",
        "sacct: error: Problem talking to the database: Connection refused",
    ],
)
def test_a_write_is_never_repeated(answer, tmp_path, said):
    calls = answer("sbatch", stderr=said, code=1)
    slurm = Scheduler()
    with pytest.raises(SchedulerSilentError):
        slurm.submit(tmp_path / "script.sh", tmp_path)
    assert len(calls()) == slurm.writes == 1


def test_no_answer_within_the_time_limit_is_silence(answer, tmp_path):
    program = tmp_path / "bin" / "scontrol"
    program.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    program.chmod(0o755)
    began = time.monotonic()
    with pytest.raises(SchedulerSilentError, match=r"scontrol show did not answer within 0\.2 s"):
        Scheduler(timeout_s=0.2).config()
    assert time.monotonic() - began < 50


def test_a_refusal_carries_what_slurm_said(answer, tmp_path):
    answer("sbatch", stderr="sbatch: error: Batch job submission failed: Invalid qos specification\n", code=1)
    with pytest.raises(SchedulerRefusedError) as caught:
        Scheduler().submit(tmp_path / "script.sh", tmp_path)
    assert caught.value.text == "sbatch: error: Batch job submission failed: Invalid qos specification"
    assert not caught.value.is_limit


@pytest.mark.parametrize(
    ("named", "is_limit"),
    [
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit\n", True),
        ("sbatch: error: AssocMaxSubmitJobLimit\n", True),
        ("sbatch: error: AssocGrpSubmitJobsLimit\n", True),
        ("sbatch: error: QOSMaxWallDurationPerJobLimit\n", False),
        ("", True),
    ],
)
def test_a_full_queue_is_told_from_other_refusals(answer, tmp_path, named, is_limit):
    rest = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
    answer("sbatch", stderr=f"{named}sbatch: error: Batch job submission failed: {rest}\n", code=1)
    with pytest.raises(SchedulerRefusedError) as caught:
        Scheduler().submit(tmp_path / "script.sh", tmp_path)
    assert caught.value.is_limit == is_limit


def test_submission_from_inside_a_job_carries_nothing_of_it(answer, tmp_path, monkeypatch):
    for name in ("SLURM_JOB_ID", "SLURM_NTASKS", "SBATCH_PARTITION", "SQUEUE_FORMAT", "VSSL_LAUNCHED", "SUBMITIT_X"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    monkeypatch.setenv("SBATCH_EXPORT", "NONE")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    sbatch, squeue = answer("sbatch", "12;cluster\n"), answer("squeue")
    script = tmp_path / "batch" / "script.sh"
    script.parent.mkdir()
    assert Scheduler().submit(script, script.parent) == "12"
    Scheduler().queue()
    (submitted,) = sbatch()
    assert submitted["argv"] == ["--parsable", "--hold", str(script)]
    assert submitted["cwd"] == str(script.parent)
    ours = {name: value for name, value in submitted["env"].items() if name.startswith(("SLURM", "SB", "VSSL", "SUB"))}
    assert ours == {"SLURM_CONF": "/etc/slurm.conf", "SBATCH_EXPORT": "NONE"}
    assert submitted["env"]["LC_ALL"] == "de_DE.UTF-8", "a job inherits what sbatch was given"
    (asked,) = squeue()
    assert asked["env"]["LC_ALL"] == "C"
    assert asked["env"]["SLURM_TIME_FORMAT"] == "%s"
    assert "SQUEUE_FORMAT" not in asked["env"]


def test_an_answer_that_is_no_id_is_as_good_as_none(answer, tmp_path):
    answer("sbatch", "Submitted batch job 12\n")
    with pytest.raises(SchedulerSilentError, match="no job id"):
        Scheduler().submit(tmp_path / "script.sh", tmp_path)


def test_arrays_that_are_gone_are_passed_over(answer):
    answer("scontrol", stderr="Invalid job id specified for job 9\nslurm_suspend error: No error\n", code=1)
    scancel = answer("scancel", stderr="scancel: error: Kill job error on job id 9_1: Invalid job id specified", code=1)
    slurm = Scheduler()
    slurm.release(["9", "10"])
    slurm.cancel(["9_1", "10"])
    assert slurm.writes == 4
    assert scancel()[0]["argv"] == ["9_1", "10"]
    slurm.cancel(["7_1", "8_4", "7_3", "9", "9_2"])
    assert scancel()[1]["argv"] == ["7_[1,3]", "8_4", "9"], "the elements of one array are one call"
    assert slurm.writes == 7
    assert slurm.show_job("9_1") == {}


def test_another_refusal_of_a_release_is_told(answer):
    answer("scontrol", stderr="Invalid job id specified for job 9\nAccess/permission denied for job 10\n", code=1)
    with pytest.raises(SchedulerRefusedError, match="permission denied"):
        Scheduler().release(["9", "10"])


@pytest.mark.parametrize("job", ["12.0", "12_[1-3]", "-1", "12_1 ; rm", ""])
def test_only_ids_of_arrays_and_elements_are_taken(answer, job):
    for refused in (Scheduler().release, Scheduler().cancel):
        with pytest.raises(ValueError, match="neither"):
            refused([job])


def test_a_job_is_read_with_its_spaces_and_the_first_of_repeated_keys(answer):
    answer(
        "scontrol",
        "JobId=27 ArrayJobId=26 ArrayTaskId=1 JobName=vssl-abc UserId=root(0) JobState=FAILED Reason=NonZeroExitCode "
        "Restarts=2 ExitCode=1:0 CPUs/Task=1 ReqB:S:C:T=0:0:*:* StartTime=1795257170 EndTime=Unknown "
        "Comment=JobState=COMPLETED and more Command=/a b/script.sh WorkDir=/a b Power= \n",
    )
    job = Scheduler().show_job("26_1")
    assert (job["JobState"], job["Restarts"], job["CPUs/Task"], job["ReqB:S:C:T"]) == ("FAILED", "2", "1", "0:0:*:*")
    assert (job["Command"], job["WorkDir"], job["Power"]) == ("/a b/script.sh", "/a b", "")


def test_accounting_that_is_off_or_out_of_order_is_no_error(answer):
    answer("sacct", "26_1|vssl-abc|FAILED|1:0|0:0|1|2|3|1|n1|1|1|cpu=1\n9_1|other|FAILED|1:0|0:0|1|2|3|1|n1|1|1|\n")
    assert [(row["JobID"], row["State"]) for row in Scheduler().accounting(["26", "9"], 0.0)] == [("26_1", "FAILED")]
    assert Scheduler().accounting([], 0.0) == []
    for said in (
        "Slurm accounting storage is disabled",
        "sacct: error: Problem talking to the database: Connection refused",
    ):
        answer("sacct", stderr=said, code=1)
        assert Scheduler().accounting(["26"], 0.0) == []


ASSOC = "root|lab|normal,long|20\nroot|other|normal|500\n"


@pytest.mark.parametrize(
    ("enforced", "options", "limit"),
    [
        ("associations,limits,qos", {}, 20),
        ("associations,limits,qos", {"account": "other"}, 30),
        ("associations,limits,qos", {"account": "other", "qos": "long"}, 500),
        ("none", {}, None),
        ("associations", {}, None),
    ],
)
def test_the_limit_is_the_smallest_that_is_enforced(answer, tmp_path, enforced, options, limit):
    answer("scontrol", f"AccountingStorageEnforce = {enforced}\nClusterName             = main\n")
    program = tmp_path / "bin" / "sacctmgr"
    program.write_text(f"#!/bin/sh\ncase $4 in assoc) printf '{ASSOC}';; qos) printf 'normal|30\nlong|\n';; esac\n")
    program.chmod(0o755)
    assert Scheduler().submit_limit(**options) == limit


def test_a_machine_without_slurm_is_told_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no `squeue`"):
        Scheduler().queue()


def test_partitions_and_nodes(answer):
    answer(
        "scontrol", "PartitionName=cpu Default=YES MaxTime=UNLIMITED\nPartitionName=high MaxTime=01:00:00 MaxNodes=2\n"
    )
    answer("sinfo", S.join(["high", "4", "2", "20000", "gpu:a100:4(S:0)", "(null)"]) + "\n")
    slurm = Scheduler()
    assert {name: one["MaxTime"] for name, one in slurm.partitions().items()} == {
        "cpu": "UNLIMITED",
        "high": "01:00:00",
    }
    assert slurm.nodes()[0]["gres"] == "gpu:a100:4(S:0)"


def test_a_folder_that_is_gone_is_not_a_missing_program(answer, tmp_path):
    answer("sbatch", "1\n")
    with pytest.raises(FileNotFoundError):
        Scheduler().submit(Path("script.sh"), tmp_path / "gone")
