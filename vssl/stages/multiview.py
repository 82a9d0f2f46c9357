"""Test of a classifier that an earlier stage, or somebody else, trained: clips and crops of every test video."""

from dataclasses import replace

import torch
from torch import Tensor

from vssl.artifacts import Inputs, one
from vssl.backbones.build import build_backbone
from vssl.config import to_mapping
from vssl.data.clips import ClipDataset
from vssl.data.views.augment_config import TestViewConfig
from vssl.data.views.view_makers import view_for_testing
from vssl.device import placed, prepared
from vssl.distributed import is_main
from vssl.evals.protocols import Described
from vssl.nn.heads import ClassifierHead, head_of
from vssl.run import Run, StageError
from vssl.stages.classification import plot_confusion, predict, scored, scored_by_count
from vssl.stages.multiview_config import MultiviewConfig
from vssl.stages.report import write_metrics
from vssl.stages.sources import clips, start_from, stream_weights
from vssl.weights import Weights, fill


def run(config: MultiviewConfig, inputs: Inputs, run: Run) -> dict[str, float]:
    """Class probabilities of every test video under the bound classifier, of a linear or a finetune stage.

    The head is built as its weights say: a head of a probe normalises features, one of a fine-tuning does not. The
    original leaves a head that does not fit at its random start, without a word.

    Makes `predictions` (tables and JSON), `plots`.

    Returns:
        `top1`, `top5`, `chance_top1`, `test_videos`, and `top1_<protocol>` for every number of crops up to that asked;
        `top1_clips_<n>` and `top5_clips_<n>` for every number of `clip_counts`.

    Raises:
        StageError: the weights have no head, or one for other classes.
    """
    artifact = one(inputs, "weights")
    if artifact is None:
        raise StageError("no weights are bound; bind those of a linear or a finetune stage to the role `weights`")
    weights = stream_weights(artifact, config.backbone, config.data.modality, run)
    _refuse_other_switches(config, weights)
    with prepared(config.runtime) as device:
        view = view_for_testing(config.test_view, config.data.crop_size)
        dataset = clips(config.data, config.data.test_split, inputs, seed=config.seed, view=view)
        head = _head(weights, dataset)
        backbone = build_backbone(config.backbone)
        start_from(backbone, weights, run)
        backbone = placed(backbone.requires_grad_(False).eval(), config.runtime, device)
        head = head.requires_grad_(False).eval().to(device)

        def classify(windows: Tensor) -> Tensor:
            features = backbone(windows)
            with torch.autocast(features.device.type, enabled=False):  # as in the stages that trained the head
                logits: Tensor = head(head.pool(features))
                return logits

        def tested(view: TestViewConfig) -> dict[str, Described]:
            return predict(
                replace(config, test_view=view),
                inputs,
                run,
                classify,
                batch_size=config.batch_size,
                device=device,
                largest=config.scores == "max",
                average=config.average_clips,
            )

        predictions = tested(config.test_view)
        by_count = {count: tested(replace(config.test_view, num_clips=count)) for count in config.clip_counts}
    metrics = scored(run, predictions) | scored_by_count(run, by_count)
    if is_main():
        plot_confusion(run, predictions, dataset.classes)
    write_metrics(run, metrics)
    return metrics


def _refuse_other_switches(config: MultiviewConfig, weights: Weights) -> None:
    """A classifier that learned with STS convolutions is another one without them, though its weights fit."""
    trained, asked = weights.header["backbone"], to_mapping(config.backbone)
    other = [key for key in asked if trained.get(key, asked[key]) != asked[key]]
    if other:
        values = ", ".join(f"backbone.{key}={str(trained[key]).lower()}" for key in other)
        raise StageError(f"the classifier of {weights.origin} learned with {values}; set that here too")


def _head(weights: Weights, dataset: ClipDataset) -> ClassifierHead:
    tensors = weights.part("head")
    if "linear.weight" not in tensors:
        raise StageError(
            f"the weights of {weights.origin} hold no classifier; bind those of a linear or a finetune stage, which "
            "train one on them"
        )
    outputs = len(tensors["linear.weight"])
    names = weights.header.get("classes", list(dataset.classes))  # a published file does not name them
    if list(names) != list(dataset.classes) or outputs != len(names):
        raise StageError(
            f"the classifier of {weights.origin} knows {outputs} classes ({', '.join(names[:3])}, ...), the dataset "
            f"has {len(dataset.classes)} ({', '.join(dataset.classes[:3])}, ...); test it on what it learned"
        )
    head = head_of(tensors)
    fill(head, tensors, what=f"the head in the weights of {weights.origin}")
    return head
