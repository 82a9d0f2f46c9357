"""Cluster profiles: where they lie, which keys they take, and what they are held against before anything is queued."""

from dataclasses import replace
from pathlib import Path

import pytest

from launch.plan import Resources
from launch.planning import templates
from launch.planning.resource_classes import ResourceClasses
from launch.slurm.partitions import Site, check_requests, minutes
from launch.slurm.profiles import REFUSED, Profile, read_profile
from tests.planning import plan_of
from vssl.config import ConfigError


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A person's folder; `own("cluster/x.yaml", text)` writes into it."""
    monkeypatch.setenv("VSSL_PROFILES", str(tmp_path / "own"))

    def write(name, text):
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


def test_every_profile_of_the_repository_can_be_read():
    assert set(templates.files("cluster")) >= {"default", "a100", "preemptible", "container"}
    for name in templates.files("cluster"):
        profile = read_profile(name)
        assert profile.name == name
        ResourceClasses(templates.files("resources"), profile.resources).get("cpu")
    assert read_profile().parameters == {}, "the default profile asks for nothing that a site could refuse"
    assert "export OPENBLAS_NUM_THREADS=1" in "\n".join(read_profile("a100").setup)
    assert read_profile("container").python.startswith("apptainer exec")


@pytest.mark.parametrize("sweep", ["flow", "transcode", "vicc_cross", "vicc_hmdb51"])
def test_what_works_on_whole_datasets_has_a_process_for_every_core_it_asks_for(sweep):
    stages = [stage for stage in plan_of(f"sweep={sweep}") if stage.resources.resource_class == "flow"]
    assert {stage.kind for stage in stages} <= {"flow", "transcode"}
    assert [stage.config["runtime"]["workers"] for stage in stages] == [32] * len(stages) != []
    assert {stage.resources.cpus_per_task for stage in stages} == {32}


def test_ones_own_profile_hides_the_shipped_one(own):
    own("cluster/default.yaml", "partition: mine\n")
    own("cluster/another.yaml", "account: lab\n")
    assert read_profile().parameters == {"partition": "mine"}
    assert read_profile("another").parameters == {"account": "lab"}
    assert read_profile("a100").parameters == {"partition": "a100"}


def test_without_any_default_profile_nothing_is_special(tmp_path):
    assert read_profile(checkout=tmp_path) == Profile(name="default")


def test_an_unknown_name_tells_the_known_ones(own):
    own("cluster/labs.yaml", "")
    with pytest.raises(
        ConfigError, match=r"`lab` \(did you mean `labs`\?\); accepted: .*a100, .*labs.*slurm_templates"
    ):
        read_profile("lab")


def test_what_a_profile_may_say(own):
    own("setup/site.sh", "#!/bin/bash\nmodule load cuda\nexport A=1\n")
    own(
        "cluster/all.yaml",
        """
slurm_partition: gpu,gpu-long
qos: 10
gres: "gpu:a100:{gpus}"
exclusive: true
comment: it's "ours" $(date)
setup: [site.sh, export B=2]
teardown: rm -rf /scratch/x
srun_args: [--cpu-bind=none]
python: apptainer exec image python
array_parallelism: 8
signal_delay_s: 90
additional_parameters: {reservation: r1, mail-user: me}
vssl:
  max_submit_jobs: 100
  sbatch_at_once: 2
  visibility_s: 2.5
  hang_min: 15
  requeue: {killed: 5}
  resources: {linear: {timeout_min: 10, partition: short}}
""",
    )
    profile = read_profile("all")
    assert profile.parameters == {
        "partition": "gpu,gpu-long",
        "qos": 10,
        "gres": "gpu:a100:{gpus}",
        "exclusive": True,
        "comment": 'it\'s "ours" $(date)',
        "additional_parameters": {"reservation": "r1", "mail-user": "me"},
    }
    assert profile.setup == ("module load cuda", "export A=1", "export B=2")
    assert (profile.teardown, profile.srun_args) == (("rm -rf /scratch/x",), ("--cpu-bind=none",))
    assert (profile.python, profile.array_parallelism) == ("apptainer exec image python", 8)
    assert (profile.max_submit_jobs, profile.sbatch_at_once, profile.visibility_s) == (100, 2, 2.5)
    assert (profile.policy.hang_min, profile.policy.signal_delay_s, profile.policy.requeue) == (15, 90, {"killed": 5})
    linear = ResourceClasses(templates.files("resources"), profile.resources).get("linear")
    assert linear.timeout_min == 10
    assert profile.parameters_for(linear)["partition"] == "short"
    assert profile.parameters_for(Resources())["partition"] == "gpu,gpu-long"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("partion: gpu", r"x\.yaml:1: unknown key `partion` \(did you mean `partition`\?\)"),
        ("partition: gpu\n\ntimeout_min: 60", r"x\.yaml:3: `timeout_min` is not for a profile: .*vssl\.resources"),
        ("slurm_array: 1-3", "array_parallelism limits"),
        ("additional_parameters: {no-requeue: true}", "`additional_parameters.no-requeue` is not for a profile"),
        ("additional_parameters: {kill_on_invalid_dep: no}", "the launcher sets it"),
        ("additional_parameters: {'x y': 1}", "long name of an option"),
        ("additional_parameters: 5", "expected a mapping"),
        ('comment: "a\\nb"', "text on one line"),
        ("partition: [a, b]", "expected a number, or text on one line"),
        ("gres: gpu:4", r"each stage's own: write the number as \{gpus\}"),
        ("setup: [modlues.sh]", r"x\.yaml:1: `setup`: setup is `modlues` \(did you mean `modules`\?\)"),
        ('setup: ["#SBATCH --mem=1"]', "starts with #SBATCH"),
        ("setup: [1]", "expected text"),
        ("array_parallelism: 0", "at least 1"),
        ("signal_delay_s: soon", r"x\.yaml:1: .*signal_delay_s"),
        ("vssl: {hang: 1}", r"unknown key `hang` in `vssl` \(did you mean `hang_min`\?\)"),
        ("vssl: {hang_min: -1}", "hang_min"),
        ("vssl:\n  requeue: {exception: 1}", r"x\.yaml:2: .*after 'exception' nothing is requeued"),
        ("vssl: {max_submit_jobs: many}", "whole number"),
        ("vssl: {sbatch_at_once: 0}", "at least 1"),
        ("vssl: {visibility_s: -1}", "seconds"),
        ("vssl: {resources: {linea: {mem_gb: 1}}}", "did you mean `linear`"),
        ("vssl: {resources: {linear: {memory: 1}}}", "unknown key `memory` in `vssl.resources.linear`"),
        ("vssl: {resources: {linear: {mem_gb: 0}}}", "more than 0"),
        ("python: 3", "expected text"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_with_its_place(own, text, said):
    own("cluster/x.yaml", text + "\n")
    with pytest.raises(ConfigError, match=said):
        read_profile("x")


def test_every_refused_key_gives_a_reason(own):
    for key, reason in REFUSED.items():
        own("cluster/x.yaml", f"{key}: 1\n")
        with pytest.raises(ConfigError) as caught:
            read_profile("x")
        assert reason in str(caught.value)


def test_resource_classes_of_ones_own_are_added_and_hide_shipped_ones(own):
    own("resources/linear.yaml", "mem_gb: 1\n")
    own("resources/huge.yaml", "nodes: 8\n")
    classes = ResourceClasses(templates.files("resources"))
    assert (classes.get("linear").mem_gb, classes.get("huge").nodes) == (1, 8)
    assert classes.get("huge").resource_class == "huge"
    assert classes.get({"cpus_per_task": 4}).resource_class == "cpu"


def test_overrides_of_a_cluster_stand_below_the_line():
    words = ("sweep=vicc_cross", "stages.retrieval.resources.mem_gb=3")
    from launch.planning.command_line import parse
    from launch.planning.planner import make_plan
    from tests.planning import COMPOSER, digest_of

    overrides = {"retrieval": {"mem_gb": 5, "timeout_min": 7}}
    plan = make_plan(parse(words, Path("/")), digest_of, composer=COMPOSER, overrides=overrides)
    found = plan["retrieval-rgb"].resources
    assert (found.mem_gb, found.timeout_min) == (3, 7)


CPU = {
    "PartitionName": "cpu",
    "Default": "YES",
    "MaxTime": "UNLIMITED",
    "MaxNodes": "UNLIMITED",
    "MaxMemPerNode": "UNLIMITED",
}
SHORT = {**CPU, "Default": "NO", "MaxTime": "02:00:00", "MaxNodes": "2", "MaxMemPerNode": "16384"}
GPU = {**CPU, "Default": "NO", "MaxTime": "3-00:00:00"}
SITE = Site(
    partitions={"cpu": CPU, "short": SHORT, "gpu": GPU},
    nodes=[
        {"partition": "cpu", "nodes": "4", "cpus": "32", "memory_mb": "65536", "gres": "(null)"},
        {"partition": "short", "nodes": "4", "cpus": "32", "memory_mb": "65536", "gres": "(null)"},
        {"partition": "gpu", "nodes": "2", "cpus": "48", "memory_mb": "500000", "gres": "gpu:a100:4(S:0-1),tmp:1"},
        {"partition": "gpu", "nodes": "6", "cpus": "48", "memory_mb": "250000+", "gres": "gpu:v100:8"},
    ],
)  # fmt: skip


def checked(make_plan, stage, profile, **resources):
    planned = replace(stage("one"), resources=Resources(**resources))
    check_requests(make_plan(planned), ["one"], profile, SITE)


@pytest.mark.parametrize(
    ("partition", "resources"),
    [
        ("", {"cpus_per_task": 32, "mem_gb": 64, "nodes": 4}),
        ("short", {"timeout_min": 120, "mem_gb": 16, "nodes": 2}),
        ("gpu", {"gpus_per_node": 4, "nodes": 8, "mem_gb": 200}),
        ("gpu", {"gpus_per_node": 8, "nodes": 6}),
        ("short,cpu", {"timeout_min": 600}),
    ],
)
def test_what_a_partition_gives(make_plan, stage, partition, resources):
    checked(make_plan, stage, Profile(name="p", parameters={"partition": partition} if partition else {}), **resources)


@pytest.mark.parametrize(
    ("parameters", "resources", "said"),
    [
        ({"partition": "gpus"}, {}, r"profile p: .* no partition `gpus` \(did you mean `gpu`\?\); accepted: cpu,"),
        ({"partition": "short"}, {"timeout_min": 121},
         r"one asks for 121 min, and partition short allows 120 \(MaxTime\): change stages.one.resources.timeout_min, "
         "or choose partition cpu or gpu in profile p"),
        ({"partition": "short"}, {"nodes": 3}, r"3 nodes.*allows 2 \(MaxNodes\)"),
        ({"partition": "short"}, {"mem_gb": 17}, r"17 GB a node.*allows 16 \(MaxMemPerNode\)"),
        ({}, {"mem_gb": 65}, "65 GB a node, and partition cpu has 64 on its largest.*partition gpu"),
        ({}, {"tasks_per_node": 5, "cpus_per_task": 8}, r"40 cores a node \(5 tasks of 8\).*has 32.*cpus_per_task"),
        ({}, {"gpus_per_node": 1}, "1 GPUs a node, and partition cpu has 0 on its best"),
        ({"partition": "gpu", "gres": "gpu:a100:{gpus}"}, {"gpus_per_node": 8}, "has 4 of type a100"),
        ({"partition": "gpu"}, {"gpus_per_node": 8, "nodes": 7}, "7 such nodes, and partition gpu has 6"),
        ({"partition": "gpu"}, {"mem_gb": 400, "nodes": 3}, "3 such nodes, and partition gpu has 2"),
        ({"partition": "short,gpu"}, {"timeout_min": 10_000}, "partition short allows 120"),
        ({}, {"timeout_min": 2}, r"one has 2 min, .*save and stop 120 s before.*timeout_min.*signal_delay_s"),
    ],
)  # fmt: skip
def test_what_a_partition_does_not_give_is_told_with_value_limit_and_key(make_plan, stage, parameters, resources, said):
    with pytest.raises(ConfigError, match=said):
        checked(make_plan, stage, Profile(name="p", parameters=parameters), **resources)


def test_all_that_does_not_fit_is_told_at_once():
    plan = plan_of("sweep=vicc_cross")
    with pytest.raises(ConfigError) as caught:
        check_requests(plan, plan.by_name.keys(), Profile(name="p", parameters={"partition": "short"}), SITE)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(set(lines))
    assert any("stages.single.resources.timeout_min" in line for line in lines)
    assert any("stages.cross-rgb.resources.cpus_per_task" in line for line in lines)


def test_a_site_without_a_default_partition_wants_one_named(make_plan, stage):
    site = Site(partitions={"gpu": GPU}, nodes=[])
    with pytest.raises(
        ConfigError, match="profile p names no partition, and this site has no default one; accepted: gpu"
    ):
        check_requests(make_plan(stage("one")), ["one"], Profile(name="p"), site)
    check_requests(make_plan(stage("one")), ["one"], Profile(name="p", parameters={"partition": "gpu"}), site)


def test_time_limits_in_slurms_words():
    words = {
        "UNLIMITED": float("inf"),
        "infinite": float("inf"),
        "2-12:00:00": 3600,
        "01:30:00": 90,
        "30:00": 30,
        "45": 45,
    }
    assert {word: minutes(word) for word in words} == words
