"""What a process has spent: time and memory, of a GPU where it works on one, else of its processors."""

import resource
import time

import torch


def clock(device: torch.device) -> float:
    """On a GPU by the clock, once it has done all that it was asked for; else what the processors spent."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def peak_gb(device: torch.device) -> float:
    """On a GPU what PyTorch held at most; else all that the process ever held, Python and libraries too."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
