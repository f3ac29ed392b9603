"""CameraInfo and calibration files to intrinsics."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hdmap_core.datasets.rig_file import read_rig_file, scaled_intrinsics
from hdmap_core.errors import CalibrationError
from hdmap_core.geometry.camera_rig import check_calibration
from hdmap_core.geometry.lens import FISHEYES, Lens, lens_of
from hdmap_core.geometry.se3 import se3

_FARTHEST_CROP = math.tan(math.radians(60.0))  # what a picture must show some of: no crop leaves only more than this
_RECTIFIED = {"rect", "rectified"}


@dataclass(frozen=True)
class CameraCalibration:
    """What CameraInfo or a calibration file says about one camera.

    Attributes:
        intrinsics: (3, 3) pixels, for images of `image_size`.
        image_size: (H, W).
        frame_id: the camera's optical frame.
        doubts: what contradicts itself, so that the map may be off: `contradicting_projection`, with a sentence.
        base_from_camera: (4, 4) from a calibration file; None: ask TF.
        lens: that the images still show; None where they are a pinhole's.
        frame_from_camera: (4, 4) pose of the (rectified) images' camera in `frame_id`.
        rectified: whether the images are taken to be.
    """

    intrinsics: np.ndarray
    image_size: tuple[int, int]
    frame_id: str
    doubts: Mapping[str, str] = field(default_factory=dict)
    base_from_camera: np.ndarray | None = None
    lens: Lens | None = None
    frame_from_camera: np.ndarray = field(default_factory=lambda: np.eye(4))
    rectified: bool = False

    @property
    def reading(self) -> str:
        """How images are taken: `rectified`, or `raw` and the lens: `raw, pinhole`, `raw, equidistant`."""
        return "rectified" if self.rectified else f"raw, {self.lens.model if self.lens else 'pinhole'}"

    def intrinsics_for(self, camera: str, image_size: tuple[int, int]) -> np.ndarray:
        """(3, 3) for an image of this size (H, W), which may be a scaled one.

        Raises:
            CalibrationError: if the aspect ratio differs by more than 1 %: then it was cropped, nobody knows where.
        """
        return scaled_intrinsics(camera, self.intrinsics, self.image_size, image_size, "its CameraInfo")


def calibration_from_info(camera: str, info: Any, projection: str = "auto", image_topic: str = "") -> CameraCalibration:
    """The calibration that a sensor_msgs/CameraInfo states, binning and region of interest applied.

    A CameraInfo describes two images at once: the one that the lens made (K and D) and the rectified one (P, seen from
    the frame turned by R and moved by P's fourth column; D has no meaning there). Which of them comes is not in it.

    Args:
        camera: name for messages.
        info: the CameraInfo of rclpy (`k`, `p`, `d`) or of a bag of any ROS version.
        projection: `k` for images as the lens made them, `p` for rectified ones; `auto`: rectified where the image
            topic is called so (`rect` or `rectified` is part of its name, as in `image_rect_color`), or where no
            distortion is left and P or R differs from K.
        image_topic: name of the images' topic, or nothing.

    Raises:
        CalibrationError: for an uncalibrated camera (k[0] = 0), a lens model that is not known, numbers that are not
            finite, an R that does not turn, a region of interest that does not fit, a centre far off the image.
    """
    try:
        return _from_info(camera, info, projection, image_topic)
    except CalibrationError as error:
        raise CalibrationError(
            str(error) if str(error).startswith("camera ") else f"camera {camera}: {error}"
        ) from None


def _from_info(camera: str, info: Any, projection: str, image_topic: str) -> CameraCalibration:
    matrix, projected, turn = (numbers_of(info, name) for name in "kpr")
    if (matrix.size, projected.size, turn.size) != (9, 12, 9):
        raise CalibrationError(
            f"CameraInfo has {matrix.size} numbers in k, {projected.size} in p, {turn.size} in r; 9, 12 and 9 are right"
        )
    matrix, projected, turn = matrix.reshape(3, 3), projected.reshape(3, 4), turn.reshape(3, 3)
    if not turn.any():  # never filled in
        turn = np.eye(3)
    rectified, doubts = _is_rectified(info, projection, image_topic, matrix, projected, turn)
    intrinsics = projected[:, :3].copy() if rectified else matrix.copy()
    if intrinsics[0, 0] == 0:
        raise CalibrationError(
            "its images are rectified, but CameraInfo has no P (focal length 0); publish it, or set the projection to k"
            if rectified
            else "CameraInfo says that the camera is not calibrated (focal length 0)"
        )
    check_calibration(camera, intrinsics, np.eye(4))
    lens, pose = None, np.eye(4)
    if rectified:
        pose = _rectified_pose(projected, turn)
        check_calibration(camera, intrinsics, pose)
    else:
        lens = lens_of(str(getattr(info, "distortion_model", "")), numbers_of(info, "d"))
    size = _crop_and_bin(info, intrinsics)
    _check_centre(intrinsics, size)
    doubts = {kind: f"camera {camera}: {sentence}" for kind, sentence in doubts.items()}
    return CameraCalibration(intrinsics, size, info.header.frame_id.lstrip("/"), doubts, None, lens, pose, rectified)


def _is_rectified(
    info: Any, projection: str, image_topic: str, matrix: np.ndarray, projected: np.ndarray, turn: np.ndarray
) -> tuple[bool, dict[str, str]]:
    """Whether the images are rectified, and what contradicts that."""
    words = [word for part in image_topic.lower().split("/") for word in part.split("_")]
    called_rectified, called_raw = not _RECTIFIED.isdisjoint(words), "raw" in words
    if projection != "auto":
        if projection == "k" and called_rectified:
            return False, {
                "contradicting_projection": f"its topic {image_topic} is called rectified, the projection is set to k: "
                "K and D are used; if the images are rectified, set it to p"
            }
        return projection == "p", {}
    bent = str(getattr(info, "distortion_model", "")).strip().lower() in FISHEYES or bool(numbers_of(info, "d").any())
    filled = projected[0, 0] > 0
    plain = np.concatenate([matrix, np.zeros((3, 1))], axis=1)
    differs = filled and not (np.allclose(projected, plain) and np.allclose(turn, np.eye(3), atol=1e-4))
    if called_rectified:
        return filled or bent, {}
    if bent or not differs:
        return False, {}
    contradiction = {
        "contradicting_projection": f"its topic {image_topic} is called raw, its CameraInfo is that of a rectified "
        "image (no distortion, P or R differs from K): P and R are used; if the images are raw, set the projection to k"
    }
    return True, contradiction if called_raw else {}


def _rectified_pose(projected: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """(4, 4): the frame of a CameraInfo from the camera of its rectified image.

    A point x of the frame comes at P [R x, 1]: the camera is turned by R and, where it is the second of a stereo pair,
    stands where P's fourth column says, in the axes of the rectified image.
    """
    centre = -np.linalg.solve(projected[:, :3], projected[:, 3])
    return se3(turn.T, turn.T @ centre)


def numbers_of(info: Any, name: str) -> np.ndarray:
    """A field of CameraInfo, which ROS 1 names in capitals, as (n,) float64."""
    values = getattr(info, name) if hasattr(info, name) else getattr(info, name.upper())
    return np.array(values, dtype=np.float64).reshape(-1)


def _crop_and_bin(info: Any, intrinsics: np.ndarray) -> tuple[int, int]:
    """Applies region of interest, then binning (0 means 1) to intrinsics in place; returns (H, W)."""
    height, width = int(info.height), int(info.width)
    roi = info.roi
    if roi.width and roi.height:
        if roi.x_offset + roi.width > max(width, 1) or roi.y_offset + roi.height > max(height, 1):
            raise CalibrationError(
                f"the region of interest, {roi.width} x {roi.height} pixels from ({roi.x_offset}, {roi.y_offset}), "
                f"does not fit into the {width} x {height} image"
            )
        intrinsics[0, 2] -= roi.x_offset
        intrinsics[1, 2] -= roi.y_offset
        height, width = int(roi.height), int(roi.width)
    bins = int(info.binning_y) or 1, int(info.binning_x) or 1
    for axis, binning in enumerate(reversed(bins)):
        intrinsics[axis] /= binning
        intrinsics[axis, 2] += (1 / binning - 1) / 2
    size = height // bins[0], width // bins[1]
    if min(size) <= 0:
        raise CalibrationError(f"CameraInfo is for an image of {size[1]} x {size[0]} pixels")
    return size


def _check_centre(intrinsics: np.ndarray, size: tuple[int, int]) -> None:
    """The principal point may lie outside a crop, but the picture must show something that a camera could see."""
    sides = np.array([size[1], size[0]])
    centre, focal = intrinsics[:2, 2], intrinsics[[0, 1], [0, 1]]
    off = np.maximum(np.maximum(-centre, centre - sides), 0) / focal
    if (off > _FARTHEST_CROP).any():
        raise CalibrationError(
            f"the principal point ({centre[0]:.1f}, {centre[1]:.1f}) lies outside the {size[1]} x {size[0]} image, "
            f"farther than in a crop: nothing in it would be nearer than 60 degrees to the axis"
        )


def read_calibration_file(path: str | Path) -> dict[str, CameraCalibration]:
    """Camera name -> calibration from a rig file, for rigs without CameraInfo (nuscenes2bag writes none).

    A camera whose entry has no pose stands where TF says; see `hdmap_core.datasets.rig_file`.

    Raises:
        CalibrationError: naming file, camera and field.
    """
    return {
        name: CameraCalibration(
            camera.intrinsics, camera.image_size, camera.frame_id, {}, camera.ego_from_camera, camera.lens
        )
        for name, camera in read_rig_file(path).items()
    }
