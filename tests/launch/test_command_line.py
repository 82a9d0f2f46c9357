from pathlib import Path

import pytest

from launch.planning.command_line import parse
from vssl.config import ConfigError

CWD = Path("/work")


def test_every_key_is_read() -> None:
    words = "sweep=s action=plan scale=demo executor=local cluster=a100 data=ucf101 root=r only=a from=[b,c] until=d"
    more = "force=all store.read=[/x,y] grid.all.seed=[1,2] stages.linear.epochs=3"
    line = parse([*words.split(), *more.split()], CWD)
    assert (line.sweep, line.action, line.scale, line.executor) == ("s", "plan", "demo", "local")
    assert (line.cluster, line.data, line.root) == ("a100", "ucf101", Path("/work/r"))
    assert (line.only, line.from_, line.until, line.force) == (("a",), ("b", "c"), ("d",), ("all",))
    assert line.store_read == (Path("/x"), Path("/work/y"))
    assert line.grid == (("all.seed", [1, 2]),)
    assert line.stages == (("linear.epochs", 3),)


def test_defaults_are_the_published_run_submitted() -> None:
    line = parse(["sweep=s"], CWD)
    assert (line.action, line.scale, line.executor, line.data, line.root) == ("submit", "paper", "auto", None, None)


def test_a_folder_is_meant_from_where_the_line_is_typed() -> None:
    assert parse(["sweep=s", "data=./videos"], CWD).data == "/work/videos"
    assert parse(["sweep=s", "data=../videos/x"], CWD).data == "/work/../videos/x"
    assert parse(["sweep=s", "data=/videos"], CWD).data == "/videos"
    assert parse(["sweep=s", 'data="~/videos"'], CWD).data == str(Path.home() / "videos")


def test_a_mapping_for_grid_or_stages_is_its_entries() -> None:
    line = parse(["sweep=s", "stages={linear:{epochs:3}}", "grid={all:{seed:[1,2]}}"], CWD)
    assert line.stages == (("linear", {"epochs": 3}),)
    assert line.grid == (("all", {"seed": [1, 2]}),)


def test_folders_of_the_store_are_meant_from_where_the_line_is_typed() -> None:
    line = parse(["sweep=s", "store.artifact_root.flow=/scratch", "store.artifact_root.retrieval=big"], CWD)
    assert line.artifact_root == {"flow": Path("/scratch"), "retrieval": Path("/work/big")}
    assert parse(["sweep=s", "store={read:[/x],artifact_root:{flow:/y}}"], CWD).artifact_root == {"flow": Path("/y")}
    assert parse(["sweep=s", "store={read:[/x],artifact_root:{flow:/y}}"], CWD).store_read == (Path("/x"),)


def test_flags_stand_anywhere() -> None:
    line = parse(["--follow", "sweep=s", "store.visibility_s=2"], CWD)
    assert (line.follow, line.mermaid, line.visibility_s) == (True, False, 2.0)
    assert parse(["sweep=s", "action=plan", "--mermaid"], CWD).mermaid
    assert parse(["sweep=s"], CWD).visibility_s is None


def test_a_strict_store_is_asked_for() -> None:
    assert [parse(["sweep=s", *words], CWD).strict for words in ([], ["store.strict=true"])] == [False, True]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep=s", "--folow"], r"no flag `--folow` \(did you mean `--follow`\?\); accepted: --follow, --mermaid"),
        (["sweep=s", "--mermaid"], "--mermaid draws a plan; say action=plan"),
        (["sweep=s", "action=plan", "--follow"], "--follow stays with a submission"),
        (["sweep=s", "store.visibility_s=-1"], r"`store.visibility_s` is -1; accepted: store.read="),
        (["sweep=s", "store.strict=1"], r"`store.strict` is 1; accepted: .*store.strict=true|false"),
        ([], "sweep=vicc_cross"),
        (["sweep="], "no sweep"),
        (["sweep=s", "swep=t"], "unknown key `swep`.*did you mean `sweep`.*stages"),
        (["sweep=s", "linear.epochs=3"], "unknown key `linear`"),
        (["sweep=s", "scale.epochs=3"], "`scale` takes a value"),
        (["sweep=s", "scale=demo", "scale=smoke"], "given twice: 'demo' and 'smoke'"),
        (["sweep=s", "action=plna"], "did you mean `plan`.*submit, plan"),
        (["sweep=s", "executor=locl"], "did you mean `local`.*auto, slurm, local, debug"),
        (["sweep=s", "scale=[demo]"], "expected one name"),
        (["sweep=s", "only=3"], "expected stage names"),
        (["sweep=s", "store.write=[/x]"], "accepted: store.read"),
        (["sweep=s", "store=/x"], r"write store.read=\[FOLDER,...\], store.artifact_root.KIND=FOLDER"),
        (["sweep=s", "store.artifact_root=/x"], "accepted: .*store.artifact_root.KIND=FOLDER"),
        (["sweep=s", "store.artifact_root.flwo=/x"], "no kind `flwo` .did you mean `flow`"),
        (["sweep=s", "root=3"], "expected a folder"),
        (["sweep=s", "grid=3"], r"grid.STAGE.KEY=VALUE"),
    ],
)
def test_a_bad_line_is_answered_with_the_good_one(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(words, CWD)
