"""What can differ between sandboxes, and the configuration files that say so to Slurm's daemons."""

import os
import pwd
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CLUSTER = "vssl-sandbox"
MEMORY_MB_PER_CPU = 8000  # what a job gets that asks for no memory; the machine need not have it


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A cluster to bring up. CPUs and memory are Slurm's count only: nothing compares them with this machine's."""

    nodes: int = 4
    cpus: int = 2  # of each node
    accounting: bool = True  # False: no database, no slurmdbd, and sacct refuses
    preemption: bool = True  # a job of partition `high` that needs their nodes requeues jobs of the others
    grace_s: int = 15  # from a preempted job's warning to its end
    kill_wait_s: int = 5  # from SIGTERM to SIGKILL at the end, a time limit or a cancel
    requeue_delay_s: int = 120  # how long a requeued job has to wait, give or take two seconds
    min_job_age_s: int = 300  # how long slurmctld remembers an ended job
    message_timeout_s: int = 10  # how long clients wait for a silent controller, give or take a second
    max_array_size: int = 1001
    max_submit_jobs: int | None = None  # of the user, array elements counted; needs accounting
    enforce_part_limits: bool = False  # True: sbatch refuses what the partition forbids, instead of leaving it pending

    def __post_init__(self) -> None:
        if self.max_submit_jobs is not None and not self.accounting:
            raise ValueError("max_submit_jobs is a limit that the accounting database holds: needs accounting=True")
        if self.requeue_delay_s < 5:
            raise ValueError(f"requeue_delay_s={self.requeue_delay_s}: Slurm takes 120 for what is less than 5")

    @property
    def node_names(self) -> list[str]:
        return [f"vssl-n{number}" for number in range(1, self.nodes + 1)]


def user_name() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def slurm_conf(variant: Variant, folder: Path, ports: Mapping[str, int]) -> str:
    """The text of slurm.conf. All daemons run here and as one user, listen on the loopback and write below `folder`.

    Args:
        ports: by `slurmctld`, `slurmdbd` and the nodes' names.
    """
    user, host, names = user_name(), socket.gethostname().partition(".")[0], ",".join(variant.node_names)
    lines = [
        f"ClusterName={CLUSTER}",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={ports['slurmctld']}",
        f"SlurmUser={user}",
        f"SlurmdUser={user}",
        "AuthType=auth/munge",
        f"AuthInfo=socket={folder}/run/munge,cred_expire={variant.requeue_delay_s}",
        "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny",
        f"MessageTimeout={variant.message_timeout_s}",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool/%n",
        f"SlurmctldPidFile={folder}/run/slurmctld.pid",
        f"SlurmdPidFile={folder}/run/%n.pid",
        f"SlurmctldLogFile={folder}/log/slurmctld.log",
        f"SlurmdLogFile={folder}/log/%n.log",
        "MailProg=/bin/true",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "MpiDefault=none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        f"DefMemPerCPU={MEMORY_MB_PER_CPU}",
        "SlurmdParameters=config_overrides",  # a node may be larger than this machine
        "JobAcctGatherType=jobacct_gather/linux",
        "JobAcctGatherFrequency=1",
        "JobAcctGatherParams=OverMemoryKill",  # without cgroups: polled each second, and the step is killed as a whole
        "SchedulerType=sched/backfill",
        "SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0",
        "JobRequeue=1",
        f"KillWait={variant.kill_wait_s}",
        f"MinJobAge={variant.min_job_age_s}",
        f"MaxArraySize={variant.max_array_size}",
        f"EnforcePartLimits={'ALL' if variant.enforce_part_limits else 'NO'}",
        "ReturnToService=1",  # a node set DOWN stays down, one that did not answer comes back
        "SlurmctldTimeout=30",
        "SlurmdTimeout=30",
    ]
    if variant.accounting:
        lines += [
            "AccountingStorageType=accounting_storage/slurmdbd",
            "AccountingStorageHost=127.0.0.1",
            f"AccountingStoragePort={ports['slurmdbd']}",
            f"AccountingStoragePass={folder}/run/munge",  # in spite of its name, the socket of those who ask slurmdbd
        ]
    if variant.max_submit_jobs is not None:
        lines += ["AccountingStorageEnforce=limits"]
    can_lose, must_not_lose = "", ""
    if variant.preemption:
        lines += [
            "PreemptType=preempt/partition_prio",
            "PreemptMode=REQUEUE",
            "SlurmctldParameters=preempt_send_user_signal",
        ]
        can_lose, must_not_lose = f" GraceTime={variant.grace_s} PreemptMode=REQUEUE", " PreemptMode=OFF"
    size = f"CPUs={variant.cpus} RealMemory={MEMORY_MB_PER_CPU * variant.cpus}"
    lines += [
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[name]} {size}"
        for name in variant.node_names
    ]
    lines += [
        f"PartitionName=cpu Nodes={names} Default=YES PriorityTier=1{can_lose}",
        f"PartitionName=high Nodes={names} PriorityTier=10{must_not_lose}",
        f"PartitionName=short Nodes={names} MaxTime=2 MaxMemPerNode={MEMORY_MB_PER_CPU} PriorityTier=1{can_lose}",
    ]
    return "\n".join(lines) + "\n"


def slurmdbd_conf(folder: Path, port: int) -> str:
    """The text of slurmdbd.conf. The database itself is reached through a socket that the environment names."""
    lines = [
        "AuthType=auth/munge",
        f"AuthInfo=socket={folder}/run/munge",
        "DbdHost=localhost",
        f"DbdPort={port}",
        f"SlurmUser={user_name()}",
        f"LogFile={folder}/log/slurmdbd.log",
        f"PidFile={folder}/run/slurmdbd.pid",
        "StorageType=accounting_storage/mysql",
        "StorageHost=localhost",
        f"StorageUser={user_name()}",
    ]
    return "\n".join(lines) + "\n"
