"""The main pipeline on a throw-away Slurm of four virtual nodes: what a cluster's users see, on one machine.

    python -m tests.slurm.demo [FOLDER] [key=value ...]

Results stay in FOLDER (default: runs-slurm of the working directory), so the same line again finds them finished.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from launch.provenance import CHECKOUT
from tests.slurm.sandbox import PACKAGES, Sandbox, SandboxError

LINE = (
    *("sweep=vicc_cross", "executor=slurm", "cluster=sandbox"),
    # One stage on two nodes with two ranks each, as a multi-node training would be.
    "stages.linear-rgb.resources={nodes:2,tasks_per_node:2,cpus_per_task:1}",
    "stages.linear-rgb.runtime.threads=1",
)


def main(words: Sequence[str]) -> int:
    """Bring up a sandbox, submit, watch, report; returns the exit code of the first line that fails."""
    folder = Path(words[0]) if words and "=" not in words[0] else Path("runs-slurm")
    given = [word for word in words if "=" in word]
    scale = [] if any(word.startswith("scale=") for word in given) else ["scale=demo"]
    if missing := Sandbox.missing():
        print(f"not installed: {', '.join(missing)}; on Debian and Ubuntu: apt-get install {PACKAGES}", file=sys.stderr)
        return 2
    verbs = [sys.executable, str(CHECKOUT / "launch" / "cli.py")]
    root = f"--root={folder.absolute()}"
    lines = [
        [sys.executable, str(CHECKOUT / "launch/pipeline.py"), *LINE, *scale, f"root={folder.absolute()}", *given],
        [*verbs, "watch", root],
        [*verbs, "report", root],
    ]
    try:
        with Sandbox(Path(tempfile.mkdtemp(prefix="vssl-slurm-")), remove=True) as sandbox:
            print(sandbox.run("sinfo").stdout, flush=True)
            for line in lines:
                print(f"$ {shlex.join(['python', *line[1:]])}", flush=True)
                code = subprocess.run(line, env={**os.environ, **sandbox.environment}).returncode
                if code:
                    return code
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same line goes on from what was saved", file=sys.stderr)
        return 75
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
