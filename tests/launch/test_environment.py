import json
import os
from pathlib import Path

import pytest

from launch.environment import SLURM_VARIABLES, VARIABLES, environment_record, write_environment
from launch.provenance import changed_versions, versions
from launch.redaction import is_secret
from vssl.artifacts import StageFolder, read_json

CANARY = "canary-in-a-coal-mine"


def tool(folder: Path, text: str) -> dict[str, str]:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "nvidia-smi").chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_the_machine_and_its_packages_are_described() -> None:
    record = environment_record({})
    assert record["host"]
    assert record["memory_gb"] > 0
    assert 0 < record["cores"]["usable"] <= record["cores"]["machine"]
    assert record["versions"] == versions()
    assert record["slurm"] == record["variables"] == {}
    assert json.loads(json.dumps(record)) == record


def test_gpus_come_from_the_drivers_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", tool(tmp_path, "echo 'NVIDIA H200, GPU-1-2, 143771 MiB, 570.12'")["PATH"])
    (gpu,) = environment_record({})["gpus"]
    assert gpu == {"name": "NVIDIA H200", "uuid": "GPU-1-2", "memory.total": "143771 MiB", "driver_version": "570.12"}
    monkeypatch.setenv("PATH", tool(tmp_path, "echo no driver; exit 9")["PATH"])
    assert environment_record({})["gpus"] == []


def test_a_driver_that_hangs_costs_a_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", tool(tmp_path, "exec sleep 60")["PATH"])
    monkeypatch.setattr("launch.environment._TOOL_WAIT_S", 0.05)
    assert environment_record({})["gpus"] == []


def test_variables_are_kept_by_name_and_without_secrets() -> None:
    environment = {
        "OMP_NUM_THREADS": "4",
        "VSSL_ROOT": f"sftp://ann:{CANARY}@host/runs",
        "PYTHONPATH": f"/lib/{CANARY}",
        "MY_TOKEN": CANARY,
        "LICENCE": CANARY,
    }
    record = environment_record(environment)
    assert record["variables"]["OMP_NUM_THREADS"] == "4"
    assert record["variables"]["PYTHONPATH"] == "/lib/***"
    assert CANARY not in json.dumps(record)
    assert not [name for name in (*VARIABLES, *SLURM_VARIABLES) if is_secret(name)]


def test_slurms_facts_count_beside_our_marker_only() -> None:
    slurm = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_PARTITION": "gpu"}
    assert environment_record(slurm)["slurm"] == {}
    assert environment_record({**slurm, "VSSL_LAUNCHED": "1"})["slurm"] == slurm


def test_it_lies_beside_the_attempts(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path)
    write_environment(folder, 3)
    assert read_json(folder.environment / "3.json")["versions"] == versions()


def test_other_packages_are_named() -> None:
    before = {"python": "3.11", "torch": "2.11", "av": "17"}
    assert changed_versions(before, before) == ""
    assert changed_versions(before, {"python": "3.11", "torch": "2.12", "numpy": "2"}) == (
        "av 17 -> none, numpy none -> 2, torch 2.11 -> 2.12"
    )
