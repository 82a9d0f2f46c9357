"""The device of a stage, and the settings of torch that its result depends on."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vssl.distributed import joined
from vssl.run import StageError
from vssl.stages.runtime_config import RuntimeConfig

Network = TypeVar("Network", bound=nn.Module)

_AUTOCAST = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(runtime: RuntimeConfig, device: torch.device) -> AbstractContextManager[None]:
    """The precision in which networks run; losses and heads switch it off for themselves."""
    return torch.autocast(device.type, _AUTOCAST[runtime.amp], enabled=runtime.amp != "off")


def placed(network: Network, runtime: RuntimeConfig, device: torch.device) -> Network:
    """A network on its device, in the memory format that the config asks for, compiled if it asks for that.

    Only backbones are compiled: what is around them (queues, shuffles, collectives) is not worth the graph's breaks.
    """
    if runtime.channels_last:
        network = network.to(memory_format=torch.channels_last_3d)
    network = network.to(device)
    if runtime.compile:
        for backbone in _backbones(network):
            backbone.compile()  # in place, so that names in checkpoints stay as they are
    return network


def _backbones(network: nn.Module) -> list[nn.Module]:
    """Of a method each `backbone` in it; a backbone itself."""
    inner = [module for name, module in network.named_modules() if name.rpartition(".")[2] == "backbone"]
    return inner or [network]


@contextmanager
def prepared(runtime: RuntimeConfig) -> Iterator[torch.device]:
    """Join the other ranks, set threads and determinism, for the length of a block, which gets the device.

    Sums are grouped by thread, so the number of threads changes the last digits of a result: it is set from the config
    and not left to the machine.

    Raises:
        StageError: a GPU was asked for and there is none, or the ranks do not find one another.
    """
    with joined(device=runtime.device) as place, _settings(runtime, _device(runtime, place.local_rank)) as device:
        yield device


@contextmanager
def _settings(runtime: RuntimeConfig, device: torch.device) -> Iterator[torch.device]:
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
    )
    torch.set_num_threads(runtime.threads)
    if runtime.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first CUDA handle is made
        # the backward pass of 3D max pooling has no deterministic form on a GPU: there torch warns instead of refusing
        torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    torch.backends.cudnn.benchmark = not runtime.deterministic
    # fused attention adds up gradients in any order where torch only warns
    plain = runtime.deterministic and device.type == "cuda"
    attention: AbstractContextManager[object] = sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()
    try:
        with attention:
            yield device
    finally:
        threads, deterministic, warn_only, benchmark = before
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark


def _device(runtime: RuntimeConfig, local_rank: int) -> torch.device:
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise StageError("runtime.device is cuda and torch sees no GPU; take device=auto or cpu, or a node with a GPU")
    if runtime.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local_rank % torch.cuda.device_count())
