import json
import os
from pathlib import Path

import pytest

from launch.provenance import changed_versions, versions
from launch.running.environment import SLURM_VARIABLES, VARIABLES, adding_gpus, environment_record, write_environment
from launch.running.redaction import is_secret
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


def gpus_of(folder: Path) -> object:
    """What the record of an attempt says of GPUs after its stage has run."""
    stage = StageFolder(folder / "stage")
    stage.root.mkdir(exist_ok=True)
    write_environment(stage, 1)
    with adding_gpus(stage, 1):
        assert read_json(stage.environment / "1.json")["versions"] == versions()
    record = read_json(stage.environment / "1.json")
    assert record["versions"] == versions()
    return record["gpus"]


def test_gpus_come_from_the_drivers_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", tool(tmp_path, "echo 'NVIDIA H200, GPU-1-2, 143771 MiB, 570.12'")["PATH"])
    assert gpus_of(tmp_path) == [
        {"name": "NVIDIA H200", "uuid": "GPU-1-2", "memory.total": "143771 MiB", "driver_version": "570.12"}
    ]
    monkeypatch.setenv("PATH", tool(tmp_path, "echo no driver; exit 9")["PATH"])
    assert gpus_of(tmp_path) == []
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert gpus_of(tmp_path) == []


def test_a_stage_does_not_wait_for_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "go")  # the tool answers when the stage has run, and not before
    monkeypatch.setenv("PATH", tool(tmp_path, f"cat {tmp_path / 'go'}")["PATH"])
    stage = StageFolder(tmp_path)
    write_environment(stage, 1)
    with adding_gpus(stage, 1):
        (tmp_path / "go").write_text("NVIDIA H200, GPU-1-2, 143771 MiB, 570.12\n")
    assert len(read_json(stage.environment / "1.json")["gpus"]) == 1


def test_a_driver_that_hangs_costs_a_bounded_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", tool(tmp_path, "exec sleep 60")["PATH"])
    monkeypatch.setattr("launch.running.environment._TOOL_WAIT_S", 0.05)
    assert gpus_of(tmp_path) == []


def test_a_full_disk_is_no_end_of_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("PATH", tool(tmp_path, "echo")["PATH"])
    stage = StageFolder(tmp_path)
    write_environment(stage, 1)
    monkeypatch.setattr("launch.running.environment.write_json", full)
    with adding_gpus(stage, 1):
        pass
    assert read_json(stage.environment / "1.json")["gpus"] == []


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
