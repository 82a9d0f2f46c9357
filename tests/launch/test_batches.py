from dataclasses import replace

import pytest

from launch.batches import create_batch, in_flight, mark_ended, mark_void, open_batches, read_batch, record_job
from launch.running.elements import create_batch as create_local_batch
from launch.running.elements import element, read_element
from launch.slurm.scheduler import QueuedElement
from vssl.artifacts import read_json, write_json


def entry(batch, index, job="12", **changes):
    """What squeue says of one element of a batch."""
    plain = QueuedElement(
        job=f"{job}_{index}",
        array=job,
        index=index,
        name=f"vssl-{batch.name}",
        state="PENDING",
        reason="Priority",
        start_s=None,
        end_s=None,
        restarts=0,
        nodes="",
        partition="cpu",
        dependency="",
    )
    return replace(plain, **changes)


@pytest.fixture
def elements(chain):
    return {3: element(chain["first"], chain, "p"), 7: element(chain["second"], chain, "p")}


@pytest.fixture
def batch(store, elements):
    return create_batch(store, elements, {"ranks": 1, "dependency": ""})


def test_a_batch_is_an_intent_until_sbatch_has_answered(store, batch, elements, chain):
    (found,) = open_batches(store)
    assert (found.folder, found.id, found.name) == (batch, batch.name, f"vssl-{batch.name}")
    assert found.slurm["name"] == found.name
    assert (found.job_id, found.released, found.void, found.ended) == (None, False, False, False)
    assert found.stage(7) == chain["second"].folder
    assert read_element(batch, 3) == (elements[3], store)
    record_job(batch, "12")
    assert (read_batch(batch).job_id, read_batch(batch).released) == ("12", False)
    at_ms = read_json(batch / "job.json")["at_ms"]
    record_job(batch, "12", released=True)
    assert read_batch(batch).released
    assert read_json(batch / "job.json")["at_ms"] == at_ms, "it says when Slurm took the batch"


def test_batches_that_are_over_and_those_of_other_executors_are_passed_over(store, elements, batch):
    ended, void = (create_batch(store, elements, {}) for _ in range(2))
    create_local_batch(store, "local", elements.values())
    (store.batches / "begun").mkdir()
    mark_ended(ended)
    mark_void(void, "was never released")
    assert [one.folder for one in open_batches(store)] == [batch]
    assert read_batch(void).void
    assert read_batch(ended).ended


def test_a_store_without_batches(store):
    assert open_batches(store) == []
    assert in_flight(store, []) == {}


def test_the_queue_is_joined_by_name(store, batch, chain):
    queue = [entry(batch, 3, state="RUNNING"), entry(batch, 7, reason="Dependency"), entry(batch, 8)]
    queue += [replace(entry(batch, 3, job="99"), name=name) for name in ("vssl-of-another-store", "vssl-../../x")]
    found = in_flight(store, queue)
    assert set(found) == {chain["first"].folder, chain["second"].folder}
    second = found[chain["second"].folder]
    assert (second.place, second.batch.folder, second.entry.reason) == (("12", 7), batch, "Dependency")


def test_what_was_given_up_is_not_in_flight(store, batch):
    mark_void(batch, "was never released")
    assert in_flight(store, [entry(batch, 3)]) == {}


@pytest.mark.parametrize(
    ("state", "restarts", "decision", "counts"),
    [
        ("RUNNING", 1, "end", False),
        ("COMPLETING", 1, "end", False),
        ("COMPLETING", 1, "requeue", True),
        ("COMPLETING", 2, "end", True),
        ("PENDING", 1, "end", True),
    ],
)
def test_an_element_with_a_last_word_is_over(store, batch, state, restarts, decision, counts):
    write_json(batch / "settled" / "3.1.json", {"decision": decision})
    assert bool(in_flight(store, [entry(batch, 3, state=state, restarts=restarts)])) == counts


def test_of_two_elements_of_one_stage_the_one_that_may_start_counts_then_the_newer(store, batch, elements, chain):
    again = create_batch(store, elements, {})
    stuck = entry(batch, 7, reason="DependencyNeverSatisfied")
    newer, newest = entry(again, 7, job="13"), entry(batch, 7, job="100")
    for queue, counted in (([stuck, newer], newer), ([newer, stuck], newer), ([newest, newer], newest)):
        assert in_flight(store, queue)[chain["second"].folder].entry == counted
