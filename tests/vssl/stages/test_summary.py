import json
import statistics

import pytest

from vssl.artifacts import Artifact, StageFolder
from vssl.run import Run, StageError
from vssl.stages.summary import run
from vssl.stages.summary_config import SummaryConfig


@pytest.fixture
def collected(tmp_path):
    def collect(*tables):
        artifacts = []
        for number, table in enumerate(tables):
            path = tmp_path / f"metrics{number}"
            path.write_text(json.dumps(table))
            artifacts.append(Artifact(type="metrics", path=path, digest="", origin=f"linear-{number}"))
        return {"metrics": tuple(artifacts)}

    return collect


def test_mean_and_sample_deviation_of_every_metric(tmp_path, collected):
    values = [0.5, 0.7, 0.6]
    inputs = collected(*({"top1": value, "top5": 1.0} for value in values))
    this = Run(StageFolder(tmp_path / "summary"))
    found = run(SummaryConfig(), inputs, this)
    assert found["top1_mean"] == pytest.approx(0.6)
    assert found["top1_std"] == pytest.approx(statistics.stdev(values))
    assert (found["top5_mean"], found["top5_std"], found["lanes"]) == (1.0, 0.0, 3.0)
    assert json.loads((this.folder.artifacts / "metrics").read_text()) == found


def test_one_lane_has_no_deviation(tmp_path, collected):
    found = run(SummaryConfig(), collected({"top1": 0.5}), Run(StageFolder(tmp_path / "summary")))
    assert (found["top1_mean"], found["top1_std"]) == (0.5, 0.0)


def test_lanes_of_different_kinds_are_refused(tmp_path, collected):
    with pytest.raises(StageError, match=r"linear-1 and linear-0 report different metrics \(recall_at_1, top1\)"):
        run(SummaryConfig(), collected({"top1": 0.5}, {"recall_at_1": 0.5}), Run(StageFolder(tmp_path / "summary")))
