"""Run the local queue on a saved plan, as its own process: `queue_line.py <pipeline folder> <cores> [force...]`."""

import sys
from pathlib import Path

from launch.executors.local import execute
from launch.plan import plan_from_mapping
from launch.running.machine import Machine
from launch.store import Store
from vssl.artifacts import read_json

if __name__ == "__main__":
    pipeline = Path(sys.argv[1])
    plan = plan_from_mapping(read_json(pipeline / "plan.json"))
    store = Store.from_mapping(read_json(pipeline / "store.json"))
    names = [stage.name for stage in plan]
    sys.exit(execute(plan, names, store, force=sys.argv[3:], machine=Machine(int(sys.argv[2])), track=False))
