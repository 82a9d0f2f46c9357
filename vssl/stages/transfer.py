"""What a fine-tuning does with the weights of a pre-training beyond its backbone's, which must fit in name and shape.

The public code of STS loads what happens to fit and warns of the rest, so that 1000 classes of videos would begin with
ImageNet's classifier. Here a classifier is never taken over, and what stays behind is said.
"""

from vssl.backbones.build import Backbone
from vssl.distributed import is_main
from vssl.nn.heads import ClassifierHead, HiddenClassifierHead
from vssl.nn.initial import spread_kernels, zero_residuals
from vssl.run import Run, StageError
from vssl.stages.finetune_config import FinetuneConfig
from vssl.weights import Weights


def start_residuals_and_taps(config: FinetuneConfig, backbone: Backbone) -> None:
    """Change the weights that a backbone starts from, as the config says.

    Raises:
        StageError: taps are to be spread, and no kernel has three of them.
    """
    if config.zero_init_residual:
        zero_residuals(backbone)
    if config.taps == "spread":
        try:
            spread_kernels(backbone)
        except ValueError as error:
            raise StageError(f"{error}; set taps to keep") from None


def take_hidden_layer(head: ClassifierHead, weights: Weights, run: Run) -> None:
    """Start the hidden layer of a head, if it has one, at the weights of the bound classifier's, but for its bias.

    What the bound weights hold beside a backbone, and is not taken, is said.
    """
    held = weights.part("head")
    taken = []
    found = held.get("hidden.weight")
    if isinstance(head, HiddenClassifierHead) and found is not None and found.shape == head.hidden.weight.shape:
        head.hidden.weight.data.copy_(found)
        taken.append("hidden.weight")
    left = [f"head.{name}" for name in held if name not in taken]
    if left and is_main():
        also = "".join(f" and head.{name}" for name in taken)
        run.say(f"{weights.origin}: took its backbone{also}; left {', '.join(left)}: another classifier is trained")
