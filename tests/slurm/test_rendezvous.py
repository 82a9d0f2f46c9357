"""Ranks find one another on a real Slurm whose nodes are one machine: their names resolve nowhere."""

import sys
import time
from pathlib import Path

import pytest

from launch.provenance import CHECKOUT
from tests.slurm.sandbox import Sandbox, Variant

ROUNDS = 3
PROGRAM = """
import os, sys
from pathlib import Path
from launch.running.ranks import Launch
from vssl.distributed import all_gather_object, joined
launch = Launch.from_environment(os.environ)
for number in range(int(sys.argv[2])):
    launch.tell_the_stage(os.environ, Path(sys.argv[1]) / f"{launch.nonce}.{number}.json")
    with joined(device="cpu") as place:
        me = (place.rank, place.local_rank, os.environ["LOCAL_WORLD_SIZE"], os.environ["VSSL_NODE"], launch.slurm.job)
        print(all_gather_object(me))
"""
SCRIPT = """#!/bin/bash
export SLURM_EXPORT_ENV=ALL VSSL_LAUNCHED=1 PYTHONPATH={checkout} OMP_NUM_THREADS=1
srun --kill-on-bad-exit=1 --output=%a-%t.log {python} -P meet.py {folder} {rounds}
"""


def submit(sandbox: Sandbox, folder: Path, rounds: int, *options: str) -> str:
    (folder / "meet.py").write_text(PROGRAM)
    text = SCRIPT.format(checkout=CHECKOUT, python=sys.executable, folder=folder, rounds=rounds)
    (folder / "script.sh").write_text(text)
    words = ["sbatch", "--parsable", f"--chdir={folder}", "--mem=6G", *options, str(folder / "script.sh")]
    return sandbox.run(*words).stdout.strip()


def lines_of(sandbox: Sandbox, job: str, logs: list[Path], timeout_s: float) -> list[list[str]]:
    """What each rank printed, once the job has left the queue."""
    deadline = time.monotonic() + timeout_s
    while sandbox.run("squeue", "--noheader", f"--jobs={job}", check=False).stdout:
        assert time.monotonic() < deadline, "the ranks have not met"
        time.sleep(0.2)
    return [log.read_text().splitlines() for log in logs]


def test_ranks_of_several_nodes(sandbox: Sandbox, tmp_path: Path) -> None:
    job = submit(sandbox, tmp_path, 1, "--array=7", "--nodes=2", "--ntasks-per-node=2")
    found = lines_of(sandbox, job, [tmp_path / f"7-{rank}.log" for rank in range(4)], 60)
    expected = [(rank, rank % 2, "2", f"vssl-n{1 + rank // 2}", f"{job}_7") for rank in range(4)]
    assert found == [[str(expected)]] * 4


@pytest.mark.timeout(240)
def test_many_jobs_on_one_node_take_no_port_from_one_another(sandbox_of, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """F16: eight jobs of two ranks, started together, which meet again and again."""
    sandbox: Sandbox = sandbox_of(Variant(nodes=1, cpus=16, accounting=False))
    job = submit(sandbox, tmp_path, ROUNDS, "--array=0-7", "--ntasks=2")
    logs = [tmp_path / f"{index}-{rank}.log" for index in range(8) for rank in range(2)]
    for index, lines in enumerate(lines_of(sandbox, job, logs, 200)):
        ranks = [(rank, rank, "2", "vssl-n1", f"{job}_{index // 2}") for rank in range(2)]
        assert lines == [str(ranks)] * ROUNDS
