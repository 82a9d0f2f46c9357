"""Parts of a whole: stages that make shares of an artifact, for one that makes all of it with less work. Pure."""

from collections.abc import Mapping
from typing import Any

from launch.planning.identity import identity
from launch.planning.unroll import Element
from vssl.config import ConfigError, semantic
from vssl.stages import STAGES


def refuse_foreign(whole: Element, digest: str, part: Element, config: Any, ids: Mapping[str, Any]) -> None:
    """A part is of the whole if its own identity, less the shard, is that of the whole.

    Args:
        whole: the stage that takes the part.
        digest: its identity.
        part: the stage that makes the part.
        config: of that.
        ids: role -> what enters its identity.

    Raises:
        ConfigError: it is a part of something else.
    """
    kind = STAGES[whole.kind]
    if part.kind != whole.kind or identity(whole.kind, kind.version, semantic(config.whole()), ids) != digest:
        raise ConfigError(
            f"{whole.where}: `{part.name}` makes no part of what `{whole.name}` makes; give both the same kind, config "
            "and inputs, but for `shard`"
        )
