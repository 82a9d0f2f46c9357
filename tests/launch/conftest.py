"""Hand-made plans of probe stages, stores that they run in, and a small Slurm that they are sent to."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launch.executors.slurm import execute
from launch.job import Launch, run_element
from launch.plan import Plan, PlannedStage, Reference, Resources
from launch.running.elements import Element, element
from launch.store import Store
from tests.launch.fake_slurm import FakeSlurm
from tests.launch.slurm_ranks import Job
from tests.launch.submissions import PROFILE, Clock
from vssl.artifacts import canonical_json, sha256_text
from vssl.config import build, semantic
from vssl.stages import STAGES

PlanMaker = Callable[..., Plan]


def planned(
    name: str, parents: Iterable[PlannedStage] = (), resources: Mapping[str, Any] | None = None, **config: Any
) -> PlannedStage:
    """A probe that reads the states of its parents, with the identity that its config and inputs give it."""
    kind = STAGES["probe"]
    references = tuple(
        Reference(id=f"{parent.stage_id}/state", type="state", stage=parent.name, artifact="state")
        for parent in parents
    )
    inputs = {"before": references} if references else {}
    identity = {
        "kind": "probe",
        "version": kind.version,
        "config": semantic(build(kind.config_class(), config)),
        "inputs": {role: [one.id for one in ones] for role, ones in inputs.items()},
    }
    return PlannedStage(
        name=name,
        template=name,
        element=name,
        lane=None,
        axes={},
        kind="probe",
        config=config,
        inputs=inputs,
        resources=Resources(cpus_per_task=1, **(resources or {})),
        stage_id=sha256_text(canonical_json(identity))[:16],
    )


@pytest.fixture
def stage() -> Callable[..., PlannedStage]:
    return planned


@pytest.fixture
def make_plan() -> PlanMaker:
    def make(*stages: PlannedStage, sweep: str = "probes") -> Plan:
        return Plan(sweep=sweep, scale="smoke", stages=stages, datasets={})

    return make


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root", visibility_s=0)


@pytest.fixture
def chain(make_plan: PlanMaker) -> Plan:
    """first -> second, two quick probes."""
    first = planned("first", seed=1)
    return make_plan(first, planned("second", [first], seed=2))


@pytest.fixture
def run_stage(store: Store) -> Callable[..., int]:
    """Run one stage of a plan in this process, as a job would."""

    def run(plan: Plan, name: str, nonce: str = "test", **changes: Any) -> int:
        record: Element = element(plan[name], plan, "pipeline")
        if changes:
            record = Element(**{**vars(record), "config": {**record.config, **changes}})
        return run_element(record, store, Launch(nonce=nonce), batch="batch")

    return run


@pytest.fixture
def make_job(store):
    """`make_job(stage, ..., ranks=1, policy=None)`: a job in the store, whose processes end with the test."""
    with ExitStack() as stack:

        def make(*stages, **options):
            job = Job(store, *stages, **options)
            stack.callback(job.end)
            return job

        yield make


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def slurm(clock):
    return FakeSlurm(clock, start=lambda job: None, kill=lambda job: None)


@pytest.fixture
def lanes(make_plan):
    """A plan of `number` lanes: single -> cross -> linear."""

    def make(number):
        stages = []
        for template in ("single", "cross", "linear"):
            for lane in range(number):
                parents = [one for one in stages if one.lane == lane][-1:]
                stage = planned(f"{template}.{lane}", parents, {"mem_gb": 1}, seed=lane)
                stages.append(replace(stage, template=template, element=template, lane=lane))
        return make_plan(*stages)

    return make


@pytest.fixture
def submit(store, slurm, capsys, tmp_path, monkeypatch):
    """The line; returns the exit code and what it said."""
    monkeypatch.setattr("launch.slurm.submission.snapshot", lambda store: tmp_path / "code")

    def run(plan, *only, profile=PROFILE, scheduler=slurm, store=store, **options):
        code = execute(plan, only or [one.name for one in plan], store, profile=profile, scheduler=scheduler, **options)
        said = capsys.readouterr()
        return code, said.out + said.err

    return run
