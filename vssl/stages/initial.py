"""What a network of frames starts from: a file of an image network, under whatever names it was published."""

from vssl.artifacts import Artifact
from vssl.distributed import is_main
from vssl.methods.carl import FrameEncoder
from vssl.methods.carl_config import Initial
from vssl.published_images import read_image_network
from vssl.run import Run, StageError
from vssl.weights import fill, load_weights


def initialise(encoder: FrameEncoder, artifact: Artifact | None, initial: Initial, run: Run) -> None:
    """Fill the backbone, or of `carl` all of the encoder, and say from what. Every tensor must be in the file.

    Args:
        encoder: on the CPU.
        artifact: bound to the role `initial`.
        initial: what kind of file it is.
        run: the stage's execution.

    Raises:
        StageError: nothing is bound, another kind of file, or tensors that do not fit.
    """
    if artifact is None or initial == "none":
        raise StageError(
            f"initial is {initial} and no file is bound to the role `initial`; bind one, or set it to none"
        )
    if initial == "carl":
        weights = load_weights(artifact)
        fill(encoder.backbone, weights.part("backbone"), what=f"the backbone of {artifact.origin}")
        fill(encoder.embedder, weights.part("embedder"), what=f"the embedder of {artifact.origin}")
        report = weights.report or f"took {len(encoder.state_dict())} tensors of backbone and embedder"
    else:
        own = encoder.backbone.state_dict()
        found = read_image_network(artifact.path, initial)
        above = [name for name in found if name.startswith("layer4.") and name not in own]  # a backbone of 3 layers
        tensors = {name: tensor for name, tensor in found.items() if name not in above}
        fill(encoder.backbone, tensors, what=f"the {initial} network of {artifact.origin}")
        report = f"took all {len(own)} tensors of the backbone" + (f", not {len(above)} of layer4" if above else "")
    if is_main():
        run.say(f"initial weights: {initial}, {artifact.origin}: {report}")
