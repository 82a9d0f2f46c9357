"""Every figure of the launcher on a real Slurm, measured on throw-away clusters of its own, beside what it must hold.

python -m benchmarks.slurm [ROW ...] [--json FILE]

Without names all rows are measured, which takes most of an hour; the exit code is 1 if one is missed.
"""

import argparse
import io
import json
import os
import signal
import sys
import time
import traceback
from contextlib import redirect_stdout
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.slurm.figures import Bench, Figure, Row
from tests.slurm.sandbox import PACKAGES, Sandbox

# Name -> where it is measured. Rows are independent of one another.
ROWS = {
    "F1": "submission:f1",
    "F2": "submission:f2",
    "F3": "submission:f3",
    "F4": "again:f4",
    "F5": "again:f5",
    "F6": "tested:f6",
    "F7": "tested:f7",
    "F9": "stops:f9",
    "F10": "stops:f10",
    "F11": "tested:f11",
    "F12": "stops:f12",
    "F13": "submission:f13",
    "F14": "asking:f14",
    "F15": "stops:f15",
    "F16": "meeting:f16",
    "F17": "tested:f17",
    "F18": "tested:f18",
    "F19": "again:f19",
    "F20": "elsewhere:f20",
    "raw-id": "stops:raw_id",
    "kill-wait": "stops:kill_wait",
    "ends": "tested:ends",
    "misfortunes": "adversity:misfortunes",
    "slurmctld": "adversity:controller",
    "slurmdbd": "adversity:database",
    "limit": "adversity:limit",
    "chaos": "chaos:schedules",
    "laggy": "chaos:laggy",
    "demo": "elsewhere:demo",
    "hostile": "tested:hostile",
}


def measure(name: str, bench: Bench) -> list[Row]:
    """The rows of one figure; what goes wrong on the way is a row, too."""
    module, _, function = ROWS[name].partition(":")
    figure: Figure = getattr(import_module(f"benchmarks.slurm.{module}"), function)
    rows: list[Row] = []
    try:
        with redirect_stdout(io.StringIO()):  # what the launcher says
            rows.extend(figure(bench))
    except Exception as error:  # the other rows are measured all the same
        traceback.print_exc()
        said = (str(error).strip().splitlines() or [""])[0]
        what = (figure.__doc__ or name).strip().splitlines()[0]
        rows.append(Row(what=what, value=f"{type(error).__name__}: {said}"[:200], bar="measured", ok=False))
    return rows


def main() -> int:
    """Measure, print each row as it comes, and the table at the end."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slurm", description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the results as one file, too")
    line = parser.parse_args()
    if unknown := [name for name in line.rows if name not in ROWS]:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if missing := Sandbox.missing():
        print(f"not installed: {', '.join(missing)}; on Debian and Ubuntu: apt-get install {PACKAGES}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # clusters and folders go, too
    results: list[dict[str, Any]] = []
    print("| row | figure | measured | bar | | load |\n|---|---|---|---|---|---|", flush=True)
    with Bench() as bench:
        for name in line.rows or ROWS:
            load, began_s = os.getloadavg()[0], time.monotonic()
            rows = measure(name, bench)
            for row in rows:
                mark = "ok" if row.ok else "MISSED"
                print(f"| {name} | {row.what} | {row.value} | {row.bar} | {mark} | {load:.1f} |", flush=True)
            took_s = time.monotonic() - began_s
            results += [{"row": name, **asdict(row), "load": load, "took_s": round(took_s, 1)} for row in rows]
            print(f"{name} took {took_s:.0f} s", file=sys.stderr, flush=True)
    if line.json:
        line.json.write_text(json.dumps(results, indent=1) + "\n")
    missed = sorted({one["row"] for one in results if not one["ok"]})
    print(f"{len(results)} figures, missed: {', '.join(missed) or 'none'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
