"""What is wrong with a log is one line that names file, record and remedy, and ends a verb with 2."""

import builtins
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_core.datasets.argoverse import ArgoverseDataset
from hdmap_core.datasets.argoverse.feather import read_columns, write_columns
from hdmap_core.datasets.opening import open_dataset
from hdmap_core.errors import DatasetError, MissingDependencyError

INTRINSICS = "calibration/intrinsics.feather"
MOUNTS = "calibration/egovehicle_SE3_sensor.feather"
POSES = "city_SE3_egovehicle.feather"


def changed(path: Path, column: str, row: int, value: float) -> None:
    from pyarrow import feather

    columns = {name: np.array(values) for name, values in feather.read_table(path).to_pydict().items()}
    columns[column][row] = value
    path.write_bytes(write_columns(path, columns))


def sweep_of(log: Path) -> Path:
    return sorted((log / "sensors" / "lidar").iterdir())[0]


def map_of(log: Path) -> Path:
    return next((log / "map").glob("log_map_archive_*.json"))


def refused(log: Path, *parts: str) -> None:
    """Whatever is read of the log, the message has these parts and is one line."""
    with pytest.raises(DatasetError) as caught:
        dataset = ArgoverseDataset(log.parents[1])
        dataset.observation(dataset.tokens[0])
        dataset.elements(dataset.tokens[0])
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def layers(**given: str) -> str:
    """A map file whose layers are empty but for these."""
    content = dict.fromkeys(("lane_segments", "pedestrian_crossings", "drivable_areas"), "{}") | given
    return "{" + ", ".join(f'"{name}": {layer}' for name, layer in content.items()) + "}"


@pytest.mark.parametrize("name", [INTRINSICS, MOUNTS, POSES])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.97])
def test_truncated_feather(one_log: Path, name: str, share: float) -> None:
    content = (one_log / name).read_bytes()
    (one_log / name).write_bytes(content[: int(share * len(content))])
    refused(one_log, name, "truncated or no feather file", "download it again")


def test_truncated_sweep_and_foreign_bytes(one_log: Path) -> None:
    sweep = sweep_of(one_log)
    content = sweep.read_bytes()
    for damaged in (content[: len(content) // 2], b"not a feather at all" * 100, b"ARROW1\0\0" + bytes(1000)):
        sweep.write_bytes(damaged)
        refused(one_log, sweep.name, "truncated or no feather file")


@pytest.mark.parametrize("name", [INTRINSICS, MOUNTS, POSES])
def test_missing_file(one_log: Path, name: str) -> None:
    (one_log / name).unlink()
    refused(one_log, "no file", name, "unpack the log again")


@pytest.mark.parametrize(
    ("name", "column", "value", "said"),
    [
        (INTRINSICS, "fx_px", np.nan, "fx_px of CAM_FRONT is nan"),
        (INTRINSICS, "fy_px", 0.0, "fy_px of CAM_FRONT is 0.0"),
        (INTRINSICS, "cx_px", np.inf, "cx_px of CAM_FRONT is inf"),
        (INTRINSICS, "width_px", 0, "width_px of CAM_FRONT is 0.0"),
        (MOUNTS, "qw", np.nan, "the pose of CAM_FRONT cannot be used"),
        (MOUNTS, "tz_m", np.nan, "the pose of CAM_FRONT cannot be used"),
    ],
)
def test_numbers_that_no_camera_has(one_log: Path, name: str, column: str, value: float, said: str) -> None:
    changed(one_log / name, column, 0, value)
    refused(one_log, name, said, "again")


def test_poses_that_are_none(one_log: Path) -> None:
    columns = read_columns(one_log / POSES, ("timestamp_ns", "qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m"))
    for key, value in (("tx_m", np.nan), ("qw", np.inf)):
        spoiled = {**columns, key: np.full(len(columns[key]), value)}
        (one_log / POSES).write_bytes(write_columns(one_log / POSES, spoiled))
        refused(one_log, POSES, "the pose at", "cannot be used")
    few = {name: values[:1] for name, values in columns.items()}
    (one_log / POSES).write_bytes(write_columns(one_log / POSES, few))
    refused(one_log, POSES, "no pose at", "unpack the log again")


def test_another_table(one_log: Path) -> None:
    (one_log / POSES).write_bytes(write_columns(one_log / POSES, {"stamp": [1], "x": [2.0]}))
    refused(one_log, POSES, "no column 'timestamp_ns', it has stamp, x")
    (one_log / INTRINSICS).write_bytes((one_log / MOUNTS).read_bytes())
    refused(one_log, INTRINSICS, "no column 'fx_px'")


def test_columns_of_text(one_log: Path) -> None:
    path = sweep_of(one_log)
    path.write_bytes(write_columns(path, {name: ["a"] for name in ("x", "y", "z", "intensity", "laser_number")}))
    refused(one_log, path.name, "'x' holds no numbers")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "broken or truncated JSON at line 1"),
        ('{"lane_segments": {', "broken or truncated JSON"),
        ("[]", "no 'lane_segments'"),
        ('{"type": "FeatureCollection", "features": []}', "no 'lane_segments'"),
        (layers(lane_segments="[]"), "no 'lane_segments'"),
        (layers(lane_segments='{"7": {}}'), "'left_lane_boundary' of record '7'"),
        (layers(pedestrian_crossings='{"3": {"edge1": 5}}'), "'edge1' of record '3'"),
        (layers(drivable_areas='{"1": {"area_boundary": [{"x": 1}]}}'), "'area_boundary' of record '1'"),
    ],
)
def test_foreign_json(one_log: Path, content: str, said: str) -> None:
    map_of(one_log).write_text(content)
    refused(one_log, map_of(one_log).name, said, "again")


def test_lanes_with_numbers_that_are_none(one_log: Path) -> None:
    content = json.loads(map_of(one_log).read_text())
    first = next(iter(content["lane_segments"].values()))
    first["left_lane_boundary"][0]["x"] = float("nan")
    map_of(one_log).write_text(json.dumps(content))
    refused(one_log, "'left_lane_boundary' of record '1'", "finite")
    del first["is_intersection"], first["left_lane_boundary"][0]["x"]
    first["left_lane_boundary"][0]["x"] = 0.0
    map_of(one_log).write_text(json.dumps(content))
    refused(one_log, "lane '1' is malformed", "is_intersection")


def test_no_map(one_log: Path) -> None:
    shutil.rmtree(one_log / "map")
    dataset = ArgoverseDataset(one_log.parents[1])
    assert not dataset.has_vector_map(dataset.tokens[0])
    refused(one_log, "no map of log", "log_map_archive_*.json")
    with pytest.raises(DatasetError, match="no ground height raster"):
        dataset.ground_height(dataset.tokens[0])


def test_damaged_ground_height(one_log: Path) -> None:
    raster = next((one_log / "map").glob("*.npy"))
    content = raster.read_bytes()
    dataset = ArgoverseDataset(one_log.parents[1])
    for damaged in (content[:50], content[: len(content) // 2], b""):
        raster.write_bytes(damaged)
        with pytest.raises(DatasetError, match="ground height raster is damaged"):
            dataset.ground_height(dataset.tokens[0])


def test_pictures(one_log: Path, caplog: pytest.LogCaptureFixture) -> None:
    cameras = one_log / "sensors" / "cameras"
    picture = sorted((cameras / "CAM_BACK").iterdir())[0]
    picture.write_bytes(b"")
    with pytest.raises(Exception, match=picture.name):
        dataset = ArgoverseDataset(one_log.parents[1])
        dataset.observation(dataset.tokens[0])
    picture.unlink()
    # The other picture of that camera is half a second away: only its own keyframe is left.
    assert len(ArgoverseDataset(one_log.parents[1]).tokens) == 1
    shutil.rmtree(cameras / "CAM_BACK")
    dataset = ArgoverseDataset(one_log.parents[1])
    assert dataset.tokens == () and dataset.sensor_frames(dataset.scenes[0]) == []
    assert "CAM_BACK 0" in caplog.text
    shutil.rmtree(cameras)
    refused(one_log, one_log.name, "no pictures in sensors/cameras", "download")


def test_a_log_without_lidar_is_read_by_its_cameras(one_log: Path) -> None:
    shutil.rmtree(one_log / "sensors" / "lidar")
    dataset = ArgoverseDataset(one_log.parents[1])
    assert len(dataset.tokens) == 2
    observation = dataset.observation(dataset.tokens[0])
    assert observation.points is None and all(image is not None for image in observation.images)
    assert dataset.elements(dataset.tokens[0])


def test_another_size_than_calibrated(one_log: Path) -> None:
    changed(one_log / INTRINSICS, "width_px", 0, 160)
    refused(one_log, "80 x 45 pixels", "intrinsics.feather says 160 x 45")


def test_stray_files_do_no_harm(one_log: Path) -> None:
    for name in (".DS_Store", "readme.jpg", "99999999999999999999999999.jpg", "12.5.jpg"):
        (one_log / "sensors" / "cameras" / "CAM_BACK" / name).touch()
    (one_log.parent / "empty").mkdir()
    assert len(ArgoverseDataset(one_log.parents[1]).tokens) == 2


def test_a_folder_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no Argoverse 2 log"):
        open_dataset(tmp_path)
    with pytest.raises(DatasetError, match="has no Argoverse 2 log"):
        ArgoverseDataset(tmp_path)


def test_without_pyarrow(one_log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_pyarrow(name: str, *args: Any, **named: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **named)

    monkeypatch.setattr(builtins, "__import__", no_pyarrow)
    with pytest.raises(MissingDependencyError, match=r"Argoverse 2 logs need pyarrow, the extra `av2`"):
        ArgoverseDataset(one_log.parents[1]).tokens  # noqa: B018


def test_verbs_end_with_two(one_log: Path, tmp_path: Path, hdmap: Callable[..., Any]) -> None:
    root = one_log.parents[1]
    content = (one_log / POSES).read_bytes()
    (one_log / POSES).write_bytes(content[:100])
    hdmap("prepare", root, "--split", "val", "--cache", tmp_path / "cache").assert_refused(POSES, "truncated")
    (one_log / POSES).write_bytes(content)
    shutil.rmtree(one_log / "map")
    hdmap("prepare", root, "--split", "val", "--cache", tmp_path / "cache").assert_refused("without map", "unpack")
    hdmap("prepare", root, "--split", "test", "--cache", tmp_path / "cache").assert_refused(
        "no scene of a split 'test'"
    )
    hdmap("prepare", root, "--split", "val", "--version", "v1.0-mini").assert_refused("keyframes per second")
