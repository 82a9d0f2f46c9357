"""FGKVMem against recorded steps of the original (card, section 13, points 3, 6, 7 and 10)."""

import json
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.goldens import FOLDER, golden, golden_tensors
from tests.vicc_steps import at
from vssl.backbones.backbone_config import SlowR18Config
from vssl.backbones.build import build_backbone
from vssl.backbones.slowfast_names import own_name
from vssl.config import build
from vssl.methods import fgkvmem
from vssl.methods.fgkvmem import FGKVMem
from vssl.methods.fgkvmem_config import FGKVMemConfig
from vssl.optim import build_optimizer, set_learning_rate
from vssl.optim_config import LARCConfig, SGDConfig

MEMORY_CASES = sorted(path.stem for path in (FOLDER / "fgkvmem").glob("memory_*.npz"))
STEP_CASES = sorted(path.stem for path in (FOLDER / "fgkvmem").glob("byol_step_*.npz"))

PARTS = {
    "cross_key.weight_v": "predictor.key",
    "cross_mem": "predictor.value",
    "in_proj_cross": "predictor.query",
    "out_proj_cross": "predictor.output",
    "source_key": "concepts.source",
    "target_key": "concepts.target",
    "source_recon": "concepts.source_dictionary",
    "target_recon": "concepts.target_dictionary",
    "dino_loss.center": "concepts.centre.value",
}


def renamed(name: str) -> str | None:
    """Our name of a tensor of the original student; None for a constant that nothing reads."""
    if name.endswith("cross_key.weight_g"):
        return None
    if re.match(r"s\d\.", name):
        return f"online.backbone.{own_name('slow_r18', name)}"
    name = name.replace("head.projection.", "online.projector.").replace("head.predictors.0.", "predictor.")
    bare = name.removeprefix("predictor.")
    name = next((ours + bare.removeprefix(part) for part, ours in PARTS.items() if bare.startswith(part)), name)
    return re.sub(
        r"\.projection\.(\d)\.", lambda match: f".layers.{match[1]}{'.norm' if int(match[1]) % 3 == 1 else ''}.", name
    )


def under(arrays: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The arrays `<prefix><original name>` by our names, the centre as a vector."""
    found = {renamed(key.removeprefix(prefix)): array for key, array in arrays.items() if key.startswith(prefix)}
    return {name: array[0] if name.endswith("centre.value") else array for name, array in found.items() if name}


def config_of(options: list[Any], **more: Any) -> FGKVMemConfig:
    """The method's config out of the original's, as a flat list of keys and values."""
    given = {key.partition(".")[2]: value for key, value in zip(options[::2], options[1::2])}
    memory = {
        "slots": given["N_MEMORY"], "heads": given.get("N_HEAD", 1), "query_dim": given["DIM_CROSS_INPUT_PROJ"],
        "value_dim": given["DIM_CROSS_MEM"], "scale": float(given.get("RADIUS", 16)),
        "query_layers": given.get("NUM_MLP_LAYERS_IN", 2), "residual": given.get("PREDICT_RESIDUAL", False),
        "output_layers": given.get("NUM_MLP_LAYERS_OUT", 2) if given.get("USE_OUTPUT_PROJ") else 0,
    }  # fmt: skip
    concepts = {
        "num": given["N_CONCEPT"], "tau_s": given.get("DINO_TEMP_S", 0.05), "tau_t": given.get("DINO_TEMP_T", 0.05),
        "reduction": "batch" if given.get("AVERAGE_DIM", -1) == 0 else "numel",
        "recon": given.get("RECON_LOSS_TYPE", "cosine"),
    }  # fmt: skip
    sizes = {"mlp_dim": given["MLP_DIM"]} if "MLP_DIM" in given else {}
    return build(FGKVMemConfig, {"kvmemory": memory, "concepts": concepts} | sizes | more)


def close(found: Tensor | None, expected: Tensor, tolerance: float) -> None:
    assert found is not None
    torch.testing.assert_close(found.detach(), expected, atol=tolerance, rtol=tolerance)


class Trunk(nn.Module):
    """Stands for a trunk of so many features, which the test gives."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


@pytest.mark.parametrize("case", MEMORY_CASES)
def test_point_03_memory_golden(case: str) -> None:
    arrays = golden_tensors(case, "fgkvmem")
    meta = json.loads(str(golden(case, "fgkvmem")["meta"]))
    method = FGKVMem(config_of(meta["opts"], proj_dim=meta["dim"], temperature=meta["T"]), Trunk(meta["recon_dim"]))
    method.weight_of |= {"loss_recon_src": meta["w_src"], "loss_recon_tgt": meta["w_tgt"], "loss_align": meta["w_kl"]}
    method.double().train()
    unknown = method.load_state_dict(under(arrays, "state."), strict=False)
    assert not unknown.unexpected_keys
    assert all(name.startswith(("online.", "target.")) for name in unknown.missing_keys)
    for step in range(len([key for key in arrays if key.endswith(".total")])):
        of = {key.removeprefix(f"step{step}."): array for key, array in arrays.items() if f"step{step}." in key}
        method.zero_grad()
        z, y = of["z_src"].clone().requires_grad_(), of["y_src_map"].mean(dim=(2, 3, 4)).requires_grad_()
        target_z, target_y = of["z_tgt"].clone().requires_grad_(), of["y_tgt_map"].mean(dim=(2, 3, 4)).requires_grad_()
        terms, _ = method.direction(y, z, target_y, target_z)
        total = torch.stack([method.weight_of[name] * term for name, term in terms.items()]).sum()
        total.backward()
        for name, key in (
            ("loss_pred", "sim_loss_T0.5"),
            ("loss_recon_src", "out.loss_source_recon"),
            ("loss_recon_tgt", "out.loss_target_recon"),
            ("loss_align", "out.loss_kl"),
        ):
            close(terms[name], of[key], 1e-8)
        close(total, of["total"], 1e-8)
        close(z.grad, of["grad.z_src"], 1e-8)
        assert y.grad is None  # point 4: features and the target's tensors receive none
        assert target_z.grad is None
        assert target_y.grad is None
        gradients = under(of, "grad.") if step == 0 else {}
        gradients.pop("z_src", None)
        parameters, buffers = dict(method.named_parameters()), dict(method.named_buffers())
        if step == 0:
            assert gradients.keys() == {name for name, parameter in parameters.items() if parameter.grad is not None}
        for name, expected in gradients.items():
            close(parameters[name].grad, expected, 1e-8)
        counted = under(of, "buffer_after.")
        assert counted.keys() == {name for name in buffers if name.startswith(("predictor.", "concepts."))}
        for name, expected in counted.items():
            close(buffers[name], expected, 1e-8)
    if "eval.z_src" in arrays:
        close(method.eval().predictor(arrays["eval.z_src"]), arrays["eval.output_predict"], 1e-8)


def step_method(arrays: dict[str, Tensor], options: list[Any]) -> FGKVMem:
    given = dict(zip(options[::2], options[1::2]))
    kind: dict[str, Any] = {} if any("cross_mem" in key for key in arrays) else {"predictor": "mlp", "concepts": None}
    own = [x for key in given if key.startswith("MEMORY.") or key == "CONTRASTIVE.MLP_DIM" for x in (key, given[key])]
    backbone = build_backbone(SlowR18Config(width=given["RESNET.WIDTH_PER_GROUP"]))
    method = FGKVMem(config_of(own, proj_dim=given["CONTRASTIVE.DIM"], **kind), backbone).double().train()
    state = under(arrays, "student_init.")
    state |= {n.replace("online.", "target.", 1): t.clone() for n, t in state.items() if n.startswith("online.")}
    method.load_state_dict(state)
    return method


@pytest.mark.parametrize("case", STEP_CASES)
def test_point_10_whole_training_steps_golden(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = golden_tensors(case, "fgkvmem")
    meta = json.loads(str(golden(case, "fgkvmem")["meta"]))
    method = step_method(arrays, meta["cfg"])
    optimizer = build_optimizer(
        SGDConfig(weight_decay=1e-6, larc=LARCConfig(), nesterov=True, decay_1d=False), method.parameters()
    )
    parameters, buffers = dict(method.named_parameters()), dict(method.named_buffers())
    regression, seen = fgkvmem.cosine_regression, []

    def kept(prediction: Tensor, target: Tensor, temperature: float) -> Tensor:
        seen.append((prediction.detach(), target))
        return regression(prediction, target, temperature)

    monkeypatch.setattr(fgkvmem, "cosine_regression", kept)
    for n in range(meta["iters"]):
        of = {key.removeprefix(f"it{n}."): array for key, array in arrays.items() if key.startswith(f"it{n}.")}
        decay = of["ema_momentum_used"].item()  # the original's lags by a step
        monkeypatch.setattr(method, "ema_decay", lambda position, decay=decay: decay)
        clips = torch.stack([of["clip0"], of["clip1"]], dim=1).double()
        seen.clear()
        position = at(meta["epoch"] * meta["iters"] + n, meta["iters"])
        loss, scalars = method({"streams": {"rgb": clips}}, position)
        optimizer.zero_grad()
        loss.backward()
        for clip, (prediction, target) in enumerate(seen):
            close(F.normalize(prediction, dim=1), of[f"pred_clip{clip}"], 1e-6)
            close(F.normalize(target, dim=1), F.normalize(of[f"key_clip{1 - clip}"], dim=1), 1e-6)
            close(F.normalize(target, dim=1), F.normalize(of[f"target_for_pred_clip{clip}"], dim=1), 1e-6)
        close(-torch.as_tensor(scalars["cosine"]), of["logged_loss"], 1e-6)
        for name, key in (
            ("loss_pred", "loss_reg"),
            ("loss_recon_src", "loss_source_recon"),
            ("loss_recon_tgt", "loss_target_recon"),
            ("loss_align", "loss_kl"),
        ):
            assert (name in scalars) == (f"log.{key}" in of)
            if name in scalars:
                close(torch.as_tensor(scalars[name]), (of[f"log.{key}"] + of[f"log.{key}_1"]) / 2, 1e-6)
        overlap = (of["log.seperate_loss"] + of["log.seperate_loss_1"]) / 2
        close(torch.as_tensor(scalars["target_similarity"]), overlap, 1e-6)
        for name, expected in under(of, "gradnorm.").items():
            grad = parameters[name].grad
            assert grad is not None
            close(grad.norm(), expected, 1e-6)
        for name, expected in under(of, "grad.").items():
            close(parameters[name].grad, expected, 1e-6)
        for name, expected in under(of, "teacher_during.").items():
            close(parameters[name.replace("online.", "target.", 1)], expected, 1e-6)
        set_learning_rate(optimizer, of["lr"].item())
        optimizer.step()
        for name, expected in under(of, "param_after_norm.").items():
            close(parameters[name].norm(), expected, 1e-6)
        for name, expected in under(of, "param_after.").items():
            close(parameters[name], expected, 1e-6)
    for name, expected in under(arrays, "final_student_buffer.").items():
        close(buffers[name], expected, 1e-6)
