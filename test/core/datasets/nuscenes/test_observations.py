"""Observations of a small folder whose numbers can be worked out by hand: 8 m/s along x, cameras 40 and 10 ms early."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.nuscenes.cities import CITIES
from hdmap_core.datasets.sd_map import road_feature
from hdmap_core.datasets.sensor_check import check_sensors
from hdmap_core.elements import MapClass
from hdmap_core.errors import DatasetError, ImageError
from hdmap_core.geometry.bev_grid import ROADS_REACH_M
from hdmap_core.images.decoding import decode_image

TOKEN = "sample-0-1"


def test_frames_and_rig(small_root: Path) -> None:
    dataset = NuScenesDataset(small_root)
    assert len(dataset) == 4
    assert dataset.tokens == ("sample-0-0", "sample-0-1", "sample-1-0", "sample-1-1")
    assert dataset.scene_of(TOKEN).name == "scene-0061"
    observation = dataset.observation(TOKEN)
    assert observation.rig.names == ("CAM_FRONT", "CAM_BACK")
    assert observation.rig.image_size == (24, 32)
    assert observation.rig.intrinsics.dtype == torch.float64
    # The car moved on by 0.32 and 0.08 m after the exposures.
    positions = observation.rig.ego_from_camera[:, :3, 3].numpy()
    np.testing.assert_allclose(positions, [[1.7 - 0.32, 0, 1.5], [-0.08, 0, 1.5]], atol=1e-9)
    assert observation.rig.mounted is not None
    np.testing.assert_allclose(observation.rig.mounted[:, :3, 3], [[1.7, 0, 1.5], [0, 0, 1.5]], atol=1e-9)
    assert [observation.stamp_ns - stamp for stamp in observation.camera_stamps_ns] == [40_000_000, 10_000_000]


def test_keyframes_by_place_token_and_slice(small_root: Path) -> None:
    dataset = NuScenesDataset(str(small_root))
    assert [observation.token for observation in dataset] == list(dataset.tokens)
    assert dataset[1].token == dataset[TOKEN].token == dataset[-3].token == dataset[np.int64(1)].token == TOKEN
    assert [observation.token for observation in dataset[2:]] == ["sample-1-0", "sample-1-1"]
    with pytest.raises(IndexError):
        dataset[4]
    with pytest.raises(DatasetError, match="no sample 'nobody'"):
        dataset["nobody"]


def test_the_map_lies_on_the_earth(small_root: Path) -> None:
    dataset = NuScenesDataset(small_root)
    for observation in (dataset["sample-0-0"], dataset["sample-1-0"]):
        assert observation.map_origin == CITIES[dataset.scene_of(observation.token).location]


def test_points_move_to_the_ego_frame(small_root: Path) -> None:
    points = NuScenesDataset(small_root).observation(TOKEN, images=False).points
    assert points is not None
    assert points.dtype == np.float32
    np.testing.assert_allclose(points, [[10.9, 0, 1.8, 50, 3], [0.9, -5, 2.8, 20, 4]], atol=1e-6)


def test_images_are_rgb(small_root: Path) -> None:
    front = NuScenesDataset(small_root).observation(TOKEN).images[0]
    assert front is not None
    red, _, blue = front.reshape(-1, 3).mean(axis=0)
    assert (red < 20, blue > 180) == (True, True)


def test_leaving_things_out(small_root: Path) -> None:
    observation = NuScenesDataset(small_root).observation(TOKEN, images=False, points=False)
    assert observation.rig.num_cameras == 2
    assert observation.images == (None, None)
    assert observation.points is None


def test_elements_come_from_the_scene_s_city(small_root: Path) -> None:
    dataset = NuScenesDataset(small_root)
    assert {element.label for element in dataset.elements(TOKEN)} == {
        MapClass.DIVIDER,
        MapClass.PED_CROSSING,
        MapClass.BOUNDARY,
    }
    assert dataset.elements("sample-1-0") == []  # Boston's map is empty
    again = pickle.loads(pickle.dumps(dataset))
    assert len(again.elements(TOKEN)) == len(dataset.elements(TOKEN))


def test_areas_come_from_the_scene_s_city(small_root: Path) -> None:
    dataset = NuScenesDataset(small_root)
    areas = dataset.areas(TOKEN, (-30.0, 20.0), (-10.0, 10.0), ("ped_crossing", "drivable_area"))
    expected = dataset.vector_map("singapore-onenorth").areas(dataset.map_from_ego(TOKEN), (-30, 20), (-10, 10))
    assert list(areas) == ["ped_crossing", "drivable_area"]
    assert all(areas[layer].equals(expected[layer]) for layer in areas)
    assert all(0 < area.area <= 1000 for area in areas.values())
    assert dataset.areas("sample-1-0")["drivable_area"].is_empty  # Boston's map is empty


def write_sd_map(path: Path, *lines: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    features = [road_feature(line, {}) for line in lines]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def test_sd_lines(small_root: Path) -> None:
    assert NuScenesDataset(small_root).observation(TOKEN, images=False).sd_lines is None
    roads = [np.array([[200.0, 1010.0], [700.0, 1010.0]]), np.array([[900.0, 0.0], [900.0, 10.0]])]
    path = small_root / "maps" / "sd" / "singapore-onenorth.geojson"
    write_sd_map(path, *roads)
    dataset = NuScenesDataset(small_root)
    (line,) = dataset.observation(TOKEN, images=False).sd_lines or ()
    np.testing.assert_allclose(sorted(line.tolist()), [[-ROADS_REACH_M, 10], [ROADS_REACH_M, 10]], atol=1e-4)
    assert dataset.sd_lines("sample-1-0") is None
    path.write_text(json.dumps({"type": "Feature"}))
    with pytest.raises(DatasetError, match=r"onenorth\.geojson: not a GeoJSON FeatureCollection"):
        NuScenesDataset(small_root).sd_lines(TOKEN)
    write_sd_map(path, np.array([[103.78, 1.29], [103.79, 1.3]]))
    with pytest.raises(DatasetError, match="longitudes and latitudes"):
        NuScenesDataset(small_root).sd_lines(TOKEN)
    write_sd_map(path, np.array([[5.0, 5.0]]))
    with pytest.raises(DatasetError, match=r"onenorth\.geojson: not GeoJSON geometry"):
        NuScenesDataset(small_root).sd_lines(TOKEN)
    write_sd_map(path, np.zeros((0, 2)))  # GeoJSON allows a line of no points
    assert NuScenesDataset(small_root).sd_lines(TOKEN) == ()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.995])
def test_truncated_images_are_named(small_root: Path, share: float) -> None:
    path = small_root / "samples" / "CAM_BACK" / "CAM_BACK-0-1.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    cv2.imwrite(str(path), noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ImageError, match=r"CAM_BACK-0-1\.jpg: the image is (truncated|empty)"):
        NuScenesDataset(small_root).observation(TOKEN)


def test_other_damage_is_named(small_root: Path) -> None:
    dataset = NuScenesDataset(small_root)
    image = small_root / "samples" / "CAM_BACK" / "CAM_BACK-0-1.jpg"
    image.write_bytes(b"not a picture")
    with pytest.raises(ImageError, match=r"CAM_BACK-0-1\.jpg: neither JPEG nor PNG"):
        dataset.observation(TOKEN)
    cv2.imwrite(str(image), np.zeros((12, 16, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"CAM_BACK-0-1\.jpg has 16 x 12 pixels, sample_data.json says 32 x 24"):
        dataset.observation(TOKEN)
    image.unlink()
    with pytest.raises(DatasetError, match=r"cannot read .*CAM_BACK-0-1\.jpg"):
        dataset.observation(TOKEN)
    lidar = small_root / "samples" / "LIDAR_TOP" / "LIDAR_TOP-0-1.pcd.bin"
    lidar.write_bytes(lidar.read_bytes()[:-3])
    with pytest.raises(DatasetError, match=r"LIDAR_TOP-0-1\.pcd\.bin has 37 bytes"):
        dataset.observation(TOKEN, images=False)


@pytest.mark.parametrize("front", [True, False])
def test_a_folder_without_lidar_takes_a_cameras_instant(
    small_root: Path, front: bool, caplog: pytest.LogCaptureFixture
) -> None:
    gone = {"LIDAR_TOP"} if front else {"LIDAR_TOP", "CAM_FRONT"}
    path = small_root / "v1.0-mini" / "sample_data.json"
    rows = [row for row in json.loads(path.read_text()) if row["token"].split("-")[0] not in gone]
    path.write_text(json.dumps(rows))
    dataset, name = NuScenesDataset(small_root), "CAM_FRONT" if front else "CAM_BACK"
    anchor = dataset.tables.keyframe(TOKEN)[name]
    for token in dataset.tokens:
        observation = dataset.observation(token)
    observation = dataset.observation(TOKEN)
    assert observation.points is None and observation.stamp_ns == anchor.stamp_ns
    np.testing.assert_array_equal(observation.map_from_ego, anchor.map_from_ego)
    np.testing.assert_array_equal(dataset.map_from_ego(TOKEN), anchor.map_from_ego)
    bare = NuScenesDataset(small_root, road_plane=False).observation(TOKEN, images=False).rig
    np.testing.assert_allclose(bare.select([name]).ego_from_camera[0], anchor.ego_from_sensor, atol=1e-9)
    assert sum(f"are those of {name}" in message for message in caplog.messages) == 2, "once per data set"
    with pytest.raises(DatasetError, match=f"looks at LiDAR, but the sweep of sample {TOKEN} of scene-0061 is missing"):
        check_sensors(dataset, [TOKEN], lidar=True, sd_map=False)
    with pytest.raises(DatasetError, match=f"LiDAR is to show the ground, but the sweep of sample {TOKEN}"):
        check_sensors(dataset, [TOKEN], lidar=False, sd_map=False, ground=True)


def test_images_of_different_size_in_one_frame(small_root: Path) -> None:
    path = small_root / "v1.0-mini" / "sample_data.json"
    rows = json.loads(path.read_text())
    for row in rows:
        if row["token"] == "CAM_BACK-0-1":
            row.update(width=16, height=12)
    path.write_text(json.dumps(rows))
    rig = NuScenesDataset(small_root).observation(TOKEN, images=False).rig
    sizes = dict(zip(rig.names, rig.image_sizes, strict=True))
    assert sizes.pop("CAM_BACK") == (12, 16) and set(sizes.values()) == {(24, 32)}


def test_coarse_pictures_are_those_of_the_node(small_root: Path) -> None:
    dataset = NuScenesDataset(small_root)
    files = [dataset.tables.keyframe(TOKEN)[name].path for name in ("CAM_FRONT", "CAM_BACK")]
    for coarse in (False, True):
        images = dataset.observation(TOKEN, at_least=(24, 32), coarse=coarse).images
        for image, path in zip(images, files, strict=True):
            np.testing.assert_array_equal(image, decode_image(path.read_bytes(), "x", coarse=coarse))
