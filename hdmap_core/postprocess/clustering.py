"""Which cells of a mask belong to one line: embeddings -> instances.

HDMapNet (section III-D) standardises the embeddings of a class and groups them with DBSCAN, whose time grows with the
square of the number of cells. Cells of a line are neighbours in the plane as well, so here they are linked with those
that are near in both, in linear time; parts of a line that lie apart, as behind a truck, are put together by their mean
embeddings. Where clusters are what DBSCAN takes them for, dense and apart, the groups are the same.
"""

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

# Half of the neighbours up to two cells away; the others are theirs in the opposite direction. With only the nearest
# eight, noise that DBSCAN bears would tear a line.
_NEAREST = [(0, 1), (1, 0)]
_OTHERS = [(0, 2), *((row, column) for row in (1, 2) for column in range(-2, 3) if (row, column) != (1, 0))]


def cluster_embeddings(
    mask: np.ndarray, embedding: np.ndarray, *, eps: float, min_samples: int, min_std: float
) -> np.ndarray:
    """Numbers the instances of one class.

    Args:
        mask: (Y, X) bool, the cells of the class.
        embedding: (E, Y, X) float32; what is not finite counts as 0.
        eps: largest distance between standardised embeddings of neighbouring cells, and between the means of two parts,
            of one instance.
        min_samples: parts of fewer cells join the nearest larger part within `eps` or are noise.
        min_std: standard deviations that embeddings are divided by are at least this.

    Returns:
        (Y, X) int32: 0 for none, then 1 ... N in the order of each instance's first cell.
    """
    result = np.zeros(mask.shape, np.int32)
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return result
    values = standardised(np.nan_to_num(embedding[:, rows, columns].T, posinf=0, neginf=0), min_std)
    part = _linked_neighbours(rows, columns, values, eps)
    sizes = np.bincount(part)
    means = coo_matrix((1 / sizes[part], (part, np.arange(len(part))))) @ values
    large = np.flatnonzero(sizes >= min_samples)
    if not len(large):
        return result
    instance = np.full(len(sizes), -1)
    instance[large] = connected_components(coo_matrix(cdist(means[large], means[large]) < eps), directed=False)[1]
    small = np.flatnonzero(sizes < min_samples)
    distance, nearest = cKDTree(means[large]).query(means[small], distance_upper_bound=eps)
    instance[small[np.isfinite(distance)]] = instance[large[nearest[np.isfinite(distance)]]]
    result[rows, columns] = _in_order(instance[part])
    return result


def standardised(values: np.ndarray, min_std: float = 0.0) -> np.ndarray:
    """(N, E) with mean 0 and standard deviation 1 in each column, less where it was below `min_std`."""
    centred = values - values.mean(axis=0)
    deviation = np.maximum(np.sqrt(np.einsum("ne,ne->e", centred, centred) / len(values)), min_std)
    return centred / np.where(deviation > 0, deviation, 1)


def _linked_neighbours(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, eps: float) -> np.ndarray:
    """(N,) which connected part each cell is in: linked are neighbours whose values (N, E) are near.

    Parts that the nearest neighbours make are single nodes of the next round, where few pairs are left to compare.
    """
    margin = 2
    width = int(columns.max()) + 1 + 2 * margin
    place = rows * width + columns + margin
    index = np.full((int(rows.max()) + 1 + margin) * width, -1, np.int32)
    index[place] = np.arange(len(rows), dtype=np.int32)
    part = np.arange(len(rows), dtype=np.int32)
    for neighbours in (_NEAREST, _OTHERS):
        links = []
        for row, column in neighbours:
            b = index[place + (row * width + column)]
            a = np.flatnonzero((b >= 0) & (part != part[b]))
            b = b[a]
            difference = values[a] - values[b]
            near = np.einsum("ne,ne->n", difference, difference) < eps**2
            links.append(part[np.stack([a[near], b[near]])])
        a, b = np.concatenate(links, axis=1)
        graph = coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(part.max() + 1,) * 2)
        part = connected_components(graph, directed=False)[1][part]
    return part


def _in_order(instance: np.ndarray) -> np.ndarray:
    """(N,) numbers, -1 for none -> 1 ... in the order of first occurrence, 0 for none."""
    known, first = np.unique(instance, return_index=True)
    known, first = known[known >= 0], first[known >= 0]
    number = np.zeros(instance.max(initial=-1) + 2, np.int32)
    number[known[np.argsort(first)]] = np.arange(1, len(known) + 1)
    return number[instance]  # -1 reads the last entry, which stays 0
