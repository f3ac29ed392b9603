"""Embeddings -> instances: the same partition as DBSCAN where clusters are dense and apart."""

from types import ModuleType

import numpy as np
import pytest

from hdmap_core.geometry import BEVGrid
from hdmap_core.postprocess.clustering import cluster_embeddings, standardised

GRID = BEVGrid(resolution=0.15)
SMALL = BEVGrid((-15, 15), (-7.5, 7.5), 0.15)


def cluster(mask: np.ndarray, embedding: np.ndarray, **changes: float) -> np.ndarray:
    settings = {"eps": 1.5, "min_samples": 50, "min_std": 0.5} | changes
    return cluster_embeddings(mask, embedding, **settings)


def two_bars(gap: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """(40, 100) mask of two bars, 5 x 80 cells, and embeddings (4, 40, 100) that tell them apart."""
    mask = np.zeros((40, 100), bool)
    mask[5:10, 10:90] = mask[10 + gap : 15 + gap, 10:90] = True
    embedding = np.random.default_rng(0).normal(0, 0.1, (4, 40, 100)).astype(np.float32)
    embedding[:, 10:] += 2.0
    return mask, embedding


def random_lines(seed: int, num: int) -> list[tuple[int, np.ndarray]]:
    random = np.random.default_rng(seed)
    x = np.linspace(-14, 14, 30)
    return [
        (1, np.stack([x, np.clip(y + random.normal(0, 0.03) * x, -7, 7)], axis=1))
        for y in np.linspace(-6, 6, num) + random.uniform(-0.5, 0.5, num)
    ]


@pytest.mark.parametrize("min_std", [0.0, 0.5])
@pytest.mark.parametrize(("seed", "num", "noise"), [(0, 3, 0.05), (1, 4, 0.1), (2, 5, 0.1), (3, 6, 0.15), (4, 5, 0.2)])
def test_partition_is_that_of_dbscan(published: ModuleType, seed: int, num: int, noise: float, min_std: float) -> None:
    rasters = published.clean_rasters(random_lines(seed, num), SMALL, seed, noise)
    mask = rasters.semantic.argmax(axis=0) == 1
    ours = cluster(mask, rasters.embedding, min_std=min_std)
    theirs = published.published_clusters(mask, rasters.embedding, published.scikit_dbscan)
    assert ours.max() == num
    assert_same_partition(ours, theirs)
    assert_same_partition(ours, rasters.instance * mask)


def test_textbook_dbscan_is_scikits(published: ModuleType) -> None:
    values = np.random.default_rng(0).normal(0, 0.4, (600, 3)) + np.arange(600)[:, None] % 4
    from sklearn.cluster import DBSCAN

    ours, fitted = published.textbook_dbscan(values, 0.3, 8), DBSCAN(eps=0.3, min_samples=8).fit(values)
    theirs, core = fitted.labels_, fitted.core_sample_indices_
    np.testing.assert_array_equal(ours == -1, theirs == -1)
    assert len(core) > 100 and len(core) < 600
    assert_same_partition(ours[core], theirs[core])


def test_touching_lines_are_told_apart_by_their_embeddings() -> None:
    mask, embedding = two_bars(gap=0)
    labels = cluster(mask, embedding)
    assert set(labels[5:10, 10:90].ravel()) == {1}
    assert set(labels[10:15, 10:90].ravel()) == {2}
    assert not labels[~mask].any()


def test_a_line_behind_a_truck_is_one() -> None:
    mask, embedding = two_bars()
    mask[5:10, 40:60] = False
    labels = cluster(mask, embedding)
    assert labels.max() == 2
    assert set(labels[5:10, 10:40].ravel()) == set(labels[5:10, 60:90].ravel()) == {1}


def test_small_parts_join_what_they_are_like_or_are_noise() -> None:
    mask, embedding = two_bars()
    embedding[:, 6, 30] += 2.0  # like the other bar
    embedding[:, 7, 40] = -30.0  # like nothing
    labels = cluster(mask, embedding)
    assert labels[6, 30] == labels[16, 30]
    assert labels[7, 40] == 0
    assert not cluster(mask, embedding, min_samples=1000).any()


def test_one_line_with_noisy_embeddings_stays_whole(published: ModuleType) -> None:
    mask = np.zeros((40, 100), bool)
    mask[5:10, 10:90] = True
    embedding = np.random.default_rng(0).normal(0, 0.1, (16, 40, 100)).astype(np.float32)
    assert cluster(mask, embedding)[mask].tolist() == [1] * 400
    # As published, standardising makes the noise as large as any difference between lines would be.
    assert not published.published_clusters(mask, embedding, published.scikit_dbscan).any()
    assert not cluster(mask, embedding, min_std=0.0).any()


def test_numbers_follow_the_first_cell_and_repeat() -> None:
    mask, embedding = two_bars()
    first = cluster(mask, embedding)
    assert first[5, 10] == 1 and first[14, 10] == 2
    np.testing.assert_array_equal(first, cluster(mask, embedding))


def test_nothing_and_what_is_not_finite() -> None:
    mask, embedding = two_bars()
    assert not cluster(np.zeros_like(mask), embedding).any()
    for broken in (np.nan, np.inf, -np.inf):
        embedding[:, 5:10] = broken
        assert cluster(mask, embedding).max() == 2


def test_standard_deviation_has_a_floor() -> None:
    values = np.array([[0.0, 0.0, 7.0], [2.0, 0.2, 7.0]])
    np.testing.assert_allclose(standardised(values), [[-1, -1, 0], [1, 1, 0]])
    np.testing.assert_allclose(standardised(values, 0.5), [[-1, -0.2, 0], [1, 0.2, 0]])


def assert_same_partition(a: np.ndarray, b: np.ndarray) -> None:
    pairs = set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    assert len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs})
