"""A site's profile: `slurm_templates/cluster/<name>.yaml`, in the words of hydra-submitit-launcher, and a few of ours.

partition: a100
account: lab
setup: [conda.sh, "export NCCL_DEBUG=WARN"]      # files of setup/*.sh, and lines
vssl: {max_submit_jobs: 500, resources: {pretrain_cross: {partition: a100-long}}}
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from launch.plan import Resources
from launch.planning.marked_yaml import Marked, load
from launch.planning.templates import files, named
from launch.provenance import CHECKOUT
from launch.running.causes import Policy
from vssl.config import ConfigError, build, keys, nearest

DEFAULT = "default"
SBATCH_AT_ONCE = 4  # few enough for a controller that many people ask

_STAGES = "each stage asks for its own: say it in a resource class, or for this cluster in vssl.resources.CLASS"
_RANKS = "a stage's gpus_per_node, tasks_per_node and cpus_per_task say it"
_LOGS = "logs lie in the batch's folder, where `vssl logs` finds them"
_OURS = "the launcher sets it"
# Keys that would take the launcher's work out of its hands -> why, and what to write instead.
REFUSED: Mapping[str, str] = {
    "array": "the launcher packs stages into arrays; array_parallelism limits how many elements run at once",
    "dependency": "the launcher tells Slurm every edge of the graph",
    "hold": "the launcher holds its arrays until all are queued, and releases them",
    "requeue": "every job may be requeued; vssl.requeue says how often, by cause",
    "no_requeue": "every job may be requeued; vssl.requeue says how often, by cause",
    "max_num_timeout": "vssl.requeue.time_limit says how often",
    **dict.fromkeys(("output", "error", "open_mode", "stderr_to_stdout"), _LOGS),
    **dict.fromkeys(("job_name", "name"), "a job's name leads to the record of its batch"),
    "signal": "stages listen to USR2; signal_delay_s says how long before the time limit it comes",
    "use_srun": "signals reach the ranks of a stage through srun alone",
    **dict.fromkeys(("chdir", "submitit_folder"), "a job starts in the folder of its batch"),
    **dict.fromkeys(("nodes", "ntasks_per_node", "tasks_per_node", "cpus_per_task", "gpus_per_node"), _STAGES),
    **dict.fromkeys(("mem", "mem_gb", "time", "timeout_min"), _STAGES),
    **dict.fromkeys(("ntasks", "gpus", "gpus_per_task", "num_gpus", "cpus_per_gpu"), _RANKS),
    **dict.fromkeys(("kill_on_invalid_dep", "parsable", "wrap", "wait", "test_only", "max_pickle_size_gb"), _OURS),
}
_OURS_BLOCK = ("max_submit_jobs", "sbatch_at_once", "visibility_s", "requeue", "hang_min", "resources")
_PER_CLASS = ("partition", "account", "qos", "constraint", "exclude", "nodelist", "gres", "exclusive", "mem_per_gpu")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How jobs are submitted at one site."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)  # of sbatch, by submitit's names
    setup: tuple[str, ...] = ()  # shell lines before the stage
    teardown: tuple[str, ...] = ()  # and after it, whatever became of it
    srun_args: tuple[str, ...] = ()
    python: str | None = None  # a shell command, as of a container; None: this interpreter
    array_parallelism: int | None = None
    policy: Policy = field(default_factory=Policy)
    max_submit_jobs: int | None = None
    sbatch_at_once: int = SBATCH_AT_ONCE  # commands that run side by side while a plan is submitted
    visibility_s: float | None = None
    resources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # class -> what it asks for here
    per_class: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # class -> parameters

    def parameters_for(self, resources: Resources) -> dict[str, Any]:
        """sbatch's parameters for a stage, its class's own on top."""
        return {**self.parameters, **self.per_class.get(resources.resource_class, {})}


def read_profile(name: str | None = None, checkout: Path = CHECKOUT) -> Profile:
    """Read a profile by name; None: the one that is called default, whose absence means that nothing is special.

    Raises:
        ConfigError: no such profile, or something in it that cannot be used, with its file and line.
    """
    if name is None and DEFAULT not in files("cluster", checkout):
        return Profile(name=DEFAULT)
    marked = load(named("cluster", name or DEFAULT, checkout))
    from launch.executors.slurm import parameter_names  # submitit takes a while to import

    accepted = sorted({*parameter_names(), "python", "vssl"} - REFUSED.keys())
    given = {key.removeprefix("slurm_"): value for key, value in marked.mapping("a cluster profile").items()}
    for key, value in given.items():
        _refuse_owned(key, value)
        if key not in accepted:
            raise value.error(f"unknown key `{key}`{nearest(key, accepted)}; accepted: {', '.join(accepted)}")
    ours = given.pop("vssl", Marked({}, marked.file, marked.line)).mapping("`vssl`", _OURS_BLOCK)
    python = given.pop("python").text("`python`") if "python" in given else None
    profile = Profile(
        name=name or DEFAULT,
        setup=_lines("setup", given.pop("setup", None), checkout),
        teardown=_lines("teardown", given.pop("teardown", None), checkout),
        srun_args=_lines("srun_args", given.pop("srun_args", None), checkout),
        python=python,
        array_parallelism=_number(given.pop("array_parallelism", None), "array_parallelism"),
        policy=_policy(ours, given.pop("signal_delay_s", None), marked),
        max_submit_jobs=_number(ours.get("max_submit_jobs"), "vssl.max_submit_jobs"),
        sbatch_at_once=_number(ours.get("sbatch_at_once"), "vssl.sbatch_at_once") or SBATCH_AT_ONCE,
        visibility_s=_seconds(ours.get("visibility_s"), "vssl.visibility_s"),
        parameters=_parameters(given),
    )
    return _with_classes(profile, ours.get("resources"), files("resources", checkout))


def _refuse_owned(key: str, value: Marked, where: str = "") -> None:
    reason = REFUSED.get(key.replace("-", "_"))
    if reason:
        raise value.error(f"`{where}{key}` is not for a profile: {reason}")


def _lines(key: str, value: Marked | None, checkout: Path) -> tuple[str, ...]:
    """Shell lines; in `setup` and `teardown`, a word that ends in .sh stands for the file of that name."""
    if value is None:
        return ()
    found: list[str] = []
    for item in value.value if isinstance(value.value, list) else [value]:
        line = item.text(f"an entry of `{key}`")
        if key != "srun_args" and re.fullmatch(r"[\w.-]+\.sh", line):
            try:
                text = named("setup", line.removesuffix(".sh"), checkout).read_text()
            except ConfigError as error:
                raise value.error(f"`{key}`: {error}") from None
            found += [row for row in text.splitlines() if not row.startswith("#!")]
        else:
            found += line.splitlines()
    if any(row.startswith("#SBATCH") for row in found):
        raise value.error(f"`{key}` holds a line that starts with #SBATCH; Slurm reads none there: make it a key here")
    return tuple(found)


def _number(value: Marked | None, key: str) -> int | None:
    if value is None:
        return None
    if type(value.value) is not int or value.value < 1:
        raise value.error(f"`{key}` is {value.plain()!r}; expected a whole number of at least 1")
    return value.value


def _seconds(value: Marked | None, key: str) -> float | None:
    if value is None:
        return None
    if type(value.value) not in (int, float) or value.value < 0:
        raise value.error(f"`{key}` is {value.plain()!r}; expected seconds")
    return float(value.value)


def _policy(ours: Mapping[str, Marked], delay: Marked | None, where: Marked) -> Policy:
    given = {key: ours[key] for key in ("requeue", "hang_min") if key in ours}
    if delay is not None:
        given["signal_delay_s"] = delay
    for key, value in given.items():  # one after the other, so that an error names its line
        try:
            build(Policy, {key: value.plain()})
        except ConfigError as error:
            raise value.error(str(error)) from None
    return build(Policy, {key: value.plain() for key, value in given.items()})


def _parameters(given: Mapping[str, Marked]) -> dict[str, Any]:
    """Values for #SBATCH lines: one line each, whatever is in them."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        if key == "additional_parameters":
            for inner, item in value.mapping(f"`{key}`").items():
                _refuse_owned(inner, item, f"{key}.")
                if not re.fullmatch(r"[a-z][a-z0-9_-]*", inner):
                    raise item.error(f"`{key}.{inner}`: expected the long name of an option of sbatch, without dashes")
            found[key] = {inner: _plain_value(f"{key}.{inner}", item) for inner, item in value.value.items()}
        else:
            found[key] = _plain_value(key, value)
    return found


def _plain_value(key: str, value: Marked) -> str | int | float | bool:
    plain = value.plain()
    if not isinstance(plain, str | int | float) or (isinstance(plain, str) and (not plain or _CONTROL.search(plain))):
        raise value.error(f"`{key}` is {plain!r}; expected a number, or text on one line")
    if key == "gres" and re.match(r"gpu\b", str(plain)) and "{gpus}" not in str(plain):
        raise value.error(f"`gres` is {plain!r}; how many is each stage's own: write the number as {{gpus}}, in quotes")
    return plain


def _with_classes(profile: Profile, block: Marked | None, known: Mapping[str, Path]) -> Profile:
    """The profile with what resource classes ask for at this site."""
    if block is None:
        return profile
    resources: dict[str, dict[str, Any]] = {}
    per_class: dict[str, dict[str, Any]] = {}
    sizes = sorted(keys(Resources) - {"resource_class"})
    for name, patch in block.mapping("`vssl.resources`", known).items():
        given = patch.mapping(f"`vssl.resources.{name}`", (*sizes, *_PER_CLASS))
        resources[name] = {key: value.plain() for key, value in given.items() if key in sizes}
        per_class[name] = _parameters({key: value for key, value in given.items() if key in _PER_CLASS})
        try:
            build(Resources, resources[name])
        except ConfigError as error:
            raise patch.error(f"`vssl.resources.{name}`: {error}") from None
    return replace(profile, resources=resources, per_class=per_class)
