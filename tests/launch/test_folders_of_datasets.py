"""`data.NAME=FOLDER` says once where a dataset lies, for every stage that reads it."""

from pathlib import Path

import pytest

from launch.planning.command_line import parse
from tests.planning import plan_of
from vssl.config import ConfigError

PLACES = {"kinetics400": "/data/k400", "ucf101": "/data/ucf101", "hmdb51": "/data/hmdb51"}
LINE = [f"data.{name}={place}" for name, place in PLACES.items()]


def test_each_stage_finds_its_own_dataset() -> None:
    plan = plan_of("sweep=fgkvmem_k400", *LINE)
    found = {stage.name: stage.config["data"]["dataset"] for stage in plan}
    assert {one["path"] for one in found.values()} == set(PLACES.values())
    assert all(one["path"] == PLACES[one["name"]] for one in found.values())
    assert {one["name"]: one["path"] for one in plan.datasets.values()} == PLACES
    only = "stages.linear-hmdb51-byol-r3d18.data.dataset.path=/data/copies"
    nearer = plan_of("sweep=fgkvmem_k400", *LINE, only)
    assert nearer["linear-hmdb51-byol-r3d18"].config["data"]["dataset"]["path"] == "/data/copies"


def test_a_folder_is_meant_from_where_the_line_is_typed() -> None:
    line = parse(["sweep=vicc_single", "data=ucf101", "data.ucf101=videos/ucf101"], Path("/work/me"))
    assert (line.data, line.folders) == ("ucf101", {"ucf101": Path("/work/me/videos/ucf101")})


def test_a_dataset_that_nobody_reads_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.hmdb15: no stage .* reads dataset `hmdb15` \(did you mean `hmdb51`"):
        plan_of("sweep=fgkvmem_ucf101", "data.hmdb15=/data/hmdb51")
    with pytest.raises(ConfigError, match=r"`data\.ucf101` is 3; expected a folder"):
        plan_of("sweep=fgkvmem_ucf101", "data.ucf101=3")
