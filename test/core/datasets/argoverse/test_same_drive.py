"""The same drive as a nuScenes folder and as Argoverse 2 logs: the same pictures, geometry, truth and score."""

from pathlib import Path

import numpy as np
import pytest
import shapely

from hdmap_core.datasets.opening import open_dataset
from hdmap_core.datasets.protocol import MapDataset, scenes_of_split
from hdmap_core.elements import MapElement
from hdmap_core.inference import load_predictor
from hdmap_core.metrics.chamfer_ap import chamfer_ap

Pairs = list[tuple[str, str]]


@pytest.fixture(scope="module")
def both(sensor_world: Path, argoverse_world: Path) -> tuple[MapDataset, MapDataset]:
    return open_dataset(sensor_world), open_dataset(argoverse_world)


@pytest.fixture(scope="module")
def pairs(both: tuple[MapDataset, MapDataset]) -> Pairs:
    """Tokens of the same instants."""
    nuscenes, logs = both
    by_stamp = {int(token.rpartition("_")[2]): token for token in logs.tokens}
    return [(token, by_stamp[nuscenes.observation(token, images=False).stamp_ns]) for token in nuscenes.tokens]


def assert_same(wanted: list[MapElement], found: list[MapElement]) -> None:
    """Each has its like, to a micrometre beside what float32 makes of 30 m."""
    assert [element.label for element in wanted] == [element.label for element in found]
    for element in wanted:
        like = [e for e in found if (e.label, e.closed) == (element.label, element.closed)]
        line = shapely.LineString(element.points)
        assert min(line.hausdorff_distance(shapely.LineString(e.points)) for e in like) < 1e-6 + 2e-6


def test_keyframes_and_splits(both: tuple[MapDataset, MapDataset], pairs: Pairs) -> None:
    nuscenes, logs = both
    assert len(pairs) == len(logs.tokens) == 4
    for split in ("train", "val"):
        assert [len(s.sample_tokens) for s in scenes_of_split(logs, split)] == [2]
    assert [logs.scene_of(theirs).name == logs.scene_of(pairs[0][1]).name for _, theirs in pairs] == [
        nuscenes.scene_of(ours).name == nuscenes.scene_of(pairs[0][0]).name for ours, _ in pairs
    ]


def test_what_the_sensors_saw(both: tuple[MapDataset, MapDataset], pairs: Pairs) -> None:
    nuscenes, logs = both
    for ours, theirs in pairs:
        one, other = nuscenes.observation(ours, sweeps=2), logs.observation(theirs)
        at = [other.rig.names.index(name) for name in one.rig.names]
        for image, number in zip(one.images, at, strict=True):
            np.testing.assert_array_equal(image, other.images[number])
        assert one.camera_stamps_ns == tuple(other.camera_stamps_ns[number] for number in at)
        np.testing.assert_array_equal(one.rig.intrinsics, other.rig.intrinsics[at])
        np.testing.assert_allclose(one.rig.ego_from_camera, other.rig.ego_from_camera[at], atol=1e-6)
        np.testing.assert_allclose(one.map_from_ego, other.map_from_ego, atol=1e-9)
        newest = one.points[one.point_age_s == 0]
        np.testing.assert_allclose(newest[:, :3], other.points[:, :3], atol=1e-5)
        np.testing.assert_allclose(newest[:, 3:], other.points[:, 3:], atol=0.5)
        assert one.sd_lines is not None and other.sd_lines is not None
        for road, same in zip(one.sd_lines, other.sd_lines, strict=True):
            np.testing.assert_array_equal(road, same)


@pytest.mark.parametrize("crossings", ["outlines", "edges"])
def test_truth(both: tuple[MapDataset, MapDataset], pairs: Pairs, crossings: str) -> None:
    nuscenes, logs = both
    seen = set()
    for ours, theirs in pairs:
        wanted = nuscenes.elements(ours, crossings=crossings)
        assert_same(wanted, logs.elements(theirs, crossings=crossings))
        seen |= {element.label.value for element in wanted}
    assert seen == {"divider", "ped_crossing", "boundary"}


def test_truth_of_a_moved_frame_and_areas(both: tuple[MapDataset, MapDataset], pairs: Pairs) -> None:
    nuscenes, logs = both
    (ours, theirs), shift = pairs[0], np.eye(4)
    shift[:2, 3] = 7.0, -3.0
    for moved in (None, shift):
        wanted, found = (d.areas(t, ego_from_moved=moved) for d, t in ((nuscenes, ours), (logs, theirs)))
        for layer, area in wanted.items():
            assert area.symmetric_difference(found[layer]).area < 1e-4
        one, other = (d.elements(t, ego_from_moved=moved) for d, t in ((nuscenes, ours), (logs, theirs)))
        assert_same(one, other)


def test_the_same_score_of_the_same_prediction(both: tuple[MapDataset, MapDataset], pairs: Pairs) -> None:
    nuscenes, logs = both
    rng = np.random.default_rng(0)
    truth = {ours: nuscenes.elements(ours) for ours, _ in pairs}
    shaken = {
        token: [
            MapElement(e.label, e.points + rng.normal(0, 0.5, 2).astype(np.float32), e.closed, float(rng.random()))
            for e in elements
        ]
        for token, elements in truth.items()
    }
    theirs = {ours: logs.elements(token) for ours, token in pairs}
    one, other = chamfer_ap(shaken, truth), chamfer_ap(shaken, theirs)
    assert 0.0 < one.mean_ap < 1.0
    assert one.mean_ap == pytest.approx(other.mean_ap, abs=1e-6)


def test_the_same_prediction_of_the_same_frame(both: tuple[MapDataset, MapDataset], pairs: Pairs) -> None:
    nuscenes, logs = both
    predictor = load_predictor(device="cpu")
    for ours, theirs in pairs[:2]:
        one, other = (
            predictor.predict(nuscenes.observation(ours)).elements,
            predictor.predict(logs.observation(theirs)).elements,
        )
        assert [e.label for e in one] == [e.label for e in other]
        for element, same in zip(one, other, strict=True):
            np.testing.assert_allclose(element.points, same.points, atol=1e-3)


def test_a_count_of_sweeps_that_is_none(both: tuple[MapDataset, MapDataset]) -> None:
    for dataset in both:
        with pytest.raises(ValueError, match="sweeps must be at least 1, got 0"):
            dataset.observation(dataset.tokens[0], images=False, sweeps=0)
