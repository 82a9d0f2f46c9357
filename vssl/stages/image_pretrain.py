"""Pre-training of a whole video network on labelled images, each a clip of one frame.

With one frame and zeros beyond it, the middle tap of a temporal kernel is all that learns; the outer ones shrink by
weight decay, until a fine-tuning on videos takes them up.

Departures from the public code of STS: batches are mixed after colours are normalised, without rounding to 8 bits; the
classifier starts at a deviation of 0.01 as everywhere here; running statistics follow the first normalisation group
instead of the mean over GPUs; a training begins from its seed, never from weights.

Weights that are there, published ones too, are tested by a `multiview` stage with clips of one frame and a test view of
one clip, bicubic, rounded as torchvision does, whose short side is the crop's over a test share: 256 for 0.875 of 224.
"""

import torch

from vssl.artifacts import Inputs
from vssl.backbones.build import build_backbone
from vssl.backbones.r2plus1d34 import R2Plus1D34
from vssl.data.views.clip_views import RandomResizedCropView
from vssl.data.views.image_views import CentralViews
from vssl.device import placed, prepared
from vssl.distributed import is_main
from vssl.evals.protocols import Described
from vssl.methods.supervised import Supervised
from vssl.nn.batchnorm import norm_layer
from vssl.nn.precise_bn import share_statistics
from vssl.optim import build_optimizer
from vssl.randomness import seeded
from vssl.run import Run
from vssl.stages.classification import plot_training, scored
from vssl.stages.classifier_training import train_classifier
from vssl.stages.image_pretrain_config import ImagePretrainConfig
from vssl.stages.per_video import describe
from vssl.stages.report import write_metrics
from vssl.stages.sources import clips, header
from vssl.weights import save_weights


def run(config: ImagePretrainConfig, inputs: Inputs, run: Run) -> dict[str, float]:
    """Train from the seed, and test after the last epoch on the test split's images.

    Makes `weights` (backbone and head; the moving average's where there is one), `predictions`, `plots`.

    Returns:
        `top1`, `top5`, `mean_class_accuracy`, `chance_top1`, `top1_crop<share>` of each test share, `train_loss_first`,
        `train_loss_last`, `train_accuracy_last`, `images`, and `replaced_videos`: those of them that broke.
    """
    with prepared(config.runtime) as device:
        view = RandomResizedCropView(config.augment, config.data.crop_size)
        dataset = clips(config.data, config.data.train_split, inputs, seed=config.seed, view=view)
        method = placed(_method(config, len(dataset.classes)), config.runtime, device)
        optimizer = build_optimizer(config.optim, method.parameters())
        figures = train_classifier(config, method, optimizer, dataset, inputs, run, device)
        share_statistics(method)
        method.eval()
        predictions = _predict(config, method, inputs, run, device)
    metrics = scored(run, predictions) | figures | {"images": float(len(dataset))}
    if is_main():
        classes = list(dataset.classes)
        about = header("image_pretrain", run, backbone=config.backbone, modality="rgb", classes=classes)
        save_weights(run, "weights", about, method.weights())
        plot_training(run, predictions, classes)
    write_metrics(run, metrics)
    return metrics


def _method(config: ImagePretrainConfig, num_classes: int) -> Supervised:
    with seeded(config.seed, "weights"):
        backbone = build_backbone(config.backbone, norm_layer(config.bn_group_size))
    if config.compat_frozen_stem:
        assert isinstance(backbone, R2Plus1D34)
        backbone.freeze_stem()
    with seeded(config.seed, "head"):
        return Supervised(
            backbone,
            num_classes,
            dropout=0.0,
            seed=config.seed,
            mixup=config.mixup,
            label_smoothing=config.label_smoothing,
            drop_path=config.drop_path,
            drop_path_on=config.drop_path_on,
            binary=config.loss == "binary",
            hidden_bias=True,
            ema_decay=config.ema_decay,
        )


def _predict(
    config: ImagePretrainConfig, method: Supervised, inputs: Inputs, run: Run, device: torch.device
) -> dict[str, Described]:
    """Probabilities of the test split's images, by how much of them is shown."""
    shares = config.test_shares
    view = CentralViews(shares, config.data.crop_size)
    dataset = clips(config.data, config.data.test_split, inputs, seed=config.seed, view=view)
    found = describe(
        dataset,
        lambda images: method.classify(images).softmax(dim=1),
        run,
        runtime=config.runtime,
        batch_size=config.global_batch_size,
        device=device,
        crops=len(shares),
    )
    vectors = found.vectors if len(shares) > 1 else found.vectors[:, None]
    return {
        f"crop{share:g}": Described(names=found.names, labels=found.labels, vectors=vectors[:, number])
        for number, share in enumerate(shares)
    }
