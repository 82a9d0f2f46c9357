"""Mean and standard deviation over lanes, as over seeds. Torch-free."""

import statistics

from vssl.artifacts import Inputs, read_json, write_json
from vssl.run import Run, StageError
from vssl.stages.summary_config import SummaryConfig


def run(config: SummaryConfig, inputs: Inputs, run: Run) -> dict[str, float]:
    """Summarise the metrics files of the collected stages.

    Returns:
        `<metric>_mean` and `<metric>_std` (sample standard deviation, 0 for one lane) of every metric, and `lanes`.

    Raises:
        StageError: the collected stages do not report the same metrics.
    """
    collected = inputs["metrics"]
    tables = [read_json(artifact.path) for artifact in collected]
    for artifact, table in zip(collected, tables):
        if set(table) != set(tables[0]):
            difference = ", ".join(sorted(set(table) ^ set(tables[0])))
            raise StageError(
                f"{artifact.origin} and {collected[0].origin} report different metrics ({difference}); "
                "collect stages of one kind"
            )
    summary = {"lanes": float(len(tables))}
    for name in sorted(tables[0]):
        values = [float(table[name]) for table in tables]
        summary[f"{name}_mean"] = statistics.fmean(values)
        summary[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else 0.0
    run.check_ownership()
    write_json(run.artifact("metrics"), summary)
    return summary
