from pathlib import Path

import pytest

from launch.provenance import code_digest
from launch.running.allocation import Allocation, tasks_of_node
from launch.running.guard import RefusedError
from launch.running.ranks import Launch
from vssl.config import ConfigError

STEP = {
    "SLURM_PROCID": "3",
    "SLURM_NTASKS": "4",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_ARRAY_JOB_ID": "16",
    "SLURM_ARRAY_TASK_ID": "5",
    "SLURM_JOB_ID": "16",
    "SLURM_JOB_NODELIST": "n[1-2]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURMD_NODENAME": "n2",
}
OURS = STEP | {"VSSL_LAUNCHED": "1"}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "VSSL_ATTEMPT": "a"}


def test_slurms_variables_count_beside_our_marker():
    launch = Launch.from_environment(OURS | {"SLURM_RESTART_COUNT": "2"})
    slurm = Allocation(job="16_5", restart=2, hosts="n[1-2]", node="n2", nodes=2)
    assert launch == Launch(rank=3, ranks=4, local_rank=1, nonce="16_5.2", slurm=slurm)
    assert launch.key == "2"
    assert Launch.from_environment(OURS).nonce == "16_5.0", "Slurm sets no count at the first start"
    first, forgotten = (Launch.from_environment(OURS | {"VSSL_START": start}) for start in ("17", "18"))
    assert first.nonce != forgotten.nonce, "a controller that was killed may start a job twice under one count"


def test_plain_python_inside_an_allocation_is_alone():
    launch = Launch.from_environment(STEP)
    assert (launch.rank, launch.ranks, launch.slurm) == (0, 1, None)
    assert launch.nonce != Launch.from_environment(STEP).nonce


def test_torchruns_variables_count_otherwise():
    assert Launch.from_environment(TORCHRUN) == Launch(rank=1, ranks=2, local_rank=1, nonce="a")
    ours = Launch.from_environment(OURS | TORCHRUN)
    assert (ours.rank, ours.ranks) == (3, 4), "what a login shell happened to hold does not split a job"


@pytest.mark.parametrize("missing", ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"])
def test_a_part_of_slurms_variables_is_refused(missing):
    with pytest.raises(ConfigError, match=f"not {missing}: a partial set"):
        Launch.from_environment({name: value for name, value in OURS.items() if name != missing})


@pytest.mark.parametrize("missing", ["RANK", "WORLD_SIZE", "LOCAL_RANK"])
def test_a_part_of_torchruns_variables_is_refused(missing):
    with pytest.raises(ConfigError, match=f"not {missing}: a partial set"):
        Launch.from_environment({name: value for name, value in TORCHRUN.items() if name != missing})


def test_impossible_numbers_and_ranks_without_a_nonce_are_refused():
    with pytest.raises(ConfigError, match="RANK=2 and WORLD_SIZE=2"):
        Launch.from_environment(TORCHRUN | {"RANK": "2"})
    with pytest.raises(ConfigError, match="whole numbers"):
        Launch.from_environment(TORCHRUN | {"RANK": "one"})
    with pytest.raises(ConfigError, match="VSSL_ATTEMPT is not set"):
        Launch.from_environment(TORCHRUN | {"VSSL_ATTEMPT": ""})


def test_a_stage_is_told_in_torchruns_words():
    left_over = {"MASTER_ADDR": "login", "MASTER_PORT": "1", "RANK": "7", "HOME": "/h"}
    environment = OURS | left_over
    Launch.from_environment(OURS).tell_the_stage(environment, Path("/r/16_5.0.json"))
    told = {name: value for name, value in environment.items() if name not in OURS}
    assert told == {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "VSSL_RENDEZVOUS": "/r/16_5.0.json",
        "VSSL_NODE": "n2",
        "HOME": "/h",
    }


def test_a_stage_of_one_rank_hears_of_no_others():
    alone = OURS | {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0"}
    environment = {**alone, "RANK": "0", "WORLD_SIZE": "8", "MASTER_ADDR": "login", "VSSL_RENDEZVOUS": "/old"}
    Launch.from_environment(alone).tell_the_stage(environment, Path("/r/m.json"))
    assert {name for name in environment if name not in alone} == {"VSSL_NODE"}


def test_outside_of_slurm_the_environment_stays_as_it_is():
    environment = dict(TORCHRUN)
    Launch.from_environment(environment).tell_the_stage(environment, Path("/r/m.json"))
    assert environment == TORCHRUN


@pytest.mark.parametrize(
    ("spec", "node", "tasks"),
    [("2(x2),1", "0", 2), ("2(x2),1", "1", 2), ("2(x2),1", "2", 1), ("4", "0", 4), ("", "0", None), ("4", "1", None)],
)
def test_tasks_of_a_node(spec, node, tasks):
    assert tasks_of_node({"SLURM_STEP_TASKS_PER_NODE": spec, "SLURM_NODEID": node}) == tasks


def batch(**changes):
    slurm = {"name": "vssl-1", "ranks": 4, "snapshot": "/snapshots/1"} | changes
    return {"code": code_digest(), "slurm": slurm}


def test_another_number_of_ranks_is_refused_by_name():
    Launch.from_environment(OURS).check(batch())
    with pytest.raises(ConfigError, match=r"vssl-1 is made for 2 ranks, but 4 were started on n\[1-2\] \(n2 here\)"):
        Launch.from_environment(OURS).check(batch(ranks=2))
    with pytest.raises(ConfigError, match="made for 4 ranks, but 1 were started outside of its job"):
        Launch.from_environment(STEP).check(batch())


def test_other_code_than_the_snapshots_is_refused():
    with pytest.raises(RefusedError, match=r"is not the one that this batch was made with .*submit again"):
        Launch.from_environment(OURS).check(batch() | {"code": "0" * 64})
    Launch.from_environment(OURS).check(batch(snapshot="") | {"code": "0" * 64})
    Launch.from_environment({}).check({"code": "0" * 64})
