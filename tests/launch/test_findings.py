"""Which cause a launch ended for: a table of what its ranks, Slurm and the log said."""

from dataclasses import replace

import pytest

from launch.slurm.findings import Evidence, SlurmFacts, find, is_explained, memory_line, slurm_said

END_S = 100_000.0
CALM = SlurmFacts(state="RUNNING", reason="None", restarts=0, preempted=False, end_s=END_S)
CANCELLED = replace(CALM, state="COMPLETING")
TIMED_OUT = replace(CALM, state="COMPLETING", reason="TimeLimit")
PREEMPTED = replace(CALM, preempted=True)
TAKEN = replace(CALM, state="COMPLETING", restarts=1, end_s=None)  # Slurm has requeued it already
ATTEMPT = {"nonce": "1_2.0", "token": 1}
SRUN_KILLED = "srun: error: n2: task 1: Killed\nsrun: launch/slurm: _step_signal: Terminating StepId=1.0\n"
NODE_LOST = "srun: error: Node failure on n2\nsrun: Job step aborted: Waiting up to 2 seconds for job step to finish.\n"
OOM = "slurmstepd: error: Detected 1 oom_kill event in StepId=1.0. Some of the step tasks have been OOM Killed."
OOM_22 = "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=1.0."
OVER_MEMORY = "slurmstepd-n3: error: StepId=9.0 exceeded memory limit (618524672 > 524288000), being killed"


def ended(why=""):
    return f"slurmstepd-n1: error: *** JOB 4 ON n1 CANCELLED AT 2026-11-21T10:17:08{why} ***\n"


def rank(number, cause, error="", at=1, **more):
    return {
        "rank": number,
        "host": f"n{number}",
        "cause": cause,
        "error": error,
        "at_ms": at,
        "lost_rank": False,
        **more,
    }


def stopped(number, by, at_s=50_000.0, cause="signal"):
    return rank(number, cause, stopped_by=by, stopped_at_ms=int(1000 * at_s))


def evidence(*records, rc=1, slurm=CALM, ranks=2, **more):
    return Evidence(
        rc=rc, ranks=ranks, slurm=slurm, attempt=ATTEMPT, records={one["rank"]: one for one in records}, **more
    )


def lost(number, at=2):
    return rank(number, "exception", "Connection closed by peer", at, lost_rank=True)


USR2 = (stopped(0, "SIGUSR2"), stopped(1, "SIGUSR2"))
LATE = END_S - 110
CASES = {
    "done": (evidence(rc=0, is_done=True), "done"),
    "done, and a rank dies in its last breath": (evidence(rank(0, "done"), rc=139, is_done=True), "done"),
    "success without a record": (evidence(rank(0, "done"), rank(1, "done"), rc=0), "exception"),
    "an agreed stop by a person": (evidence(*USR2, rc=75), "signal"),
    "the signal before the time limit": (evidence(*(stopped(r, "SIGUSR2", LATE) for r in (0, 1)), rc=75), "time_limit"),
    "the stage's own stop before it": (
        evidence(stopped(0, "time_limit", cause="time_limit"), stopped(1, ""), rc=75),
        "time_limit",
    ),
    "a preemption with time to save": (evidence(*USR2, rc=75, slurm=PREEMPTED), "preempted"),
    "a preemption in the last minute": (
        evidence(*(stopped(r, "SIGUSR2", LATE) for r in (0, 1)), rc=75, slurm=PREEMPTED),
        "preempted",
    ),
    "a preemption without": (evidence(rc=137, slurm=TAKEN, log=ended(" DUE TO PREEMPTION")), "preempted"),
    "a preemption before Python": (evidence(rc=143, slurm=PREEMPTED), "preempted"),
    "a preemption that the controller cannot confirm": (
        evidence(*USR2, rc=75, slurm=None, log=ended(" DUE TO PREEMPTION")),
        "preempted",
    ),
    "a node's failure": (evidence(lost(0), rc=137, slurm=TAKEN, log=ended(" DUE TO NODE FAILURE")), "node_failure"),
    "Slurm's requeue without a word": (evidence(rc=137, slurm=TAKEN), "node_failure"),
    "a node's failure that srun calls a success": (evidence(rc=0, slurm=TAKEN), "node_failure"),
    "the same, and the controller is silent": (evidence(rc=0, slurm=None), "node_failure"),
    "the same, and the controller does not know yet": (evidence(rc=0, log=NODE_LOST), "node_failure"),
    "the same before Python": (replace(evidence(rc=0, slurm=None), attempt=None), "node_failure"),
    "a node's failure that srun alone has told": (evidence(stopped(0, ""), rc=1, log=NODE_LOST), "node_failure"),
    "a person's requeue": (evidence(*USR2, rc=75, slurm=TAKEN, log=ended(" DUE TO JOB REQUEUE")), "signal"),
    "cancelled, and saved": (evidence(*(stopped(r, "SIGTERM") for r in (0, 1)), rc=75, slurm=CANCELLED), "signal"),
    "cancelled, and killed": (evidence(rc=137, slurm=CANCELLED, log=ended()), "signal"),
    "cancelled, the controller silent": (evidence(rc=137, slurm=None, log=ended()), "signal"),
    "over the time limit": (evidence(rc=137, slurm=TIMED_OUT), "time_limit"),
    "over the time limit, the controller silent": (
        evidence(rc=137, slurm=None, log=ended(" DUE TO TIME LIMIT")),
        "time_limit",
    ),
    "a rank raises, the other one is killed": (evidence(rank(1, "exception", "ValueError: no"), rc=137), "exception"),
    "a rank raises, the other one saves": (
        evidence(rank(1, "exception", "ValueError: no"), stopped(0, "SIGTERM"), rc=75),
        "exception",
    ),
    "a rank raises, the other one misses it": (evidence(rank(1, "exception", "no", at=5), lost(0, at=4)), "exception"),
    "a rank raises while it is preempted": (evidence(rank(1, "exception"), rc=1, slurm=PREEMPTED), "exception"),
    "a rank is killed": (evidence(rc=137, log=SRUN_KILLED), "killed"),
    "a rank is killed, the other one misses it": (evidence(lost(0), rc=137, log=SRUN_KILLED), "killed"),
    "a rank is killed, the other one saves": (evidence(stopped(0, "SIGTERM"), rc=137, log=SRUN_KILLED), "killed"),
    "a rank dies after an agreed stop": (evidence(stopped(0, "SIGUSR2"), rc=139), "signal"),
    "a rank aborts in a library": (evidence(rc=134), "killed"),
    "ranks cannot reach one another": (evidence(lost(0), lost(1)), "exception"),
    "a rank hangs": (evidence(rank(1, "hung"), rc=1), "hung"),
    "a rank hangs, the other one misses it": (evidence(rank(1, "hung"), lost(0)), "hung"),
    "both hang": (evidence(rank(1, "hung"), rank(0, "hung")), "hung"),
    "Slurm kills for memory": (evidence(rc=137, log=OVER_MEMORY), "out_of_memory"),
    "the kernel kills for memory": (evidence(lost(0), rc=137, log=OOM), "out_of_memory"),
    "the kernel kills a loader process": (evidence(rank(0, "killed"), rc=1, ranks=1, log=OOM_22), "out_of_memory"),
    "memory, and the others save": (evidence(stopped(0, "SIGTERM"), rc=137, log=OOM), "out_of_memory"),
    "the GPU's memory": (evidence(rank(0, "out_of_memory"), lost(1)), "out_of_memory"),
    "memory was short, and it went on": (evidence(*USR2, rc=75, log=OOM), "signal"),
    "bad input": (evidence(rank(0, "bad_input", "no dataset"), rank(1, "bad_input"), rc=2), "bad_input"),
    "refused": (evidence(rank(0, "refused", "parent changed"), rc=78), "refused"),
    "elsewhere": (evidence(rank(0, "elsewhere"), rank(1, "elsewhere"), rc=75), "elsewhere"),
    "a lost budget": (evidence(rank(0, "node_failure", "again and again"), rc=75), "node_failure"),
    "no Python": (replace(evidence(rc=127), attempt=None), "no_start"),
    "stopped before Python": (replace(evidence(rc=140), attempt=None), "signal"),
    "killed before the claim": (replace(evidence(rc=137), attempt=None), "killed"),
    "a library ends the process": (evidence(rc=3), "exception"),
}


@pytest.mark.parametrize("case", CASES)
def test_causes(case):
    given, cause = CASES[case]
    assert find(given, 60).cause == cause


def test_the_error_names_rank_and_host():
    raised = evidence(rank(1, "exception", "ValueError: no", at=5), rank(0, "exception", "KeyError: x", at=9))
    assert find(raised, 60).error == "rank 1 on n1: ValueError: no"
    assert find(evidence(rc=137, log=SRUN_KILLED), 60).error == "rank 1 on n2: Killed"
    assert find(evidence(rank(0, "hung", "no progress"), rc=137), 60).error == "rank 0 on n0: no progress"
    assert find(evidence(rc=137, log=OVER_MEMORY), 60).error == OVER_MEMORY
    missing = replace(evidence(rc=127, last_line="python: command not found"), attempt=None)
    assert find(missing, 60).error == "srun ended with 127 before Python had begun: python: command not found"


def test_what_slurm_requeued_or_cancelled_is_told_apart():
    assert find(evidence(rc=137, slurm=TAKEN), 60).by_slurm
    superseded = rank(0, "elsewhere", "a newer attempt has taken over")
    assert find(evidence(superseded, rc=75, slurm=TAKEN), 60).by_slurm, "else it would requeue its own next start"
    assert find(evidence(rc=137, slurm=CANCELLED), 60).final
    assert not find(evidence(*USR2, rc=75), 60).final
    assert not find(evidence(rc=137, slurm=TIMED_OUT), 60).final, "it goes on from its last checkpoint"


def test_facts_of_a_job():
    said = {"JobState": "RUNNING", "Reason": "None", "Restarts": "2", "PreemptTime": "None", "EndTime": "1795256243"}
    assert SlurmFacts.of(said) == SlurmFacts(
        state="RUNNING", reason="None", restarts=2, preempted=False, end_s=1795256243.0
    )
    assert SlurmFacts.of(said | {"PreemptTime": "1795256228"}).preempted
    assert SlurmFacts.of(said | {"EndTime": "Unknown"}).end_s is None
    assert SlurmFacts.of({}) is None


def test_what_the_log_says():
    assert memory_line(f"epoch 1\n{OVER_MEMORY}\nepoch 2") == OVER_MEMORY
    assert memory_line("the queue holds what is out of memory's reach") == ""
    assert slurm_said(ended(" DUE TO PREEMPTION") + ended(" DUE TO NODE FAILURE")) == "node_failure"
    assert slurm_said("slurmstepd: error: *** STEP 4.0 ON n1 CANCELLED AT 2026-11-21T10:17:08 ***") is None


def test_whose_record_explains_the_end():
    assert is_explained({1: rank(1, "exception")})
    assert is_explained({0: rank(0, "refused")})
    assert not is_explained({0: stopped(0, "SIGTERM")}), "it may have been srun's"
    assert not is_explained({0: lost(0)})
    assert not is_explained({})
