"""Figures that a test of this project holds already; it is run for the table, at its full count."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping

from benchmarks.slurm.figures import Bench, Row
from launch.provenance import CHECKOUT

FAULTS = "tests/slurm/test_launcher_faults.py"
JOBS = "tests/slurm/test_job.py"
LINES = "tests/slurm/test_submission.py"


def by_tests(what: str, bar: str, tests: Mapping[str, str], timeout_s: float = 1500) -> Row:
    """Run tests, in processes of their own.

    Args:
        what: they show.
        bar: of the figure.
        tests: what each one stands for -> its file and name.
        timeout_s: for all of them.
    """
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", f"--timeout={timeout_s:.0f}"]
    done = subprocess.run([*line, *tests.values()], cwd=CHECKOUT, capture_output=True, text=True, timeout=timeout_s)
    passed = set(re.findall(r"^PASSED (\S+)", done.stdout, re.MULTILINE))
    held = [name for name, test in tests.items() if any(one.partition("[")[0] == test for one in passed)]
    broken = [name for name in tests if name not in held]
    numbers = re.findall(r"\[(\d+ moments)\]", done.stdout)
    if broken:
        print(done.stdout[-6000:] + done.stderr[-1000:], file=sys.stderr)
    value = "; ".join([*numbers, f"held: {', '.join(held)}"]) + (f"; NOT: {', '.join(broken)}" if broken else "")
    return Row(
        what=what,
        value=value,
        bar=bar,
        ok=done.returncode == 0 and not broken,
    )


def f6(bench: Bench) -> Iterator[Row]:
    """The launcher killed at every write and every command."""
    tests = {
        "every moment": f"{FAULTS}::test_no_moment_to_die_at_leaves_a_stage_twice_orphaned_or_held",
        "SIGKILL": f"{FAULTS}::test_a_launcher_that_is_really_killed",
    }
    yield by_tests(
        "launcher killed at every write and command of a submission, then the same line",
        "nothing twice, orphaned or held",
        tests,
    )


def f7(bench: Bench) -> Iterator[Row]:
    """Launchers at once."""
    tests = {
        "three at once": f"{FAULTS}::test_launchers_at_once_submit_each_stage_once",
        "two sweeps that share stages": f"{FAULTS}::test_sweeps_that_share_stages_submit_them_once",
        "one waits for one that dies": f"{FAULTS}::test_a_second_launcher_waits_for_the_first",
    }
    yield by_tests("launchers at once", "each stage submitted once", tests)


def f11(bench: Bench) -> Iterator[Row]:
    """A parent that failed and that Slurm has forgotten."""
    tests = {"MinJobAge 2 s": f"{LINES}::test_no_child_of_a_parent_that_failed_and_was_forgotten_starts"}
    yield by_tests("parent failed and purged, its child held or sent again", "the child never runs", tests)


def f17(bench: Bench) -> Iterator[Row]:
    """One run for each stage."""
    tests = {
        "5 restarts, 4 ranks": "tests/launch/test_push.py::test_five_restarts_of_four_ranks_are_one_run",
        "jobs on nodes": "tests/slurm/test_pushing.py::test_jobs_bring_their_own_stages_to_a_server",
    }
    yield by_tests(
        "MLflow: runs, steps, status and tags of a stage", "1 run, each (key, step) once, status, tags", tests
    )


def f18(bench: Bench) -> Iterator[Row]:
    """A tracker that is away."""
    tests = {
        "beside a job": "tests/launch/test_push.py::test_a_server_that_is_down_for_the_whole_run_loses_nothing",
        "on Slurm": "tests/slurm/test_pushing.py::test_a_server_that_is_away_for_the_whole_run_gets_everything_later",
    }
    yield by_tests(
        "MLflow server down for the whole run, then sync", "no step lost, no tracking I/O on the hot path", tests
    )


def ends(bench: Bench) -> Iterator[Row]:
    """Every way in which a rank can end."""
    tests = {
        "exception, SIGKILL, hung: cause, code, policy": f"{JOBS}::test_misfortunes_of_one_rank",
        "out of memory": f"{JOBS}::test_memory",
        "no Python": f"{JOBS}::test_no_python",
        "cancelled": f"{JOBS}::test_what_is_cancelled_stays_cancelled",
        "a node that fails": f"{JOBS}::test_a_node_that_fails",
        "controller away": f"{JOBS}::test_a_controller_that_is_away_when_a_job_ends",
    }
    yield by_tests("how a rank ends: cause, exit code, policy, a failed job fails in Slurm", "each as designed", tests)


def hostile(bench: Bench) -> Iterator[Row]:
    """What must end as data, and what must end nowhere."""
    tests = {
        "names and paths": f"{LINES}::test_hostile_names_and_paths_end_as_data",
        "inside a job, --export=NONE": f"{LINES}::test_submission_from_inside_a_job_that_inherits_nothing",
        "a canary secret": "tests/slurm/test_secrets.py::test_no_secret_is_left_by_a_submission_and_its_job",
    }
    yield by_tests("hostile names, empty environments, a canary", "data, never shell; in no file", tests)
