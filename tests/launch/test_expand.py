"""A sweep becomes a plan: its stages, their order and edges, and their ids."""

from pathlib import Path

import pytest

from tests.planning import CHAIN, names, plan_of, plan_text
from vssl.artifacts import canonical_json, sha256_file, sha256_text
from vssl.config import ConfigError, build, semantic
from vssl.stages import STAGES


def test_edges_come_from_names_and_the_newest_binding_is_read(tmp_path: Path) -> None:
    plan = plan_text(tmp_path, CHAIN)
    assert names(plan) == ["root", "mid", "leaf-a", "leaf-b", "last"]
    assert plan["mid"].parents == ("root",)
    assert plan["leaf-a"].parents == ("mid",)
    assert plan["last"].parents == ("leaf-a", "leaf-b", "root")
    assert plan["leaf-b"].config["steps"] == 5
    assert all(stage.lane is None for stage in plan)


def test_an_id_is_what_the_contract_says(tmp_path: Path) -> None:
    for plan in (plan_text(tmp_path, CHAIN), plan_of("sweep=vicc_single", "scale=smoke")):
        for stage in plan:
            kind = STAGES[stage.kind]
            inputs = {
                role: [one.id for one in ones] if kind.roles[role].many else ones[0].id
                for role, ones in stage.inputs.items()
            }
            meant = {
                "kind": stage.kind,
                "version": kind.version,
                "config": semantic(build(kind.config_class(), stage.config)),
                "inputs": inputs,
            }
            assert stage.stage_id == sha256_text(canonical_json(meant))[:16]
            for ones in stage.inputs.values():
                for one in ones:
                    assert (one.stage is None) != (one.source is None)
                    assert one.stage is None or one.id == f"{plan[one.stage].stage_id}/{one.artifact}"


def test_a_value_that_cannot_change_a_result_changes_no_id(tmp_path: Path) -> None:
    plain = plan_of("sweep=vicc_single", "scale=smoke")
    other = plan_of(
        *("sweep=vicc_single", "scale=smoke", "stages.all.runtime.threads=1", "stages.all.runtime.workers=3"),
        *("stages.single.resources=pretrain_single", "cluster=a100"),
    )
    assert [stage.stage_id for stage in plain] == [stage.stage_id for stage in other]
    assert other["single-rgb"].config["runtime"]["workers"] == 3
    assert other["single-rgb"].resources.gpus_per_node == 4


def test_a_value_equal_to_the_default_is_the_default(tmp_path: Path) -> None:
    default = plan_text(tmp_path, "stages:\n  - {name: a, kind: probe}\n")
    plan = plan_text(tmp_path, "stages:\n  - {name: a, kind: probe}\n", "grid.a.seed=[0,1]")
    assert plan["a.0"].stage_id == default["a"].stage_id


def test_ids_are_pending_below_a_dataset_that_is_not_prepared() -> None:
    pending = plan_of("sweep=vicc_single", digest=lambda _: None)
    again = plan_of("sweep=vicc_single", digest=lambda _: None)
    assert [stage.stage_id for stage in pending] == [stage.stage_id for stage in again]
    for stage in pending:
        assert stage.stage_id.startswith("pending")
        assert len(stage.stage_id) == 16
    assert len({stage.stage_id for stage in pending}) == len(pending.stages)
    (key,) = pending.datasets
    assert pending["flow"].inputs["dataset"][0].id == f"pending:{key}"
    assert pending["flow"].inputs["dataset"][0].source == f"dataset:{key}"


def test_equal_content_elsewhere_has_equal_ids_and_other_content_has_not() -> None:
    here = plan_of("sweep=vicc_single", "data=/here/videos")
    moved = plan_of("sweep=vicc_single", "data=/there/videos")
    other = plan_of("sweep=vicc_single", "data=/here/others")
    assert [s.stage_id for s in here] == [s.stage_id for s in moved]
    assert not {s.stage_id for s in here} & {s.stage_id for s in other}


def test_inputs_that_a_config_does_not_use_are_dropped() -> None:
    plan = plan_of("sweep=vicc_single")
    assert "motion" not in plan["single-rgb"].inputs
    assert plan["single-rgb"].parents == ()
    assert plan["single-flow"].parents == ("flow",)


def test_weights_from_a_file_enter_by_content(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    file.write_bytes(b"weights")
    text = "stages:\n  - {name: r, kind: retrieval, config: [recipe=vicc_retrieval], "
    text += f"inputs: {{weights: 'file:{file}'}}}}\n"
    (reference,) = plan_text(tmp_path, text)["r"].inputs["weights"]
    assert (reference.id, reference.source, reference.type) == (sha256_file(file), f"file:{file}", "weights")
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        plan_text(tmp_path, text.replace("w.pt", "x.pt"))
    with pytest.raises(ConfigError, match="absolute path"):
        plan_text(tmp_path, text.replace(str(file), "w.pt"))


def test_after_orders_without_data_and_may_look_down(tmp_path: Path) -> None:
    text = "stages:\n  - {name: a, kind: probe, after: b}\n"
    text += "  - {name: 'b{n}', kind: probe, each: {n: [1, 2]}, config: ['seed={n}']}\n"
    plan = plan_text(tmp_path, text)
    assert names(plan) == ["b1", "b2", "a"]
    assert plan["a"].after == ("b1", "b2")
    plan = plan_text(tmp_path, text, "grid.b1.steps=[1,2]")
    assert plan["a"].after == ("b1.0", "b2", "b1.1")
