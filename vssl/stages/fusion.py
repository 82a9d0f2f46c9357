"""Late fusion of an RGB and a flow network: of their features in retrieval, or of their predictions."""

from vssl.artifacts import Inputs, one
from vssl.evals.metrics import chance_recall_at_1, chance_top1, recall_at, top_k
from vssl.evals.protocols import fused_probabilities, fused_similarity
from vssl.run import Run, StageError
from vssl.stages.fusion_config import FusionConfig
from vssl.stages.report import write_metrics
from vssl.stages.tables import read_table, write_neighbours, write_probabilities


def run(config: FusionConfig, inputs: Inputs, run: Run) -> dict[str, float]:
    """Join the two streams by video name and score them together.

    Makes `predictions`: the fused probabilities of every video, or every query's nearest gallery videos.

    Returns:
        Of features: `recall_at_<k>` and `chance_recall_at_1`. Of predictions: `top1`, `top5`, `chance_top1`. And
        `videos`, the number of test videos that both streams have.

    Raises:
        StageError: one side is features and the other predictions, or they share no video.
    """
    rgb, flow = one(inputs, "rgb"), one(inputs, "flow")
    if rgb is None or flow is None:
        raise StageError("fusion needs both roles: rgb and flow; bind features or predictions to each")
    if rgb.type != flow.type:
        raise StageError(f"rgb is {rgb.type} and flow is {flow.type}; bind features to both roles, or predictions")
    try:
        if rgb.type == "features":
            query, gallery = (
                (read_table(rgb.path, name, vectors="feature"), read_table(flow.path, name, vectors="feature"))
                for name in ("query", "gallery")
            )
            similarity, queries, found = fused_similarity(query, gallery)
            metrics = recall_at(similarity, queries.labels, found.labels, config.ks)
            metrics["chance_recall_at_1"] = chance_recall_at_1(queries.labels, found.labels)
            write_neighbours(run, "predictions", queries, found, similarity)
        else:
            first, second = (read_table(a.path, "predictions", vectors="probabilities") for a in (rgb, flow))
            queries = fused_probabilities(first, second)
            scores, labels = queries.vectors, queries.labels
            metrics = {"top1": top_k(scores, labels, 1), "top5": top_k(scores, labels, 5)}
            metrics["chance_top1"] = chance_top1(labels)
            write_probabilities(run, "predictions", queries)
    except ValueError as error:
        raise StageError(f"{rgb.origin} and {flow.origin} cannot be fused: {error}") from None
    metrics["videos"] = float(len(queries.names))
    write_metrics(run, metrics)
    return metrics
