"""Bad lines, sweeps and configs: each is refused by name, with what is accepted and the next thing to do."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from launch import exit_codes
from launch.exit_codes import BAD_INPUT, DONE
from launch.planning.planner import CHECKOUT
from tests.launch.bad_lines import Row, Try, rows, snapshot, trying
from tests.planning import plan_of
from vssl.artifacts import write_json

PLAN = "sweep=vicc_single scale=smoke action=plan "
WRITTEN = "scale=smoke action=plan"
A = "stages:\n  - {name: a, kind: probe, output: s}\n"
FLOW = "stages:\n  - {name: flow, kind: flow, config: [recipe=vicc_flow], output: motion}\n"
BACKBONES = ", ".join(sorted(path.stem for path in (CHECKOUT / "configs" / "backbone").glob("*.yaml")))
HERE = "written.yaml:3"  # the line after A or FLOW


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Try:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    return trying(tmp_path, monkeypatch, capfd)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the record of a prepared dataset: 12 training and 6 test videos."""
    root = tmp_path_factory.mktemp("store")
    (key,) = plan_of("sweep=vicc_single", "scale=smoke").datasets
    (root / "sources" / key).mkdir(parents=True)
    record = {"digest": "d" * 64, "name": "motions_smoke", "splits": {"train": 12, "test": 6}}
    write_json(root / "sources" / key / "source.json", record)
    return root


@rows(
    Row("no sweep", "action=plan", ("no sweep", "sweep=vicc_cross")),
    Row("unknown sweep", "sweep=vicc_singel action=plan", ("`vicc_singel`", "`vicc_single`?", "vicc_cross", "sweeps)")),
    Row("unknown scale", "sweep=vicc_single scale=smok", ("`smok`", "`smoke`?", "demo, paper, smoke")),
    Row("unknown executor", "sweep=vicc_single executor=locl", ("`locl`", "`local`?", "auto, slurm, local, debug")),
    Row("unknown action", "sweep=vicc_single action=pln", ("`pln`", "`plan`?", "accepted: submit, plan")),
    Row("unknown cluster", PLAN + "cluster=a10", ("`a10`", "`a100`?", "slurm_templates/cluster")),
    Row("unknown key", PLAN + "exeuctor=local", ("`exeuctor`", "`executor`?", "accepted: sweep, action")),
    Row("a key twice", "sweep=vicc_single scale=demo scale=smoke", ("'demo' and 'smoke'", "keep one")),
    Row("not key=value", "vicc_single", ("`vicc_single`", "key=value", "sweep=")),
    Row("unknown stage in stages.", PLAN + "stages.liner.epochs=3", ("`liner`", "`linear`?", "accepted: all, flow")),
    Row(
        "typo in an override",
        PLAN + "stages.linear.optim.bas_lr=1",
        ("stages.linear.optim.bas_lr", "`optim.base_lr`?", "top-level keys there: augment"),
    ),
    Row("wrong type", PLAN + "stages.linear.epochs=many", ("linear-rgb", "`epochs` is 'many'", "expected int")),
    Row("half an epoch", PLAN + "stages.linear.epochs=1.5", ("`epochs` is 1.5", "expected int")),
    Row(
        "wrong choice",
        PLAN + "stages.single.method.bn=shufle",
        ("`method.bn` is 'shufle'", "`shuffle`?", "shuffle, local, sync"),
    ),
    Row("wrong group choice", PLAN + "stages.all.backbone=s3x", ("`s3x`", "`s3d`?", f"accepted: {BACKBONES}")),
    Row(
        "out of bounds",
        PLAN + "stages.single.augment.flip_probability=2",
        ("`augment.flip_probability` is 2.0", "at least 0 and at most 1"),
    ),
    Row("negative learning rate", PLAN + "stages.linear.optim.base_lr=-1", ("`optim.base_lr` is -1.0", "at least 0")),
    Row(
        "unknown member of a union",
        PLAN + "stages.linear.schedule.name=cosin",
        (
            "`schedule.name` is 'cosin'",
            "`cosine`?",
            "accepted: cosine, epoch_cosine, epoch_end_cosine, joined_cosine, milestones, open_cosine, "
            "warm_epoch_cosine",
        ),
    ),
    Row("unknown resources", PLAN + "stages.linear.resources=cpus", ("`cpus`", "`cpu`?", "accepted: cpu, finetune")),
    Row(
        "axis that no stage reads",
        PLAN + "grid.retrieval.optim.base_lr=[0.1,0.3]",
        ("grid.retrieval.optim.base_lr", "no stage of `retrieval` reads", "top-level keys there: backbone"),
    ),
    Row(
        "axis that changes nothing",
        PLAN + "grid.linear.runtime.workers=[0,1]",
        ("grid.linear.runtime.workers", "no stage's result depends on it", "set it by `stages.`"),
    ),
    Row("axis of no template", PLAN + "grid.liner.seed=[0,1]", ("`liner`", "`linear`?", "accepted: all, flow")),
    Row("empty axis", PLAN + "grid.linear.seed=[]", ("grid.linear.seed is an empty list", "at least one value")),
    Row("axis that is no list", PLAN + "grid.linear.seed=3", ("grid.linear.seed is 3", "'grid.linear.seed=[3]'")),
    Row("list without brackets", PLAN + "grid.linear.seed=0,1", ("seed=0,1", "'grid.linear.seed=[0,1]'")),
    Row("bracket left open", PLAN + "grid.linear.seed=[0,1", ("seed=[0,1`", "close the bracket")),
    Row("unquoted =", PLAN + "data=/a=b", ("`data=/a=b`", "quoted twice", "'data=\"/a=b\"'")),
    Row("unquoted letters", PLAN + "data=/é日", ("`data=/é日`", "beyond ASCII", "'data=\"/é日\"'")),
    Row("unquoted ~", PLAN + "data=~/videos", ("`data=~/videos`", "'data=\"~/videos\"'")),
    Row("unquoted brace", PLAN + "data=/a{b", ("`data=/a{b`", "'data=\"/a{b\"'")),
    Row("wrong value on an axis", PLAN + "grid.linear.epochs=[1,two]", ("`epochs` is 'two'", "expected int")),
    Row("only: unknown stage", PLAN + "only=singel-rgb", ("only: ", "`singel-rgb`", "`single-rgb`?", "action=plan")),
    Row("from: unknown stage", PLAN + "from=singel-rgb", ("from: ", "`singel-rgb`", "`single-rgb`?", "action=plan")),
    Row("until: unknown stage", PLAN + "until=singel-rgb", ("until: ", "`singel-rgb`", "`single-rgb`?", "templates:")),
    Row("force: unknown stage", PLAN + "force=[flow,x]", ("force: ", "`x`", "templates: flow, single")),
    Row("force of what is left out", PLAN + "only=flow force=linear", ("force=linear", "only=, from= or until=")),
    Row("no stage left", PLAN + "from=linear until=single", ("leave no stage", "loosen one")),
    Row("unknown dataset", "sweep=vicc_single action=plan data=ufc101", ("`ufc101`", "`ucf101`?", "./videos")),
    Row(
        "published size without its data",
        "sweep=vicc_single executor=local",
        ("dataset ucf101 has no path", "data.ucf101=/FOLDER", "data=/FOLDER", "scale=demo"),
    ),
    Row(
        "queue no multiple of the batch",
        PLAN + "stages.single.method.queue_len=10",
        ("method.queue_len is 10", "global_batch_size (4)", "to 8 or 12"),
    ),
    Row(
        "batch no multiple of the group",
        PLAN + "stages.single.method.bn_group_size=3",
        ("global_batch_size is 4", "method.bn_group_size (3)", "to 3 or 6"),
    ),
    Row(
        "schedule shorter than training",
        PLAN + "stages.single.epochs=5",
        ("schedule_epochs is 3", "epochs (5)", "at least 5", "null"),
    ),
    Row(
        "batch larger than the split",
        PLAN + "stages.linear.global_batch_size=13",
        ("linear-rgb", "global_batch_size is 13", "12 videos", "stages.linear.global_batch_size to at most 12"),
    ),
    Row(
        "unknown split",
        PLAN + "stages.all.data.test_split=tset",
        ("data.test_split is `tset`", "`test`?", "test (6 videos), train (12 videos)"),
    ),
    Row(
        "two streams in a probe of one",
        PLAN + "stages.linear.data.modality=both",
        ("data.modality is both", "accepted: rgb, flow"),
    ),
    Row(
        "backbones that do not fit",
        PLAN + "stages.single.backbone=s3d",
        ("retrieval-rgb", "'tiny'", "'s3d'", "stages.all.backbone="),
    ),
    Row("store to read is missing", PLAN + "store.read=[/nowhere]", ("store.read: no folder /nowhere", "stages/")),
    Row(
        "inside an allocation",
        "sweep=vicc_single scale=smoke",
        ("inside allocation 77", "executor=local", "executor=debug"),
        environment={"SLURM_JOB_ID": "77"},
    ),
)
def test_a_bad_line(row: Row, store: Path, attempt: Try) -> None:
    attempt(row, store)


@rows(
    Row("not YAML", WRITTEN, ("written.yaml:2", "not YAML"), sweep="stages: [\n"),
    Row("no stages", WRITTEN, ("written.yaml:1", "needs `stages`"), sweep="data: ucf101\n"),
    Row(
        "unknown key in a template",
        WRITTEN,
        (HERE, "`confg`", "`config`?", "accepted: name, kind, each"),
        sweep=A + "  - {name: b, kind: probe, confg: [seed=1]}\n",
    ),
    Row(
        "unknown kind", WRITTEN, (HERE, "`prob`", "`probe`?", "flow, pretrain"), sweep=A + "  - {name: b, kind: prob}\n"
    ),
    Row(
        "cycle",
        WRITTEN,
        (HERE, "b after c after b", "drop one `after`"),
        sweep=A + "  - {name: b, kind: probe, after: c}\n  - {name: c, kind: probe, after: b}\n",
    ),
    Row(
        "after nobody",
        WRITTEN,
        (HERE, "no stage is named `aa`", "accepted: a"),
        sweep=A + "  - {name: b, kind: probe, after: aa}\n",
    ),
    Row(
        "missing input",
        WRITTEN,
        (HERE, "`x` needs the input `main` (weights)", "inputs: {main: NAME}"),
        sweep=FLOW + "  - {name: x, kind: pretrain, config: [recipe=vicc_cross, method.main_stream=rgb], "
        "inputs: {motion: motion}}\n",
    ),
    Row(
        "wrong role",
        WRITTEN,
        (HERE, "kind linear has no input `weight`", "`weights`?", "accepted: dataset, motion, weights"),
        sweep=A + "  - {name: b, kind: linear, inputs: {weight: s}}\n",
    ),
    Row(
        "wrong type for a role",
        WRITTEN,
        (HERE, "takes weights", "`motion` is flow", "fitting here"),
        sweep=FLOW + "  - {name: b, kind: linear, config: [recipe=vicc_linear], inputs: {weights: motion}}\n",
    ),
    Row(
        "unwritten name",
        WRITTEN,
        (HERE, "reads `rgbb`, which no stage writes", "`rgb`?", "written above: rgb"),
        sweep=A.replace(": s}", ": rgb}") + "  - {name: b, kind: probe, inputs: {before: rgbb}}\n",
    ),
    Row(
        "name written further down",
        WRITTEN,
        (HERE, "`late`", "move its template up"),
        sweep=A + "  - {name: b, kind: probe, inputs: {before: late}}\n  - {name: c, kind: probe, output: late}\n",
    ),
    Row(
        "older binding of nobody",
        WRITTEN,
        (HERE, "`s` is not written by `nowhere`", "written above by: a"),
        sweep=A + "  - {name: b, kind: probe, inputs: {before: s@nowhere}}\n",
    ),
    Row(
        "unknown artifact",
        WRITTEN,
        (HERE, "no artifact `stat`", "`state`?", "accepted: s.state"),
        sweep=A + "  - {name: b, kind: probe, inputs: {before: s.stat}}\n",
    ),
    Row(
        "typo in a template's config",
        WRITTEN,
        ("stage `b`", HERE, "`sed`", "`seed`?", "accepted here: fail_at"),
        sweep=A + "  - {name: b, kind: probe, config: [sed=1]}\n",
    ),
    Row(
        "unknown recipe",
        WRITTEN,
        (HERE, "recipe is `vicc_liner`", "`vicc_linear`?", "vicc_cross"),
        sweep=A + "  - {name: b, kind: linear, config: [recipe=vicc_liner]}\n",
    ),
    Row(
        "the same work twice",
        WRITTEN,
        (HERE, "`b` and `a`", "same work", "drop one"),
        sweep=A + "  - {name: b, kind: probe}\n",
    ),
    Row("grid that is no grid", WRITTEN, ("written.yaml: grid is 3", "as in {linear"), sweep=A + "grid: 3\n"),
    Row(
        "weights that are not there",
        WRITTEN,
        ("file:/no/such.pt", "No such file", "`inputs`", "absolute path"),
        sweep=A + "  - {name: b, kind: linear, config: [recipe=vicc_linear], inputs: {weights: 'file:/no/such.pt'}}\n",
    ),
    Row(
        "weights by a relative path",
        WRITTEN,
        (HERE, "`file:w.pt`", "absolute path", "file:/data/weights.pt"),
        sweep=A + "  - {name: b, kind: linear, config: [recipe=vicc_linear], inputs: {weights: 'file:w.pt'}}\n",
    ),
)
def test_a_bad_sweep(row: Row, store: Path, attempt: Try) -> None:
    attempt(row, store)


@pytest.mark.parametrize("mode", ["action=plan", "executor=local", "executor=debug"])
@rows(
    Row("root is a file", "sweep=vicc_single scale=smoke <mode> root=<file>", ("<file> is a file", "root=FOLDER")),
    Row("root below a file", "sweep=vicc_single scale=smoke <mode> root=<file>/x", ("<file> is a file", "root=FOLDER")),
)
def test_a_root_that_can_be_no_folder(row: Row, mode: str, tmp_path: Path, attempt: Try) -> None:
    (tmp_path / "root").write_text("x")
    attempt(row, tmp_path, file=tmp_path / "root", mode=mode)


@rows(
    Row(
        "root that cannot be made",
        "sweep=vicc_single scale=smoke executor=local root=/proc/store",
        ("cannot write /proc/store", "root=FOLDER"),
    )
)
def test_a_root_where_nothing_can_be_made(row: Row, tmp_path: Path, attempt: Try) -> None:
    attempt(row, tmp_path)


@rows(Row("damaged record", PLAN, ("source.json is damaged", "remove it", "the same line makes it anew")))
def test_a_damaged_record(row: Row, tmp_path: Path, attempt: Try) -> None:
    (key,) = plan_of("sweep=vicc_single", "scale=smoke").datasets
    (tmp_path / "sources" / key).mkdir(parents=True)
    (tmp_path / "sources" / key / "source.json").write_text('{"digest": ')
    attempt(row, tmp_path)


@pytest.mark.parametrize(
    ("words", "environment", "says"),
    [
        (["sweep=vicc_singel", "action=plan"], {}, "did you mean `vicc_single`?"),
        (["sweep=vicc_single", "only=[flow", "action=plan"], {}, "close the bracket"),
        (["sweep=vicc_single", "scale=smoke"], {"SLURM_JOB_ID": "77"}, "inside allocation 77"),
        (["sweep=vicc_single", "scale=smoke", "executor=local"], {"VSSL_ROOT": "/dev/null/x"}, "/dev/null is a file"),
    ],
)
def test_the_same_from_another_folder_as_a_process(
    words: list[str], environment: dict[str, str], says: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "launch" / "pipeline.py"), *words],
        cwd="/",
        env={**os.environ, "VSSL_ROOT": str(tmp_path / "root"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == BAD_INPUT
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert snapshot(tmp_path) == {}


def test_the_good_line_beside_the_bad_ones_plans(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    row = Row("good", PLAN + "grid.linear.optim.base_lr=[0.1,0.3]", (), code=DONE)
    trying(tmp_path, monkeypatch, capfd)(row, store)


def test_every_exit_code_is_in_the_readme_with_its_number() -> None:
    codes = {value for name, value in vars(exit_codes).items() if name.isupper()}
    written = re.findall(r"^\| (\d+) \| \S", (CHECKOUT / "README.md").read_text(), flags=re.MULTILINE)
    assert len(codes) == 5
    assert sorted(map(int, written)) == sorted(codes)
