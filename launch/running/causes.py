"""Why a launch of a stage ended, in one word, and what follows from it. Pure: who ran it and where does not matter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from launch.exit_codes import BAD_INPUT, DONE, FAILED, REFUSED, TRY_AGAIN
from vssl.config import knob

Cause = Literal[
    "done",
    "preempted",
    "time_limit",
    "signal",
    "node_failure",
    "out_of_memory",
    "killed",
    "hung",
    "elsewhere",
    "exception",
    "bad_input",
    "refused",
    "no_start",
]
CAUSES: tuple[Cause, ...] = get_args(Cause)
_PLENTY = 10_000
# How often a stage goes on by itself after each cause. What is not here is never tried again: it would end the same.
BUDGETS: Mapping[str, int] = {
    "preempted": _PLENTY,
    "time_limit": _PLENTY,
    "signal": 100,
    "elsewhere": 30,
    "node_failure": 10,
    "killed": 2,
    "hung": 1,
    "out_of_memory": 0,  # on equal resources
}
STOPS = ("preempted", "time_limit", "signal")  # after which a stage is expected to be further than before
IDLE_STOPS = 3  # in a row without a new checkpoint or artifact, after which going on is pointless
_EXIT_CODES: Mapping[str, int] = {
    **dict.fromkeys(BUDGETS, TRY_AGAIN),
    "done": DONE,
    "bad_input": BAD_INPUT,
    "refused": REFUSED,
    "exception": FAILED,
    "no_start": FAILED,
    "out_of_memory": FAILED,
}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a cluster's profile says of stops and new starts."""

    requeue: dict[str, int] = knob({}, doc="cause -> how often a stage is requeued after it; the rest as in BUDGETS")
    hang_min: float = knob(60.0, doc="minutes without a sign of progress after which a stage counts as hung", above=0)
    signal_delay_s: int = knob(120, doc="seconds before the time limit at which a stage saves and stops", at_least=0)

    def __post_init__(self) -> None:
        for cause, budget in self.requeue.items():
            if cause not in BUDGETS:
                raise ValueError(f"requeue: after {cause!r} nothing is requeued; it may be {', '.join(BUDGETS)}")
            if budget < 0:
                raise ValueError(f"requeue.{cause}={budget}: expected 0 or more")

    def budget(self, cause: str) -> int:
        return self.requeue.get(cause, BUDGETS.get(cause, 0))


@dataclass(frozen=True)
class Finding:
    """Why a launch ended."""

    cause: Cause
    error: str = ""
    final: bool = False  # whatever the budget says
    by_slurm: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a launch ended, and what happens next."""

    cause: Cause
    error: str
    decision: Literal["end", "requeue"]
    exit_code: int
    by_slurm: bool = False  # it is requeued already


def decide(found: Finding, policy: Policy, earlier: Sequence[Mapping[str, Any]], progress: str) -> Verdict:
    """What follows from a cause.

    Args:
        found: how this launch ended.
        policy: budgets.
        earlier: verdicts on earlier launches of the same batch element, oldest first.
        progress: changes with every new checkpoint and every new file of an artifact.
    """
    code = _EXIT_CODES[found.cause]
    if found.by_slurm:
        return Verdict(cause=found.cause, error=found.error, decision="requeue", exit_code=code, by_slurm=True)
    if found.cause not in BUDGETS or found.final:
        return Verdict(cause=found.cause, error=found.error, decision="end", exit_code=code)
    if _is_stuck(found.cause, earlier, progress):
        error = (
            f"stopped {IDLE_STOPS} times in a row ({found.cause.replace('_', ' ')}) without a new checkpoint or "
            "artifact in between: give it more time, or let it save more often (runtime.save_every_min)"
        )
        return Verdict(cause=found.cause, error=error, decision="end", exit_code=FAILED)
    spent, budget = times(found.cause, earlier), policy.budget(found.cause)
    if spent >= budget:
        parts = [found.error, f"requeued {spent} times for that, as often as the profile allows" if budget else ""]
        return Verdict(cause=found.cause, error="; ".join(filter(None, parts)), decision="end", exit_code=code)
    return Verdict(cause=found.cause, error=found.error, decision="requeue", exit_code=code)


def times(cause: str, earlier: Sequence[Mapping[str, Any]]) -> int:
    """How often a stage has gone on after a cause."""
    return sum(one["cause"] == cause and one["decision"] == "requeue" for one in earlier)


def _is_stuck(cause: Cause, earlier: Sequence[Mapping[str, Any]], progress: str) -> bool:
    before = earlier[-(IDLE_STOPS - 1) :]
    return (
        cause in STOPS
        and len(before) == IDLE_STOPS - 1
        and all(one["cause"] in STOPS and one.get("progress") == progress for one in before)
    )
