from pathlib import Path

import numpy as np
import pytest
import yaml

from hdmap_core.datasets.rig_file import read_rig_file, rig_for
from hdmap_core.errors import CalibrationError
from hdmap_core.geometry.lens import Lens

FRONT = {
    "image_size": [900, 1600],
    "intrinsics": [[1260, 0, 800], [0, 1260, 450], [0, 0, 1]],
    "translation": [1.7, 0.2, 1.5],
    "rotation": [0.5, -0.5, 0.5, -0.5],
}


def written(folder: Path, **cameras: object) -> Path:
    path = folder / "rig.yaml"
    path.write_text(yaml.safe_dump({"cameras": cameras}, sort_keys=False))
    return path


def without(entry: dict, *keys: str, **others: object) -> dict:
    return {key: value for key, value in entry.items() if key not in keys} | others


def test_three_ways_to_say_where_a_camera_looks(tmp_path: Path) -> None:
    turned = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    path = written(
        tmp_path,
        quaternion=FRONT,
        matrix=without(FRONT, "rotation", rotation=turned),
        angles=without(FRONT, "rotation", yaw_pitch_roll_deg=[0, 0, 0]),
    )
    cameras = read_rig_file(path)
    assert list(cameras) == ["quaternion", "matrix", "angles"]
    for camera in cameras.values():
        assert camera.ego_from_camera is not None
        np.testing.assert_allclose(camera.ego_from_camera[:3, :3], turned, atol=1e-12)
        np.testing.assert_allclose(camera.ego_from_camera[:3, 3], [1.7, 0.2, 1.5])


def test_angles_turn_the_view_left_and_down(tmp_path: Path) -> None:
    entry = without(FRONT, "rotation", yaw_pitch_roll_deg=[90, 30, 0])
    pose = read_rig_file(written(tmp_path, left=entry))["left"].ego_from_camera
    assert pose is not None
    np.testing.assert_allclose(pose[:3, 2], [0, np.cos(np.pi / 6), -0.5], atol=1e-12)  # the optical axis
    np.testing.assert_allclose(pose[:3, 0], [1, 0, 0], atol=1e-12)  # the image's right is the car's front


def test_four_numbers_are_intrinsics(tmp_path: Path) -> None:
    path = written(tmp_path, a=FRONT, b=without(FRONT, "intrinsics", intrinsics=[1260, 1260, 800, 450]))
    cameras = read_rig_file(path)
    np.testing.assert_array_equal(cameras["a"].intrinsics, cameras["b"].intrinsics)


def test_a_rig_of_two_sizes_and_lenses_for_smaller_images(tmp_path: Path) -> None:
    bent = without(
        FRONT, distortion_model="equidistant", distortion_coefficients=[0.01, 0, 0, 0], image_size=[720, 1280]
    )
    cameras = read_rig_file(written(tmp_path, front=FRONT, back=bent))
    rig = rig_for(cameras, {"back": (720, 1280), "front": (450, 800)}, "rig.yaml")
    assert rig.names == ("back", "front") and rig.image_sizes == ((720, 1280), (450, 800))
    assert rig.lenses == (Lens("fisheye", (0.01, 0.0, 0.0, 0.0)), None)
    np.testing.assert_allclose(rig.intrinsics[1], [[630, 0, 399.75], [0, 630, 224.75], [0, 0, 1]])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (without(FRONT, "intrinsics"), "camera front: the field 'intrinsics' is missing"),
        (without(FRONT, "image_size"), "camera front: the field 'image_size' is missing"),
        (without(FRONT, "translation"), "camera front: the field 'translation' is missing"),
        (without(FRONT, "rotation"), "camera front: the field 'rotation' .* is missing"),
        (FRONT | {"yaw_pitch_roll_deg": [0, 0, 0]}, "camera front: .*not both"),
        (FRONT | {"image_size": [0, 1600]}, "camera front: 'image_size' must be"),
        (FRONT | {"start": -1}, "camera front: 'start' must be seconds, 0 or more"),
        (FRONT | {"start": "soon"}, "camera front: 'start' must be seconds"),
        (FRONT | {"start": float("nan")}, "camera front: 'start' must be seconds"),
        (FRONT | {"image_size": 1600}, "camera front: "),
        (FRONT | {"intrinsics": [1, 2, 3]}, "camera front: 'intrinsics' must be 3 x 3"),
        (FRONT | {"intrinsics": [-1, 1260, 800, 450]}, "camera front: focal lengths must be positive"),
        (FRONT | {"translation": [0, 0]}, "camera front: 'translation' must be three"),
        (FRONT | {"translation": [0, 0, float("nan")]}, "camera front: 'translation' must be three"),
        (FRONT | {"rotation": [0, 0, 0, 0]}, "camera front: not a rotation quaternion"),
        (FRONT | {"rotation": [[1, 0, 0], [0, 2, 0], [0, 0, 1]]}, "camera front: the extrinsics' rotation is not"),
        (without(FRONT, "rotation", yaw_pitch_roll_deg=[0, 0]), "camera front: 'yaw_pitch_roll_deg' must be three"),
        (FRONT | {"distortion_model": "mei"}, "camera front: .*'mei' is not known"),
        ([1], "camera front: "),
    ],
)
def test_what_cannot_be_a_camera_is_named(tmp_path: Path, entry: object, message: str) -> None:
    path = written(tmp_path, front=entry)
    with pytest.raises(CalibrationError, match=f"rig.yaml, {message}") as told:
        read_rig_file(path)
    assert "\n" not in str(told.value)


def test_what_is_no_rig_file(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"cannot read the calibration file .*none.yaml: No such file"):
        read_rig_file(tmp_path / "none.yaml")
    with pytest.raises(CalibrationError, match=r"rig.yaml: expected a mapping 'cameras'"):
        read_rig_file(written(tmp_path))


def test_what_a_rig_needs_is_named(tmp_path: Path) -> None:
    cameras = read_rig_file(written(tmp_path, front=without(FRONT, "translation", "rotation"), back=FRONT))
    with pytest.raises(CalibrationError, match=r"rig.yaml has no camera 'side'; it has front, back"):
        rig_for(cameras, {"side": (900, 1600)}, "rig.yaml")
    with pytest.raises(CalibrationError, match=r"rig.yaml, camera front: where it is mounted is missing"):
        rig_for(cameras, {"front": (900, 1600)}, "rig.yaml")
    with pytest.raises(
        CalibrationError, match=r"camera back: the image has 900 x 900 pixels, rig.yaml is for 1600 x 900"
    ):
        rig_for(cameras, {"back": (900, 900)}, "rig.yaml")
