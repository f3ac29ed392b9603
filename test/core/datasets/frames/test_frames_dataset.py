"""A folder of one's own: what comes out of it is what its file says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from hdmap_core.datasets.frames.dataset import FramesDataset
from hdmap_core.datasets.opening import open_dataset
from hdmap_core.datasets.protocol import scenes_of_split
from hdmap_core.datasets.sensor_check import check_sensors
from hdmap_core.elements import MapClass, MapElement, write_elements
from hdmap_core.errors import DatasetError

Writer = Callable[..., Path]


def by_label(elements: list[MapElement]) -> dict[MapClass, list[MapElement]]:
    return {label: [element for element in elements if element.label is label] for label in MapClass}


@pytest.mark.parametrize("lines", [False, True])
def test_scenes_splits_and_order(tmp_path: Path, frames_content: Any, write_frames_folder: Writer, lines: bool) -> None:
    frames_content["frames"].reverse()
    dataset = open_dataset(write_frames_folder(tmp_path, frames_content, lines))
    assert dataset.version == ("frames.jsonl" if lines else "frames.json") and len(dataset.tokens) == 3
    assert [scene.name for scene in dataset.scenes] == ["tuesday", "monday"]
    assert dataset.scenes[1].sample_tokens == ("m0", "m1"), "in time order, whatever the file's"
    assert dict(dataset.splits) == {"all": ["tuesday", "monday"], "val": ["tuesday"], "train": ["monday"]}
    assert dataset.scene_of("t0").description == "night, rain"
    with pytest.raises(DatasetError, match="no scene of a split 'test'; it has scenes of all, train, val"):
        scenes_of_split(dataset, "test")
    with pytest.raises(DatasetError, match=r"frames\.jsonl? has no frame 'gone'"):
        dataset.observation("gone")


def test_an_observation(frames_root: Path) -> None:
    dataset = FramesDataset(frames_root / "frames.json", road_plane=False)
    seen = dataset.observation("m1")
    assert seen.rig.names == ("front", "left fisheye") and seen.rig.image_sizes == ((24, 32), (30, 30))
    assert [image.shape for image in seen.images if image is not None] == [(24, 32, 3), (30, 30, 3)]
    front, fisheye = seen.rig.lens_of_each
    assert front is not None and front.kind == "polynomial" and fisheye is not None and fisheye.kind == "fisheye"
    np.testing.assert_array_equal(seen.rig.ego_from_camera[0, :3, 3], [1.5, 0.0, 1.6])
    assert seen.camera_stamps_ns == (seen.stamp_ns, seen.stamp_ns - 20_000_000)
    assert seen.points is not None
    np.testing.assert_allclose(seen.points, [[11, 0, 0, 7, 0], [1.5, 0.5, 1.8, 9, 0]], atol=1e-6)
    assert dataset.observation("m0").points is None
    assert seen.sd_lines is not None and len(seen.sd_lines) == 2
    smaller = dataset.observation("m1", at_least=(12, 15))
    assert smaller.rig.image_sizes == ((12, 16), (15, 15))


def test_a_cameras_own_pose_carries_it_to_the_frames_instant(
    tmp_path: Path, frames_content: Any, write_frames_folder: Writer
) -> None:
    late = frames_content["frames"][1]
    late["cameras"][1]["map_from_ego"] = {"translation": [104.8, 200.0, 0.0], "rotation": [1, 0, 0, 0]}
    dataset = FramesDataset(write_frames_folder(tmp_path, frames_content) / "frames.json", road_plane=False)
    rig = dataset.observation("m1", images=False).rig
    np.testing.assert_allclose(rig.ego_from_camera[1, :3, 3], [1.3, 0.0, 1.6], atol=1e-9)
    assert rig.mounted is not None
    np.testing.assert_allclose(rig.mounted[1, :3, 3], [1.5, 0.0, 1.6])


def test_truth_is_cut_from_the_scenes_map(frames_root: Path) -> None:
    dataset = open_dataset(frames_root)
    assert dataset.has_vector_map("m1")
    found = by_label(dataset.elements("m1", classes=tuple(MapClass)))
    np.testing.assert_allclose(found[MapClass.DIVIDER][0].points, [[-30, 0], [30, 0]], atol=1e-6)
    (crossing,) = found[MapClass.PED_CROSSING]
    assert crossing.closed and shapely.Polygon(crossing.points).area == pytest.approx(4 * 20)
    assert sorted({round(float(abs(line.points[0, 1])), 3) for line in found[MapClass.BOUNDARY]}) == [10.0]
    assert len(found[MapClass.BOUNDARY]) == 2
    np.testing.assert_allclose(found[MapClass.CENTERLINE][0].points, [[-30, -5], [30, -5]], atol=1e-6)
    edges = dataset.elements("m1", classes=(MapClass.PED_CROSSING,), crossings="edges")
    assert [element.closed for element in edges] == [False, False]
    assert dataset.areas("m1")["drivable_area"].area == pytest.approx(60 * 20), "the road stands in"
    ahead = np.eye(4)
    ahead[0, 3] = 10.0
    moved = by_label(dataset.elements("m1", ego_from_moved=ahead))[MapClass.PED_CROSSING][0]
    np.testing.assert_allclose(sorted(moved.points[:, 0]), sorted(crossing.points[:, 0] - 10), atol=1e-5)


def test_truth_that_a_frame_brings(frames_root: Path) -> None:
    dataset = open_dataset(frames_root)
    assert dataset.has_vector_map("t0") and dataset.map_from_ego("t0") is None
    (line,) = dataset.elements("t0")
    np.testing.assert_allclose(line.points, [[-30, 1], [30, 1]], atol=1e-6)
    turned = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    (line,) = dataset.elements("t0", ego_from_moved=turned)
    np.testing.assert_allclose(np.abs(line.points), [[1, 15], [1, 15]], atol=1e-6)
    assert dataset.sd_lines("t0") is not None and dataset.observation("t0").map_from_ego is None


def test_truth_in_a_file_of_elements(tmp_path: Path, frames_content: Any, write_frames_folder: Writer) -> None:
    frames_content["scenes"][0] |= {"elements": "gt.jsonl"}
    dataset = open_dataset(write_frames_folder(tmp_path, frames_content))
    crossing = MapElement(MapClass.PED_CROSSING, np.array([[1, 1], [4, 1], [4, 5], [1, 5]]), closed=True)
    write_elements(tmp_path / "gt.jsonl", {"m1": [crossing]})
    (found,) = dataset.elements("m1")
    assert found.closed and shapely.Polygon(found.points).equals(shapely.Polygon(crossing.points))
    assert len(dataset.elements("m0")) > 1, "a frame that the file has not is cut from the map"


def test_a_map_in_degrees_needs_an_origin(tmp_path: Path, frames_content: Any, write_frames_folder: Writer) -> None:
    root = write_frames_folder(tmp_path, frames_content)
    metres = json.loads((root / "maps" / "town.geojson").read_text())
    degrees = 1 / 111_319.49  # of the equator's circle
    for feature in metres["features"]:
        rings = feature["geometry"]["coordinates"]
        scaled = (np.array(rings) * degrees).tolist()
        feature["geometry"]["coordinates"] = scaled
    (root / "maps" / "town.geojson").write_text(json.dumps(metres))
    with pytest.raises(DatasetError, match="holds longitudes and latitudes; give the scene a 'map_origin'"):
        open_dataset(root).elements("m1")
    frames_content["scenes"][0]["map_origin"] = {"latitude": 0, "longitude": 0, "earth": "sphere"}
    (root / "frames.json").write_text(json.dumps({k: v for k, v in frames_content.items() if k != "map"}))
    divider = by_label(open_dataset(root).elements("m1"))[MapClass.DIVIDER][0]
    np.testing.assert_allclose(divider.points, [[-30, 0], [30, 0]], atol=1e-2)


def test_what_a_model_may_miss_is_told(frames_root: Path) -> None:
    dataset = open_dataset(frames_root)
    check_sensors(dataset, ["m1"], lidar=True, sd_map=True)
    with pytest.raises(DatasetError, match=r"the sweep of sample m0 of monday is missing; give it a 'lidar'"):
        check_sensors(dataset, ["m0"], lidar=True, sd_map=False)


def test_two_data_sets_in_one_folder(frames_root: Path, tmp_path: Path) -> None:
    (frames_root / "frames.jsonl").write_text("")
    with pytest.raises(DatasetError, match=r"holds frames\.json, frames\.jsonl; say which is meant: --version"):
        open_dataset(frames_root)
    assert open_dataset(frames_root, "frames.json").version == "frames.json"
    with pytest.raises(DatasetError, match=r"has no version 'v1\.0-mini'; it holds frames\.json, frames\.jsonl"):
        open_dataset(frames_root, "v1.0-mini")
    other = (frames_root / "frames.json").rename(frames_root / "drive.json")
    assert len(open_dataset(other).tokens) == 3, "a file by its name"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"holds no data set: none of v1\.0-mini, .*frames\.json"):
        open_dataset(tmp_path / "empty")


def test_the_digest_follows_frames_and_truth(frames_root: Path) -> None:
    first = open_dataset(frames_root).digest()
    assert open_dataset(frames_root).digest() == first
    path = frames_root / "maps" / "town.geojson"
    path.write_text(path.read_text().replace("200.0", "201.0"))
    assert open_dataset(frames_root).digest() != first
