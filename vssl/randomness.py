"""Random streams that depend on names alone: never on ranks, workers, restarts or what was drawn before."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_of(*parts: object) -> int:
    """The first 8 bytes of SHA-256 over "part/part/...", without the sign bit."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") & (2**63 - 1)


def stream(*parts: object) -> torch.Generator:
    """A CPU generator of its own for every name: `stream(seed, step, "shuffle")`."""
    generator = torch.Generator()
    generator.manual_seed(seed_of(*parts))
    return generator


@contextmanager
def seeded(*parts: object) -> Iterator[None]:
    """Make library code that draws from torch's global CPU generator (initial weights) depend on a name alone."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed_of(*parts))
    try:
        yield
    finally:
        torch.set_rng_state(before)
