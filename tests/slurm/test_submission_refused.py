"""Lines of probes that a real Slurm takes in parts, or not at all, and what a person is told."""

import shutil
from dataclasses import replace

import pytest

from launch.batches import open_batches
from launch.verbs.cancel import cancel
from launch.verbs.targets import Target
from tests.slurm.lines import LATER, NOW, SMALL, cancel_all, lanes
from tests.slurm.variant import Variant
from vssl.config import ConfigError


@pytest.mark.parametrize("character", [":", "\\", "\n"])
def test_a_root_that_no_script_can_name_is_refused(line, character):
    with pytest.raises(ConfigError, match="choose another store with root=FOLDER"):
        line(lanes(1), root=f"a{character}b").type()
    assert not line(lanes(1)).queue()


def test_what_slurm_refuses_is_told_with_its_words(line):
    one = line(lanes(1))
    with pytest.raises(
        ConfigError, match=r"Slurm refused first: .*Invalid feature specification.*nothing of this line"
    ):
        one.type(profile=replace(NOW, parameters={"constraint": "unheard_of"}))
    with pytest.raises(ConfigError, match=r"no partition `hihg` \(did you mean `high`\?\); accepted: cpu, high, short"):
        one.type(profile=replace(NOW, parameters={"partition": "hihg"}))
    with pytest.raises(ConfigError, match=r"first asks for 10 min, and partition short allows 2 \(MaxTime\)"):
        one.type(profile=replace(NOW, parameters={"partition": "short"}))
    wide = tuple(replace(stage, resources=replace(SMALL, mem_gb=99)) for stage in one.plan)
    big = line(replace(one.plan, stages=wide))
    with pytest.raises(ConfigError, match=r"99 GB a node, and partition cpu has 15\.\d+ on its largest"):
        big.type()
    assert not one.queue()
    assert not open_batches(one.store)


def test_the_prefix_that_fits_is_queued_and_the_rest_follows(line, sandbox_of, capsys):
    cluster = sandbox_of(Variant(max_submit_jobs=5))
    one = line(lanes(4, steps=1), on=cluster)
    assert one.type(profile=LATER) == 75
    assert "5 of 8 stages queued now" in capsys.readouterr().out
    assert len(one.queue()) == 5
    cancel_all(cluster)
    assert one.type(follow=True, look_every_s=1.0) == 0
    one.wait()
    assert one.done() == set(one.plan.by_name), one.logs()
    assert set(one.starts().values()) == {1}


def test_a_limit_that_only_sbatch_knows_of(line, sandbox_of, monkeypatch, capsys):
    cluster = sandbox_of(Variant(max_submit_jobs=5))
    one = line(lanes(4), on=cluster)
    monkeypatch.setattr(one.scheduler, "submit_limit", lambda account, qos: None)
    assert one.type(profile=LATER) == 75
    said = capsys.readouterr().out
    assert "5 of 8 stages queued now" in said, "the second array does not fit, nor does its half"
    assert "the queue takes no more jobs of yours" in said
    assert not [entry.job for entry in one.queue() if entry.reason.startswith("JobHeld")]
    assert len(open_batches(one.store)) == 2
    assert line(lanes(1), on=cluster).scheduler.submit_limit() == 5
    cancel_all(cluster)


def test_a_controller_that_is_away_is_try_again(line, sandbox, capsys, monkeypatch):
    one = line(lanes(1))
    one.scheduler.read_tries = 1
    with sandbox.stopped("slurmctld"):
        assert one.type() == 75
    said = capsys.readouterr()
    assert "Unable to contact slurm controller" in said.err
    assert "the same line again goes on from here" in said.err
    assert not one.root.exists()

    one.scheduler.timeout_s = 2.0  # Slurm's own commands try for 9
    submit, sent = one.scheduler.submit, []

    def away_for_the_second(script, cwd):
        if sent:
            sandbox.stop("slurmctld")
        sent.append(submit(script, cwd))
        return sent[-1]

    with monkeypatch.context() as patch:
        patch.setattr(one.scheduler, "submit", away_for_the_second)
        assert one.type() == 75
    sandbox.start("slurmctld")
    one.scheduler.timeout_s = 60.0
    assert [entry.reason for entry in one.queue()] == ["JobHeldUser"]
    assert one.type() == 0
    one.wait()
    assert one.done() == set(one.plan.by_name), one.logs()
    assert one.starts() == {"first.0": 1, "second.0": 1}


def test_jobs_whose_record_is_gone_are_nobodys_to_replace(line):
    one = line(lanes(2, "first", "second"))
    assert one.type(profile=LATER) == 0
    batch = min(one.store.batches.iterdir())
    away = one.store.batches.rename(one.root / "away")
    said = rf"whose records are gone \({batch} and 1 more\).*bring them back, or `scancel \d+ \d+`"
    with pytest.raises(ConfigError, match=said):
        one.type(profile=LATER)
    with pytest.raises(ConfigError, match=said):
        cancel(Target(folder=one.store.pipeline(one.plan), plan=one.plan, store=one.store, selector=""))
    assert len(one.queue()) == 4
    shutil.rmtree(one.store.batches, ignore_errors=True)
    away.rename(one.store.batches)
    assert one.type(profile=LATER) == 0
    one.check_queue()
    cancel_all(one.sandbox)
