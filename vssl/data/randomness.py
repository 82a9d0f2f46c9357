"""Random streams that are named, not shared: a name always gives the same numbers, whoever asks and in which order."""

import hashlib

import torch


def seed_of(*parts: object) -> int:
    """63-bit seed: the first 8 bytes of SHA-256 of the parts joined by "/"."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") & (2**63 - 1)


def stream(*parts: object) -> torch.Generator:
    """A CPU generator that belongs to one purpose.

    A sample's streams are named (seed, epoch, video id, purpose), an epoch's order (seed, epoch, "order"), what a step
    draws (seed, step, purpose). So neither loader processes, ranks, row order nor restarts change a draw.
    """
    return torch.Generator().manual_seed(seed_of(*parts))


def permutation(length: int, *parts: object) -> list[int]:
    """A permutation of range(length) drawn from the stream of that name."""
    order: list[int] = torch.randperm(length, generator=stream(*parts)).tolist()
    return order
