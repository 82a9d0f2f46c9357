import shlex
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from launch.compose import Composer, parse_override
from launch.planning.planner import CHECKOUT
from launch.planning.scale import read_scale
from tests.planning import COMPOSER
from vssl.config import ConfigError, build, merged
from vssl.stages import STAGES


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("grid.linear.optim.base_lr=[0.1,0.3]", "grid.linear.optim.base_lr", [0.1, 0.3]),
        ("stages.cross-rgb.epochs=3", "stages.cross-rgb.epochs", 3),
        ("stages.linear.optim.weight_decay=1e-4", "stages.linear.optim.weight_decay", 1e-4),
        ("only=linear-rgb.7", "only", "linear-rgb.7"),
        ("only=[a-b,c.3]", "only", ["a-b", "c.3"]),
        ("data=/a b/c", "data", "/a b/c"),
        ('data="/a=b"', "data", "/a=b"),
        ("grid.all=[{seed:1,epochs:2}]", "grid.all", [{"seed": 1, "epochs": 2}]),
        ("stages.a.runtime.deterministic=false", "stages.a.runtime.deterministic", False),
        ("stages.a.schedule_epochs=null", "stages.a.schedule_epochs", None),
    ],
)
def test_a_line_is_read_with_types(text: str, key: str, value: Any) -> None:
    assert parse_override(text) == (key, value)


@pytest.mark.parametrize(
    "value",
    ["/日本/é", "a=b", "x{y}=", "it's=", 'say "so"', "=back\\slash", "=end\\", '=q\\"q', '\\\\"', "~/a", "é=\"ü'"],
)
def test_the_quoting_that_an_error_offers_works(value):
    with pytest.raises(ConfigError) as refused:
        parse_override(f"root={value}")
    (word,) = shlex.split(str(refused.value).partition("is quoted twice: ")[2])
    assert parse_override(word) == ("root", value)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("grid.all.seed=1,2", "'grid.all.seed=[1,2]'"),
        ("grid.all.seed=range(1,3)", "a list has brackets"),
        ("data=/a=b", "'data=\"/a=b\"'"),
        ("data=~/videos", "'data=\"~/videos\"'"),
        ("data=a{b", "'data=\"a{b\"'"),
        ("grid.all.seed=[1,2", "close the bracket"),
        ("stages.1x.seed=3", "`1x` starts with a digit"),
        ("~grid", "write key=value"),
        ("+grid.a=1", "write key=value"),
        ("vicc_cross", "is not key=value"),
        ("=3", "is not key=value"),
        ("a@b=3", "is not key=value"),
        ("data=${HOME}/x", "give the value itself"),
    ],
)
def test_what_is_not_in_the_grammar_is_answered_with_what_is(text: str, advice: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_override(text)
    assert text in str(caught.value)
    assert advice in str(caught.value)


def test_a_kind_is_composed_once_for_each_choice() -> None:
    first = COMPOSER.compose("retrieval", {"backbone": "tiny"})
    assert first["backbone"]["name"] == "tiny"
    assert COMPOSER.compose("retrieval", {"backbone": "tiny"}) is first
    assert COMPOSER.compose("retrieval", {})["backbone"]["name"] == "s3d"


@pytest.mark.parametrize(
    ("kind", "choices", "words"),
    [
        ("retrieval", {"backbone": "tinny"}, ["`tinny`", "did you mean `tiny`", "s3d"]),
        ("retrieval", {"recipe": "vicc_lineer"}, ["did you mean `vicc_linear`"]),
        ("retrieval", {"data": "ufc101"}, ["did you mean `ucf101`", "./videos"]),
        ("fusion", {"backbone": "tiny"}, ["kind fusion has no group `backbone`", "accepted: none"]),
    ],
)
def test_an_unknown_choice_offers_the_nearest(kind: str, choices: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        COMPOSER.compose(kind, choices)
    for word in words:
        assert word in str(caught.value)


def test_a_copy_without_configs_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pip install -e"):
        Composer(tmp_path / "configs")


def test_composition_does_not_depend_on_the_working_directory() -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\n"
        "from launch.compose import Composer\nfrom pathlib import Path\n"
        f"composer = Composer(Path({str(CHECKOUT / 'configs')!r}))\n"
        "print(composer.compose('pretrain', {'recipe': 'vicc_cross'})['epochs'])"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd="/", capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["100"]
    assert result.stderr == ""


RECIPES = {"vicc_single": "pretrain", "vicc_cross": "pretrain", "vicc_linear": "linear", "vicc_retrieval": "retrieval"}
RECIPES |= {"vicc_flow": "flow", "raft_flow": "flow", "vicc_finetune": "finetune", "vicc_tencrop": "multiview"}
RECIPES |= {"vicc_single_k400": "pretrain", "vicc_cross_k400": "pretrain", "vicc_retrieval_compat": "retrieval"}
_TRUNKS = ("r3d18", "r21d", "slow_r18")
RECIPES |= {f"fgkvmem_{data}_{trunk}": "pretrain" for data in ("ucf101", "k400") for trunk in _TRUNKS}
RECIPES |= {
    f"fgkvmem_{kind}_{trunk}": kind for kind in ("linear", "finetune", "multiview", "retrieval") for trunk in _TRUNKS
}
RECIPES |= {f"carl_{data}": "pretrain" for data in ("pouring", "penn_action", "finegym", "k400", "tcc_pouring")}
RECIPES |= {f"carl_{name}_pouring": "pretrain" for name in ("conv", "conv_tcc", "conv_tcn", "supervised")}
RECIPES |= {f"carl_{name}_penn_action": "pretrain" for name in ("conv", "conv_tcc")}
RECIPES |= {f"carl_{name}_finegym": "pretrain" for name in ("conv", "conv_tcc", "supervised")}
RECIPES |= {f"carl_{data}_from_carl": "pretrain" for data in ("pouring", "penn_action", "finegym")}
RECIPES |= {
    f"carl_align_{data}": "alignment" for data in ("pouring", "penn_action", "finegym", "tcc_pouring", "conv_pouring")
}
RECIPES |= {"carl_align_conv_penn_action": "alignment"}
RECIPES |= {f"carl_align_{name}_finegym": "alignment" for name in ("conv", "conv_tcc", "supervised")}
_STS = ("csn50", "r2plus1d34", "slowfast50_4x16", "slowfast50_8x8", "slowonly50", "x3d_s")
_STS_KINDS = {"sts_images": "image_pretrain"}
_STS_KINDS |= {
    f"sts_{name}_{data}": kind
    for name, kind in (("finetune", "finetune"), ("test", "multiview"))
    for data in ("k400", "sthv2")
}
RECIPES |= _STS_KINDS
RECIPES |= {
    f"{recipe}_{net}": kind
    for recipe, kind in _STS_KINDS.items()
    for net in _STS
    if (recipe.endswith("sthv2"), net) != (True, "slowfast50_8x8")
}
RECIPES |= {"maskfeat_k400": "pretrain", "maskfeat_finetune": "finetune", "maskfeat_linear": "linear"}
RECIPES |= {"timesformer_image": "finetune", "timesformer_threecrop": "multiview", "vivit_threecrop": "multiview"}
_RUNS = ("", "_batch8", "_crops", "_interval4", "_interval16", "_interval24")
RECIPES |= {f"timesformer_k600{run}": "finetune" for run in _RUNS}
RECIPES |= dict.fromkeys(("timesformer_k400", "vivit_k400", "vivit_k600"), "finetune")
NEEDED: dict[str, dict[str, Any]] = {
    "pretrain": {"epochs": 1, "global_batch_size": 1920},
    "alignment": {"data": {"sampling": {"name": "long"}}},
    "image_pretrain": {"drop_path": 0.0},  # its default is for networks with branches
}


def test_every_recipe_is_known_to_these_tests() -> None:
    assert sorted(RECIPES) == COMPOSER.options("recipe")


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_recipe_builds(recipe: str) -> None:
    kind = RECIPES[recipe]
    plain = COMPOSER.compose(kind, {"recipe": recipe})
    stream = {"method": {"main_stream": "rgb"}} if recipe.startswith("vicc_cross") else {}
    build(STAGES[kind].config_class(), merged(STAGES[kind].config_class(), plain, stream))


# networks with tables of positions are made for one size of clips, and some objectives for one sort of views
WITH: dict[str, dict[str, Any]] = {
    "timesformer": {"data": {"num_frames": 8}},
    "vivit": {"data": {"num_frames": 16}},
    "mvit_b": {"data": {"num_frames": 16, "crop_size": 224}},
    "maskfeat": {
        "backbone": {"name": "mvit_b"},
        "data": {"num_frames": 16, "crop_size": 224},
        "augment": {"name": "random-resized-crop"},
    },
    "carl": {
        "backbone": {"name": "frame_resnet50"},
        "data": {"sampling": {"name": "long"}},
        "augment": {"name": "sequence"},
    },
}
FRAMES = {"frame_resnet50", "tiny_frames"}


def refusal(kind: str, option: str) -> str | None:
    """Why a kind never goes with a backbone."""
    if kind == "alignment" and option not in FRAMES:
        return "which sees clips"
    if kind == "image_pretrain" and option in ("timesformer", "vivit", "mvit_b"):
        return "an image is a clip of one frame"
    return None


@pytest.mark.parametrize("kind", sorted(STAGES))
def test_every_kind_builds_with_every_option(kind: str) -> None:
    config_class = STAGES[kind].config_class()

    def build_with(choices: dict[str, str], *patches: dict[str, Any]) -> None:
        plain = COMPOSER.compose(kind, choices)
        for patch in (NEEDED.get(kind, {}), *patches):
            plain = merged(config_class, plain, patch)
        build(config_class, plain)

    build_with({})
    for group in COMPOSER.groups_of(kind) - {"recipe"}:
        for option in COMPOSER.options(group):
            reason = refusal(kind, option) if group == "backbone" else None
            with pytest.raises(ConfigError, match=reason) if reason else nullcontext():
                build_with({group: option}, WITH.get(option, {}))


@pytest.mark.parametrize("name", ["paper", "demo", "smoke"])
def test_every_scale_patches_what_exists(name: str) -> None:
    assert read_scale(CHECKOUT / "configs" / "scale", name, COMPOSER.options("recipe")).name == name


def test_a_scale_that_patches_an_unknown_recipe_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "half.yaml").write_text("data: x\nrecipes:\n  vicc_sinlge: {epochs: 3}\n")
    with pytest.raises(ConfigError, match=r"half.yaml:3: .*did you mean `vicc_single`"):
        read_scale(tmp_path, "half", ["vicc_single"])
