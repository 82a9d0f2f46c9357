"""The probe: a stage that only exercises the launcher. Torch-free.

It hashes its way through some steps, saves after each, stops when asked, fails on request. Its state depends on the
seed, the steps and its inputs alone, so an interrupted probe must end with the same bytes as a calm one.
"""

import os
import time

from vssl.artifacts import Inputs, read_json, sha256_text, write_json
from vssl.run import Run, Stopped
from vssl.stages.probe_config import ProbeConfig


def run(config: ProbeConfig, inputs: Inputs, run: Run) -> dict[str, float]:
    """Do the steps.

    Returns:
        `steps`, and `value`: a number in [0, 1) that follows from seed, steps and inputs.

    Raises:
        Stopped: asked to stop; the state is saved.
        RuntimeError: at step `fail_at`.
    """
    writes = os.environ.get("RANK", "0") == "0"
    saved = run.folder.checkpoints / "state.json"
    state = read_json(saved) or {"step": 0, "value": _begin(config, inputs), "journal": 0}
    if writes:
        run.journal.truncate(state["journal"])
    for step in range(state["step"], config.steps):
        if run.should_stop():
            raise Stopped(f"after step {step}")
        if step == config.fail_at:
            raise RuntimeError(f"the probe fails at step {step}, as its config asks")
        time.sleep(config.step_s)
        state = {"step": step + 1, "value": sha256_text(f"{state['value']}/{step}"), "journal": 0}
        if writes:
            run.log(step, {"value": _fraction(state["value"])})
            run.check_ownership()
            time.sleep(config.save_s)
            write_json(saved, {**state, "journal": run.journal.sync()})
        run.beat(step + 1, config.steps)
    if writes:
        run.check_ownership()
        write_json(run.artifact("state"), {"seed": config.seed, "value": state["value"]})
    return {"steps": float(config.steps), "value": _fraction(state["value"])}


def _begin(config: ProbeConfig, inputs: Inputs) -> str:
    digests = [artifact.digest for artifact in inputs.get("before", ())]
    return sha256_text("/".join([str(config.seed), *digests]))


def _fraction(value: str) -> float:
    return int(value[:8], 16) / 2**32
