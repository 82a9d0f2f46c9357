"""Names of tensors in CARL's public code and in this project (card, section 9)."""

import re

_EMBEDDER = (
    (r"^fc_layers\.1\.", "fc1."),
    (r"^fc_layers\.2\.", "norm1."),
    (r"^fc_layers\.5\.", "fc2."),
    (r"^fc_layers\.6\.", "norm2."),
    (r"^video_emb\.", "enter."),
    (r"^video_encoder\.enc_layers\.", "layers."),
    (r"^embedding_layer\.", "embed."),
)
_CONV = (
    (r"^conv_layers\.0\.", "conv1."),
    (r"^conv_layers\.1\.", "norm1."),
    (r"^conv_layers\.3\.", "conv2."),
    (r"^conv_layers\.4\.", "norm2."),
    (r"^fc_layers\.1\.", "fc1."),
    (r"^fc_layers\.4\.", "fc2."),
    (r"^embedding_layer\.", "embed."),
)
_LAYER = (
    ("res_layer0.norm.", "norm1."),
    ("res_layer1.norm.", "norm2."),
    ("self_att.linear_Q2d.", "query."),
    ("self_att.linear_K2d.", "key."),
    ("self_att.linear_V2d.", "value."),
    ("self_att.linear_d2Q.", "output."),
    ("feed_forward.fc1.", "ff1."),
    ("feed_forward.fc2.", "ff2."),
)
_PROJECTOR = {"0": "fc1", "1": "norm", "3": "fc2"}


def of_layer(name: str) -> str:
    """Our name of a tensor of an encoder layer, of the attention alone too."""
    for theirs, ours in (*_LAYER, *((old.partition(".")[2], new) for old, new in _LAYER[2:6])):
        name = name.replace(theirs, ours)
    return name


def of_embedder(name: str) -> str:
    """Of the transformer embedder."""
    for theirs, ours in _EMBEDDER:
        name = re.sub(theirs, ours, name)
    return of_layer(name) if name.startswith("layers.") else name


def of_conv(name: str) -> str:
    """Of the 3D convolutional embedder, and of the one of linear layers."""
    for theirs, ours in _CONV:
        name = re.sub(theirs, ours, name)
    return name


def of_model(name: str) -> str:
    """Of the whole model, by its canonical names: torchvision's for the ResNet."""
    if name.startswith("embed."):
        return f"encoder.embedder.{of_embedder(name.removeprefix('embed.'))}"
    if name.startswith("ssl_projection.net."):
        number, _, leaf = name.removeprefix("ssl_projection.net.").partition(".")
        return f"projector.{_PROJECTOR[number]}.{leaf}"
    return f"encoder.backbone.{name}"
