"""Nearest-neighbour retrieval: each test video queries the training videos by cosine similarity."""

from torch import Tensor

from vssl.artifacts import Inputs
from vssl.data.views import TestView
from vssl.device import prepared
from vssl.distributed import is_main
from vssl.evals.features import unit
from vssl.evals.metrics import chance_recall_at_1, recall_at
from vssl.evals.protocols import cosine_similarity
from vssl.run import Run
from vssl.stages.per_video import describe
from vssl.stages.report import write_metrics
from vssl.stages.retrieval_config import RetrievalConfig
from vssl.stages.sources import clips, frozen_backbone
from vssl.stages.tables import write_neighbours, write_table


def run(config: RetrievalConfig, inputs: Inputs, run: Run) -> dict[str, float]:
    """Recall of the frozen backbone's pooled features, unit vectors per window, averaged over a video's windows.

    Makes `features`: tables `gallery` and `query` of the averages, not yet centred, and `neighbours` of each query.

    Returns:
        `recall_at_<k>`, `chance_recall_at_1`, `gallery_videos`, `query_videos`.
    """
    with prepared(config.runtime) as device:
        backbone = frozen_backbone(config, inputs, run, device)

        def per_window(windows: Tensor) -> Tensor:
            return unit(backbone(windows).float().mean(dim=(2, 3, 4)))  # (n, F)

        described = {}
        for name, split in (("gallery", config.data.train_split), ("query", config.data.test_split)):
            one_clip = name == "gallery" and config.gallery == "one-clip"
            view = TestView(config.test_view, config.data.crop_size, one_clip=one_clip)
            dataset = clips(config.data, split, inputs, seed=config.seed, view=view)
            described[name] = describe(
                dataset, per_window, run, runtime=config.runtime, batch_size=config.batch_size, device=device
            )
            if is_main():
                write_table(run, "features", name, described[name], vectors="feature")
    gallery, query = described["gallery"], described["query"]
    similarity = cosine_similarity(query.vectors, gallery.vectors)
    if is_main():
        write_neighbours(run, "features", query, gallery, similarity)
    metrics = recall_at(similarity, query.labels, gallery.labels, config.ks)
    metrics["chance_recall_at_1"] = chance_recall_at_1(query.labels, gallery.labels)
    metrics |= {"gallery_videos": float(len(gallery.names)), "query_videos": float(len(query.names))}
    write_metrics(run, metrics)
    return metrics
