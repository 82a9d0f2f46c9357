"""A preflight tries one of the stages that are alike, says what it finds, and leaves no trace in the results."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from launch.plan import Plan, PlannedStage
from launch.planning.command_line import parse
from launch.planning.selection import select
from launch.planning.sources import prepare_sources
from launch.slurm.profiles import Profile
from launch.slurm.scheduler import SchedulerRefusedError, SchedulerSilentError
from launch.store import Store
from launch.trials import alike, rehearsing
from launch.trials.checks import Check, exit_code
from launch.trials.preflight import preflight
from tests.planning import COMPOSER, plan_of
from vssl.config import build
from vssl.stages import STAGES

LANES = plan_of("sweep=vicc_cross", "grid.single.seed=[0,1]", "grid.linear.optim.base_lr=[0.1,0.3]")


def names(groups: list[alike.Group]) -> list[list[str]]:
    return [[stage.name for stage in group.stages] for group in groups]


def test_seeds_rates_and_rounds_make_stages_no_different() -> None:
    found = names(alike.groups(LANES, [stage.name for stage in LANES]))
    assert len(next(group for group in found if group[0].startswith("single-rgb"))) == 2
    cross = next(group for group in found if group[0].startswith("cross1-rgb"))
    assert {name.partition(".")[0] for name in cross} == {"cross1-rgb", "cross2-rgb"}
    linear = next(group for group in found if group[0].startswith("linear-rgb"))
    assert len(linear) == 4
    retrieval = next(group for group in found if group[0].startswith("retrieval-rgb"))
    assert not [name for name in retrieval if "untrained" in name], "that one reads no weights"


def test_what_takes_other_memory_or_another_path_is_tried_by_itself() -> None:
    plan = plan_of("sweep=vicc_cross", "grid.single.method.num_prototypes=[100,300]", "only=single")
    found = names(alike.groups(plan, [stage.name for stage in plan if stage.element == "single-rgb"]))
    assert len(found) == 2


def test_a_stage_is_made_short_as_far_as_its_config_allows() -> None:
    config, said = alike.shortened(LANES["cross1-rgb.0"], has_gpu=False)
    assert (config["epochs"], config["global_batch_size"], config["method"]["bn_group_size"]) == (1, 2, 2)
    assert config["runtime"]["amp"] == "off"
    assert config["backbone"] == LANES["cross1-rgb.0"].config["backbone"]
    assert said == ["epochs 1 of 100", "global_batch_size 2 of 96", "amp off, as there is no GPU here"]
    assert alike.shortened(LANES["cross1-rgb.0"], has_gpu=True)[0]["runtime"]["amp"] == "fp16"
    for stage in LANES:
        build(STAGES[stage.kind].config_class(), alike.shortened(stage, has_gpu=True)[0])


def test_where_a_small_batch_is_refused_the_epochs_alone_are_short() -> None:
    stage = plan_of(
        "sweep=vicc_single",
        "only=single",
        "stages.single.method.queue_len=1921",
        "stages.single.global_batch_size=113",
        "stages.single.method.bn_group_size=113",
    )["single-rgb"]
    config, said = alike.shortened(stage, has_gpu=True)
    assert (config["epochs"], config["global_batch_size"]) == (1, 113)
    assert said == ["epochs 1 of 300"]


class Found(NamedTuple):
    code: int
    text: str

    def result(self, what: str) -> str:
        """The result, and what is said of it, of the row that begins with a name."""
        (row,) = [row for row in self.text.splitlines() if row.startswith(f"{what} ")]
        return row.removeprefix(what).strip()


@pytest.fixture
def fly(store: Store, capsys: pytest.CaptureFixture[str]) -> Callable[..., Found]:
    def fly(plan: Plan, profile: Profile | None = None, scheduler: Any = None, **parts: Any) -> Found:
        code = preflight(plan, select(plan, **parts), store, profile=profile, scheduler=scheduler)
        return Found(code, capsys.readouterr().out)

    return fly


def left(store: Store) -> set[str]:
    """Files of a store beside its sources."""
    files = {path.relative_to(store.root).as_posix() for path in store.root.rglob("*") if path.is_file()}
    return {name for name in files if not name.startswith(("sources/", "generated/"))}


def test_probes_are_tried_and_nothing_is_left(fly: Callable[..., Found], chain: Plan, store: Store) -> None:
    found = fly(chain)
    assert found.code == 0
    assert found.result("first").startswith("ok")
    assert "3 steps in" in found.result("first")
    assert "went on from its checkpoint" in found.result("first")
    assert found.result("second").startswith("ok"), "it reads what the first one made"
    assert "needed under" in found.result("disk")
    assert left(store) == set()


def test_what_is_finished_is_read_and_not_tried(
    fly: Callable[..., Found], chain: Plan, run_stage: Callable[..., int], store: Store
) -> None:
    assert run_stage(chain, "first") == 0
    before = left(store)
    found = fly(chain)
    assert "\nfirst" not in found.text
    assert found.result("second").startswith("ok")
    assert "1 of 2 stages are done already" in found.text
    assert left(store) == before


def test_a_stage_that_fails_is_named_with_its_log_and_those_below_are_not_tried(
    fly: Callable[..., Found], make_plan: Callable[..., Plan], stage: Callable[..., PlannedStage]
) -> None:
    bad = stage("bad", fail_at=1)
    found = fly(make_plan(bad, stage("below", [bad], seed=2, steps=4), stage("beside", seed=3, steps=5)))
    assert found.code == 1
    said = found.result("bad")
    assert said.startswith("failed")
    assert "the probe fails at step 1" in said
    log = Path(said.rpartition("log ")[2])
    assert "Traceback" in log.read_text()
    assert found.result("below").startswith("not tried")
    assert "reads bad, which was not made" in found.result("below")
    assert found.result("beside").startswith("ok")


def test_a_stage_that_dies_or_takes_too_long_does_not_end_the_others(
    fly: Callable[..., Found],
    make_plan: Callable[..., Plan],
    stage: Callable[..., PlannedStage],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rehearsing, "STAGE_WAIT_S", 2.0)
    found = fly(make_plan(stage("slow", step_s=60.0), stage("dies", kill_at=1, steps=4), stage("fine", steps=5)))
    assert found.code == 1
    assert "takes more than 2.0 s on this machine" in found.result("slow")
    assert "was killed by SIGKILL" in found.result("dies")
    assert found.result("fine").startswith("ok")


def test_a_parent_that_nobody_makes_is_met_first(fly: Callable[..., Found], chain: Plan, store: Store) -> None:
    found = fly(chain, only=["second"])
    assert found.code == 2
    assert "needs first, neither finished nor selected; select from=first" in found.result("second")
    assert not store.root.exists()


def test_a_dataset_that_is_not_prepared_is_met_first(fly: Callable[..., Found], store: Store) -> None:
    plan = plan_of("sweep=vicc_single", "stages.all.data.dataset.path=/data/ucf", digest=lambda _: None)
    found = fly(plan)
    assert found.code == 2
    assert "run: vssl prepare ucf101 --path /data/ucf" in found.result("dataset ucf101")
    assert not store.root.exists()


def test_a_disk_that_is_too_small_is_refused(
    fly: Callable[..., Found], chain: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("launch.trials.disk.shutil.disk_usage", lambda _: usage._replace(free=1))
    found = fly(chain)
    assert found.code == 2
    assert found.result("disk").startswith("refused")


class Site:
    """A Slurm with one partition of small nodes."""

    def __init__(self, says: str = "", error: Exception | None = None) -> None:
        self.says, self.error = says, error
        self.scripts: list[str] = []

    def partitions(self) -> dict[str, dict[str, str]]:
        return {"cpu": {"PartitionName": "cpu", "Default": "YES", "MaxTime": "2:00:00"}}

    def nodes(self) -> list[dict[str, str]]:
        row = {"partition": "cpu", "nodes": "4", "cpus": "2", "memory_mb": "20000", "gres": "", "features": ""}
        return [row]

    def test_only(self, script: Path, cwd: Path) -> str:
        self.scripts.append(script.read_text())
        if self.error is not None:
            raise self.error
        return self.says


SAYS = "sbatch: Job 7 to start at 2099-03-02T10:33:00 using 1 processors on nodes n[1-2] in partition cpu"
PROFILE = Profile(name="small", parameters={"account": "lab"})


def test_each_set_of_resources_is_asked_for_once(
    fly: Callable[..., Found], make_plan: Callable[..., Plan], stage: Callable[..., PlannedStage]
) -> None:
    big = {"mem_gb": 12.0, "timeout_min": 30}
    plan = make_plan(stage("a", seed=1), stage("b", seed=2), stage("c", seed=3, resources=big))
    site = Site(SAYS)
    found = fly(plan, PROFILE, site)
    assert found.code == 0, found.text
    assert len(site.scripts) == 2
    assert all("#SBATCH --account=lab" in script for script in site.scripts)
    said = "ok      could start on 02 Mar at 10:33 on n[1-2], partition cpu (for "
    assert found.result("1 x (1 cores, 8 GB), 60 min") == f"{said}a, b)"
    assert found.result("1 x (1 cores, 12 GB), 30 min") == f"{said}c)"


def test_what_a_site_refuses_is_said(
    fly: Callable[..., Found], make_plan: Callable[..., Plan], stage: Callable[..., PlannedStage]
) -> None:
    plan = make_plan(stage("long", resources={"timeout_min": 300}))
    found = fly(plan, PROFILE, Site(error=SchedulerRefusedError("sbatch", "Invalid account")))
    assert found.code == 2
    assert "long asks for 300 min, and partition cpu allows 120 (MaxTime)" in found.result("partitions")
    assert found.result("1 x (1 cores, 8 GB), 300 min") == "refused  Invalid account (for long)"


def test_a_silent_controller_is_no_verdict(fly: Callable[..., Found], chain: Plan) -> None:
    found = fly(chain, PROFILE, Site(error=SchedulerSilentError("sbatch did not answer within 60 s")))
    assert found.code == 75, "whoever submits after a 0 would be wrong"
    assert found.result("slurm") == "no answer  sbatch did not answer within 60 s; try again"


def test_what_a_person_has_to_mend_counts_more_than_silence() -> None:
    silence = Check(what="slurm", result="no answer")
    assert exit_code([silence, Check(what="x", result="ok")]) == 75
    assert exit_code([silence, Check(what="x", result="refused")]) == 2
    assert exit_code([silence, Check(what="x", result="failed"), Check(what="y", result="refused")]) == 1


def test_real_stages_are_tried_on_a_few_videos(fly: Callable[..., Found], store: Store) -> None:
    from launch.planning.planner import make_plan

    line = parse(["sweep=vicc_single", "scale=smoke"], Path("/"))
    prepare_sources(make_plan(line, lambda _: None, composer=COMPOSER).datasets, store)
    plan = make_plan(line, store.source_digest, composer=COMPOSER)
    found = fly(plan, only=["flow", "single-flow", "linear-flow", "retrieval-flow"])
    assert found.code == 0, found.text
    assert "2 steps" in found.result("single-flow")
    assert "went on from its checkpoint; 6 of 18 videos; epochs 1 of 2; global_batch_size 2 of 4" in found.text
    assert left(store) == set()
