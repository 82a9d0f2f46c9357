from dataclasses import replace

import pytest

from launch.job import Launch, run_element
from launch.provenance import code_digest, versions
from launch.running.elements import element
from launch.running.guard import RefusedError
from launch.running.half_trained import begun_under, check_half_trained
from launch.store import Store
from vssl.config import ConfigError


@pytest.fixture
def other_code(monkeypatch):
    """Both packages as if somebody had edited them and upgraded torch."""

    def edit():
        for module in ("launch.running.execution", "launch.running.half_trained", "launch.running.completion"):
            monkeypatch.setattr(f"{module}.code_digest", lambda: "0" * 64)
        upgraded = {**versions(), "torch": "99.0"}
        for module in ("launch.running.execution", "launch.running.half_trained", "launch.running.completion"):
            monkeypatch.setattr(f"{module}.versions", lambda: upgraded)

    return edit


def test_what_other_code_began_is_named(chain, run_stage, store, other_code):
    folder = store.stage(chain["first"].folder)
    assert begun_under(folder) == ""
    assert run_stage(chain, "first", fail_at=0) == 1  # fails before its first save
    other_code()
    assert begun_under(folder) == ""
    assert run_stage(chain, "first", fail_at=2) == 1
    assert begun_under(folder) == f"other code, torch {versions()['torch']} -> 99.0"


def test_a_strict_submission_is_refused_before_anything_is_queued(chain, run_stage, store, other_code):
    strict = replace(store, strict=True)
    assert run_stage(chain, "first", fail_at=1) == 1
    check_half_trained(chain, {"first", "second"}, strict)
    other_code()
    with pytest.raises(ConfigError, match=r"first is half done, under other code, torch .* redo it by force=first"):
        check_half_trained(chain, {"first", "second"}, strict)
    check_half_trained(chain, {"second"}, strict)
    assert run_stage(chain, "first") == 0  # the store of a line that is not strict
    check_half_trained(chain, {"first", "second"}, strict)


def test_a_job_of_a_strict_store_refuses_too(chain, run_stage, store, other_code):
    strict = Store.from_mapping(replace(store, strict=True).to_mapping())
    assert strict.strict
    assert run_stage(chain, "first", fail_at=1) == 1
    record = element(chain["first"], chain, "pipeline")
    other_code()
    with pytest.raises(RefusedError, match=r"store\.strict=true goes on under equal code and packages alone"):
        run_element(record, strict, Launch(nonce="again"), batch="batch")
    assert code_digest() != "0" * 64  # the real one, which the first attempt recorded
    assert run_element(record, store, Launch(nonce="again"), batch="batch") == 0
