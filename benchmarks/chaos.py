"""Kill the processes of running stages at random moments, go on by the same line, and compare with a calm run.

A single-stream pretraining, a cross-stream pretraining and a linear probe share the kills.

python benchmarks/chaos.py [KILLS] [SEED]
"""

import contextlib
import io
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # read once, when torch is imported; the calm run is made in this process

from launch.pipeline import main as pipeline
from launch.running.claims import attempts
from tests.kills import SAVE_EVERY, STAGES, STEPS_PER_EPOCH, Victim, killing, line, moments, write_sweep
from tests.lines import SMOKE, folder_of, run_here
from tests.tiny_stages import fingerprint
from vssl.artifacts import StageFolder

STEPS_PER_KILL = 6  # so that most attempts save once or twice before they die


def chaos(kills: int, seed: int, folder: Path) -> bool:
    """Whether every stage came out with the bits of the calm run."""
    rng = random.Random(seed)
    shares = [kills // len(STAGES) + (number < kills % len(STAGES)) for number in range(len(STAGES))]
    epochs = max(20, -(-max(shares) * STEPS_PER_KILL // STEPS_PER_EPOCH))
    sweep, calm_store, store = write_sweep(folder), folder / "calm", folder / "store"
    parents = run_here("sweep=vicc_single", *SMOKE, "until=[single-rgb,single-flow]", f"root={calm_store}")
    assert parents.code == 0, parents.out + parents.err
    shutil.copytree(calm_store, store, symlinks=True)
    calm = run_here(*line(sweep, calm_store, epochs))
    assert calm.code == 0, calm.out + calm.err
    steps = epochs * STEPS_PER_EPOCH
    print(f"calm: {len(STAGES)} stages of {steps} steps, saved every {SAVE_EVERY}", flush=True)

    victims = {}
    for name, share in zip(STAGES, shares):
        stage = StageFolder(store / "stages" / folder_of(calm_store, "killed", name).root.name)
        victims[name] = Victim(stage, moments(rng, share, steps))
    started, lines, code = time.monotonic(), 0, 1
    with killing(victims.values()):
        while code != 0:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                code = pipeline(line(sweep, store, epochs))
            lines += 1
            done = sum(len(victim.lost) for victim in victims.values())
            print(f"line {lines}: exit code {code}, {done} of {kills} kills", flush=True)
            if code not in (0, 1):
                print(out.getvalue())
                return False
    seconds = time.monotonic() - started

    print("\nstage          kills  attempts  resumed  most steps lost  saved every  bit-equal")
    all_equal = True
    for name, victim in victims.items():
        equal = fingerprint(victim.folder.root) == fingerprint(folder_of(calm_store, "killed", name).root)
        all_equal = all_equal and equal
        logs = "".join(path.read_text() for path in victim.folder.logs.glob("*.log"))
        resumed, lost = logs.count("resuming "), max(victim.lost, default=0)
        print(
            f"{name:<15}{len(victim.lost):>5}{len(attempts(victim.folder)):>10}{resumed:>9}{lost:>17}{SAVE_EVERY:>13}"
            f"{'yes' if equal else 'NO':>11}"
        )
    print(f"{sum(len(victim.lost) for victim in victims.values())} kills, {lines} lines, {seconds:.0f} s")
    return all_equal


def main() -> int:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with tempfile.TemporaryDirectory() as folder:
        return 0 if chaos(kills, seed, Path(folder)) else 1


if __name__ == "__main__":
    sys.exit(main())
