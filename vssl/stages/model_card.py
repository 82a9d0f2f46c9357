"""The page that goes with pretrained weights: what they are, what they learned from, how to use them."""

from collections.abc import Mapping
from typing import Any

from vssl.artifacts import Inputs, sha256_file, write_text
from vssl.config import to_mapping
from vssl.run import Run
from vssl.stages.pretrain_config import PretrainConfig

_PAGE = """\
# {backbone} on {modality}, pretrained by {method} on {dataset}

Made without labels by the stage `{stage}`. Its folder holds the whole config (`config.json`), all inputs with their
digests (`inputs.json`), versions and machine (`environment/`), and the figures of every step (`journal.jsonl`).

## Weights

{weights}

## Learned from

{data}

## How

{recipe}

## Figures of the training

{figures}

`plots/` shows the loss, the prototypes in use over time, and how often each was used in the last epoch.

## What the features are worth

Stages that read these weights measure that, after this page was written. `vssl report` prints their figures beside
those of an untrained network and of chance; in MLflow they are the runs of the same pipeline whose tag `vssl.parents`
names this stage.

## Limits

- The network has seen the videos above and no others. Nothing is known of it on other cameras, places or actions.
- It expects clips as in training: {num_frames} frames, {frame_stride} apart, {crop_size} pixels, {modality}.
- Whatever two clips of one video share, a place, a camera, a codec, can be learned in place of what happens in it, and
  the loss falls all the same.
- People in the videos may be recognisable by their features.

## Loading

In the folder of the weights:

```python
from pathlib import Path

from vssl.backbones.backbone_config import {config_class}
from vssl.backbones.build import build_backbone
from vssl.config import build
from vssl.weights import Weights, fill, read_weights

header, tensors, _ = read_weights(Path("weights"))
backbone = build_backbone(build({config_class}, header["backbone"])).eval()
fill(backbone, Weights(header=header, tensors=tensors, origin="weights").part("backbone"), what="the file")
# (B, 3, T, H, W) -> (B, C, t, h, w); the input is vssl.data.views.augment.normalise of uint8 views, optical flow too
```

Or `weights: file:<path>` as an input in a sweep; `python -m vssl.exchange export` writes a plain state dict.

## Licence

Left to the lab that trained the network: say here under which terms it may be used. The terms of the videos can limit
what these may be.
"""


def write_model_card(
    run: Run, config: PretrainConfig, inputs: Inputs, figures: Mapping[str, float], *, modality: str
) -> None:
    """The artifact `card`, a folder with `model_card.md`. Rank 0 only, once `weights` is written.

    Args:
        run: the stage's execution.
        config: of the stage.
        inputs: of the stage.
        figures: that the stage reports.
        modality: of the network whose weights these are.
    """
    data = {"dataset": config.data.dataset.name, "split": config.data.train_split}
    data |= {
        role: "; ".join(f"{one.origin}, digest {one.digest}" for one in ones) for role, ones in sorted(inputs.items())
    }
    recipe = {key: getattr(config, key) for key in ("seed", "epochs", "schedule_epochs", "global_batch_size")}
    recipe |= {f"data.{key}": getattr(config.data, key) for key in ("num_frames", "frame_stride", "crop_size")}
    recipe |= {f"optim.{key}": value for key, value in to_mapping(config.optim).items()}
    recipe |= {f"method.{key}": value for key, value in to_mapping(config.method).items()}
    page = _PAGE.format(
        backbone=config.backbone.name,
        config_class=type(config.backbone).__name__,
        modality=modality,
        method=config.method.name,
        dataset=config.data.dataset.name,
        stage=run.dir.name,
        weights=_table({"file": "artifacts/weights", "SHA-256": sha256_file(run.artifact("weights"))}),
        data=_table(data),
        recipe=_table(recipe | {"runtime.amp": config.runtime.amp}),
        figures=_table({name: f"{value:.4g}" for name, value in figures.items()}),
        num_frames=config.data.num_frames,
        frame_stride=config.data.frame_stride,
        crop_size=config.data.crop_size,
    )
    run.check_ownership()
    folder = run.artifact("card")
    folder.mkdir(exist_ok=True)
    write_text(folder / "model_card.md", page)


def _table(rows: Mapping[str, Any]) -> str:
    lines = [f"| {key} | {str(value).replace('|', ' ')} |" for key, value in rows.items()]
    return "\n".join(("| | |", "|---|---|", *lines))
