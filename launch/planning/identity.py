"""A stage's identity: the digest of what decides its result."""

from collections.abc import Mapping
from typing import Any

from vssl.artifacts import canonical_json, sha256_text
from vssl.config import semantic, to_mapping

PENDING = "pending"


class SharedParts:
    """Plain and semantic forms of configs, remembering the parts that lanes share: most lanes differ in one number."""

    def __init__(self) -> None:
        self._plain: dict[int, tuple[Any, dict[str, Any]]] = {}  # the config itself is held, so that its id stays its
        self._semantic: dict[int, tuple[Any, dict[str, Any]]] = {}

    def plain(self, config: Any) -> dict[str, Any]:
        """`to_mapping` of a stage's config; equal parts may be one object, so nobody changes it."""
        return to_mapping(config, self._plain_part)

    def semantic(self, config: Any) -> dict[str, Any]:
        """`semantic` of a stage's config, likewise."""
        return semantic(config, self._semantic_part)

    def _plain_part(self, part: Any) -> dict[str, Any]:
        if id(part) not in self._plain:
            self._plain[id(part)] = (part, to_mapping(part, self._plain_part))
        return self._plain[id(part)][1]

    def _semantic_part(self, part: Any) -> dict[str, Any]:
        if id(part) not in self._semantic:
            self._semantic[id(part)] = (part, semantic(part, self._semantic_part))
        return self._semantic[id(part)][1]


def identity(kind: str, version: int, semantic_config: Mapping[str, Any], inputs: Mapping[str, Any]) -> str:
    """SHA-256 over canonical JSON of kind, version, semantic config and {role: input id or list of them}."""
    return sha256_text(canonical_json({"kind": kind, "version": version, "config": semantic_config, "inputs": inputs}))


def stage_id(digest: str, pending: bool) -> str:
    """16 characters: the start of the digest, or "pending" and a shorter start while data below is not prepared."""
    return PENDING + digest[:9] if pending else digest[:16]
