"""How clips of a batch are mixed with one another. Torch-free. Defaults are those of FGKVMem and PySlowFast."""

from dataclasses import dataclass

from vssl.config import knob


@dataclass(frozen=True, kw_only=True)
class MixupConfig:
    """Each batch is mixed with itself reversed: by mixup, by cutmix, or not."""

    mixup_alpha: float = knob(0.8, doc="both parameters of mixup's Beta distribution; 0: cutmix alone", at_least=0)
    cutmix_alpha: float = knob(1.0, doc="both parameters of cutmix's Beta distribution; 0: mixup alone", at_least=0)
    probability: float = knob(1.0, doc="that a batch is mixed at all", at_least=0, at_most=1)
    cutmix_probability: float = knob(0.5, doc="that a mixed batch is mixed by cutmix", at_least=0, at_most=1)

    def __post_init__(self) -> None:
        if self.mixup_alpha == self.cutmix_alpha == 0:
            raise ValueError(
                "mixup_alpha and cutmix_alpha are both 0, which mixes nothing; give one of them (0.8, 1.0), or set "
                "mixup to null"
            )


def refuse_odd_batch(mixup: MixupConfig | None, global_batch_size: int) -> None:
    """
    Raises:
        ValueError: one clip of each batch would be mixed with itself.
    """
    if mixup and global_batch_size % 2:
        raise ValueError(
            f"global_batch_size is {global_batch_size} and mixup is on, which pairs the clips of a batch; take "
            f"{global_batch_size - 1} or {global_batch_size + 1}, or set mixup to null"
        )
