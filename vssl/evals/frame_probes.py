"""What can be read out of frozen embeddings of frames: their phase, how far it is to each event, their element.

Source: TCC (Dwibedi et al., CVPR 2019) and CARL (Chen et al., CVPR 2022, arXiv:2203.14957), and its public code.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import nn

Embeddings = NDArray[np.floating]  # (T, D)
Labels = NDArray[np.int64]  # (T,)
Videos = tuple[Sequence[Embeddings], Sequence[Labels]]  # of each video, frames that have a label


def first_videos(count: int, fraction: float) -> int:
    """How many videos a fraction of them is: the first so many train, at least one."""
    return max(1, int(fraction * count))


def phase_accuracy(train: Videos, test: Videos, fraction: float) -> tuple[float, float]:
    """Accuracy on frames of train and test of logistic regression: multinomial, C = 1, on embeddings as they are.

    Args:
        train, test: embeddings and labels.
        fraction: of the training videos, the first of them.
    """
    count = first_videos(len(train[0]), fraction)
    x, y = np.concatenate(train[0][:count]), np.concatenate(train[1][:count])
    tests = ((x, y), (np.concatenate(test[0]), np.concatenate(test[1])))
    if len(np.unique(y)) < 2:  # one phase alone: it is all that can be said
        found = [float((labels == y[0]).mean()) for _, labels in tests]
    else:
        model = LogisticRegression(max_iter=100_000).fit(x, y)
        found = [float(model.score(*one)) for one in tests]
    return found[0], found[1]


def progression(labels: Labels, num_phases: int) -> NDArray[np.float64]:
    """(T, num_phases - 1) targets: how many frames after the end of each phase but the last, over all frames.

    Raises:
        ValueError: a phase of the video has no frame.
    """
    missing = sorted(set(range(num_phases - 1)) - set(labels.tolist()))
    if missing:
        raise ValueError(f"no frame of phase {missing[0]} (of {num_phases}): how far it is from its end nobody knows")
    ends = [np.flatnonzero(labels == phase)[-1] for phase in range(num_phases - 1)]
    times = np.arange(len(labels))[:, None]
    targets: NDArray[np.float64] = (times - np.array(ends)[None]) / len(labels)
    return targets


def progression_r2(train: Videos, test: Videos, fraction: float, num_phases: int) -> tuple[float, float]:
    """R squared on train and test of a linear regression of each phase's end, over all frames; the mean over phases.

    Args:
        train, test: embeddings and labels.
        fraction: of the training videos, the first of them.
        num_phases: how many phases every video has, at least two.

    Raises:
        ValueError: as `progression`.
    """
    count = first_videos(len(train[0]), fraction)
    sets = []
    for embeddings, labels in ((train[0][:count], train[1][:count]), test):
        targets = np.concatenate([progression(one, num_phases) for one in labels])
        sets.append((np.concatenate(embeddings), targets))
    model = LinearRegression().fit(*sets[0])
    return float(model.score(*sets[0])), float(model.score(*sets[1]))


def element_accuracy(
    train: Videos,
    test: Videos,
    fraction: float,
    *,
    num_classes: int,
    lr: float,
    epochs: int,
    batch_size: int,
    momentum: float = 0.9,
    weight_decay: float = 1e-6,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[float, float]:
    """Accuracy on frames of train and test of a linear layer trained by SGD: FineGym's probe.

    A step has all labelled frames of so many videos; the rest of an epoch is left out.

    Args:
        train, test: embeddings and labels.
        fraction: of the training videos, the first of them, at least a batch.
        num_classes: K.
        lr: at first; falls along half a cosine, one value an epoch.
        epochs: passes over the training videos.
        batch_size: videos a step.
        momentum, weight_decay: of SGD.
        seed: of the layer's first weights, and of the order of videos.
        device: where to train.
    """
    count = min(len(train[0]), max(batch_size, int(fraction * len(train[0]))))
    x = [torch.from_numpy(np.asarray(one, dtype=np.float32)).to(device) for one in train[0][:count]]
    y = [torch.from_numpy(one).to(device) for one in train[1][:count]]
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Linear(x[0].shape[1], num_classes).to(device)
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    batch_size = min(batch_size, count)
    for _ in range(epochs):
        order = torch.randperm(count, generator=generator).tolist()
        for first in range(0, count - batch_size + 1, batch_size):
            videos = order[first : first + batch_size]
            logits = layer(torch.cat([x[video] for video in videos]))
            optimizer.zero_grad()
            F.cross_entropy(logits, torch.cat([y[video] for video in videos])).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        rates.step()
    with torch.no_grad():

        def hits(embeddings: Sequence[Embeddings], labels: Sequence[Labels]) -> float:
            right = total = 0
            for frames, known in zip(embeddings, labels):
                found = layer(torch.from_numpy(np.asarray(frames, dtype=np.float32)).to(device)).argmax(dim=1)
                right += int((found.cpu().numpy() == known).sum())
                total += len(known)
            return right / total

        return hits(train[0][:count], train[1][:count]), hits(*test)
