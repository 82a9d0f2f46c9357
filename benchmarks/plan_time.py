"""Seconds that `action=plan` takes in a fresh process, and one plan of a thousand lanes.

python benchmarks/plan_time.py
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
RATES = ",".join(f"{(rate + 1) / 10000}" for rate in range(1000))


def seconds(*overrides: str) -> float:
    """Wall time of one plan, in a store that does not exist."""
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, str(CHECKOUT / "launch" / "pipeline.py"), "action=plan", f"root={folder}/store"]
        started = time.perf_counter()
        subprocess.run([*line, *overrides], check=True, stdout=subprocess.DEVNULL, cwd="/")
        return time.perf_counter() - started


def main() -> None:
    for sweep in ("vicc_single", "vicc_cross"):
        times = [seconds(f"sweep={sweep}") for _ in range(5)]
        print(f"{sweep}: median of 5 {statistics.median(times):.2f} s, slowest {max(times):.2f} s", flush=True)
    thousand = seconds("sweep=vicc_single", f"grid.linear.optim.base_lr=[{RATES}]")
    print(f"vicc_single with 1,000 learning rates of the probe: {thousand:.2f} s")


if __name__ == "__main__":
    main()
