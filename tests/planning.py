"""Plans for tests: of sweeps written in a test, and of the repository's. Run as a module, it renews the snapshots."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from launch.compose import Composer
from launch.plan import Plan
from launch.planning.command_line import parse
from launch.planning.planner import CHECKOUT, make_plan
from vssl.artifacts import canonical_json, sha256_text

SNAPSHOT = Path(__file__).parent / "launch" / "vicc_cross.json"
IDS = Path(__file__).parent / "launch" / "ids.json"
COMPOSER = Composer(CHECKOUT / "configs")  # remembers what it composed for earlier tests
# Probes that fork and join again; the last one reads the first as well.
CHAIN = """
stages:
  - {name: root, kind: probe, output: s}
  - {name: mid, kind: probe, config: [seed=1], inputs: {before: s}, output: s}
  - name: leaf-{x}
    kind: probe
    each: [{x: a, n: 4}, {x: b, n: 5}]
    config: ["steps={n}", "seed=2{n}"]
    inputs: {before: s}
    output: "l-{x}"
  - {name: last, kind: probe, config: [seed=3], inputs: {before: [l-a, l-b, s@root]}}
"""


def digest_of(key: str) -> str:
    """A stand-in for a prepared dataset: equal names have equal content."""
    return sha256_text(key.rpartition("-")[0])


def plan_of(*words: str, digest: Callable[[str], str | None] = digest_of) -> Plan:
    """The plan of a line on a sweep of the repository."""
    return make_plan(parse(words, Path("/")), digest, composer=COMPOSER)


def plan_text(folder: Path, text: str, *words: str, digest: Callable[[str], str | None] = digest_of) -> Plan:
    """The plan of a line on a sweep that a test writes."""
    file = folder / "written.yaml"
    file.write_text(text)
    line = parse(("sweep=written", *words), folder)
    return make_plan(line, digest, checkout=CHECKOUT, sweep_file=file, composer=COMPOSER)


def names(plan: Plan) -> list[str]:
    return [stage.name for stage in plan]


def nested(config: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The values of a config under the keys of another mapping."""
    return {k: nested(config[k], v) if isinstance(v, dict) else config[k] for k, v in part.items()}


def resolved(plan: Plan) -> dict[str, Any]:
    """What a snapshot holds of each stage: everything but ids."""
    return {
        stage.name: {
            "kind": stage.kind,
            "inputs": {
                role: [f"{one.stage}.{one.artifact}" if one.stage else one.source.partition(":")[0] for one in ones]  # type: ignore[union-attr]
                for role, ones in stage.inputs.items()
            },
            "resources": vars(stage.resources),
            "config": stage.config,
        }
        for stage in plan
    }


def frozen(plan: Plan) -> dict[str, Any]:
    """Kind, whole config, input ids and id of each stage: what no later version may change."""
    return {
        stage.name: {
            "kind": stage.kind,
            "config": stage.config,
            "inputs": {role: [one.id for one in ones] for role, ones in stage.inputs.items()},
            "id": stage.stage_id,
        }
        for stage in plan
    }


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(resolved(plan_of("sweep=vicc_cross")), indent=1, sort_keys=True) + "\n")
    if "--ids" in sys.argv:  # only before the first release: afterwards a changed id retrains somebody's networks
        words = ("sweep=vicc_cross", "grid.linear.seed=[0,1]")
        rows = [f"{json.dumps(name)}: {canonical_json(row)}" for name, row in frozen(plan_of(*words)).items()]
        IDS.write_text("{\n" + ",\n".join(rows) + "\n}\n")
