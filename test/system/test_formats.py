"""The same synthetic drive as nuScenes folder, frames folder, bag and Argoverse 2 log: the same elements and score.

Not all four at once: keyframes of Argoverse 2 are LiDAR sweeps, a bag's are the sets of images, whose instant is
CAM_FRONT's. So a drive with LiDAR is held against Argoverse 2, and one without, whose keyframes are CAM_FRONT's,
against a bag; the nuScenes folder and the frames folder stand on both sides.

Where formats do not allow the same to 1e-6 m: a bag's poses are 1e-5 m off; a map of Argoverse 2 has other vertices and
another order, so that lines are compared by their distance.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from hdmap_core.datasets.opening import open_dataset
from hdmap_core.datasets.protocol import MapDataset
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.inference import default_weights
from hdmap_core.observation import Observation

Verb = Callable[..., Any]
SCENE = "scene-0103"


@pytest.fixture(scope="module")
def without_lidar(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drive of a car without LiDAR: the instants of its keyframes are CAM_FRONT's, as those of a bag's sets."""
    root = Path(shutil.copytree(tiny_world, tmp_path_factory.mktemp("formats") / "nuscenes"))
    table = root / "v1.0-mini" / "sample_data.json"
    table.write_text(json.dumps([row for row in json.loads(table.read_text()) if "LIDAR_TOP" not in row["filename"]]))
    return root


@pytest.fixture(scope="module")
def drives(without_lidar: Path) -> dict[str, Path]:
    """The drive in each format, written by the verbs."""
    from hdmap_core.datasets.frames.recording import FramesRecorder
    from hdmap_core.datasets.frames.writing import from_nuscenes
    from hdmap_core.datasets.nuscenes import NuScenesDataset
    from hdmap_ros.bag.frames import write_frames_of_bag
    from hdmap_ros.bag.layouts import load_layout
    from hdmap_ros.bag.sources import ReplayConfig
    from hdmap_ros.bag.write import write_bag
    from hdmap_ros.problems import Problems

    place, dataset = without_lidar.parent, NuScenesDataset(without_lidar)
    from_nuscenes(dataset, dataset.scenes, place / "frames")
    write_bag(place / "frames", SCENE, place / "drive.mcap")
    (true_map,) = (place / "frames" / "maps").glob(f"{dataset.scenes[1].location}.geojson")
    recorder = FramesRecorder(place / "from-bag", SCENE, "val", true_map)
    write_frames_of_bag(place / "drive.mcap", recorder, ReplayConfig(load_layout("hdmap")), Problems())
    return {"nuscenes": without_lidar, "frames": place / "frames", "from-bag": place / "from-bag"}


@pytest.fixture(scope="module")
def swept(sensor_world: Path, argoverse_world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A drive with LiDAR in the formats whose keyframes are its sweeps."""
    from hdmap_core.datasets.frames.writing import from_nuscenes
    from hdmap_core.datasets.nuscenes import NuScenesDataset

    dataset, frames = NuScenesDataset(sensor_world), tmp_path_factory.mktemp("swept") / "frames"
    from_nuscenes(dataset, dataset.scenes, frames)
    return {"nuscenes": sensor_world, "frames": frames, "argoverse": argoverse_world}


def by_instant(dataset: MapDataset) -> dict[int, str]:
    """Instant -> token, of all scenes."""
    return {dataset.observation(token, images=False, points=False).stamp_ns: token for token in dataset.tokens}


@pytest.mark.parametrize("other", ["frames", "argoverse"])
def test_a_drive_with_lidar(swept: dict[str, Path], other: str) -> None:
    ours, theirs = open_dataset(swept[other]), open_dataset(swept["nuscenes"])
    mine, instants = by_instant(ours), by_instant(theirs)
    assert sorted(mine) == sorted(instants) and len(mine) == 4
    for stamp_ns, token in instants.items():
        seen, expected = ours.observation(mine[stamp_ns]), theirs.observation(token)
        at = [seen.rig.names.index(name) for name in expected.rig.names]
        for number, image in zip(at, expected.images, strict=True):
            np.testing.assert_array_equal(seen.images[number], image)
        np.testing.assert_allclose(seen.rig.ego_from_camera[at], expected.rig.ego_from_camera, atol=1e-6)
        assert seen.points is not None and expected.points is not None
        newest = expected.points[expected.point_age_s == 0]
        np.testing.assert_allclose(seen.points[seen.point_age_s == 0][:, :3], newest[:, :3], atol=1e-5)
        for crossings in ("outlines", "edges"):
            found, wanted = (
                dataset.elements(each, crossings=crossings)
                for dataset, each in ((ours, mine[stamp_ns]), (theirs, token))
            )
            assert [element.label for element in found] == [element.label for element in wanted] and len(wanted) > 3
            for element in wanted:  # 1e-6 m, and what float32 makes of 30 m
                line, kind = shapely.LineString(element.points), (element.label, element.closed)
                like = [shapely.LineString(e.points) for e in found if (e.label, e.closed) == kind]
                assert min(line.hausdorff_distance(each) for each in like) < 1e-6 + 2e-6


@pytest.mark.parametrize("options", [(), ("--lidar-ground",)], ids=["", "lidar ground"])
def test_the_score_of_a_drive_with_lidar_is_the_same(
    swept: dict[str, Path], hdmap: Verb, options: tuple[str, ...]
) -> None:
    scores = {}
    for name, root in swept.items():
        ended = hdmap("evaluate", default_weights(), root, "--split", "val", "--json", *options)
        assert ended.code == 0, ended.err
        report = json.loads(ended.out)
        scores[name] = [report["mAP"], *(each["AP"] for each in report["classes"].values())]
    np.testing.assert_allclose(scores["frames"], scores["nuscenes"], atol=1e-12)
    # Poses differ by a micrometre, which may be a line more or less: of four keyframes that is worth 0.03.
    np.testing.assert_allclose(scores["argoverse"], scores["nuscenes"], atol=0.03)
    assert scores["nuscenes"][0] > 0.0


def of_scene(dataset: MapDataset) -> dict[int, str]:
    """Instant -> token; tokens differ between formats."""
    tokens = next(scene for scene in dataset.scenes if scene.name == SCENE).sample_tokens
    return {dataset.observation(token, images=False, points=False).stamp_ns: token for token in tokens}


def assert_same_elements(ours: list[MapElement], theirs: list[MapElement], apart_m: float) -> None:
    assert [(one.label, one.closed) for one in ours] == [(other.label, other.closed) for other in theirs]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.points, other.points, atol=apart_m, rtol=0)


def assert_same_observation(ours: Observation, theirs: Observation) -> None:
    names = theirs.rig.names
    assert set(ours.rig.names) == set(names) and ours.stamp_ns == theirs.stamp_ns
    rig = ours.rig.select(names)
    np.testing.assert_allclose(rig.ego_from_camera, theirs.rig.ego_from_camera, atol=1e-9)
    np.testing.assert_allclose(rig.intrinsics, theirs.rig.intrinsics, atol=1e-9)
    images = dict(zip(ours.rig.names, ours.images, strict=True))
    for name, image in zip(names, theirs.images, strict=True):
        np.testing.assert_array_equal(images[name], image)


@pytest.mark.parametrize("other", ["frames", "from-bag"])
def test_observations_and_truth_are_those_of_the_nuscenes_folder(drives: dict[str, Path], other: str) -> None:
    ours, theirs = open_dataset(drives[other]), open_dataset(drives["nuscenes"])
    mine, instants = of_scene(ours), of_scene(theirs)
    assert list(mine) == list(instants) and len(mine) == 3
    for stamp_ns, token in instants.items():
        assert_same_observation(ours.observation(mine[stamp_ns]), theirs.observation(token))
        for crossings in ("outlines", "edges"):
            found, expected = (
                dataset.elements(each, classes=tuple(MapClass), crossings=crossings)
                for dataset, each in ((ours, mine[stamp_ns]), (theirs, token))
            )
            assert len(expected) > 3
            assert_same_elements(found, expected, 1e-5 if other == "from-bag" else 0.0)
        for layer, area in theirs.areas(token).items():
            assert area.symmetric_difference(ours.areas(mine[stamp_ns])[layer]).area < 1e-6


def test_every_sensor_comes_along(tiny_world: Path, tmp_path: Path, hdmap: Verb) -> None:
    ended = hdmap("frames", "from-nuscenes", tiny_world, "-o", tmp_path / "all", "--split", "val", "--link")
    assert ended.code == 0 and "3 frames of 1 scenes" in ended.out, ended.err
    ours, theirs = open_dataset(tmp_path / "all"), open_dataset(tiny_world)
    for token in ours.tokens:
        seen, expected = ours.observation(token), theirs.observation(token)
        np.testing.assert_array_equal(seen.points, expected.points)
        np.testing.assert_array_equal(seen.map_from_ego, expected.map_from_ego)
        assert seen.map_origin == expected.map_origin and seen.camera_stamps_ns == expected.camera_stamps_ns
        assert seen.sd_lines is not None and expected.sd_lines is not None
        for one, other in zip(seen.sd_lines, expected.sd_lines, strict=True):
            np.testing.assert_array_equal(one, other)
    hdmap("frames", "from-nuscenes", tiny_world, "-o", tmp_path / "all").assert_refused("holds frames already")


def test_the_score_is_the_same(drives: dict[str, Path], hdmap: Verb) -> None:
    scores = {}
    for name, root in drives.items():
        ended = hdmap("evaluate", default_weights(), root, "--split", "val", "--json")
        assert ended.code == 0, ended.err
        report = json.loads(ended.out)
        scores[name] = [report["mAP"], *(each["AP"] for each in report["classes"].values())]
    np.testing.assert_allclose(scores["frames"], scores["nuscenes"], atol=1e-12)
    # A bag's poses are quaternions, 1e-5 m off: a ground pixel that turns over may move a line across a threshold, and
    # of the few in three keyframes one is worth 0.02.
    np.testing.assert_allclose(scores["from-bag"], scores["nuscenes"], atol=0.03)
