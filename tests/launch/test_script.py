"""The text of a batch script, and the names inside of submitit that it stands on."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from submitit import SlurmExecutor

from launch.executors.slurm import parameter_names, script_text
from launch.plan import Resources
from launch.running.causes import Policy
from launch.slurm.profiles import Profile
from vssl.config import ConfigError

BATCH, CODE = Path("/store/batches/0123456789ab"), Path("/store/code/abc")
PLAIN = Profile(name="plain")
FOUR_GPUS = Resources(nodes=2, tasks_per_node=4, gpus_per_node=4, cpus_per_task=12, mem_gb=180, timeout_min=2280)


def text(resources=FOUR_GPUS, profile=PLAIN, indices=(1, 3), dependency="", batch=BATCH, snapshot=CODE):
    return script_text(batch, resources, profile, indices=indices, dependency=dependency, snapshot=snapshot)


def options(script):
    """#SBATCH lines as Slurm reads them."""
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    return {key: "".join(shlex.split(value)) for key, _, value in (line.partition("=") for line in lines)}


def body(script):
    return script.partition("# setup\n")[2].splitlines()


def test_the_names_inside_of_submitit_that_this_stands_on():
    for name in ("_make_submission_file_text", "_convert_parameters", "_valid_parameters", "affinity"):
        assert callable(getattr(SlurmExecutor, name)), name
    needed = {
        "additional_parameters",
        "setup",
        "teardown",
        "use_srun",
        "stderr_to_stdout",
        "wckey",
        "dependency",
        "gres",
    }
    assert needed <= parameter_names()


def test_a_plain_script():
    assert options(text(dependency="aftercorr:12:13,afterok:9_4")) == {
        "array": "1,3",
        "cpus-per-task": "12",
        "dependency": "aftercorr:12:13,afterok:9_4",
        "gpus-per-node": "4",
        "job-name": "vssl-0123456789ab",
        "kill-on-invalid-dep": "yes",
        "mem": "180GB",
        "nodes": "2",
        "ntasks-per-node": "4",
        "open-mode": "append",
        "output": "logs/%a.log",
        "requeue": "",
        "signal": "USR2@120",
        "time": "2280",
    }
    lines = body(text())
    assert lines[0].startswith("export SLURM_EXPORT_ENV=ALL")
    flags = "--unbuffered --kill-on-bad-exit=1 --wait=0 --cpus-per-task=12"
    logs = "--output=logs/%a-%t.log --open-mode=append"
    assert f"srun {flags} {logs} {shlex.quote(sys.executable)} -u -P -m launch.job {BATCH}" in lines
    assert lines[-2:] == [
        f'{shlex.quote(sys.executable)} -P -m launch.settle {BATCH} "$SLURM_ARRAY_TASK_ID" "$vssl_rc"', "exit $?",
    ]  # fmt: skip


def test_a_script_depends_on_nothing_around_it(monkeypatch, tmp_path):
    calm = text()
    for name in ("SUBMITIT_PREEMPT_SIGNAL", "SLURM_JOB_ID", "VSSL_ATTEMPT", "PYTHONPATH", "CANARY", "HOME", "USER"):
        monkeypatch.setenv(name, "sugar-and-salt")
    monkeypatch.chdir(tmp_path)
    assert text() == calm
    code = f"import sys; sys.path[:0] = {sys.path!r}\nfrom tests.launch.test_script import text; print(text())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == calm + "\n", "submitit reads a signal from its environment when it is imported"


def test_one_script_leaves_nothing_behind_for_the_next():
    calm = text()
    text(profile=replace(PLAIN, parameters={"qos": "high", "wckey": "key"}), dependency="afterok:1_1")
    assert text() == calm
    assert "wckey" not in options(calm)
    assert options(text(profile=replace(PLAIN, parameters={"wckey": "key"})))["wckey"] == "key"


def test_submitit_writes_nothing(tmp_path):
    text(batch=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_profile_adds():
    profile = Profile(
        name="p",
        parameters={"partition": "gpu", "additional_parameters": {"reservation": "r", "nice": 5}},
        setup=("module load cuda", "export A=1"),
        teardown=("rm -rf /scratch/x", "exit 0"),
        srun_args=("--cpu-bind=none",),
        python="apptainer exec image.sif python",
        array_parallelism=8,
        policy=Policy(signal_delay_s=300),
    )
    script = text(profile=profile)
    found = options(script)
    assert (found["partition"], found["reservation"], found["nice"]) == ("gpu", "r", "5")
    assert (found["array"], found["signal"]) == ("1,3%8", "USR2@300")
    lines = body(script)
    assert lines.index("module load cuda") < lines.index("set +eu") < lines.index("export VSSL_LAUNCHED=1")
    start = lines.index("(")
    assert lines[start : start + 4] == ["(", "rm -rf /scratch/x", "exit 0", ")"]
    assert any("--cpu-bind=none apptainer exec image.sif python -u -P -m launch.job" in line for line in lines)
    assert lines[-2].startswith(sys.executable), "Slurm's commands may be missing in a container"


@pytest.mark.parametrize(
    ("parameters", "gpus", "asked"),
    [
        ({}, 0, {"mem": "180GB"}),
        ({"gres": "gpu:a100:{gpus}"}, 4, {"mem": "180GB", "gres": "gpu:a100:4"}),
        ({"gres": "gpu:a100:{gpus}"}, 0, {"mem": "180GB"}),
        ({"gres": "tmp:100"}, 4, {"mem": "180GB", "gres": "tmp:100", "gpus-per-node": "4"}),
        ({"mem_per_gpu": "40G"}, 4, {"mem-per-gpu": "40G", "gpus-per-node": "4"}),
        ({"mem_per_gpu": "40G"}, 0, {"mem": "180GB"}),
        ({"mem_per_cpu": "4G"}, 0, {"mem-per-cpu": "4G"}),
    ],
)
def test_memory_and_gpus_in_a_sites_own_way(parameters, gpus, asked):
    found = options(text(replace(FOUR_GPUS, gpus_per_node=gpus), replace(PLAIN, parameters=parameters)))
    assert {key: value for key, value in found.items() if key.startswith(("mem", "g"))} == asked


@pytest.mark.parametrize("folder", ["a b", "it's", 'a"b', "$(touch x)", "`x`;#", "é日本", "100%j", "-x", "~", "*"])
def test_any_other_path_ends_as_data(folder, tmp_path):
    """The body is run by bash, with programs that write down their arguments."""
    batch, code = tmp_path / folder / "batch", tmp_path / folder / "code"
    batch.mkdir(parents=True)
    script = text(batch=batch, snapshot=code, profile=replace(PLAIN, setup=("cd /",))).replace(sys.executable, "python")
    for name in ("srun", "python"):
        program = tmp_path / name
        say = f'printf "%s\\0" {name} "$PWD" "$PYTHONPATH" "$VSSL_ATTEMPT" "$@" >> {tmp_path}/said'
        program.write_text(f"#!/bin/bash\n{say}\nexit {3 if name == 'srun' else 75}\n")
        program.chmod(0o755)
    slurm = {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=slurm, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (75, "")
    said = (tmp_path / "said").read_text().rstrip("\0").split("\0")
    log = f"{batch}/logs/%a-%t.log".replace("100%j", "100%%j") if "%" in folder else "logs/%a-%t.log"
    assert said == [
        *(
            "srun",
            str(batch),
            str(code),
            "12_3.0",
            "--unbuffered",
            "--kill-on-bad-exit=1",
            "--wait=0",
            "--cpus-per-task=12",
        ),
        *(f"--output={log}", "--open-mode=append", "python", "-u", "-P", "-m", "launch.job", str(batch)),
        *("python", str(batch), str(code), "12_3.0", "-P", "-m", "launch.settle", str(batch), "3", "3"),
    ]
    assert options(script)["output"] == log.replace("-%t", "")


@pytest.mark.parametrize("folder", ["/a:b/c", "/a\\b", "/a\nb", "/a\rb", "/a\x00b"])
def test_a_path_that_no_script_can_hold_is_refused(folder):
    for place in ({"batch": Path(folder)}, {"snapshot": Path(folder)}):
        with pytest.raises(ConfigError, match="choose another store with root=FOLDER"):
            text(**place)


def test_each_start_of_a_script_has_a_name_of_its_own(tmp_path):
    script = text(batch=tmp_path, profile=replace(PLAIN, setup=('srun() { echo "start $VSSL_START"; }',)))
    (tmp_path / "elements.json").write_text("{")  # nothing to settle, and nothing to wait for
    slurm = {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3", "PATH": os.environ["PATH"]}
    starts = {
        subprocess.run(["bash", "-c", script], env=slurm, capture_output=True, text=True).stdout.partition("\n")[0]
        for _ in range(2)
    }
    assert len(starts) == 2
    assert all(re.fullmatch(r"start \d{19}", start) for start in starts)


def test_ranks_do_not_take_over_what_another_launcher_left(tmp_path):
    script = text(batch=tmp_path, profile=replace(PLAIN, setup=("srun() { env; }",)))
    foreign = {
        "RANK": "3",
        "WORLD_SIZE": "8",
        "MASTER_ADDR": "x",
        "TORCHELASTIC_RUN_ID": "y",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(["bash", "-c", script], env=foreign, capture_output=True, text=True)
    names = {line.partition("=")[0] for line in done.stdout.splitlines()}
    assert "VSSL_LAUNCHED" in names
    assert not names & foreign.keys() - {"PATH"}
