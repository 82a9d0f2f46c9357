"""Two sequences laid over one another: by dynamic time warping, or frame by frame to whatever is nearest."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Embeddings = NDArray[np.floating]  # (T, D)


def dtw(cost: NDArray[np.floating]) -> tuple[float, NDArray[np.float64], NDArray[np.int64]]:
    """The cheapest way through a matrix of costs from its first to its last cell, by steps right, down or both.

    Args:
        cost: (N, M).

    Returns:
        The way's cost, (N, M) costs of the cheapest ways to each cell, and (K, 2) the cells of the way. Of ways that
        cost the same, it is the one that comes to each cell diagonally if it can, else from the row above.

    Source: Sakoe and Chiba 1978; ties as in CARL's public code.
    """
    rows, columns = cost.shape
    if rows == 0 or columns == 0:
        raise ValueError(f"cost is {cost.shape}; there is no way through an empty matrix")
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for i in range(rows):
        above, here = total[i].tolist(), [np.inf]
        for j, price in enumerate(cost[i].tolist()):
            here.append(price + min(above[j], above[j + 1], here[j]))
        total[i + 1] = here
    i, j = rows, columns
    cells = [(i, j)]
    while (i, j) != (1, 1):
        before = ((i - 1, j - 1), (i - 1, j), (i, j - 1))
        i, j = min(before, key=lambda cell: total[cell])  # the first of equals
        cells.append((i, j))
    return float(total[-1, -1]), total[1:, 1:], np.array(cells[::-1], dtype=np.int64) - 1


def align(query: Embeddings, key: Embeddings, *, warp: bool = True) -> NDArray[np.int64]:
    """(N,) for each frame of one sequence a frame of another, by squared Euclidean distance.

    Args:
        query: (N, D).
        key: (M, D).
        warp: in the order of time, by `dtw` (the first cell of the way in each row); else whatever is nearest.
    """
    cost = cdist(query, key, "sqeuclidean")
    if not warp:
        nearest: NDArray[np.int64] = cost.argmin(axis=1)
        return nearest
    _, _, path = dtw(cost)
    first = np.searchsorted(path[:, 0], np.arange(len(query)))
    found: NDArray[np.int64] = path[first, 1]
    return found
