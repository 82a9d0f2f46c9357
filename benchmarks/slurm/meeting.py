"""Ranks of many jobs on one node that look for one another at the same moment."""

import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.slurm.figures import Bench, Row
from launch.provenance import CHECKOUT
from tests.slurm.daemons import wait_until
from tests.slurm.sandbox import Variant
from vssl.artifacts import read_json

JOBS, ROUNDS = 8, 100
# torch is imported once; a round begins for all when the last rank of all jobs is ready for it.
RANK = """
import os, sys, time
from pathlib import Path
from vssl.artifacts import write_json
from vssl.distributed import all_gather_object, joined

folder, jobs, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
job, rank = int(os.environ["SLURM_ARRAY_TASK_ID"]), int(os.environ["SLURM_PROCID"])
os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
wrong = []
for number in range(rounds):
    here = folder / f"{number}"
    here.mkdir(exist_ok=True)
    (here / f"{job}.{rank}.ready").touch()
    while len(list(here.glob("*.ready"))) < 2 * jobs:
        time.sleep(0.01)
    try:
        with joined(here / f"{job}.json", device="cpu", timeout_s=60):
            found = all_gather_object(job)
        wrong += [] if found == [job, job] else [f"round {number}: {found}"]
    except Exception as error:
        wrong.append(f"round {number}: {error}")
write_json(folder / f"{job}.{rank}.json", {"wrong": wrong})
"""


def f16(bench: Bench) -> Iterator[Row]:
    """8 jobs of 2 ranks on one node, a hundred times at once."""
    cluster = bench.cluster(Variant(nodes=1, cpus=2 * JOBS, accounting=False))
    folder = bench.place("meetings")
    program, script = folder / "rank.py", folder / "script.sh"
    program.write_text(RANK)
    script.write_text(
        f"#!/bin/bash\nexport PYTHONPATH={CHECKOUT} OMP_NUM_THREADS=1\n"
        f"srun --ntasks=2 {sys.executable} {program} {folder} {JOBS} {ROUNDS}\n"
    )
    cluster.submit(f"--array=0-{JOBS - 1}", "--ntasks=2", "--mem=8000", f"--output={folder}/%a.log", str(script))
    wait_until(lambda: not cluster.run("squeue", "--noheader").stdout, "the end of all rounds", 900)
    records = [_record(folder / f"{job}.{rank}.json", folder / f"{job}.log") for job in range(JOBS) for rank in (0, 1)]
    wrong = [text for record in records for text in record]
    yield Row(
        what=f"{JOBS} jobs x 2 ranks on one node that meet at once, {ROUNDS} rounds",
        value=f"{JOBS * ROUNDS} meetings, {len(wrong)} wrong" + (f": {wrong[0][:150]}" if wrong else ""),
        bar="0 collisions",
        ok=not wrong,
    )


def _record(path: Path, log: Path) -> list[str]:
    record = read_json(path)
    return [f"a rank ended early: {log.read_text()[-300:]}"] if record is None else list(record["wrong"])
