"""Nearest-neighbour retrieval: each test video queries the training videos by cosine similarity."""

from dataclasses import replace

import torch
from torch import Tensor

from vssl.artifacts import Inputs
from vssl.data.views.drawn import ViewMaker
from vssl.data.views.view_makers import view_for_testing
from vssl.device import prepared
from vssl.distributed import is_main
from vssl.evals.features import unit
from vssl.evals.metrics import chance_recall_at_1, recall_at
from vssl.evals.protocols import Described, cosine_similarity, dissimilarity, plain_cosine_similarity
from vssl.run import Run
from vssl.stages.per_video import describe
from vssl.stages.report import write_metrics
from vssl.stages.retrieval_config import RetrievalConfig
from vssl.stages.retrieval_pictures import draw_feature_space, draw_neighbours
from vssl.stages.sources import clips, frozen_backbone
from vssl.stages.tables import write_neighbours, write_table


def run(config: RetrievalConfig, inputs: Inputs, run: Run) -> dict[str, float]:
    """Recall of the frozen backbone's pooled features, averaged over a video's windows.

    Makes `features`: tables `gallery` and `query` of the averages, not yet centred, and `neighbours` of each query; and
    `plots` of the feature space and of some queries with what they find.

    Returns:
        `recall_at_<k>`, `chance_recall_at_1`, `gallery_videos`, `query_videos`; and of the queries, the mean of
        1 - cosine between videos and between the windows of one: `dissimilarity_of_videos`, `_of_windows`.
    """
    with prepared(config.runtime) as device:
        backbone = frozen_backbone(config, inputs, run, device)

        def per_window(windows: Tensor) -> Tensor:
            pooled = backbone(windows).float().mean(dim=(2, 3, 4))
            return torch.cat([pooled, unit(pooled)], dim=1)  # (n, 2F)

        datasets, described, windows = {}, {}, {}
        for name, split in (("gallery", config.data.train_split), ("query", config.data.test_split)):
            view = (
                _gallery_view(config)
                if name == "gallery"
                else view_for_testing(config.test_view, config.data.crop_size)
            )
            datasets[name] = clips(config.data, split, inputs, seed=config.seed, view=view)
            both = describe(
                datasets[name], per_window, run, runtime=config.runtime, batch_size=config.batch_size, device=device
            )
            raw, windows[name] = both.vectors.chunk(2, dim=1)
            vectors = raw if config.features == "raw" else windows[name]
            described[name] = Described(names=both.names, labels=both.labels, vectors=vectors.contiguous())
            if is_main():
                write_table(run, "features", name, described[name], vectors="feature")
    gallery, query = described["gallery"], described["query"]
    compare = plain_cosine_similarity if config.features == "raw" else cosine_similarity
    similarity = compare(query.vectors, gallery.vectors)
    if is_main():
        write_neighbours(run, "features", query, gallery, similarity)
        draw_feature_space(run, gallery, query, datasets["gallery"].classes, seed=config.seed)
        draw_neighbours(run, datasets["gallery"], datasets["query"], similarity)
    metrics = recall_at(similarity, query.labels, gallery.labels, config.ks)
    metrics["chance_recall_at_1"] = chance_recall_at_1(query.labels, gallery.labels)
    metrics |= {"gallery_videos": float(len(gallery.names)), "query_videos": float(len(query.names))}
    metrics["dissimilarity_of_videos"] = dissimilarity(unit(query.vectors).mean(dim=0)).item()
    metrics["dissimilarity_of_windows"] = dissimilarity(windows["query"]).mean().item()
    write_metrics(run, metrics)
    return metrics


def _gallery_view(config: RetrievalConfig) -> ViewMaker:
    view = config.test_view
    if config.gallery == "centre-clip":
        view = replace(view, num_clips=1, num_crops=1)
    return view_for_testing(view, config.data.crop_size, one_clip=config.gallery == "one-clip")
