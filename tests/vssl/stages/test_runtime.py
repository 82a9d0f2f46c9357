"""Options of the runtime that stages of every kind heed: the memory format, and compiling."""

from dataclasses import replace

import pytest
import torch

from tests.tiny_stages import searching
from vssl.config import changed
from vssl.device import placed
from vssl.stages import pretrain, sources


def test_every_kind_heeds_the_memory_format(stages, tmp_path, monkeypatch):
    """Of each network that is placed on a device, also where it is only evaluated."""
    seen = []
    for module in (pretrain, sources):
        monkeypatch.setattr(module, "placed", lambda *given: seen.append(placed(*given)) or seen[-1])
    for stage in (stages["single"], stages["linear"], searching(stages, "rgb")):
        config = changed(stage.config, {"runtime": {"channels_last": True}})
        metrics = replace(stage, config=config).execute(tmp_path)
        kernel = next(p for p in seen.pop().parameters() if p.ndim == 5 and p.shape[1] > 1)
        assert kernel.is_contiguous(memory_format=torch.channels_last_3d)
        assert metrics == pytest.approx(stage.execute(tmp_path / "plain"), rel=1e-4, abs=1e-4)


def test_every_kind_compiles_its_backbones_on_request(stages, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(type(module).__name__))
    for kind, count in (("cross", 2), ("linear", 1), ("finetune", 1)):
        config = changed(stages[kind].config, {"runtime": {"compile": True}})
        replace(stages[kind], config=config).execute(tmp_path)
        assert compiled == ["Tiny"] * count
        compiled.clear()


def test_a_compiled_backbone_computes_the_same(stages, tmp_path, monkeypatch):
    """Traced as ever, and run without the code that the compiler would take a minute to make."""
    compile_in_place = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compile_in_place(module, backend="aot_eager"))
    config = changed(stages["single"].config, {"runtime": {"compile": True}})
    found = replace(stages["single"], config=config).execute(tmp_path)
    assert found == pytest.approx(stages["single"].execute(tmp_path / "plain"), rel=1e-4, abs=1e-4)
