"""Why a job is pending, in words, from the reason that Slurm's queue gives."""

import re
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """What a reason means, and what a person can do; nothing to do: it passes by itself."""

    text: str
    todo: str = ""


_NEVER = "it never starts like this: `vssl cancel` it, change"
_MEANINGS = {
    "None": Meaning("Slurm has not looked at it yet"),
    "Resources": Meaning("what it asks for is busy"),
    "Priority": Meaning("jobs of higher priority stand before it"),
    "Dependency": Meaning("what it depends on has not ended"),
    "DependencyNeverSatisfied": Meaning("what it depends on has failed", "mend that and run the same line again"),
    "JobHeldUser": Meaning("held by its owner", "`scontrol release {job}` lets it go"),
    "JobHeldAdmin": Meaning("held by the administrators, or by Slurm after failed starts", "ask them to release {job}"),
    "JobHoldMaxRequeue": Meaning("Slurm held it: it was requeued too often", "`vssl cancel`, then the same line again"),
    "BeginTime": Meaning("its begin time has not come", "any vssl verb on this machine clears that"),
    "JobArrayTaskLimit": Meaning("its array runs as many elements at once as it may (array_parallelism)"),
    "Licenses": Meaning("a licence that it asks for is in use"),
    "Reservation": Meaning("its reservation has not begun"),
    "ReservationDeleted": Meaning("its reservation is gone", f"{_NEVER} the profile's reservation"),
    "PartitionDown": Meaning("its partition is down", "ask the administrators, or choose another partition"),
    "PartitionInactive": Meaning("its partition starts nothing now", "ask the administrators, or choose another one"),
    "PartitionTimeLimit": Meaning("its time limit is above the partition's", f"{_NEVER} resources.timeout_min"),
    "PartitionNodeLimit": Meaning("it asks for more nodes than the partition allows", f"{_NEVER} resources.nodes"),
    "PartitionConfig": Meaning("the partition cannot give what it asks for", f"{_NEVER} resources or partition"),
    "BadConstraints": Meaning("no node has what it asks for", f"{_NEVER} the constraint or the resources"),
    "InvalidAccount": Meaning("the account is not known here", f"{_NEVER} the profile's account"),
    "InvalidQOS": Meaning("the QOS is not known or not yours", f"{_NEVER} the profile's qos"),
    "AccountNotAllowed": Meaning("the partition does not take this account", f"{_NEVER} account or partition"),
    "QOSNotAllowed": Meaning("the partition does not take this QOS", f"{_NEVER} qos or partition"),
    "NodeDown": Meaning("a node that it needs is down", "wait, or ask the administrators"),
    "ReqNodeNotAvail": Meaning("nodes that it needs are down, drained or reserved", "wait, or ask the administrators"),
    "Cleaning": Meaning("its last run is being cleaned up"),
    "Prolog": Meaning("the site's prologue still runs"),
    "SchedDefer": Meaning("Slurm is busy and looks at it later"),
    "JobLaunchFailure": Meaning("its nodes could not start it", "`vssl logs`, then ask the administrators"),
}
_SENTENCES = {  # squeue prints some reasons as whole sentences
    "Nodes required for job are DOWN": "ReqNodeNotAvail",
    "launch failed requeued held": "JobHeldAdmin",
    "job requeued in held state": "JobHeldUser",
    "Dependency": "Dependency",
}
_LIMIT = re.compile(r"(?P<whose>QOS|Assoc)(?P<sort>Grp|Max)?(?P<what>.*)")


def meaning(reason: str) -> Meaning:
    """What a reason of squeue means; one that is not known is passed on as Slurm's own word."""
    word = next((word for start, word in _SENTENCES.items() if reason.startswith(start)), reason)
    word = word.strip("()").partition(",")[0].partition("(")[0].strip()  # ReqNodeNotAvail, UnavailableNodes:n2
    if word in _MEANINGS:
        return _MEANINGS[word]
    if word in ("", "null"):
        return _MEANINGS["None"]
    found = _LIMIT.fullmatch(word)
    return _limit(**found.groupdict()) if found else Meaning("Slurm gives no other word")


def _limit(whose: str, sort: str | None, what: str) -> Meaning:
    """The limits of accounting: nearly a hundred words, made of few parts."""
    owner = "the QOS" if whose == "QOS" else "your account"
    if "Minutes" in what or "UsageThreshold" in what:
        return Meaning(f"{owner} has used up its hours", "ask for more, or choose another account or QOS")
    if "PerJob" in what or "WallDuration" in what or "MinCpu" in what or "MinGRES" in what or "MinMemory" in what:
        return Meaning(f"it asks for more, or less, than {owner} allows one job", f"{_NEVER} resources or qos")
    shared = " of all its users together" if sort == "Grp" else ""
    return Meaning(f"{owner} lets only so much{shared} run at once; it starts as other jobs end")


def clock(moment_s: float, now_s: float) -> str:
    """A time of day, with its date where that is another one."""
    moment, now = time.localtime(moment_s), time.localtime(now_s)
    return time.strftime("%H:%M" if moment[:3] == now[:3] else "%a %d %b %H:%M", moment)
