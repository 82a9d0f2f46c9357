"""What the doctor reads in a configuration, and how late a file comes into sight. Its job runs in tests/slurm."""

import os
import threading
import time

import pytest

from launch.running.processes import identity
from launch.slurm.profiles import Profile
from launch.trials.doctor import line
from launch.trials.node_check import asked_from_here, delay_s, found_on_node, main, seen_on_node
from launch.trials.site_check import Finding, check_locks, check_queue, check_site
from tests.launch.slurm_records import queued, send
from vssl.artifacts import read_json, write_json


class Site:
    """Slurm's answers about itself."""

    def __init__(self, limit=None, **config):
        calm = {"AccountingStorageType": "accounting_storage/slurmdbd", "PreemptType": "preempt/none"}
        self._config = {**calm, "MaxArraySize": "1001", "KillWait": "30 sec", **config}
        self._limit = limit

    def config(self):
        return self._config

    def submit_limit(self, account="", qos=""):
        return self._limit

    def partitions(self):
        gpu = {"PartitionName": "gpu", "MaxTime": "2-00:00:00", "GraceTime": "60", "State": "UP"}
        return {"cpu": {"PartitionName": "cpu", "Default": "YES", "MaxTime": "UNLIMITED", "State": "UP"}, "gpu": gpu}

    def nodes(self):
        size = {"nodes": "4", "cpus": "16", "memory_mb": "64000", "features": "(null)"}
        return [{"partition": "cpu", "gres": "(null)", **size}, {"partition": "gpu", "gres": "gpu:a100:4", **size}]


def findings(site, **profile):
    found = list(check_site(site, Profile(name="here", **profile)))
    return {mark: [one for one in found if one.mark == mark] for mark in ("ok", "note", "wrong")}


def texts(found):
    return " | ".join(f"{one.text} -> {one.todo}" for one in found)


def test_a_calm_site():
    found = findings(Site(), parameters={"partition": "gpu"})
    assert not found["wrong"]
    assert not found["note"]
    assert "partition gpu: MaxTime 2-00:00:00, GraceTime 60 s, GRES gpu:a100:4" in texts(found["ok"])
    assert "no job is preempted here" in texts(found["ok"])


def test_what_a_site_insists_on():
    found = findings(Site(limit=100, AccountingStorageEnforce="associations,limits,wckeys"), max_submit_jobs=500)
    assert "set wckey: YOURS" in texts(found["wrong"])
    assert "set vssl.max_submit_jobs: 100" in texts(found["wrong"])
    mended = findings(
        Site(limit=100, AccountingStorageEnforce="wckeys"), max_submit_jobs=100, parameters={"wckey": "lab"}
    )
    assert not mended["wrong"]


def test_what_is_worth_knowing():
    site = Site(
        AccountingStorageType="accounting_storage/none",
        PreemptType="preempt/partition_prio",
        PreemptMode="CANCEL",
        KillWait="5 sec",
        TrackWCKey="No",
    )
    found = findings(site, parameters={"wckey": "lab"})
    assert not found["wrong"]
    notes = texts(found["note"])
    for said in ("accounting is off", "does not track wckeys", "are cancelled here, not requeued", "KillWait is 5 s"):
        assert said in notes


def test_a_partition_that_is_not_there():
    assert "there is no partition a100 here; there are cpu, gpu" in texts(
        findings(Site(), parameters={"partition": "a100"})["wrong"]
    )


def test_jobs_of_no_batch_of_this_store(stage, make_plan, store):
    plan = make_plan(stage("first", seed=1))
    batch = send(store, plan, ["first"])
    ours, theirs = queued("100_0", batch=batch), [queued(f"7_{index}") for index in range(3)]
    (found,) = check_queue(store, [ours, *theirs])
    assert found.text.startswith("job 7 (vssl-unknown) with 3 elements")


def test_locks_of_the_dead(store):
    store.submitting.mkdir(parents=True)
    dead = {**identity(), "pid_started": 1}
    write_json(store.submitting / "9.json", {"owner": dead, "released_at_ms": 1})
    assert list(check_locks(store)) == []
    write_json(store.submitting / "10.json", {"owner": dead})
    pipeline = store.pipelines / "small-1"
    pipeline.mkdir(parents=True)
    write_json(pipeline / "tracking.lock", {"host": identity()["host"], "pid": 2**22 + 1})
    found = list(check_locks(store))
    assert [one.mark for one in found] == ["note", "note"]
    assert "died while it submitted" in found[0].text
    assert "`vssl sync` goes on" in found[1].todo


def test_a_node_says_what_it_has_and_how_late_it_sees(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURMD_NODENAME", "no-such-node.invalid")
    node = threading.Thread(target=main, args=([str(tmp_path)],))
    node.start()
    assert delay_s(found_on_node(tmp_path), 30.0) < 10.0
    facts = read_json(found_on_node(tmp_path))
    assert facts["node"] == "no-such-node.invalid"
    assert facts["unresolved"] == ["no-such-node.invalid"]
    assert facts["versions"]["python"]
    write_json(asked_from_here(tmp_path), {})
    node.join(30)
    assert read_json(seen_on_node(tmp_path))["delay_s"] < 10.0


def test_a_delay_is_that_of_the_file_and_not_of_the_look(tmp_path):
    path = tmp_path / "late"
    path.write_text("")
    past_s = time.time() - 40
    os.utime(path, (past_s, past_s))
    assert delay_s(path) == pytest.approx(40, abs=5)
    assert delay_s(tmp_path / "never", 0.2) is None


def test_a_finding_in_words():
    assert line(Finding(mark="ok", text="fine")) == "ok     fine"
    assert line(Finding(mark="wrong", text="no", todo="mend")) == "wrong  no\n       -> mend"
