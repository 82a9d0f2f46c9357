"""Config of the probe, a stage that only exercises the launcher. Torch-free."""

from dataclasses import dataclass

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    seed: int = knob(0, doc="makes probes differ")
    steps: int = knob(3, doc="steps; a state is saved after each")
    step_s: float = knob(0.0, doc="seconds a step takes", semantic=False)
    save_s: float = knob(0.0, doc="seconds a save takes", semantic=False)
    rank: int = knob(0, doc="the rank to which the following happens", semantic=False, at_least=0)
    fail_at: int = knob(-1, doc="raise at this step; -1: never", semantic=False)
    hang_at: int = knob(-1, doc="sleep for ever at this step; -1: never", semantic=False)
    kill_at: int = knob(-1, doc="SIGKILL the process at this step, once in the life of the stage", semantic=False)
