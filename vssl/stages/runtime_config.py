"""How a stage uses the machine. Only precision and determinism can change a result, so only they are semantic."""

from dataclasses import dataclass
from typing import Literal

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class CoresConfig:
    """How many cores a stage uses."""

    threads: int = knob(2, doc="intra-op threads of a rank on CPU", semantic=False, at_least=1)
    workers: int = knob(0, doc="loader processes of a rank", semantic=False, at_least=0)


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig(CoresConfig):
    """How a stage runs its network."""

    amp: Literal["off", "bf16", "fp16"] = knob("off", doc="autocast precision of the networks; losses stay in float32")
    deterministic: bool = knob(
        True,
        doc="bit-equal resume (on a GPU, all but 3D max pooling); slower there, and attention, whose fused kernels are "
        "not used, needs more memory too",
    )
    device: Literal["auto", "cpu", "cuda"] = knob("auto", doc="auto: cuda where there is one", semantic=False)
    looks_on: Literal["workers", "device"] = knob(
        "workers",
        doc="where colours, blur and flips of training views are computed: as each video is read, or a batch at once "
        "on the device; some values differ by a level of 255",
        since="0.2",
        neutral="workers",
    )
    prefetch: int = knob(2, doc="batches prepared ahead by each loader process", semantic=False, at_least=1)
    save_every_min: float = knob(10.0, doc="minutes between checkpoints", semantic=False, above=0)
    save_every_steps: int = knob(0, doc="steps between checkpoints; 0: by time alone", semantic=False, at_least=0)
    log_every: int = knob(1, doc="steps between journal rows", semantic=False, at_least=1)
    channels_last: bool = knob(False, doc="channels_last_3d memory format", semantic=False)
    compile: bool = knob(False, doc="torch.compile of the backbones", semantic=False)
