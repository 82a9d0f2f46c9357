"""Optical flow by RAFT (Teed and Deng, ECCV 2020), as torchvision has it: large or small, told by its weights."""

from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.optical_flow import raft_large, raft_small

from vssl.data.decode import Frames
from vssl.data.flow import Flow
from vssl.run import StageError

_MULTIPLE, _LEAST = 8, 128  # of the network's eighth of a frame, and of its pyramid of four levels


class Raft:
    """The network on the GPU of this machine if it has one, else on one core.

    Args:
        weights: a state of torchvision's `raft_large` or `raft_small`, as `torch.save` wrote it.

    Raises:
        StageError: the file holds something else.
    """

    def __init__(self, weights: Path) -> None:
        torch.set_num_threads(1)  # processes share the cores
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises what it likes
            raise StageError(f"{weights} holds no weights ({error}); give torchvision's of RAFT") from None
        for build in (raft_large, raft_small):
            network = build(weights=None)
            try:
                network.load_state_dict(state)
            except (RuntimeError, TypeError, AttributeError):
                continue
            break
        else:
            raise StageError(f"{weights} holds weights of another network than torchvision's raft_large or raft_small")
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = network.eval().requires_grad_(False).to(self._device)

    def see(self, frame: Frames) -> Tensor:
        """(H, W, 3) uint8 -> (3, H, W) in [-1, 1]."""
        return torch.from_numpy(frame).to(self._device).permute(2, 0, 1) / 127.5 - 1

    @torch.inference_mode()
    def between(self, before: Tensor, after: Tensor) -> Flow:
        """Flow from one frame to the next, the last of the network's refinements."""
        height, width = before.shape[1:]
        down, right = (max(_LEAST, -(-size // _MULTIPLE) * _MULTIPLE) - size for size in (height, width))
        pair = F.pad(torch.stack([before, after]), (0, right, 0, down), mode="replicate")
        refined = self._network(pair[:1], pair[1:])[-1][0, :, :height, :width]  # (2, H, W)
        return cast(Flow, refined.permute(1, 2, 0).cpu().numpy())
