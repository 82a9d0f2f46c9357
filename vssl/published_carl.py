"""Checkpoints of CARL's public code (github.com/minghchen/CARL_code), under this project's names.

All three embedders are read. The settings of a run, which a file holds as an object, are nobody's business here.
"""

from collections.abc import Mapping
from typing import Any

from vssl.backbones.renaming import Rules, renamed
from vssl.published import Imported, state_of
from vssl.run import StageError

_BACKBONE: Rules = (
    (r"^backbone\.0\.", "backbone.conv1."),
    (r"^backbone\.1\.", "backbone.bn1."),
    (r"^backbone\.([4-7])\.", lambda match: f"backbone.layer{int(match[1]) - 3}."),
    (r"^res_finetune\.", "backbone.layer4."),
)
_TRANSFORMER: Rules = (
    (r"^embed\.fc_layers\.1\.", "embedder.fc1."),
    (r"^embed\.fc_layers\.2\.", "embedder.norm1."),
    (r"^embed\.fc_layers\.5\.", "embedder.fc2."),
    (r"^embed\.fc_layers\.6\.", "embedder.norm2."),
    (r"^embed\.video_emb\.", "embedder.enter."),
    (r"^embed\.video_encoder\.enc_layers\.", "embedder.layers."),
    (r"\.res_layer0\.norm\.", ".norm1."),
    (r"\.res_layer1\.norm\.", ".norm2."),
    (r"\.self_att\.linear_Q2d\.", ".query."),
    (r"\.self_att\.linear_K2d\.", ".key."),
    (r"\.self_att\.linear_V2d\.", ".value."),
    (r"\.self_att\.linear_d2Q\.", ".output."),
    (r"\.feed_forward\.fc([12])\.", r".ff\1."),
)
_LINEAR: Rules = (  # of the convolutional embedder, and of the one of linear layers alone
    (r"^embed\.conv_layers\.0\.", "embedder.conv1."),
    (r"^embed\.conv_layers\.1\.", "embedder.norm1."),
    (r"^embed\.conv_layers\.3\.", "embedder.conv2."),
    (r"^embed\.conv_layers\.4\.", "embedder.norm2."),
    (r"^embed\.fc_layers\.1\.", "embedder.fc1."),
    (r"^embed\.fc_layers\.4\.", "embedder.fc2."),
)
_REST: Rules = (
    (r"^embed\.embedding_layer\.", "embedder.embed."),
    (r"^ssl_projection\.net\.0\.", "projector.fc1."),
    (r"^ssl_projection\.net\.1\.", "projector.norm."),
    (r"^ssl_projection\.net\.3\.", "projector.fc2."),
    (r"^classifier\.fc_layers\.1\.", "classifier."),
)


def is_carl(content: Any) -> bool:
    """Whether what a file holds looks like a checkpoint of the public code, or its bare state dict."""
    signs = {"backbone.0.weight", "embed.embedding_layer.weight"}
    return isinstance(content, Mapping) and signs <= state_of(content, "model_state").keys()


def import_carl(content: Mapping[str, Any]) -> Imported:
    """Translate a checkpoint, or its bare state dict.

    Of a network with the convolutional embedder layer4 stays behind: the original builds it and never runs it.

    Raises:
        StageError: a trunk that ends below layer3.
    """
    state = state_of(content, "model_state")
    if not any(name.startswith("backbone.6.") for name in state):
        raise StageError(
            "the trunk of this checkpoint of CARL's public code ends below layer3; networks that were trained with "
            "MODEL.BASE_MODEL.LAYER of 3 are read"
        )
    rules = _BACKBONE + (_TRANSFORMER if "embed.video_emb.weight" in state else _LINEAR) + _REST
    in_trunk = any(name.startswith("backbone.7.") for name in state)
    idle = in_trunk or any(name.startswith("embed.conv_layers.") for name in state)
    taken = [name for name in state if not (idle and name.startswith("res_finetune."))]
    epoch = content.get("epoch")
    return Imported(
        code="CARL's",
        method="carl",
        stage="pretrain",
        backbone="frame_resnet50",
        backbone_config={"name": "frame_resnet50", "layers": 3 if idle and not in_trunk else 4},
        tensors={renamed(name, rules): state[name] for name in taken},
        left_out=[name for name in state if name not in taken],
        epoch=epoch if isinstance(epoch, int) else None,
        doubles=0,
    )
