"""What a CameraInfo or a calibration file says of a camera, and what makes it doubtful."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdmap_core.errors import CalibrationError
from hdmap_core.geometry.se3 import rotation_from_euler
from hdmap_ros.calibration import CameraCalibration, calibration_from_info, read_calibration_file

TICK = 1_700_000_001_000_000_000


@pytest.mark.parametrize("focal", [float("nan"), float("inf"), 0.0, -100.0])
def test_impossible_intrinsics(bag_rig: Any, focal: float) -> None:
    with pytest.raises(CalibrationError, match="camera CAM_BACK"):
        calibration_from_info("CAM_BACK", bag_rig.info("CAM_BACK", TICK, focal=focal))


def test_principal_point_outside_the_image(bag_rig: Any) -> None:
    info = bag_rig.info("CAM_BACK", TICK)
    info.k[2] = info.p[2] = 900.0
    with pytest.raises(CalibrationError, match=r"\(900.0, 44.5\) lies outside the 160 x 90 image"):
        calibration_from_info("CAM_BACK", info)


def test_k_or_p(bag_rig: Any) -> None:
    info = bag_rig.info("CAM_BACK", TICK)
    info.p[0] = info.p[5] = 100.0
    assert calibration_from_info("c", info).intrinsics[0, 0] == 100.0  # rectified: P differs, no distortion left
    assert calibration_from_info("c", info, "k").intrinsics[0, 0] == 120.0
    info.d[0] = -0.2
    distorted = calibration_from_info("c", info)
    assert distorted.intrinsics[0, 0] == 120.0
    assert "distorted_lens" in distorted.doubts
    assert not calibration_from_info("c", info, "p").doubts


@pytest.mark.parametrize(
    ("model", "coefficients", "projection", "doubted"),
    [
        ("plumb_bob", [0.0] * 5, "auto", False),
        ("", [], "auto", False),
        ("rational_polynomial", [0.0] * 8, "auto", False),
        ("rational_polynomial", [0.1, 0, 0, 0, 0, 0, 0, 0.2], "auto", True),
        ("equidistant", [0.0] * 4, "auto", True),  # r = f theta is no pinhole
        ("Equidistant", [], "k", True),
        ("fisheye", [0.0] * 4, "auto", True),
        ("kannala_brandt4", [0.0] * 4, "auto", True),
        ("mei", [0.0] * 5, "auto", True),
        ("equidistant", [0.1] * 4, "p", False),  # the user says that the images are rectified
    ],
)
def test_lenses_that_are_no_pinhole(
    bag_rig: Any, model: str, coefficients: list[float], projection: str, doubted: bool
) -> None:
    info = bag_rig.info("CAM_BACK", TICK)
    info.distortion_model, info.d = model, np.array(coefficients)
    assert ("distorted_lens" in calibration_from_info("CAM_BACK", info, projection).doubts) is doubted


@pytest.mark.parametrize(
    ("degrees", "projection", "distortion", "doubted"),
    [
        (0.0, "auto", 0.0, False),
        (4.0, "auto", 0.0, True),
        (4.0, "p", 0.1, True),
        (4.0, "k", 0.0, False),  # of the image as it came
        (4.0, "auto", 0.1, False),  # K is used, and the lens is doubted already
        (0.01, "auto", 0.0, False),
        (180.0, "auto", 0.0, True),
    ],
)
def test_a_rectification_that_turns(
    bag_rig: Any, degrees: float, projection: str, distortion: float, doubted: bool
) -> None:
    info = bag_rig.info("CAM_BACK", TICK)
    info.d[0], info.p[0], info.p[5] = distortion, 100.0, 100.0
    info.r = rotation_from_euler(0.0, np.deg2rad(degrees), 0.0).reshape(-1)
    doubts = calibration_from_info("CAM_BACK", info, projection).doubts
    assert ("turned_rectification" in doubts) is doubted
    if doubted:
        assert f"by {degrees:.1f} degrees" in doubts["turned_rectification"]


def test_a_rectification_that_was_never_filled_in(bag_rig: Any) -> None:
    info = bag_rig.info("CAM_BACK", TICK)
    info.r = np.zeros(9)
    assert not calibration_from_info("CAM_BACK", info).doubts
    info.r[0] = np.nan
    assert "turned_rectification" in calibration_from_info("CAM_BACK", info).doubts


def test_binning_and_region_of_interest(bag_rig: Any) -> None:
    info = bag_rig.info("CAM_BACK", TICK)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 20, 10, 120, 60
    info.binning_x = info.binning_y = 2
    found = calibration_from_info("c", info)
    assert found.image_size == (30, 60)
    np.testing.assert_allclose(found.intrinsics[:2, 2], [(79.5 - 20 + 0.5) / 2 - 0.5, (44.5 - 10 + 0.5) / 2 - 0.5])
    assert found.intrinsics[0, 0] == 60.0


@given(scale=st.integers(2, 8))
def test_scaled_images_keep_their_rays(scale: int) -> None:
    """A pixel's edges, not its centre, keep their place."""
    original = CameraCalibration(np.array([[800.0, 0, 400], [0, 800.0, 300], [0, 0, 1]]), (640, 960), "c")
    scaled = original.intrinsics_for("c", (640 * scale, 960 * scale))
    ray = np.linalg.inv(original.intrinsics) @ [10.0, 20.0, 1.0]
    u, v, _ = scaled @ ray
    assert (u + 0.5) / scale - 0.5 == pytest.approx(10.0)
    assert (v + 0.5) / scale - 0.5 == pytest.approx(20.0)


def test_another_aspect_ratio_is_refused() -> None:
    calibration = CameraCalibration(np.array([[800.0, 0, 400], [0, 800.0, 300], [0, 0, 1]]), (600, 800), "c")
    with pytest.raises(CalibrationError, match="another shape"):
        calibration.intrinsics_for("c", (600, 600))


def test_calibration_file(tmp_path: Any) -> None:
    path = tmp_path / "rig.yaml"
    path.write_text(
        "cameras:\n  CAM_FRONT:\n    intrinsics: [[1260, 0, 800], [0, 1260, 450], [0, 0, 1]]\n"
        "    image_size: [900, 1600]\n    translation: [1.7, 0, 1.5]\n    rotation: [0.5, -0.5, 0.5, -0.5]\n"
    )
    entry = read_calibration_file(path)["CAM_FRONT"]
    assert entry.image_size == (900, 1600)
    assert entry.base_from_camera is not None
    np.testing.assert_allclose(entry.base_from_camera[:3, 2], [1, 0, 0], atol=1e-12)  # looks along x
    path.write_text("cameras:\n  CAM_FRONT:\n    image_size: [900, 1600]\n")
    with pytest.raises(CalibrationError, match=r"rig\.yaml, camera CAM_FRONT: the field 'intrinsics' is missing"):
        read_calibration_file(path)
    with pytest.raises(CalibrationError, match="cannot read the calibration file"):
        read_calibration_file(tmp_path / "none.yaml")
