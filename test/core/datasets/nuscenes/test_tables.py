"""Reading and refusing nuScenes folders. `small_root` has two scenes of two keyframes, two cameras and a sweep each."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_core.datasets.nuscenes import NuScenesDataset, NuScenesTables, scenes_of_split
from hdmap_core.datasets.nuscenes.keyframe_index import write_index
from hdmap_core.datasets.nuscenes.records import read_records
from hdmap_core.datasets.nuscenes.splits import official_splits
from hdmap_core.datasets.protocol import scene_named
from hdmap_core.errors import DatasetError
from hdmap_core.geometry.lens import Lens

Change = Callable[[list[dict[str, Any]]], Any]


def edit(root: Path, table: str, change: Change) -> None:
    path = root / "v1.0-mini" / f"{table}.json"
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))


def test_scenes_and_samples_in_time_order(small_root: Path) -> None:
    edit(small_root, "sample", lambda records: records.reverse())
    tables = NuScenesTables(small_root)
    assert tables.version == "v1.0-mini"
    assert [scene.name for scene in tables.scenes] == ["scene-0061", "scene-0103"]
    assert tables.scenes[0].sample_tokens == ("sample-0-0", "sample-0-1")
    assert tables.scenes[1].location == "boston-seaport"


def test_keyframes_carry_calibration_and_pose(small_root: Path) -> None:
    frames = NuScenesTables(small_root).keyframe("sample-0-1")
    assert set(frames) == {"CAM_FRONT", "CAM_BACK", "LIDAR_TOP"}
    front = frames["CAM_FRONT"]
    assert front.intrinsics is not None
    assert front.intrinsics.dtype == np.float64
    assert frames["LIDAR_TOP"].intrinsics is None
    assert front.image_size == (24, 32)
    assert front.stamp_ns == frames["LIDAR_TOP"].stamp_ns - 40_000_000
    assert front.path.is_file()


def test_lenses_of_other_rigs(small_root: Path, tmp_path: Path) -> None:
    """NuScenes' own cameras are pinholes; nuImages and rigs like it name their distortion. The index keeps it."""
    channel = {row["token"]: row["channel"] for row in read_records(small_root / "v1.0-mini" / "sensor.json")}
    of_channel: dict[str, dict[str, Any]] = {
        "CAM_FRONT": {"camera_distortion": [-0.2, 0.1, 0, 0, 0.01]},
        "CAM_BACK": {"distortion_model": "equidistant"},
    }

    def give_lenses(records: list[dict[str, Any]]) -> None:
        for record in records:
            record.update(of_channel.get(channel[record["sensor_token"]], {}))

    edit(small_root, "calibrated_sensor", give_lenses)
    tables = NuScenesTables(small_root)
    for source in (tables, write_index(tables, tmp_path)):
        frames = source.keyframe("sample-0-1")
        lenses = {name: frame.lens for name, frame in frames.items() if frame.modality == "camera"}
        polynomial = Lens("polynomial", (-0.2, 0.1, 0.0, 0.0, 0.01))
        assert lenses == {"CAM_FRONT": polynomial, "CAM_BACK": Lens("fisheye", (0.0,) * 4)}
        rig = NuScenesDataset(small_root, tables=source).observation("sample-0-1", images=False).rig
        assert rig.lens_of_each == tuple(lenses[name] for name in rig.names)
    of_channel["CAM_FRONT"]["distortion_model"] = "mei"
    edit(small_root, "calibrated_sensor", give_lenses)
    with pytest.raises(DatasetError, match=r"calibrated_sensor\.json: record .*'mei' is not known"):
        NuScenesTables(small_root).keyframe("sample-0-1")
    of_channel["CAM_FRONT"]["camera_distortion"] = [10**400]
    edit(small_root, "calibrated_sensor", give_lenses)
    with pytest.raises(DatasetError, match=r"calibrated_sensor\.json: record .* too large"):
        NuScenesTables(small_root).keyframe("sample-0-1")


@pytest.mark.parametrize("name", ["/etc/passwd", "../../secret.jpg", "samples/../../secret.jpg", "a\0b"])
def test_tables_cannot_name_files_elsewhere(small_root: Path, name: str) -> None:
    edit(small_root, "sample_data", lambda records: [record.update(filename=name) for record in records])
    with pytest.raises(DatasetError, match=r"sample_data\.json: the file .* lies outside"):
        NuScenesTables(small_root).keyframe("sample-0-1")
    edit(small_root, "log", lambda records: [record.update(location="../../etc") for record in records])
    with pytest.raises(DatasetError, match=r"log\.json: '\.\./\.\./etc' is no city"):
        _ = NuScenesTables(small_root).scenes


def test_sweeps_come_in_time_order(small_root: Path) -> None:
    tables = NuScenesTables(small_root)
    frames = tables.sensor_frames(tables.scenes[0])
    assert [frame.stamp_ns for frame in frames] == sorted(frame.stamp_ns for frame in frames)
    assert [frame.is_key_frame for frame in frames].count(False) == 2
    lidar = tables.sensor_frames(tables.scenes[0], ["LIDAR_TOP"])
    assert {frame.channel for frame in lidar} == {"LIDAR_TOP"}


def test_official_splits_agree_with_the_devkit() -> None:
    pytest.importorskip("nuscenes", reason="nuscenes-devkit, the oracle, is not installed; make setup brings it")
    from nuscenes.utils.splits import create_splits_scenes

    theirs, ours = create_splits_scenes(), official_splits()
    for name in ("train", "val", "test", "mini_train", "mini_val"):
        assert list(ours[name]) == sorted(theirs[name])
    assert [len(ours["train_disjoint"]), len(ours["val_disjoint"])] == [698, 148]
    assert not set(ours["train_disjoint"]) & set(ours["val_disjoint"])
    assert len(set(ours["val_disjoint"]) & set(ours["train"])) == 116


def test_splits_of_a_folder(small_root: Path) -> None:
    tables = NuScenesDataset(small_root)
    assert [scene.name for scene in scenes_of_split(tables, "mini_val")] == ["scene-0103"]
    (small_root / "v1.0-mini" / "splits.json").write_text(json.dumps({"val": ["scene-0061"], "empty": []}))
    tables = NuScenesDataset(small_root)
    assert [scene.name for scene in scenes_of_split(tables, "val")] == ["scene-0061"]  # the folder's own goes first
    with pytest.raises(DatasetError, match="no scene of a split 'empty'; it has scenes of mini_train, mini_val, train"):
        scenes_of_split(tables, "empty")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda root: shutil.rmtree(root), "no such folder"),
        (lambda root: shutil.rmtree(root / "v1.0-mini"), "not a nuScenes folder"),
        (lambda root: (root / "v1.0-mini" / "sensor.json").unlink(), r"v1.0-mini lacks sensor\.json"),
        (lambda root: (root / "v1.0-test").mkdir(), "holds v1.0-mini, v1.0-test; say which version"),
    ],
)
def test_folders_that_are_refused(small_root: Path, break_it: Callable[[Path], Any], message: str) -> None:
    break_it(small_root)
    with pytest.raises(DatasetError, match=message):
        NuScenesTables(small_root)


def test_unknown_version_scene_and_sample(small_root: Path) -> None:
    with pytest.raises(DatasetError, match=r"no version 'v1.0-trainval'; it holds v1.0-mini"):
        NuScenesTables(small_root, "v1.0-trainval")
    tables = NuScenesTables(small_root, "v1.0-mini")
    with pytest.raises(DatasetError, match="no scene 'scene-9'; it has scene-0061, scene-0103"):
        scene_named(NuScenesDataset(small_root), "scene-9")
    with pytest.raises(DatasetError, match="no sample 'nowhere'"):
        tables.keyframe("nowhere")


@pytest.mark.parametrize("table", ["scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor", "log"])
def test_truncated_tables_are_named_with_their_position(small_root: Path, table: str) -> None:
    path = small_root / "v1.0-mini" / f"{table}.json"
    path.write_bytes(path.read_bytes()[:-25])
    tables = NuScenesTables(small_root)
    with pytest.raises(DatasetError, match=rf"{table}\.json: broken or truncated JSON at line 1, column \d+"):
        tables.keyframe(tables.scenes[0].sample_tokens[0])


@pytest.mark.parametrize(
    "content",
    [
        *["", "{}", "[1]", "[{} {}", '[{"token": "a"}'],
        pytest.param("[" * 100_000, id="nested"),
        pytest.param("[" + "9" * 5_000 + "]", id="number"),
    ],
)
def test_tables_that_are_no_lists_of_records(small_root: Path, content: str) -> None:
    (small_root / "v1.0-mini" / "scene.json").write_text(content)
    with pytest.raises(DatasetError, match=r"scene\.json"):
        _ = NuScenesTables(small_root).scenes


@pytest.mark.parametrize(
    ("table", "field", "lost", "origin"),
    [
        ("sample", "scene_token", "scene", "sample sample-0-0"),
        ("scene", "log_token", "log", "scene scene-0061"),
        ("sample_data", "sample_token", "sample", "sample_data LIDAR_TOP-0-0"),
        ("sample_data", "ego_pose_token", "ego_pose", "sample_data LIDAR_TOP-0-0"),
        ("sample_data", "calibrated_sensor_token", "calibrated_sensor", "sample_data LIDAR_TOP-0-0"),
        ("calibrated_sensor", "sensor_token", "sensor", "calibrated_sensor LIDAR_TOP-calibrated"),
    ],
)
def test_keys_that_lead_nowhere(small_root: Path, table: str, field: str, lost: str, origin: str) -> None:
    edit(small_root, table, lambda records: records[0].update({field: "nowhere"}))
    tables = NuScenesTables(small_root)
    with pytest.raises(DatasetError, match=rf"{lost}\.json has no record 'nowhere', which {origin} points to"):
        tables.keyframe(tables.scenes[0].sample_tokens[0])


def test_missing_fields_samples_and_bad_poses(small_root: Path) -> None:
    edit(small_root, "ego_pose", lambda records: records[0].update(rotation=[0, 0, 0, 0]))
    with pytest.raises(DatasetError, match=r"ego_pose\.json: record 'LIDAR_TOP-0-0' is not a pose"):
        NuScenesTables(small_root).keyframe("sample-0-0")
    edit(small_root, "ego_pose", lambda records: records[0].pop("rotation"))
    with pytest.raises(DatasetError, match=r"ego_pose\.json: record 'LIDAR_TOP-0-0' lacks the field 'rotation'"):
        NuScenesTables(small_root).keyframe("sample-0-0")
    edit(small_root, "sample", lambda records: records.pop())
    with pytest.raises(DatasetError, match=r"scene-0103 announces 2 samples, sample\.json has 1"):
        _ = NuScenesTables(small_root).scenes
