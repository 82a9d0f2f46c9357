"""Stages on two ranks: the same result as on one, killed and stopped, on another number of ranks, and the meeting."""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist

from tests.gloo import start_ranks
from tests.tiny_stages import (
    Stage,
    final_state,
    finetuning,
    fingerprint,
    framing,
    history,
    imaging,
    make_stages,
    pretraining,
    probing,
    remembering,
)
from vssl import distributed, rendezvous
from vssl.artifacts import read_json, write_json
from vssl.config import ConfigError
from vssl.methods import vicc
from vssl.rendezvous import Place, place_from_environment
from vssl.run import LostRankError, StageError, Stopped
from vssl.stages import finetune, image_pretrain, linear, pretrain
from vssl.stages.finetune_config import FinetuneConfig
from vssl.stages.image_pretrain_config import ImagePretrainConfig
from vssl.stages.linear_config import LinearConfig
from vssl.stages.pretrain_config import PretrainConfig

KINDS = ("sync", "local", "shuffle", "cross", "memory", "frames", "images", "linear", "finetune", "finetune-sync")
KILLED_KINDS = ("images", "finetune-sync")
STOP_AFTER, EPOCHS = 2, 4  # steps, saved every second one; an epoch of these stages has one


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stage]:
    """The stages with batches that two ranks can share."""
    made = make_stages(tmp_path_factory.mktemp("parents"))
    configs = {
        "sync": pretraining("rgb", batch=4, bn="sync", bn_group_size=None),
        "local": pretraining("rgb", batch=4, bn="local"),
        "shuffle": pretraining("rgb", batch=4),
        "cross": pretraining("both", "rgb", batch=4),
        "memory": remembering(batch=4),
        "frames": framing(global_batch_size=4),
        # two groups with other repeats each, and so fast that ranks with statistics of their own would test otherwise
        "images": imaging(global_batch_size=4, repeats=3, ema_decay=0.2, optim={"name": "lamb", "base_lr": 0.5}),
        "linear": probing(batch=4),
        "finetune": finetuning(batch=4, compat_batch_flip=True),
        "finetune-sync": finetuning(
            batch=4, bn="sync", bn_group_size=None, backbone_lr_ratio=10, mixup={}, precise_bn_batches=1
        ),
    }
    inputs = {kind: made[kind if kind in made else "single"].inputs for kind in configs}
    inputs["finetune-sync"] = made["finetune"].inputs
    runs = {
        LinearConfig: linear.run,
        FinetuneConfig: finetune.run,
        PretrainConfig: pretrain.run,
        ImagePretrainConfig: image_pretrain.run,
    }
    return {
        kind: Stage(runs[type(config)], replace(config, epochs=EPOCHS), inputs[kind], f"stage-{kind}")
        for kind, config in configs.items()
    }


def dying_after(steps: int) -> Callable[[], bool]:
    calls = count(1)

    def die() -> bool:
        if next(calls) == steps:
            raise Killed
        return False

    return die


def _rank(rank: int, stages: dict[str, Stage], root: Path) -> None:
    """Each stage to its end in `root/whole`, and up to a stop that only rank 1 was asked for in `root/stopped`.

    Those that are killed, a step after a checkpoint, go on to their end in `root/killed`.
    """
    torch.set_num_threads(1)
    meeting = {"VSSL_RENDEZVOUS": str(root / "meeting.json")}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"} | meeting
    metrics = {}
    with distributed.joined():
        for kind, stage in stages.items():
            metrics[kind] = stage.execute(root / "whole")

            calls = count(1)
            with pytest.raises(Stopped, match=f"step {STOP_AFTER} of"):
                stage.execute(
                    root / "stopped", stop_requested=lambda calls=calls: rank == 1 and next(calls) == STOP_AFTER
                )
            distributed.barrier()

            if kind in KILLED_KINDS:
                with pytest.raises(Killed):
                    stage.execute(root / "killed", stop_requested=dying_after(STOP_AFTER + 1))
                distributed.barrier()
                stage.execute(root / "killed")
    write_json(root / f"metrics.{rank}.json", metrics)


@pytest.fixture(scope="module")
def on_two_ranks(stages: dict[str, Stage], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ranks")
    start_ranks(_rank, (stages, root), ranks=2)
    return root


@pytest.fixture(scope="module")
def on_one_rank(stages: dict[str, Stage], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a stage that ran to its end on one rank, once."""
    root = tmp_path_factory.mktemp("one")

    @cache
    def of(kind: str) -> Path:
        stages[kind].execute(root)
        return root / stages[kind].name

    return of


def assert_close(found: Path, expected: Path) -> None:
    """Histories, networks, optimisers and queues within 1e-4."""
    for (step, values), (expected_step, expected_values) in zip(history(found), history(expected), strict=True):
        assert step == expected_step
        assert values == pytest.approx(expected_values, abs=1e-4, rel=1e-4)
    torch.testing.assert_close(final_state(found), final_state(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_equal_one(kind, stages, on_two_ranks, on_one_rank):
    assert_close(on_two_ranks / "whole" / stages[kind].name, on_one_rank(kind))


@pytest.mark.parametrize("kind", KILLED_KINDS)
def test_two_ranks_killed_and_started_again_end_with_the_same_bits(kind, stages, on_two_ranks):
    """With repeats in groups, mixes, LAMB and a moving average; with mixes and precise statistics over ranks."""
    killed, whole = (on_two_ranks / folder / stages[kind].name for folder in ("killed", "whole"))
    assert len(history(whole)) == EPOCHS
    assert fingerprint(killed) == fingerprint(whole)


@pytest.mark.parametrize("kind", ["images", "linear", "finetune", "finetune-sync"])
def test_two_ranks_test_with_the_same_network(kind, stages, on_two_ranks, on_one_rank):
    """Also where the ranks' own batches gave their layers running statistics of their own."""
    tables = (
        pd.read_parquet(folder / "artifacts" / "predictions" / "predictions.parquet")
        for folder in (on_two_ranks / "whole" / stages[kind].name, on_one_rank(kind))
    )
    found, expected = (np.stack(table["probabilities"]) for table in tables)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_that_one_rank_sees_is_agreed_and_resumed_on_one_rank(kind, stages, on_two_ranks, on_one_rank):
    stage, stopped = stages[kind], on_two_ranks / "stopped"
    assert len(history(stopped / stage.name)) == STOP_AFTER
    stage.execute(stopped)
    assert_close(stopped / stage.name, on_one_rank(kind))


def test_all_ranks_return_the_same_metrics(on_two_ranks):
    first, second = ((on_two_ranks / f"metrics.{rank}.json").read_text() for rank in range(2))
    assert first == second


def test_a_number_of_ranks_that_would_change_the_result_is_refused(stages, tmp_path, monkeypatch):
    """A group of two clips cannot lie on four ranks with one clip each."""
    monkeypatch.setattr(vicc, "world_size", lambda: 4)
    with pytest.raises(ConfigError, match=r"bn_group_size=2 does not split over 4 ranks; it does over 1, 2"):
        stages["local"].execute(tmp_path)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


FULL = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "n1", "MASTER_PORT": "29500"}


def test_places():
    assert place_from_environment({}) == Place()
    assert place_from_environment(FULL) == Place(rank=1, local_rank=1, world_size=4, master=("n1", 29500))
    file = Path("/x/meeting.json")
    ours = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "VSSL_RENDEZVOUS": str(file)}
    assert place_from_environment(ours) == Place(world_size=2, rendezvous=file)
    slurm = {"VSSL_LAUNCHED": "1", "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}
    assert place_from_environment(slurm) == Place(), "the library knows nothing of Slurm"


@pytest.mark.parametrize("missing", sorted(FULL))
def test_a_partial_set_of_variables_is_refused(missing):
    with pytest.raises(StageError, match=f"not {missing}: a partial set"):
        place_from_environment({name: value for name, value in FULL.items() if name != missing})


def test_impossible_numbers_are_refused():
    with pytest.raises(StageError, match="RANK is 4 and WORLD_SIZE is 4"):
        place_from_environment(FULL | {"RANK": "4"})
    with pytest.raises(StageError, match="WORLD_SIZE is 'two'"):
        place_from_environment(FULL | {"WORLD_SIZE": "two"})


def test_rank_0_gives_up_on_ranks_that_never_come(tmp_path):
    started = time.monotonic()
    with pytest.raises(StageError, match=r"1 of 2 ranks met at .* \(rank 0 on "):
        rendezvous.meet(Place(world_size=2, rendezvous=tmp_path / "m.json"), backend="gloo", timeout_s=1)
    assert time.monotonic() - started < 20


def test_a_rank_gives_up_on_a_port_that_is_never_published(tmp_path):
    with pytest.raises(StageError, match=r"rank 1 of 2 .* saw no .*m.json within 0 s"):
        rendezvous.meet(Place(rank=1, world_size=2, rendezvous=tmp_path / "m.json"), backend="gloo", timeout_s=0.2)


def published(tmp_path: Path, **changes: Any) -> Place:
    """Rank 1 of two, to whom rank 0 has published what is given."""
    record = {"host": "n1", "addresses": ["n1"], "boot_id": "another", "port": 1, "world_size": 2, "meeting": "m"}
    write_json(tmp_path / "m.json", record | changes)
    return Place(rank=1, world_size=2, rendezvous=tmp_path / "m.json")


def test_a_name_that_nobody_knows_is_an_error_within_the_bound(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("VSSL_NODE", "n2")
    place = published(tmp_path, addresses=["no-such-node.invalid", "127.0.0.1"], port=free_port())
    started = time.monotonic()
    with pytest.raises(
        LostRankError, match=r"rank 1 of 2 on n2 could not reach rank 0 on n1 at port \d+ within 1 s"
    ) as said:
        rendezvous.meet(place, backend="gloo", timeout_s=1)
    assert time.monotonic() - started < 10
    assert "no-such-node.invalid: " in str(said.value)
    assert "127.0.0.1: Connection refused" in str(said.value)
    assert "check that one of these names resolves" in str(said.value)
    assert capfd.readouterr().err == "", "torch warns of every try"


def test_a_look_up_that_never_answers_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(rendezvous, "_TRY_S", 0.2)
    monkeypatch.setattr(rendezvous.socket, "create_connection", lambda *_: time.sleep(3600))
    started = time.monotonic()
    with pytest.raises(LostRankError, match="n1: no answer within 0 s"):
        rendezvous.meet(published(tmp_path), backend="gloo", timeout_s=1)
    assert time.monotonic() - started < 10


def test_another_store_behind_the_same_port_is_not_joined(tmp_path):
    """An address such as a container bridge's leads to this very machine, where another job may listen."""
    other = dist.TCPStore("127.0.0.1", 0, 2, True, timedelta(seconds=5), wait_for_workers=False)
    with pytest.raises(LostRankError, match="something else answers there"):
        rendezvous.meet(published(tmp_path, addresses=["127.0.0.1"], port=other.port), backend="gloo", timeout_s=1)


def test_ranks_of_one_machine_meet_whatever_it_is_called(tmp_path, monkeypatch):
    """As on a Slurm whose nodes are one host: their names lead nowhere."""
    monkeypatch.setattr(rendezvous, "_addresses", lambda: ["no-such-node.invalid"])
    found: list[dist.TCPStore] = []
    host = Thread(
        target=lambda: found.append(rendezvous._host(Place(world_size=2, rendezvous=tmp_path / "m.json"), 20))
    )
    host.start()
    joiner = rendezvous._join(Place(rank=1, world_size=2, rendezvous=tmp_path / "m.json"), 20)
    host.join()
    assert joiner.port == found[0].port == read_json(tmp_path / "m.json")["port"]


def test_what_is_published_leads_to_this_machine(monkeypatch):
    monkeypatch.setenv("VSSL_NODE", "n7")
    names = rendezvous._addresses()
    assert names[:2] == ["n7", socket.gethostname()]
    assert len(set(names)) == len(names)
    assert not [name for name in names if name.startswith("127.")], "on another machine that is somebody else"


def test_a_machine_without_ipv6_hosts_as_well(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(rendezvous.socket, "has_dualstack_ipv6", lambda: False)
    store = rendezvous._host(Place(world_size=1, rendezvous=tmp_path / "m.json"), 5)
    with socket.create_connection(("127.0.0.1", store.port), 5):
        pass
    assert capfd.readouterr().err == ""


def test_another_world_size_is_refused(tmp_path):
    with pytest.raises(StageError, match="has WORLD_SIZE 2, but rank 0 on n1 published 4"):
        rendezvous.meet(published(tmp_path, world_size=4), backend="gloo", timeout_s=1)


def test_a_second_rank_0_of_an_attempt_is_refused(tmp_path):
    published(tmp_path)
    with pytest.raises(StageError, match="another rank 0"):
        rendezvous.meet(Place(world_size=2, rendezvous=tmp_path / "m.json"), backend="gloo", timeout_s=1)
