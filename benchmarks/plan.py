"""How long planning takes, each time in a fresh process: `python benchmarks/plan.py`.

Held: action=plan of vicc_cross under 2 s (median of 5), 1,000 lanes of 19 stages that share nothing but optical flow
under 5 s.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent
_PLAN_ALONE = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from launch.planning.command_line import parse
from launch.planning.planner import make_plan
print(len(make_plan(parse(sys.argv[2:], Path("/")), lambda key: "0" * 64).stages))
"""


def seconds(words: list[str], repeats: int) -> float:
    """Median wall time of a command, started from /."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(words, cwd="/", check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    line = [sys.executable, str(_CHECKOUT / "launch" / "pipeline.py"), "sweep=vicc_cross", "action=plan"]
    print(f"action=plan of vicc_cross, median of 5: {seconds(line, 5):.2f} s")
    seeds = f"grid.all.seed=[{','.join(map(str, range(1000)))}]"
    words = [sys.executable, "-c", _PLAN_ALONE, str(_CHECKOUT), "sweep=vicc_cross", "scale=demo"]
    stages = subprocess.run([*words, seeds], cwd="/", check=True, capture_output=True, text=True).stdout.strip()
    print(f"plan of 1,000 lanes ({stages} stages), median of 3: {seconds([*words, seeds], 3):.2f} s")
    probes = seeds.replace("all", "linear")
    print(f"plan of 1,000 linear probes on one pretraining, median of 3: {seconds([*words, probes], 3):.2f} s")


if __name__ == "__main__":
    main()
