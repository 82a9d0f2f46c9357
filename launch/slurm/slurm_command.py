"""One command of Slurm: with a time limit, in an environment of its own. Nothing else runs them.

A controller that does not answer and one that says no are two errors.
"""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from vssl.config import ConfigError

_SILENCE = re.compile(
    r"unable to contact slurm controller|socket timed out|connection (refused|timed out|reset)|zero bytes were trans"
    r"|unexpected message received|transport endpoint|no route to host|standby mode|unable to establish (contr|config)",
    re.IGNORECASE,
)
_LIMIT_NAME = re.compile(r"\b(?:QOS|Assoc)\w*(?:Limit|Minutes)\b")
_ANY_LIMIT = re.compile(r"job submit limit", re.IGNORECASE)

# Of the caller's environment, what tells a command which cluster is meant. Everything else of Slurm's would change
# what is asked or submitted: options in SBATCH_* beat the script, and a job's SLURM_* describe that job.
_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_SACK_JWKS", "SLURM_SACK_KEY", "SLURM_SACK_SOCKET")
_KEPT_FOR_JOBS = ("SBATCH_EXPORT",)  # whether a job inherits the environment: ours runs with and without
_OF_SLURM = re.compile(r"(SLURM|SLURMD|SBATCH|SRUN|SALLOC|SQUEUE|SACCT|SACCTMGR|SCANCEL|SCONTROL|SINFO|SUBMITIT|VSSL)_")


class SchedulerSilentError(Exception):
    """The controller did not answer; what was asked of it may have happened or not."""


class SchedulerRefusedError(Exception):
    """The controller said no."""

    def __init__(self, command: str, text: str) -> None:
        super().__init__(f"{command}: {text}")
        self.text = text

    @property
    def is_limit(self) -> bool:
        """Whether it said that the queue holds as many jobs of this user as it may.

        One sentence of Slurm's stands for that and for limits on a single job; recent releases name the limit, too.
        """
        named = _LIMIT_NAME.findall(self.text)
        return any("Submit" in name for name in named) if named else _ANY_LIMIT.search(self.text) is not None


def run(words: Sequence[str], timeout_s: float, cwd: Path | None = None) -> str:
    """What a command prints.

    Raises:
        SchedulerSilentError: no answer, or not in time.
        SchedulerRefusedError: it failed otherwise, with what it said.
        ConfigError: there is no such program.
    """
    name = " ".join(words[:2]) if words[0] == "scontrol" else words[0]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=_environment(words[0]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
    except FileNotFoundError:
        if cwd is not None and not cwd.is_dir():
            raise
        raise ConfigError(f"this machine has no `{words[0]}`; executor=slurm works on a login node") from None
    except subprocess.TimeoutExpired:
        raise SchedulerSilentError(f"{name} did not answer within {timeout_s:g} s") from None
    if done.returncode == 0:
        # sbatch says on its other channel when a test would start
        return done.stdout or (done.stderr if "--test-only" in words else "")
    text = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode} without a word"
    if _SILENCE.search(text):
        raise SchedulerSilentError(f"{name}: {text}")
    raise SchedulerRefusedError(name, text)


def _environment(command: str) -> dict[str, str]:
    """The caller's environment without what another job or a person's habits would add to a command.

    That of sbatch becomes the job's, so nothing is added to it.
    """
    kept = _KEPT + (_KEPT_FOR_JOBS if command == "sbatch" else ())
    own = {name: value for name, value in os.environ.items() if name in kept or not _OF_SLURM.match(name)}
    return own if command == "sbatch" else {**own, "LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}
