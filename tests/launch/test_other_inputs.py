"""A stage whose folder was made from other inputs: one job sets it aside and makes it anew."""

import pytest

from launch.running.claims import attempts, claim
from launch.running.elements import read_element
from launch.running.execution import Execution
from launch.running.guard import RefusedError
from launch.running.ranks import Launch
from launch.running.stopping import StopFlag
from tests.launch.conftest import planned
from tests.launch.slurm_batches import allocation, make_batch
from vssl.artifacts import read_json, write_json
from vssl.run import read_journal

FIRST = planned("first", seed=1)


def outdated(store, stage):
    """A folder of this stage that was made from other inputs."""
    folder = store.prepare_folder(stage.folder, "probe")
    write_json(folder.inputs, {"inputs": {"before": [{"id": "x", "digest": "0" * 64}]}})
    return folder


def test_what_was_made_from_other_inputs_is_set_aside(store, make_job):
    folder = outdated(store, FIRST)
    (folder.checkpoints / "state.json").write_text('{"step": 3, "value": "of the old inputs", "journal": 0}')
    job = make_job(FIRST)
    code, out = job.run()
    assert code == 0
    assert f"the old folder is now {FIRST.folder}~1" in out
    assert read_json(job.folder().done)["generation"] == 2
    assert len(read_journal(job.folder().journal)) == 3, "not gone on from the old checkpoint"


def test_it_is_not_set_aside_while_it_runs(store, make_job):
    folder = outdated(store, FIRST)
    claim(folder, "another", {})
    job = make_job(FIRST)
    code, out = job.run()
    assert code == 75
    assert "is running elsewhere" in out
    assert [path.name for path in folder.root.parent.iterdir()] == [FIRST.folder]


def test_of_two_that_would_set_it_aside_one_does(store, monkeypatch):
    """The other one was as far, and comes a moment later: what it would rename is the new folder."""
    outdated(store, FIRST)
    element = read_element(make_batch(store, [FIRST]), 1)[0]
    raced = []

    def slower(self, name, number):
        if not raced:
            raced.append(number)
            other = Launch(nonce="13_1.0", slurm=allocation())
            assert Execution(element=element, store=store, launch=other, stop=StopFlag()).run().code == 0
        return set_aside(self, name, number)

    set_aside = type(store).set_aside
    monkeypatch.setattr(type(store), "set_aside", slower)
    mine = Execution(element=element, store=store, launch=Launch(nonce="12_1.0", slurm=allocation()), stop=StopFlag())
    assert mine.run().code == 0
    assert sorted(path.name for path in store.stage("").root.iterdir()) == [FIRST.folder, f"{FIRST.folder}~1"]
    assert len(attempts(store.stage(FIRST.folder))) == 1, "it found the stage done"


def test_a_queue_on_this_machine_is_still_refused(store):
    outdated(store, FIRST)
    element = read_element(make_batch(store, [FIRST]), 1)[0]
    with pytest.raises(RefusedError, match="submit again"):
        Execution(element=element, store=store, launch=Launch(nonce="n"), stop=StopFlag()).run()
