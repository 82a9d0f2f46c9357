"""The same line again: what it costs when all is done, when one key has changed, and when something is edited."""

import shutil
import sqlite3
import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.slurm.figures import Bench, Row, closed, listed
from benchmarks.slurm.submission import LANES, TEMPLATES, thousand
from benchmarks.slurm.typed import Prompt, probe, write_sweep
from launch.batches import in_flight
from launch.provenance import CHECKOUT, FOLDERS
from launch.slurm.scheduler import Scheduler
from launch.store import Store
from tests.lines import folder_of, run_here
from tests.slurm.daemons import wait_until
from vssl.artifacts import StageFolder, read_json
from vssl.tracking import tracking_uri

PROBE = "vssl/stages/probe.py"
AS_WRITTEN, EDITED = "{state['value']}/{step}\"", "{state['value']}/edited/{step}\""


def finished(bench: Bench) -> tuple[Path, Path]:
    """A sweep of a thousand stages and a store in which all of them are done; they ran in this process."""
    sweep, root = thousand(bench.place("sweep")), bench.place("store")
    said = run_here(f"sweep={sweep}", "executor=local", f"root={root}")
    assert said.code == 0, said.out[-2000:] + said.err[-2000:]
    return sweep, root


def runs(root: Path) -> int:
    """How many runs MLflow's file holds."""
    with sqlite3.connect(tracking_uri(root).removeprefix("sqlite:///")) as database:
        return int(database.execute("select count(*) from runs").fetchone()[0])


def f4(bench: Bench) -> Iterator[Row]:
    """1,000 stages that are all done."""
    bench.cluster()
    sweep, root = bench.kept(finished)
    prompt, before = Prompt(bench), runs(root)
    lines = [prompt.submit(sweep, root).well() for _ in range(3)]
    seconds = [line.took_s for line in lines]
    sent = sum(len(line.of("sbatch")) + len(line.of("sacct")) for line in lines)
    yield Row(
        what="1,000 finished stages again: sbatch and sacct, and new MLflow runs",
        value=f"{sent}, and {runs(root) - before} beside {before}",
        bar="0, and 0",
        ok=sent == 0 and runs(root) == before,
    )
    yield Row(
        what="the same: seconds, cold process",
        value=f"{statistics.median(seconds):.1f} s (of {listed(seconds)})",
        bar="<= 3 s",
        ok=statistics.median(seconds) <= 3,
    )


def f5(bench: Bench) -> Iterator[Row]:
    """A key that only one of four templates reads."""
    cluster, prompt = bench.cluster(), Prompt(bench)
    sweep, root = bench.kept(finished)
    with closed(cluster):
        line = prompt.submit(sweep, root, f"stages.{TEMPLATES[-1]}.steps=4").well()
        view = in_flight(Store(root), Scheduler().queue())
        names = {one.batch.elements[one.entry.index]["name"].partition(".")[0] for one in view.values()}
    yield Row(
        what="one key of one of four templates changed, 1,000 stages done: what is sent",
        value=f"{len(view)} stages of {', '.join(sorted(names))} by {len(line.of('sbatch'))} sbatch",
        bar=f"that template's {LANES} alone",
        ok=len(view) == LANES and names == {TEMPLATES[-1]},
    )


def f19(bench: Bench) -> Iterator[Row]:
    """YAML and code edited between the submission and the start."""
    cluster = bench.cluster()
    checkout, place = bench.place("checkout"), bench.place("sweep")
    for name in FOLDERS:
        shutil.copytree(CHECKOUT / name, checkout / name)
    prompt, values = Prompt(bench, checkout), {}
    sweep = write_sweep(place / "frozen.yaml", [probe("one", config=["seed=3"]), probe("two", "one")])
    for name, edits in (("calm", False), ("edited", True)):
        root = bench.place("store")
        cluster.run("scontrol", "update", "PartitionName=cpu", "State=DOWN")
        prompt.submit(sweep, root).well()
        if edits:
            text = (checkout / PROBE).read_text()
            assert AS_WRITTEN in text
            (checkout / PROBE).write_text(text.replace(AS_WRITTEN, EDITED))
            write_sweep(sweep, [probe("one", config=["seed=4"]), probe("two", "one")])
        cluster.run("scontrol", "update", "PartitionName=cpu", "State=UP")
        wait_until(lambda: not cluster.run("squeue", "--noheader").stdout, "the end of the jobs")
        values[name] = [_made(folder_of(root, "frozen", stage)) for stage in ("one", "two")]
    equal, code = values["calm"] == values["edited"], {made[-1] for made in values["edited"]}
    snapshots = {read_json(path)["code"] for path in (root / "batches").glob("*/elements.json")}
    yield Row(
        what="sweep and code edited while the jobs wait: results, code in their records",
        value=f"{'as submitted' if equal else 'CHANGED'}, {'as submitted' if code == snapshots else 'another'}",
        bar="as submitted, both",
        ok=equal and code == snapshots and all(values["calm"]),
    )


def _made(folder: StageFolder) -> tuple[str, str]:
    """(digest of what a stage wrote, digest of the code that wrote it)."""
    done = read_json(folder.done)
    assert done is not None, f"{folder.root} is not done"
    return done["artifacts"]["state"]["digest"], done["code"]
