"""CARL's own knobs (Chen et al., CVPR 2022, arXiv:2203.14957). Torch-free. Defaults are those of the public code."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from vssl.config import knob, nested
from vssl.nn.embedder_config import EmbedderConfig, TransformerEmbedderConfig

Initial = Literal["none", "imagenet", "byol", "mocov2", "simclr", "carl"]


@dataclass(frozen=True, kw_only=True)
class CARLConfig:
    """Embeddings of the frames of long videos, by sequence contrast or by an objective that it is compared with."""

    main_stream: ClassVar[None] = None  # one modality
    bn_group_size: ClassVar[None] = None  # batch normalisation is over the global batch, as in the original

    name: Literal["carl"] = "carl"
    objective: Literal["scl", "tcc", "tcn", "supervised"] = knob(
        "scl",
        doc="scl: sequence contrast of two views of a video; tcc: cycles through other videos; tcn: a frame and one "
        "shortly before it; supervised: the labels of frames",
    )
    num_classes: int = knob(0, doc="supervised: how many labels frames have", at_least=0, since="0.2", neutral=0)
    embedder: EmbedderConfig = nested(TransformerEmbedderConfig, doc="from maps of frames to embeddings")
    initial: Initial = knob(
        "none",
        doc="what the file bound to the role `initial` is: torchvision's ResNet-50 (imagenet, what the public code "
        "loads), one of BYOL (what the paper says), MoCo v2 or SimCLR, or weights of another stage with this method "
        "(carl); none: weights are drawn",
    )
    frozen_layers: Literal[0, 2, 3, 4] = knob(
        3, doc="so many residual layers of the backbone, and its stem, are frozen; 0: all is trained"
    )
    block: int = knob(
        40,
        doc="frames of each sequence that go through the backbone at a time; batch normalisation of what is trained "
        "there is over a block of all sequences",
        at_least=1,
    )
    batchnorm_over: Literal["slots", "frames"] = knob(
        "slots",
        doc="batch normalisation of embedder and projector is over all slots, masked ones too, as in the public code; "
        "or over those that show a frame of their own",
        since="0.2",
        neutral="slots",
    )
    recompute: bool = knob(True, doc="activations of the backbone are computed twice and not kept", semantic=False)
    proj_dim: int = knob(128, doc="scl: hidden and output size of the projector; 0: none", at_least=0)
    unit_embeddings: bool = knob(True, doc="all but scl: embeddings have length 1 before the loss or the classifier")
    videos_per_loss: int = knob(
        1,
        doc="videos that are compared with one another, and whose frames are averaged: those of one GPU in the public "
        "code",
        at_least=1,
    )
    one_class_per_loss: bool = knob(
        False,
        doc="these are distinct videos of one class of the dataset, drawn for each loss anew, all classes being "
        "equally likely: TCC's batches of one action of PennAction in the public code",
        since="0.2",
        neutral=False,
    )
    temperature: float = knob(0.1, doc="scl, tcc: divisor of similarities", above=0)
    variance: float = knob(10.0, doc="scl: of the Gaussian in time, frames squared", above=0)
    negatives: Literal["single_noself", "single", "batch_noself", "batch"] = knob(
        "single_noself",
        doc="scl: in the denominator are the other view of the video; with batch the views of the other videos too; "
        "without noself the frame's own view too",
    )
    masked_weight: float = knob(
        1e-6, doc="scl: share by which masked slots count in denominators; the paper's formula: 0", at_least=0
    )
    zero_rows: bool = knob(
        True, doc="scl: frames too far from all of the other view count nothing; else their nearest counts"
    )
    penalty: Literal["regression_mse_var", "regression_mse", "regression_huber", "classification"] = knob(
        "regression_mse_var", doc="tcc: of where a cycle ends"
    )
    similarity: Literal["l2", "cosine"] = knob(
        "l2", doc="tcc: negative squared distance, or the dot product", since="0.2", neutral="l2"
    )
    normalised_times: bool = knob(
        True, doc="tcc: times are shares of the video, else frame numbers", since="0.2", neutral=True
    )
    legacy_classification: bool = knob(
        False,
        doc="tcc, penalty classification: logits are taken for logarithms of probabilities, as in the public code",
        since="0.2",
        neutral=False,
    )

    def __post_init__(self) -> None:
        if self.objective == "tcc" and self.videos_per_loss < 2:
            raise ValueError(
                f"objective is tcc and videos_per_loss is {self.videos_per_loss}; a cycle goes through another video: "
                "set it to at least 2"
            )
        if (self.objective == "supervised") != (self.num_classes > 1):
            raise ValueError(
                f"objective is {self.objective} and num_classes is {self.num_classes}; supervised takes the number of "
                "labels that frames have, as 5 of pouring or 99 of finegym99, all others 0"
            )
        if self.legacy_classification and (self.objective, self.penalty) != ("tcc", "classification"):
            raise ValueError(
                f"legacy_classification is true, objective is {self.objective} and penalty is {self.penalty}; it goes "
                "with tcc and classification: set them, or leave it out"
            )
        if self.one_class_per_loss and self.videos_per_loss < 2:
            raise ValueError(
                "one_class_per_loss is true and videos_per_loss is 1: a video has a class of its own anyway; set it to "
                "at least 2, or one_class_per_loss to false"
            )
        if self.negatives.startswith("batch") and self.objective == "scl" and self.videos_per_loss < 2:
            raise ValueError(
                f"negatives is {self.negatives} and videos_per_loss is 1: there are no other videos; set it to at "
                "least 2 (Kinetics in the public code), or take single_noself"
            )

    @property
    def class_group_size(self) -> int | None:
        """Videos that are drawn together from one class; None: videos are drawn whatever their class."""
        return self.videos_per_loss if self.one_class_per_loss else None
