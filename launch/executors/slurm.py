"""Stages as Slurm arrays: the text of a batch script, and a plan's way into the queue.

Of submitit come the names of parameters, their checks and the script's form. Its pickles do not: what a job runs is
`python -m launch.job <batch folder>`, and the element is the array's index, so that nothing is lost with the launcher.
"""

import shlex
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor

from launch.exit_codes import DONE, FAILED, TRY_AGAIN
from launch.plan import Plan, Resources
from launch.running.batch_folder import refuse_unsafe
from launch.slurm.arrays import index_text
from launch.slurm.profiles import Profile
from launch.slurm.scheduler import Scheduler, SchedulerRefusedError, SchedulerSilentError
from launch.slurm.submission import Round, Submission
from launch.slurm.submit_lock import LockHeldError
from launch.store import Store
from vssl.config import ConfigError

_INDEX = '"$SLURM_ARRAY_TASK_ID"'
_ATTEMPT = '"${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}.${SLURM_RESTART_COUNT:-0}"'
# What another launcher of processes, such as torchrun, may have left around an sbatch: ranks would take it for theirs.
_FOREIGN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")


class BatchExecutor(SlurmExecutor):
    """submitit's executor as far as the text of a script; a fresh one for each: it keeps whatever it was told."""

    @classmethod
    def affinity(cls) -> int:
        """Scripts are written, to be read, on machines without Slurm too."""
        return 1

    def script(self, command: str, parameters: dict[str, Any]) -> str:
        """The text for a command; parameters by submitit's names."""
        self.update_parameters(**self._convert_parameters(parameters))
        # Some sites refuse accounting keys that they do not know, and submitit has one of its own.
        self.parameters.setdefault("wckey", None)
        text: str = self._make_submission_file_text(command, "")
        return text


def parameter_names() -> frozenset[str]:
    """Names of sbatch's parameters that submitit takes."""
    return frozenset(BatchExecutor._valid_parameters())


def script_text(
    batch: Path,
    resources: Resources,
    profile: Profile,
    *,
    indices: Collection[int],
    dependency: str,
    snapshot: Path,
) -> str:
    """The script of one array. It depends on its arguments alone: nothing of this process's environment is in it.

    Args:
        batch: folder of the batch, from which the script is submitted.
        resources: what each element asks for.
        profile: the site's.
        indices: of the elements.
        dependency: argument of `--dependency`; "": none.
        snapshot: folder of the code that runs.

    Raises:
        ConfigError: a path that cannot be written into a script, or a parameter that submitit refuses.
    """
    for path in (batch, snapshot):
        refuse_unsafe(path)
    folder, interpreter = shlex.quote(str(batch)), shlex.quote(sys.executable)
    # Without a limit after the first rank has left: rank 0 may still digest a large artifact.
    srun = ["srun", "--unbuffered", "--kill-on-bad-exit=1", "--wait=0", f"--cpus-per-task={resources.cpus_per_task}"]
    srun += [f"--output={_log(batch, '%a-%t.log')}", "--open-mode=append", *profile.srun_args]
    setup = [
        "export SLURM_EXPORT_ENV=ALL  # for srun, where sbatch was told to pass no environment on",
        f"unset {' '.join(_FOREIGN)} ${{!TORCHELASTIC_@}}",
        "trap : TERM USR2  # the script lives on when its stage is told to save and stop",
        *((*profile.setup, "set +eu", "trap : TERM USR2") if profile.setup else ()),
        f"cd {folder}",
        "export VSSL_LAUNCHED=1",
        f"export VSSL_ATTEMPT={_ATTEMPT}",
        'export VSSL_START="$(date +%s%N)"  # a controller that was killed may have forgotten an earlier start',
        f'export PYTHONPATH={shlex.quote(str(snapshot))}"${{PYTHONPATH:+:$PYTHONPATH}}"',
        "export PYTHONDONTWRITEBYTECODE=1  # a snapshot is shared by all jobs, and stays as it is",
    ]
    command = f"{shlex.join(srun)} {profile.python or interpreter} -u -P -m launch.job {folder}\nvssl_rc=$?"
    teardown = ["(", *profile.teardown, ")"] if profile.teardown else []
    # Not in the profile's container, where Slurm's commands may be missing.
    teardown += [f'{interpreter} -P -m launch.settle {folder} {_INDEX} "$vssl_rc"', "exit $?", ""]
    parameters = profile.parameters_for(resources)
    own = {
        "array": index_text(indices) + (f"%{profile.array_parallelism}" if profile.array_parallelism else ""),
        "kill-on-invalid-dep": "yes",
        "output": _log(batch, "%a.log"),
        "open-mode": "append",
        "requeue": True,
        "signal": f"USR2@{profile.policy.signal_delay_s}",
    }
    parameters |= _request(resources, parameters)
    parameters |= {
        "name": f"vssl-{batch.name}",
        "stderr_to_stdout": True,
        "use_srun": False,
        "setup": setup,
        "teardown": teardown,
        "additional_parameters": {**parameters.get("additional_parameters", {}), **own},
    }
    if dependency:
        parameters["dependency"] = dependency
    try:
        return BatchExecutor(batch).script(command, parameters)
    except ValueError as error:
        raise ConfigError(f"profile {profile.name}: {error}") from None


def _log(batch: Path, name: str) -> str:
    """Where Slurm writes a log: from the batch's folder, unless Slurm would replace something in that folder's name."""
    place = f"{str(batch).replace('%', '%%')}/" if "%" in str(batch) else ""
    return f"{place}logs/{name}"


def _request(resources: Resources, parameters: dict[str, Any]) -> dict[str, Any]:
    """Sizes by submitit's names; a profile may say that memory or GPUs are asked for in another way."""
    found: dict[str, Any] = {
        "timeout_min": resources.timeout_min,
        "nodes": resources.nodes,
        "tasks_per_node": resources.tasks_per_node,
        "cpus_per_task": resources.cpus_per_task,
    }
    gpus, gres = resources.gpus_per_node, str(parameters.get("gres", ""))
    if not gpus:
        parameters.pop("mem_per_gpu", None)
    if not {"mem_per_cpu", "mem_per_gpu"} & parameters.keys():
        found["mem_gb"] = resources.mem_gb
    if "{gpus}" not in gres:
        return found | ({"gpus_per_node": gpus} if gpus else {})
    if gpus:
        return found | {"gres": gres.replace("{gpus}", str(gpus))}
    del parameters["gres"]
    return found


def execute(
    plan: Plan,
    selection: Sequence[str],
    store: Store,
    *,
    profile: Profile,
    force: Collection[str] = (),
    follow: bool = False,
    scheduler: Scheduler | None = None,
    look_every_s: float = 30.0,
) -> int:
    """Queue the selected stages of a plan; what is finished, queued or running is left as it is.

    Args:
        plan: the whole plan; no id in it may be pending.
        selection: names of the stages to bring to completion.
        store: where results lie.
        profile: how this site wants its jobs.
        force: names of selected stages that are redone even if they are finished.
        follow: stay until the queue has taken everything.
        scheduler: None: Slurm's commands on this machine.
        look_every_s: how often a follower looks.

    Returns:
        0 all is queued or done; 75 the queue took a part, or the controller does not answer: the same line again goes
        on; 1 while following, a stage above one that was still to be sent has failed.

    Raises:
        ConfigError: what cannot work, or what Slurm refuses; nothing of it stays in the queue.
    """
    refuse_unsafe(store.root)  # before anything is written there
    submission = Submission(plan, selection, store, profile, scheduler or Scheduler(), script_text, _say)
    try:
        finished = submission.finished(force)
        open_ = [name for name in submission.names if name not in finished]
        if not open_:
            pipeline = store.save_plan(plan, submission.names)
            _say(f"all {len(submission.names)} stages are done; `vssl report {pipeline.name}` shows them")
            return DONE
        submission.check(open_)
        first = submission.round(submission.names, force)
        if follow:
            return _follow(submission, first, look_every_s)
    except (SchedulerSilentError, LockHeldError) as error:
        print(f"{error}\nnothing is lost: the same line again goes on from here", file=sys.stderr, flush=True)
        return TRY_AGAIN
    except SchedulerRefusedError as error:
        raise ConfigError(f"Slurm refused: {error}") from None
    _say_totals(submission, first)
    if first.left:
        again = "the same line again" + (" (without force=)" if force else "")
        _say(f"the queue takes no more jobs of yours now: {again}, or --follow, sends the rest")
    return TRY_AGAIN if first.left else DONE


def _follow(submission: Submission, first: Round, look_every_s: float) -> int:
    """Look again and again until the queue has taken everything that can still run."""
    one, rest, told = first, set(first.left), 0
    missing_s: dict[str, float] = {}  # stage whose parent is neither finished nor queued -> since when
    given_up: dict[str, str] = {}
    _say_totals(submission, one)
    try:
        while rest:
            if len(rest) != told:
                told = len(rest)
                _say(f"{told} are still to be sent, as soon as the queue has room; Ctrl-C stops the waiting alone")
            time.sleep(look_every_s)
            try:
                one = submission.round([name for name in submission.names if name in rest], patient=True)
            except (SchedulerSilentError, LockHeldError) as error:
                _say(f"{error}; looking again in {look_every_s:.0f} s")
                continue
            # A parent that has just been completed may be seen here later than that it has left the queue.
            missing_s = {name: missing_s.get(name, time.monotonic()) for name in one.lost}
            dead = {
                name for name, since in missing_s.items() if time.monotonic() - since > submission.store.visibility_s
            }
            given_up |= {name: one.lost[name] for name in dead}
            rest = {*one.left, *one.lost} - dead
    except KeyboardInterrupt:
        _say("no longer waiting; the same line again sends the rest")
        return TRY_AGAIN
    for name, parent in given_up.items():
        _say(f"{name} is not sent: {parent} has failed, or was cancelled")
    return FAILED if given_up else DONE


def _say_totals(submission: Submission, one: Round) -> None:
    """How many stages of the line stand where, and where to look next."""
    names = set(submission.names)
    done, before, sent = (len(names & found) for found in (one.finished, one.waiting, one.sent))
    parts = [f"{sent} of {len(names) - done} stages queued now"]
    parts += [f"{before} in the queue before"] if before else []
    parts += [f"{done} done"] if done else []
    _say(f"{', '.join(parts)}; `vssl watch {submission.pipeline}` follows them, `vssl status` shows them")


def _say(text: str) -> None:
    print(text, flush=True)
