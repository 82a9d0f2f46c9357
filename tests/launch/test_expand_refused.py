"""Sweeps that cannot work are refused with the place and the remedy, before anything is queued."""

from pathlib import Path

import pytest

from tests.planning import CHAIN, plan_of, plan_text
from vssl.config import ConfigError


def test_weights_fit_only_their_backbone() -> None:
    with pytest.raises(ConfigError, match=r"retrieval-rgb.*tiny.*single-rgb.*s3d.*grid.all.backbone= or stages.all"):
        plan_of("sweep=vicc_single", "stages.retrieval.backbone=tiny")


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        (CHAIN, ["grid.leaf.sede=[1,2]"], "no stage of `leaf` reads `sede`.*did you mean `seed`"),
        (CHAIN, ["grid.laef.seed=[1,2]"], "no stage is named `laef`.*did you mean `leaf`"),
        (CHAIN, ["grid.all.optim.base_lr=[1,2]"], "no stage of `all` reads `optim.base_lr`"),
        (CHAIN, ["grid.all.step_s=[1,2]"], "grid.all.step_s: no stage's result depends on it"),
        (CHAIN, ["grid.leaf.seed=[4,4]"], "equal values"),
        (CHAIN, ["grid.leaf.seed=3"], r"an axis is a list, as in 'grid.leaf.seed=\[3\]'"),
        (CHAIN, ["grid.leaf.seed=[]"], "empty list"),
        (CHAIN, ["grid.leaf=[{seed:1},{steps:2}]"], "different keys"),
        (CHAIN, ["grid.leaf=[1,2]"], "`leaf` names no key"),
        (CHAIN, ["grid.leaf=[{seed:1}]", "grid.leaf.seed=[2]"], "`leaf.seed` is on two axes"),
        (CHAIN, ["grid.leaf.seed=[a,b]"], r"stage `leaf-a` \(.*:5\): `seed` is 'a'"),
        (CHAIN, ["stages.leaf.sede=1"], "stages.leaf.sede: no stage of `leaf` reads.*did you mean `seed`"),
        (CHAIN, ["stages.leaf=1"], "stages.leaf.KEY=VALUE"),
        (CHAIN, ["stages.leaf.resources=gpu"], "resources is `gpu`.*cpu"),
        (CHAIN, ["stages.leaf.resources.gpus=1"], "unknown key `resources.gpus`"),
        (CHAIN, ["stages.leaf.resources=5"], "resources is 5; expected a mapping.*cpu"),
        (CHAIN, ["stages.leaf.resources=null"], "resources is None; expected a mapping.*cpu"),
        (CHAIN, ["stages.leaf.resources.cpus_per_task=0"], "`resources.cpus_per_task` is 0; expected at least 1"),
        (CHAIN, ["stages.leaf.resources={tasks_per_node:0}"], "`resources.tasks_per_node` is 0; expected at least 1"),
        (CHAIN.replace("s@root", "s@rot"), [], "`s` is not written by `rot`.*did you mean `root`"),
        (CHAIN.replace("before: s}", "before: l-a}", 1), [], ":4: `mid` reads `l-a`.*written further down"),
        (CHAIN.replace("l-a, l-b", "l-c, l-b"), [], "`last` reads `l-c`, which no stage writes.*did you mean `l-"),
        (CHAIN.replace("s@root", "s.stat"), [], "makes no artifact `stat`.*did you mean `state`"),
        (CHAIN.replace("s@root", "s@"), [], None),
        (CHAIN.replace("s@root", "../s"), [], "is no input; write NAME"),
        (CHAIN.replace("seed=1]", "sede=1]"), [], r"stage `mid` \(.*:4\): unknown key `sede`.*did you mean `seed`"),
        (CHAIN.replace("seed=1]", "seed=1 = 2]"), [], ":4.: config:.*quoted twice"),
        (CHAIN.replace("[seed=1]", "[seed=1], after: nobody"), [], ":4: after: no stage is named `nobody`"),
        (CHAIN.replace("[seed=1]", "[seed=1], after: last"), [], "other: mid after last after leaf-a after mid"),
        (CHAIN.replace("seed=3", "seed=1").replace("[l-a, l-b, s@root]", "s@root"), [], "the same work"),
        ("stages:\n  - {name: r, kind: retrieval, config: [recipe=vicc_retrieval, data.modality=flow]}\n", [],
         r"written.yaml:2: `r` needs the input `motion` \(flow\)"),
        ("stages:\n  - {name: f, kind: flow, output: m}\n"
         "  - {name: r, kind: retrieval, config: [recipe=vicc_retrieval], inputs: {weights: m}}\n", [],
         r":3: input `weights` of `r` takes weights, but `m` is flow \(of `f`\); fitting here: nothing"),
        ("stages:\n  - {name: l, kind: linear, config: [recipe=vicc_linear], output: p}\n"
         "  - {name: r, kind: retrieval, config: [recipe=vicc_retrieval], inputs: {weights: p}}\n", [],
         r"but `p` is predictions.*fitting here: p.weights"),
        ("stages:\n  - {name: p, kind: pretrain, config: [recipe=vicc_sinlge]}\n", [], "did you mean `vicc_single`"),
        ("stages:\n  - {name: p, kind: pretrain}\n", [], "`epochs` is missing"),
        ("stages:\n  - {name: r, kind: retrieval, config: [data=./x]}\n", [], "give an absolute folder"),
        ("stages:\n  - {name: r, kind: flow}\n", ["stages.r.data.dataset.path=x"], "give an absolute one, as in /"),
        ("stages:\n  - {name: r, kind: flow, inputs: {}}\n", ["stages.r.data=ufc101"], "did you mean `ucf101`"),
        ("stages:\n  - {name: r, kind: flow, inputs: {}}\n", ["stages.r.recipe=null"], "`recipe` is None; .*vicc_flow"),
    ],
)  # fmt: skip
def test_a_sweep_that_cannot_work_is_refused_with_the_place_and_the_remedy(
    tmp_path: Path, text: str, words: list[str], message: str | None
) -> None:
    if message is None:
        plan_text(tmp_path, text, *words)
        return
    with pytest.raises(ConfigError, match=message):
        plan_text(tmp_path, text, *words)


def test_batches_that_do_not_divide_are_refused_before_anything_is_queued() -> None:
    with pytest.raises(ConfigError, match=r"single-rgb.*batch_size is 100, not .* of .*48.*to 96 or 144"):
        plan_of("sweep=vicc_single", "stages.single.global_batch_size=100", "stages.single.method.queue_len=1900")
