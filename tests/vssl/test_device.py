"""What a stage sets of torch while it runs, and that it is as before afterwards."""

import pytest
import torch
from torch.backends import cuda

from vssl.config import build
from vssl.device import _settings
from vssl.stages.runtime_config import RuntimeConfig


def kernels() -> dict[str, bool]:
    """Which forms of attention torch may choose from."""
    return {
        "flash": cuda.flash_sdp_enabled(),
        "memory": cuda.mem_efficient_sdp_enabled(),
        "cudnn": cuda.cudnn_sdp_enabled(),
        "math": cuda.math_sdp_enabled(),
    }


@pytest.mark.parametrize(
    ("deterministic", "device", "plain"), [(True, "cuda", True), (False, "cuda", False), (True, "cpu", False)]
)
def test_attention_is_not_fused_where_that_would_not_be_deterministic(
    deterministic: bool, device: str, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the settings: there is no GPU here. They hold until the stage ends, if need be by an error."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before, seen = kernels(), []

    def stage() -> None:
        with _settings(runtime, torch.device(device)):
            seen.extend([kernels(), torch.are_deterministic_algorithms_enabled()])
            raise RuntimeError("of the stage")

    runtime = build(RuntimeConfig, {"deterministic": deterministic, "threads": torch.get_num_threads()})
    with pytest.raises(RuntimeError, match="of the stage"):
        stage()
    assert kernels() == before == dict.fromkeys(before, True)
    assert not torch.are_deterministic_algorithms_enabled()
    assert seen == [dict.fromkeys(before, False) | {"math": True} if plain else before, deterministic]
