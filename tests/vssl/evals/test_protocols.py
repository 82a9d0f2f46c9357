"""Retrieval and fusion against stored results of the original."""

import pytest
import torch

from tests.goldens import golden_tensors
from vssl.evals.features import mean_over_windows, unit
from vssl.evals.metrics import recall_at
from vssl.evals.protocols import Described, centred, cosine_similarity, fused_probabilities, fused_similarity, join


def test_point_13_retrieval_equals_the_original():
    z = golden_tensors("retrieval")
    ks = z["ks"].tolist()
    for stream in ("rgb", "flow"):
        similarity = cosine_similarity(z[f"test_{stream}"], z[f"train_{stream}"])
        torch.testing.assert_close(similarity, z[f"sim_{stream}"], rtol=1e-4, atol=1e-5)
        found = recall_at(similarity, z["test_label"], z["train_label"], ks)
        assert list(found.values()) == pytest.approx(z[f"acc_{stream}"].tolist(), abs=1e-6)


@pytest.mark.parametrize("extra", [0, 3])
def test_point_13_fusion_joins_by_name_under_permuted_storage_order(extra):
    """The flow features lie in another order, and may hold videos that RGB lacks: names decide, not positions."""
    z = golden_tensors("retrieval")

    def stream(split, name, order, extra=0):
        names = [f"class/{split}_{index}.mp4" for index in order.tolist()]
        names += [f"class/only_{name}_{n}.mp4" for n in range(extra)]
        vectors = torch.cat([z[f"{split}_{name}"][order], torch.full((extra, z[f"{split}_{name}"].shape[1]), 9.0)])
        labels = torch.cat([z[f"{split}_label"][order], torch.zeros(extra, dtype=torch.int64)])
        return Described(names=names, labels=labels, vectors=vectors)

    pairs = {}
    for split in ("test", "train"):
        plain = torch.arange(len(z[f"{split}_label"]))
        pairs[split] = (stream(split, "rgb", plain), stream(split, "flow", z[f"flow_{split}_order"], extra))
    similarity, query, gallery = fused_similarity(pairs["test"], pairs["train"])
    torch.testing.assert_close(similarity, z["sim_two"], rtol=1e-4, atol=1e-5)
    found = recall_at(similarity, query.labels, gallery.labels, z["ks"].tolist())
    assert list(found.values()) == pytest.approx(z["acc_two"].tolist(), abs=1e-6)


def test_centring_uses_the_own_mean_of_each_set():
    features = torch.tensor([[3.0, 0.0], [1.0, 0.0], [2.0, 3.0]])
    assert centred(features).mean(dim=0).abs().max() < 0.5
    torch.testing.assert_close(centred(features + 100), centred(features))
    torch.testing.assert_close(centred(features).norm(dim=1), torch.ones(3))


def test_join_refuses_strangers_contradictions_and_doubles():
    def one(names, labels):
        return Described(names=names, labels=torch.tensor(labels), vectors=torch.zeros(len(names), 2))

    with pytest.raises(ValueError, match="no video in common"):
        join(one(["a"], [0]), one(["b"], [0]))
    with pytest.raises(ValueError, match="two different labels"):
        join(one(["a"], [0]), one(["a"], [1]))
    with pytest.raises(ValueError, match="occurs twice"):
        one(["a", "a"], [0, 0])


def test_fused_probabilities_are_the_mean_over_shared_videos():
    first = Described(names=["a", "b"], labels=torch.tensor([0, 1]), vectors=torch.tensor([[0.8, 0.2], [0.4, 0.6]]))
    second = Described(
        names=["c", "b", "a"],
        labels=torch.tensor([1, 1, 0]),
        vectors=torch.tensor([[0.0, 1.0], [0.2, 0.8], [0.6, 0.4]]),
    )
    fused = fused_probabilities(first, second)
    torch.testing.assert_close(fused.vectors, torch.tensor([[0.7, 0.3], [0.3, 0.7]]))
    assert (fused.names, fused.labels.tolist()) == (["a", "b"], [0, 1])


def test_windows_are_normalised_one_by_one_and_then_averaged_wherever_the_batches_end():
    windows = torch.tensor([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])
    videos = torch.tensor([1, 0, 0])
    for size in (1, 2, 3):
        found = mean_over_windows(unit, list(zip(videos.split(size), windows.split(size))), 2)
        torch.testing.assert_close(found, torch.tensor([[0.5, 0.5], [0.6, 0.8]]))


def test_a_video_never_depends_on_its_neighbours():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv3d(3, 4, 3), torch.nn.BatchNorm3d(4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(32, 5)
    )
    windows, videos = torch.randn(8, 3, 4, 4, 4), torch.tensor([0, 0, 0, 1, 2, 2, 3, 3])
    together = mean_over_windows(network.eval(), [(videos, windows)], 4)
    for index in range(4):
        own = windows[videos == index]
        alone = mean_over_windows(network, [(torch.zeros(len(own), dtype=torch.int64), own)], 1)
        torch.testing.assert_close(alone[0], together[index])


def test_missing_videos_are_named():
    with pytest.raises(ValueError, match=r"missing \[1\], twice \[\]"):
        mean_over_windows(unit, [(torch.tensor([0, 2]), torch.ones(2, 2))], 3)
