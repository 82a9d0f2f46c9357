"""Stages on the tiny dataset that run in a fraction of a second, and what is compared of two runs of one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.carl_batches import SMALL as SMALL_CARL
from tests.tiny_source import make_source
from vssl.artifacts import Artifact, Inputs, StageFolder, canonical_json, digest, sha256_text
from vssl.config import build
from vssl.run import Run, read_journal
from vssl.stages import finetune, image_pretrain, linear, pretrain, retrieval
from vssl.stages.finetune_config import FinetuneConfig
from vssl.stages.image_pretrain_config import ImagePretrainConfig
from vssl.stages.linear_config import LinearConfig
from vssl.stages.pretrain_config import PretrainConfig
from vssl.stages.retrieval_config import RetrievalConfig

BACKBONE = {"name": "tiny", "width": 4}
STEPS, EPOCH_STEPS, SAVE_EVERY = 6, 3, 2  # three steps an epoch, so that checkpoints fall inside epochs


@dataclass(frozen=True)
class Stage:
    function: Callable[[Any, Inputs, Run], dict[str, float]]
    config: Any
    inputs: Inputs
    name: str

    def execute(self, root: Path, run_class: type[Run] = Run, **arguments: Any) -> dict[str, float]:
        """Run, or go on, in the folder `<root>/<name>`."""
        folder = root / self.name
        folder.mkdir(parents=True, exist_ok=True)
        return self.function(self.config, self.inputs, run_class(StageFolder(folder), **arguments))


def runtime(**changes: Any) -> dict[str, Any]:
    return {"threads": 1, "device": "cpu", "save_every_steps": SAVE_EVERY} | changes


def clips(modality: str) -> dict[str, Any]:
    return {"dataset": {"name": "tiny"}, "modality": modality, "num_frames": 4, "crop_size": 16}


def pretraining(modality: str, main_stream: str | None = None, *, batch: int = 2, **method: Any) -> PretrainConfig:
    own = {
        "name": "vicc", "main_stream": main_stream, "proj_dim": 8, "num_prototypes": 6, "queue_len": 2 * batch,
        "queue_start_epoch": 0, "freeze_prototypes_epochs": 1, "bn_group_size": 2,
    }  # fmt: skip
    return build(
        PretrainConfig,
        {
            "epochs": 2, "global_batch_size": batch, "backbone": BACKBONE, "data": clips(modality),
            "method": own | method, "optim": {"base_lr": 0.1, "larc": {}}, "runtime": runtime(),
        },
    )  # fmt: skip


def remembering(*, batch: int = 2, **method: Any) -> PretrainConfig:
    own = {
        "name": "fgkvmem", "proj_dim": 8, "mlp_dim": 6, "concepts": {"num": 5},
        "kvmemory": {"slots": 6, "query_dim": 4, "value_dim": 8},
    }  # fmt: skip
    return build(
        PretrainConfig,
        {
            "epochs": 2, "global_batch_size": batch, "backbone": BACKBONE, "data": clips("rgb"), "method": own | method,
            "optim": {"base_lr": 0.1, "larc": {}, "nesterov": True, "decay_1d": False}, "runtime": runtime(),
        },
    )  # fmt: skip


def framing(**changes: Any) -> PretrainConfig:
    """CARL on the tiny videos, whose frames it embeds."""
    return build(
        PretrainConfig,
        {
            "epochs": 2, "global_batch_size": 2, "backbone": {"name": "tiny_frames", "width": 2},
            "data": clips("rgb") | {"sampling": {"name": "long"}}, "augment": {"name": "sequence"},
            "method": SMALL_CARL | {"name": "carl", "block": 2},
            "optim": {"name": "adam", "clip_norm": 10.0},
            "schedule": {"name": "open_cosine"}, "runtime": runtime(),
        } | changes,
    )  # fmt: skip


def probing(*, batch: int = 2) -> LinearConfig:
    return build(
        LinearConfig,
        {
            "epochs": 2, "global_batch_size": batch, "backbone": BACKBONE, "data": clips("rgb"),
            "augment": {"resize_crop": 18}, "test_view": {"centre_crop": 0},
            "schedule": {"name": "milestones", "milestones": [1]}, "optim": {"base_lr": 0.1}, "runtime": runtime(),
        },
    )  # fmt: skip


def finetuning(*, batch: int = 2, **changes: Any) -> FinetuneConfig:
    return build(
        FinetuneConfig,
        {
            "epochs": 2, "global_batch_size": batch, "backbone": BACKBONE, "data": clips("rgb"), "dropout": 0.5,
            "bn_group_size": 2, "augment": {"resize_crop": 18}, "test_view": {"centre_crop": 12},
            "schedule": {"name": "milestones", "milestones": [1]}, "optim": {"base_lr": 0.01}, "runtime": runtime(),
        } | changes,
    )  # fmt: skip


def masking(**changes: Any) -> PretrainConfig:
    return build(
        PretrainConfig,
        {
            "epochs": 2, "global_batch_size": 2, "runtime": runtime(),
            "backbone": {"name": "mvit_b", "width": 2, "num_frames": 4, "image_size": 32},
            "data": clips("rgb") | {"crop_size": 32}, "augment": {"name": "random-resized-crop"},
            "method": {"name": "maskfeat", "mask_ratio": 0.5, "smallest_rectangle": 1},
            "optim": {"name": "adamw", "weight_decay_end": 0.1, "clip_norm": 1.0},
            "schedule": {"name": "epoch_end_cosine", "final_lr": 0.0, "warmup_epochs": 1},
        } | changes,
    )  # fmt: skip


def transforming(**changes: Any) -> FinetuneConfig:
    network = {"embed_dim": 8, "depth": 2, "num_heads": 2, "patch_size": 8, "image_size": 16, "num_frames": 4}
    return finetuning(
        **{
            "backbone": {"name": "timesformer"} | network, "drop_path": 0.2, "layer_decay": 0.75, "bn_group_size": 1,
            "augment": {"name": "random-resized-crop"}, "dropout": 0.0,
            "optim": {"name": "adamw", "base_lr": 0.01, "weight_decay_end": 0.1},
        } | changes
    )  # fmt: skip


def imaging(**changes: Any) -> ImagePretrainConfig:
    return build(
        ImagePretrainConfig,
        {
            "epochs": 2, "global_batch_size": 2, "repeats": 2, "bn_group_size": 2, "ema_decay": 0.9, "drop_path": 0.0,
            "backbone": BACKBONE, "data": clips("rgb") | {"num_frames": 1, "sampling": {"name": "segments"}},
            "schedule": {"name": "warm_epoch_cosine", "warmup_epochs": 1}, "runtime": runtime(),
        } | changes,
    )  # fmt: skip


def artifact_of(root: Path, stage: Stage, name: str) -> tuple[Artifact, ...]:
    """What a stage has made in `root`, as the one input of a role."""
    path = root / stage.name / "artifacts" / name
    return (Artifact(type=name, path=path, digest=digest(path)[0], origin=stage.name),)


def weights_of(root: Path, stage: Stage) -> tuple[Artifact, ...]:
    return artifact_of(root, stage, "weights")


def make_stages(root: Path) -> dict[str, Stage]:
    """ViCC, FGKVMem, CARL, MaskFeat, STS, a probe, two fine-tunings; the parents of ViCC's have run in `root`."""
    dataset, motion = make_source(root, train=6, test=2)
    inputs: dict[str, tuple[Artifact, ...]] = {"dataset": (dataset,), "motion": (motion,)}
    single = Stage(pretrain.run, pretraining("rgb"), inputs, "pretrain-rgb")
    flow = Stage(pretrain.run, pretraining("flow"), inputs, "pretrain-flow")
    for parent in (single, flow):
        parent.execute(root)
    both = {"main": weights_of(root, single), "second": weights_of(root, flow)}
    return {
        "single": single,
        "cross": Stage(pretrain.run, pretraining("both", "rgb"), inputs | both, "pretrain-cross"),
        "memory": Stage(pretrain.run, remembering(), inputs, "pretrain-memory"),
        "frames": Stage(pretrain.run, framing(), inputs, "pretrain-frames"),
        "masked": Stage(pretrain.run, masking(), inputs, "pretrain-masked"),
        "images": Stage(image_pretrain.run, imaging(), inputs, "images-rgb"),
        "transformer": Stage(finetune.run, transforming(), inputs, "finetune-transformer"),
        "linear": Stage(linear.run, probing(), inputs | {"weights": both["main"]}, "linear-rgb"),
        "finetune": Stage(
            finetune.run,
            finetuning(mixup={}, label_smoothing=0.1, precise_bn_batches=2),
            inputs | {"weights": both["main"]},
            "finetune-rgb",
        ),
    }


def searching(stages: dict[str, Stage], modality: str, **changes: Any) -> Stage:
    """Retrieval with the single-stream weights of a modality."""
    given = {"backbone": BACKBONE, "data": clips(modality), "test_view": {"centre_crop": 0}, "runtime": runtime()}
    inputs = {role: stages["single"].inputs[role] for role in ("dataset", "motion")}
    weights = stages["cross"].inputs["main" if modality == "rgb" else "second"]
    config = build(RetrievalConfig, given | changes)
    return Stage(retrieval.run, config, inputs | {"weights": weights}, f"retrieval-{modality}")


def history(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """(step, values) of the journal, less what depends on the machine's speed."""
    rows = read_journal(folder / "journal.jsonl")
    return [(row["step"], {k: v for k, v in row["values"].items() if not k.startswith("perf/")}) for row in rows]


def final_state(folder: Path) -> dict[str, Any]:
    """Everything in the last checkpoint: network, optimiser, queues."""
    newest = max((folder / "checkpoints").glob("*.pt"), key=lambda path: int(path.stem))
    state: dict[str, Any] = torch.load(newest, weights_only=True)
    return state


def fingerprint(folder: Path) -> dict[str, Any]:
    """What must be equal, to the last bit, in every repetition of a stage."""
    artifacts = {
        path.relative_to(folder).as_posix(): digest(path)[0]
        for path in sorted((folder / "artifacts").rglob("*"))
        if path.is_file() and path.suffix not in (".png", ".tmp")
    }
    return {
        "artifacts": artifacts,
        "state": sha256_text(canonical_json(_plain(final_state(folder)))),
        "history": history(folder),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), list(value.shape), value.flatten().tolist()]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
