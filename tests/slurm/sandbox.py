"""A private, throw-away Slurm on this machine: real daemons, one folder, free ports, nothing left behind.

    python -m tests.slurm.sandbox [FOLDER] [--nodes N] [--no-accounting]

Several may run at once, beside a Slurm that the machine belongs to: each has its own configuration, key, sockets and
ports, and only who sets SLURM_CONF as it says talks to it. No root is needed: whoever brings it up is its only user
and its administrator, and jobs run as that user. Node names need not resolve.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from tests.slurm import programs
from tests.slurm.daemons import SEARCH, Daemons, SandboxError, answers, reserve_port, wait_until
from tests.slurm.variant import CLUSTER, Variant, slurm_conf, slurmdbd_conf, user_name

__all__ = ["DEFAULT", "PACKAGES", "Sandbox", "SandboxError", "Variant", "wait_until"]

PACKAGES = "slurm-wlm slurmdbd munge mariadb-server"  # Debian's and Ubuntu's names
BINARIES = ("munged", "slurmctld", "slurmd", "slurmstepd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
ACCOUNTING_BINARIES = ("mariadbd", "mariadb-install-db", "slurmdbd", "sacctmgr", "sacct")
INHERITED_FROM_SLURM = ("SLURM", "SBATCH_", "SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_")
LONGEST_FOLDER = 60  # characters: Unix sockets below it have names of 107 at most
DEFAULT = Variant()


class Sandbox:
    """Brings up a cluster below a folder, as a context manager.

    Args:
        folder: receives everything that the daemons write; empty or missing. Its path must be short: LONGEST_FOLDER.
        variant: which cluster.
        remove: whether the folder goes when the last process has gone, even if this one is killed.
    """

    def __init__(self, folder: Path, variant: Variant = DEFAULT, *, remove: bool = False) -> None:
        self.folder = folder.resolve()
        self.variant = variant
        self.nodes = variant.node_names
        self._remove = remove
        self._daemons: Daemons | None = None
        self._ports: dict[str, socket.socket] = {}  # by daemon

    @staticmethod
    def missing(variant: Variant = DEFAULT) -> list[str]:
        """Binaries that this machine lacks. PACKAGES names what brings them."""
        needed = BINARIES + (ACCOUNTING_BINARIES if variant.accounting else ())
        return [name for name in needed if shutil.which(name, path=SEARCH) is None]

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process must have in its environment to talk to this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def __enter__(self) -> "Sandbox":
        if missing := self.missing(self.variant):
            raise SandboxError(f"not installed: {', '.join(missing)}; Debian's packages are {PACKAGES}")
        if len(str(self.folder)) > LONGEST_FOLDER:
            raise SandboxError(f"{self.folder}: longer than {LONGEST_FOLDER} characters, too long for Unix sockets")
        if self.folder.exists() and any(self.folder.iterdir()):
            raise SandboxError(f"{self.folder} is not empty: a sandbox starts from nothing; name another folder")
        try:
            self._bring_up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process of the sandbox, those of its jobs included."""
        if self._daemons is not None:
            self._daemons.close()
            self._daemons = None
        while self._ports:
            self._ports.popitem()[1].close()

    def run(
        self, *words: str, check: bool = True, timeout_s: float = 60, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a client command, such as `squeue`, against this cluster."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(INHERITED_FROM_SLURM)}
        done = subprocess.run(
            words,
            env={**inherited, **self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        if check and done.returncode != 0:
            raise SandboxError(f"{' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done

    def submit(self, *words: str, environment: Mapping[str, str] | None = None) -> str:
        """`sbatch` with these words, from the sandbox's folder; the job's id."""
        command = ("sbatch", "--parsable", f"--chdir={self.folder}", *words)
        return self.run(*command, environment=environment).stdout.strip()

    def state(self, job: str) -> str:
        """A job's state as slurmctld has it, such as PENDING; nothing where it has forgotten the job."""
        words = ("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}")
        return self.run(*words, check=False).stdout.strip()

    def wait(self, job: str, *states: str, timeout_s: float = 60) -> None:
        """Wait until a job, or one `<array>_<task>`, is in one of some states."""
        wait_until(lambda: self.state(job) in states, f"job {job} to be {' or '.join(states)}", timeout_s)

    def ready(self) -> bool:
        """Whether all nodes are idle and, with accounting, the database knows the cluster's controller."""
        if self.node_states() != dict.fromkeys(self.nodes, "idle"):
            return False
        if not self.variant.accounting:
            return True
        known = self.run("sacctmgr", "-nP", "show", "cluster", "format=Cluster,ControlPort", check=False).stdout
        return any(line.startswith(f"{CLUSTER}|") and not line.endswith("|0") for line in known.splitlines())

    def node_states(self) -> dict[str, str]:
        """Node -> its state, such as `idle`; nothing while there is no controller to ask."""
        words = ("sinfo", "--noheader", "--Node", "--partition=cpu", "--format=%N %T")
        return dict(line.split() for line in self.run(*words, check=False).stdout.splitlines())

    def drain(self) -> None:
        """Back to the beginning: every daemon up, no job, every node idle."""
        for name in self._names():
            if not self.is_up(name):
                self.start(name)
        self.run("scancel", f"--user={user_name()}", "--signal=KILL", "--full", check=False)  # no wait for KillWait
        self.run("scancel", f"--user={user_name()}")
        wait_until(lambda: not self.run("squeue", "--noheader").stdout, "an empty queue")
        for name, state in self.node_states().items():
            if state.startswith(("down", "drain")):
                self.set_node(name, "RESUME")
        wait_until(self.ready, "idle nodes")

    def set_node(self, name: str, state: str, reason: str = "test") -> None:
        """As an administrator does: DOWN, DRAIN, RESUME. A node set DOWN stays down."""
        why = [] if state == "RESUME" else [f"Reason={reason}"]
        self.run("scontrol", "update", f"NodeName={name}", f"State={state}", *why)

    def is_up(self, name: str) -> bool:
        return self._running().is_up(name)

    def start(self, name: str) -> None:
        """Start a daemon that was stopped and wait until it answers: `slurmctld`, `slurmdbd` or a node's slurmd."""
        self._spawn(name)
        self._running().wait_for(name, lambda: self._answers(name))

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End a daemon and wait until it is gone. Jobs go on: their steps have processes of their own."""
        self._running().send(name, number)
        wait_until(lambda: not self.is_up(name), f"the end of {name}")

    @contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """A while without a daemon."""
        self.stop(name)
        try:
            yield
        finally:
            self.start(name)

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """A while in which a daemon accepts connections and does not answer; afterwards it does what it was asked."""
        self._running().send(name, signal.SIGSTOP)
        try:
            yield
        finally:
            self._running().send(name, signal.SIGCONT)

    def log(self, name: str) -> str:
        """What a daemon has logged: `slurmctld`, `slurmdbd`, `munged`, `mariadbd` or a node's name."""
        for suffix in ("log", "out"):
            path = self.folder / "log" / f"{name}.{suffix}"
            if path.exists() and (text := path.read_text(errors="replace")):
                return text
        return ""

    def _names(self) -> list[str]:
        """Daemons in the order in which they can be started."""
        database = ["mariadbd", "slurmdbd"] if self.variant.accounting else []
        return ["munged", *database, "slurmctld", *self.nodes]

    def _bring_up(self) -> None:
        for name in ("log", "run", "state", "spool", "database"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o700)  # the database asks for no password
        self._write_configuration()
        self._daemons = Daemons(self.folder / "log", self.folder if self._remove else None)
        self.start("munged")
        if self.variant.accounting:
            words = programs.words("mariadb-install-db", self.folder)
            self._daemons.finish("mariadb-install-db", words, programs.environment(self.folder))
            self.start("mariadbd")
            self.start("slurmdbd")
        for name in ("slurmctld", *self.nodes):
            self._spawn(name)
        for name in ("slurmctld", *self.nodes):
            self._daemons.wait_for(name, lambda name=name: self._answers(name))  # type: ignore[misc]
        self._daemons.wait_for("slurmctld", self.ready)  # it has made the cluster known to the database
        if self.variant.max_submit_jobs is not None:
            self.run("sacctmgr", "-i", "add", "account", "lab")
            limit = f"MaxSubmitJobs={self.variant.max_submit_jobs}"
            self.run("sacctmgr", "-i", "add", "user", user_name(), "Account=lab", "DefaultAccount=lab", limit)

    def _write_configuration(self) -> None:
        self._ports = {name: reserve_port() for name in ("slurmctld", "slurmdbd", *self.nodes)}
        ports = {name: int(held.getsockname()[1]) for name, held in self._ports.items()}
        (self.folder / "slurm.conf").write_text(slurm_conf(self.variant, self.folder, ports))
        for name, content in (
            ("slurmdbd.conf", slurmdbd_conf(self.folder, ports["slurmdbd"]).encode()),
            ("munge.key", os.urandom(1024)),
        ):
            path = self.folder / name
            path.touch(mode=0o600)  # the daemons insist on it
            path.write_bytes(content)

    def _answers(self, name: str) -> bool:
        """Whether a daemon does its work. A controller does once it has heard of every node that is up."""
        if name == "munged":
            return (self.folder / "run" / "munge").is_socket()
        if name == "mariadbd":
            return (self.folder / "run" / "sql").is_socket()
        if name == "slurmdbd":
            return self.run("sacctmgr", "-nP", "show", "cluster", check=False).returncode == 0
        if name == "slurmctld":
            if self.run("scontrol", "ping", check=False).returncode != 0:
                return False
            return not any(
                state.startswith("unknown") and self.is_up(node) for node, state in self.node_states().items()
            )
        if not answers(int(self._ports[name].getsockname()[1])):
            return False
        state = self.node_states().get(name, "unknown")
        return not state.startswith("unknown") and not state.endswith("*")  # a star: does not respond

    def _spawn(self, name: str) -> None:
        self._running().spawn(name, programs.words(name, self.folder), programs.environment(self.folder))

    def _running(self) -> Daemons:
        if self._daemons is None:
            raise SandboxError("the sandbox is not up: use it in a `with` block")
        return self._daemons


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def main(words: Sequence[str] | None = None) -> int:
    """Bring up a sandbox and keep it until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.slurm.sandbox", description="A private, throw-away Slurm.")
    parser.add_argument(
        "folder", nargs="?", type=Path, help="for its files; otherwise a temporary one that goes with it"
    )
    parser.add_argument("--nodes", type=int, default=DEFAULT.nodes)
    parser.add_argument("--cpus", type=int, default=DEFAULT.cpus, help="of each node, also more than the machine has")
    parser.add_argument("--no-accounting", dest="accounting", action="store_false", help="no database: up at once")
    parser.add_argument("--no-preemption", dest="preemption", action="store_false")
    line = parser.parse_args(words)
    variant = Variant(nodes=line.nodes, cpus=line.cpus, accounting=line.accounting, preemption=line.preemption)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    try:
        folder = line.folder or Path(tempfile.mkdtemp(prefix="vssl-slurm-"))
        with Sandbox(folder, variant, remove=line.folder is None) as sandbox:
            print(sandbox.run("sinfo").stdout)
            if variant.preemption:
                print(f"Jobs of `high` that need the nodes requeue jobs of the others after {variant.grace_s} s.")
            print("In another shell:")
            for name, value in sandbox.environment.items():
                print(f"  export {name}={value}")
            print("Ctrl-C ends it.", flush=True)
            while True:
                signal.pause()
    except KeyboardInterrupt:
        return 0
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
