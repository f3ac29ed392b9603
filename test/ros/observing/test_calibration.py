"""What a CameraInfo or a calibration file says of a camera, and what makes it doubtful."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdmap_core.errors import CalibrationError
from hdmap_core.geometry.lens import Lens
from hdmap_core.geometry.se3 import rotation_from_euler
from hdmap_ros.observing.calibration import CameraCalibration, calibration_from_info, read_calibration_file

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


def turned(bag_rig: Any, degrees: float = 4.0, focal: float = 100.0, baseline_m: float = 0.0) -> Any:
    """The CameraInfo of an image that was rectified with a neighbour's: no distortion, P, and R about the y axis."""
    info = bag_rig.info("CAM_BACK", TICK)
    info.p[0] = info.p[5] = focal
    info.p[3] = -focal * baseline_m
    info.r = rotation_from_euler(0.0, np.deg2rad(degrees), 0.0).reshape(-1)
    return info


def test_k_or_p(bag_rig: Any) -> None:
    info = bag_rig.info("CAM_BACK", TICK)
    info.p[0] = info.p[5] = 100.0
    assert calibration_from_info("c", info).intrinsics[0, 0] == 100.0  # rectified: P differs, no distortion left
    assert calibration_from_info("c", info, "k").intrinsics[0, 0] == 120.0
    info.d[0] = -0.2
    distorted = calibration_from_info("c", info)
    assert distorted.intrinsics[0, 0] == 120.0
    assert distorted.lens == Lens("polynomial", (-0.2, 0.0, 0.0, 0.0)) and not distorted.doubts
    rectified = calibration_from_info("c", info, "p")
    assert rectified.lens is None and rectified.intrinsics[0, 0] == 100.0 and not rectified.doubts


@pytest.mark.parametrize(
    ("topic", "projection", "distortion", "rectified", "doubted"),
    [
        ("/cam/image_rect", "auto", 0.1, True, False),
        ("/cam/image_rect_color/compressed", "auto", 0.1, True, False),
        ("/cam/image_rect_compressed", "auto", 0.0, True, False),
        ("/cam/rectified/image", "auto", 0.1, True, False),
        ("/rectangle/image", "auto", 0.1, False, False),
        ("/cam/image_raw", "auto", 0.1, False, False),
        ("/cam/image", "auto", 0.1, False, False),
        ("/cam/image", "auto", 0.0, True, False),  # P differs from K, nothing is distorted
        ("/cam/image_raw/compressed", "auto", 0.0, True, True),
        ("/cam/image_raw", "k", 0.0, False, False),
        ("/cam/image_rect", "k", 0.1, False, True),
        ("/cam/image_raw", "p", 0.1, True, False),
    ],
)
def test_what_tells_rectified_images_from_raw_ones(
    bag_rig: Any, topic: str, projection: str, distortion: float, rectified: bool, doubted: bool
) -> None:
    info = turned(bag_rig)
    info.d[0] = distortion
    found = calibration_from_info("CAM_BACK", info, projection, topic)
    assert found.intrinsics[0, 0] == (100.0 if rectified else 120.0)
    assert (found.lens is None) is (rectified or not distortion)
    assert (not np.allclose(found.frame_from_camera, np.eye(4))) is rectified
    assert list(found.doubts) == (["contradicting_projection"] if doubted else [])
    if doubted:
        assert topic in found.doubts["contradicting_projection"]


def test_rectified_images_need_a_projection(bag_rig: Any) -> None:
    info = bag_rig.info("CAM_BACK", TICK)
    info.p, info.d = np.zeros(12), np.full(5, 0.1)
    assert calibration_from_info("CAM_BACK", info).lens is not None
    for projection, topic in (("p", ""), ("auto", "/cam/image_rect")):
        with pytest.raises(CalibrationError, match=r"camera CAM_BACK: its images are rectified, .* has no P"):
            calibration_from_info("CAM_BACK", info, projection, topic)
    info.d[:] = 0.0  # nothing was left to rectify
    assert calibration_from_info("CAM_BACK", info, "auto", "/cam/image_rect").intrinsics[0, 0] == 120.0


@pytest.mark.parametrize(
    ("model", "coefficients", "projection", "kind"),
    [
        ("plumb_bob", [0.0] * 5, "auto", None),
        ("", [], "auto", None),
        ("rational_polynomial", [0.0] * 8, "auto", None),
        ("rational_polynomial", [0.1, 0, 0, 0, 0, 0, 0, 0.2], "auto", "polynomial"),
        ("rational_polynomial", [0.1, 0, 0, 0, 0, 0, 0, 0.2, 0.01, 0, 0.01, 0], "auto", "polynomial"),
        ("thin_prism", [0.1, 0, 0, 0, 0, 0, 0, 0.2, 0.01, 0, 0.01, 0, 0.1, 0.1], "auto", "polynomial"),
        ("equidistant", [0.0] * 4, "auto", "fisheye"),  # r = f theta is no pinhole
        ("Equidistant", [], "k", "fisheye"),
        ("fisheye", [0.0] * 4, "auto", "fisheye"),
        ("kannala_brandt4", [0.0] * 4, "auto", "fisheye"),
        ("equidistant", [0.1] * 4, "p", None),  # the user says that the images are rectified
        ("mei", [0.1] * 4, "p", None),
    ],
)
def test_lenses(bag_rig: Any, model: str, coefficients: list[float], projection: str, kind: str | None) -> None:
    info = bag_rig.info("CAM_BACK", TICK)
    info.distortion_model, info.d = model, np.array(coefficients)
    found = calibration_from_info("CAM_BACK", info, projection)
    assert (found.lens.kind if found.lens else None) == kind and not found.doubts


@pytest.mark.parametrize("model", ["mei", "double_sphere", "inverse_brown_conrady"])
def test_unknown_lenses_are_refused_by_name(bag_rig: Any, model: str) -> None:
    info = bag_rig.info("CAM_BACK", TICK)
    info.distortion_model, info.d = model, np.array([0.1] * 5)
    with pytest.raises(CalibrationError, match=f"camera CAM_BACK: .*'{model}' is not known; known are plumb_bob"):
        calibration_from_info("CAM_BACK", info)


def test_a_rectified_camera_is_turned_by_r_and_moved_by_p(bag_rig: Any) -> None:
    """A point of the frame comes at P [R x, 1], by the intrinsics and the pose that are made of them."""
    info = turned(bag_rig, baseline_m=0.12)
    found = calibration_from_info("CAM_BACK", info)
    point = np.array([0.7, -0.4, 9.0])
    u, v, w = info.p.reshape(3, 4) @ [*(info.r.reshape(3, 3) @ point), 1.0]
    x, y, z, _ = np.linalg.inv(found.frame_from_camera) @ [*point, 1.0]
    np.testing.assert_allclose((found.intrinsics @ [x, y, z])[:2] / z, [u / w, v / w])
    np.testing.assert_allclose(np.linalg.inv(found.frame_from_camera)[:3, 3], [-0.12, 0, 0], atol=1e-12)
    # Raw images of the same camera are neither.
    np.testing.assert_array_equal(calibration_from_info("CAM_BACK", info, "k").frame_from_camera, np.eye(4))


def test_a_rectification_that_was_never_filled_in(bag_rig: Any) -> None:
    info = turned(bag_rig)
    info.r = np.zeros(9)
    np.testing.assert_array_equal(calibration_from_info("CAM_BACK", info).frame_from_camera, np.eye(4))
    for first in (np.nan, 3.0):
        info.r[0] = first
        with pytest.raises(CalibrationError, match="camera CAM_BACK: "):
            calibration_from_info("CAM_BACK", info)


def test_binning_and_region_of_interest(bag_rig: Any) -> None:
    info = bag_rig.info("CAM_BACK", TICK)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 20, 10, 120, 60
    info.binning_x = info.binning_y = 2
    found = calibration_from_info("c", info)
    assert found.image_size == (30, 60)
    np.testing.assert_allclose(found.intrinsics[:2, 2], [(79.5 - 20 + 0.5) / 2 - 0.5, (44.5 - 10 + 0.5) / 2 - 0.5])
    assert found.intrinsics[0, 0] == 60.0


def test_a_crop_need_not_hold_the_principal_point(bag_rig: Any) -> None:
    info = bag_rig.info("CAM_BACK", TICK)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 100, 60, 60, 30
    found = calibration_from_info("c", info)
    np.testing.assert_allclose(found.intrinsics[:2, 2], [-20.5, -15.5])
    calibrated = bag_rig.info("CAM_BACK", TICK)  # the driver states the crop's own K
    calibrated.height, calibrated.width, calibrated.k[2], calibrated.k[5] = 30, 60, -20.5, -15.5
    calibrated.p = np.zeros(12)
    np.testing.assert_allclose(calibration_from_info("c", calibrated).intrinsics, found.intrinsics)


def test_a_region_of_interest_that_does_not_fit(bag_rig: Any) -> None:
    info = bag_rig.info("CAM_BACK", TICK)
    info.roi.x_offset, info.roi.width, info.roi.height = 120, 60, 30
    with pytest.raises(CalibrationError, match=r"camera c: the region of interest, 60 x 30 .* into the 160 x 90 image"):
        calibration_from_info("c", info)


def test_a_lens_in_a_cropped_binned_image_keeps_its_rays(bag_rig: Any) -> None:
    """What the full picture has at a pixel, crop and binning have at the same place of the scene."""
    info = bag_rig.info("CAM_BACK", TICK)
    info.d = np.array([-0.2, 0.05, 0.0, 0.0, 0.0])
    whole = calibration_from_info("c", info)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 20, 10, 120, 60
    info.binning_x = info.binning_y = 2
    part = calibration_from_info("c", info)
    assert part.lens == whole.lens is not None
    place = np.array([0.3, -0.2, 1.0])
    full, cut = ([*each.lens.project(place)[0], 1.0] @ each.intrinsics.T for each in (whole, part))
    np.testing.assert_allclose((full[:2] - [20, 10] + 0.5) / 2 - 0.5, cut[:2])


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
    text = path.read_text()
    path.write_text(text + "    distortion_model: equidistant\n    distortion_coefficients: [0.01, 0, 0, 0]\n")
    assert read_calibration_file(path)["CAM_FRONT"].lens == Lens("fisheye", (0.01, 0.0, 0.0, 0.0))
    path.write_text(text + "    distortion_model: mei\n")
    with pytest.raises(CalibrationError, match=r"rig\.yaml, camera CAM_FRONT: .*'mei' is not known"):
        read_calibration_file(path)
    path.write_text("cameras:\n  CAM_FRONT:\n    image_size: [900, 1600]\n")
    with pytest.raises(CalibrationError, match=r"rig\.yaml, camera CAM_FRONT: the field 'intrinsics' is missing"):
        read_calibration_file(path)
    with pytest.raises(CalibrationError, match="cannot read the calibration file"):
        read_calibration_file(tmp_path / "none.yaml")
