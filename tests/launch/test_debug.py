import pytest

from launch.executors.debug import execute
from vssl.config import ConfigError
from vssl.run import read_journal


def test_it_reads_parents_from_the_store_and_writes_only_to_debug(store, chain, run_stage, capsys):
    run_stage(chain, "first")
    before = sorted(path.relative_to(store.root) for path in (store.root / "stages").rglob("*"))
    assert execute(chain, ["second"], store) == 0
    assert sorted(path.relative_to(store.root) for path in (store.root / "stages").rglob("*")) == before
    folder = store.debug(chain["second"].folder)
    assert (folder.artifacts / "state").exists()
    assert not folder.done.exists()
    assert "not recorded as done" in capsys.readouterr().out
    assert "second" not in store.reusable_stages(chain)


def test_exactly_the_selected_stages_run(store, chain, capsys):
    assert execute(chain, ["second"], store) == 78
    assert "never runs them" in capsys.readouterr().err
    assert not store.root.exists()
    assert execute(chain, ["first"], store) == 0
    assert not store.debug(chain["second"].folder).root.exists()
    with pytest.raises(ConfigError, match="did you mean `first`"):
        execute(chain, ["frist"], store)


def test_each_debug_run_starts_anew(store, chain):
    for _ in range(2):
        assert execute(chain, ["first"], store) == 0
        assert [row["step"] for row in read_journal(store.debug(chain["first"].folder).journal)] == [0, 1, 2]


def test_a_breakpoint_in_a_stage_stops_in_this_process(store, chain, monkeypatch):
    """As with pdb: the breakpoint sees the stage's own frames."""
    stops = []

    def hook(*arguments, **options):
        import inspect

        frames = [frame.function for frame in inspect.stack()]
        stops.append(frames[1] == "loss" and "execute" in frames)

    def loss(value):
        breakpoint()  # noqa: T100
        return 0.5

    monkeypatch.setattr("sys.breakpointhook", hook)
    monkeypatch.setattr("vssl.stages.probe._fraction", loss)
    execute(chain, ["first"], store)
    assert stops
    assert all(stops)


def test_exceptions_come_out_as_they_are(store, make_plan, stage):
    with pytest.raises(RuntimeError, match="the probe fails at step 1"):
        execute(make_plan(stage("bad", fail_at=1)), ["bad"], store)
