"""What an attempt ran on and in: the record that tells, a year later, why a number was different.

Cheap and without torch, so that it costs a job nothing; whatever cannot be found out is left empty. The GPUs come last:
the driver's tool may take many seconds, for which no training waits.
"""

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from launch.provenance import versions
from launch.running.redaction import is_secret, redact
from vssl.artifacts import StageFolder, read_json, write_json

_TOOL_WAIT_S = 15.0
_GPU_FIELDS = ("name", "uuid", "memory.total", "driver_version")
# By name: an environment holds much that is nobody's business.
VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING", "CUDA_HOME", "CUBLAS_WORKSPACE_CONFIG"),
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "MKL_NUM_THREADS", "MKL_CBWR", "OPENBLAS_NUM_THREADS"),
    *("NCCL_DEBUG", "NCCL_SOCKET_IFNAME", "NCCL_IB_DISABLE", "NCCL_IB_HCA", "NCCL_P2P_DISABLE", "NCCL_ALGO"),
    *("NCCL_PROTO", "NCCL_NET", "GLOO_SOCKET_IFNAME", "TORCH_NCCL_ASYNC_ERROR_HANDLING", "PYTORCH_CUDA_ALLOC_CONF"),
    *("PYTHONPATH", "PYTHONHASHSEED", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH", "LD_PRELOAD", "LOADEDMODULES"),
    *("TMPDIR", "LANG", "LC_ALL", "TZ", "VSSL_ROOT", "APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"),
    *("RANK", "LOCAL_RANK", "WORLD_SIZE"),
)
# Facts of the job, under the names that Slurm gives them; they count only beside the marker of our own script.
SLURM_VARIABLES = (
    *("SLURM_CLUSTER_NAME", "SLURM_JOB_PARTITION", "SLURM_JOB_QOS", "SLURM_JOB_ACCOUNT", "SLURM_JOB_NAME"),
    *("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_JOB_NODELIST"),
    *("SLURM_JOB_NUM_NODES", "SLURM_NTASKS", "SLURM_TASKS_PER_NODE", "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"),
    *("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_GPUS_ON_NODE", "SLURM_JOB_GPUS", "SLURM_JOB_CONSTRAINT"),
    *("SLURM_JOB_START_TIME", "SLURM_JOB_END_TIME", "SLURM_TOPOLOGY_ADDR"),
)


def environment_record(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Machine, packages, job and variables of this process, as plain values; of no GPU yet."""
    variables = os.environ if environment is None else environment
    return {
        "host": socket.gethostname(),
        "kernel": " ".join(os.uname()[i] for i in (0, 2)),
        "cpu": _first_after(Path("/proc/cpuinfo"), "model name"),
        "cores": _cores(),
        "memory_gb": _memory_gb(),
        "gpus": [],
        "versions": versions(),
        "slurm": _chosen(SLURM_VARIABLES, variables) if variables.get("VSSL_LAUNCHED") == "1" else {},
        "variables": _chosen(VARIABLES, variables),
    }


def write_environment(folder: StageFolder, token: int) -> None:
    """Leave the record of an attempt in its stage's folder, as `environment/<token>.json`."""
    folder.environment.mkdir(exist_ok=True)
    write_json(_path(folder, token), environment_record())


@contextmanager
def adding_gpus(folder: StageFolder, token: int) -> Iterator[None]:
    """Add the GPUs of this job to an attempt's record while a block runs; its end waits for what is left of that."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        yield
        return

    def add() -> None:
        record, gpus = read_json(_path(folder, token)) or {}, _gpus(tool)
        with suppress(OSError):  # a full disk will be told by what matters more
            write_json(_path(folder, token), {**record, "gpus": gpus})

    thread = threading.Thread(target=add, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _path(folder: StageFolder, token: int) -> Path:
    return folder.environment / f"{token}.json"


def _chosen(names: tuple[str, ...], variables: Mapping[str, str]) -> dict[str, str]:
    return {name: redact(variables[name], variables) for name in names if name in variables and not is_secret(name)}


def _cores() -> dict[str, int]:
    """Cores of the machine, and those that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0
    return {"machine": os.cpu_count() or 0, "usable": usable}


def _memory_gb() -> float:
    return round(int(_first_after(Path("/proc/meminfo"), "MemTotal").removesuffix(" kB") or 0) / 2**20, 1)


def _first_after(path: Path, key: str) -> str:
    """The value of the first line `key : value` of a file of the kernel."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    found = (value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == key)
    return next(found, "")


def _gpus(tool: str) -> list[dict[str, str]]:
    """The GPUs that this job sees, as the driver's tool lists them."""
    command = [tool, f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_WAIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return list(_rows(listed.stdout)) if listed.returncode == 0 else []


def _rows(table: str) -> Iterator[dict[str, str]]:
    for line in table.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) == len(_GPU_FIELDS):
            yield dict(zip(_GPU_FIELDS, values))
