"""What is bound to a stage's roles, against its config. Pure."""

from collections.abc import Iterable
from typing import Any

from launch.planning.unroll import Element
from vssl.backbones.backbone_config import takes_weights
from vssl.config import ConfigError, to_mapping
from vssl.stages import STAGES


def refuse_roles(element: Element, config: Any, bound: Iterable[str]) -> None:
    """
    Raises:
        ConfigError: some values go only with weights to start from, or only without.
    """
    try:
        if hasattr(config, "refuse_inputs"):
            config.refuse_inputs(frozenset(bound))
    except ConfigError as error:
        raise ConfigError(f"{element.where}: `{element.name}`: {error}") from None


def refuse_other_backbone(element: Element, config: Any, parent: Element, parent_config: Any, artifact: str) -> None:
    """
    Raises:
        ConfigError: the artifact is weights, which fit only the backbone that made them.
    """
    if STAGES[parent.kind].makes[artifact] != "weights":
        return
    ours, theirs = getattr(config, "backbone", None), getattr(parent_config, "backbone", None)
    if ours is not None and theirs is not None and not takes_weights(ours, theirs, element.kind):
        raise ConfigError(
            f"{element.where}: `{element.name}` has backbone {to_mapping(ours)} but reads the weights of "
            f"`{parent.name}`, whose backbone is {to_mapping(theirs)}; set both at once by grid.all.backbone= or "
            "stages.all.backbone="
        )
