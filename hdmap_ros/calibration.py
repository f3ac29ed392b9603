"""CameraInfo and calibration files to intrinsics."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hdmap_core.errors import CalibrationError
from hdmap_core.geometry.camera_rig import check_calibration
from hdmap_core.geometry.se3 import rotation_from_quaternion, se3

_ASPECT_TOLERANCE = 0.01
_TURN_RAD = 1e-3  # 3 cm at 30 m
# Models that are a pinhole when all their coefficients are 0; a fisheye (equidistant, ...) is none even then.
_POLYNOMIAL_MODELS = (
    *("", "none", "pinhole", "perspective", "plumb_bob", "radtan", "rational_polynomial", "thin_prism"),
    *("brown_conrady", "modified_brown_conrady", "inverse_brown_conrady"),
)


@dataclass(frozen=True)
class CameraCalibration:
    """What CameraInfo or a calibration file says about one camera.

    Attributes:
        intrinsics: (3, 3) pixels, for images of `image_size`.
        image_size: (H, W).
        frame_id: the camera's optical frame.
        doubts: what CameraInfo says and nobody allows for, so that the map will be off: `distorted_lens`,
            `turned_rectification`, each with a sentence.
        base_from_camera: (4, 4) from a calibration file; None: ask TF.
    """

    intrinsics: np.ndarray
    image_size: tuple[int, int]
    frame_id: str
    doubts: Mapping[str, str] = field(default_factory=dict)
    base_from_camera: np.ndarray | None = None

    def intrinsics_for(self, camera: str, image_size: tuple[int, int]) -> np.ndarray:
        """(3, 3) for an image of this size (H, W), which may be a scaled one.

        Raises:
            CalibrationError: if the aspect ratio differs by more than 1 %: then it was cropped, nobody knows where.
        """
        if image_size == self.image_size:
            return self.intrinsics
        scale_y, scale_x = image_size[0] / self.image_size[0], image_size[1] / self.image_size[1]
        if abs(scale_x / scale_y - 1) > _ASPECT_TOLERANCE:
            raise CalibrationError(
                f"camera {camera}: the image has {image_size[1]} x {image_size[0]} pixels, its CameraInfo is for "
                f"{self.image_size[1]} x {self.image_size[0]}: another shape; publish the CameraInfo of this image"
            )
        scale = np.array([[scale_x, 0, (scale_x - 1) / 2], [0, scale_y, (scale_y - 1) / 2], [0, 0, 1]])
        return scale @ self.intrinsics


def calibration_from_info(camera: str, info: Any, projection: str = "auto") -> CameraCalibration:
    """The calibration that a sensor_msgs/CameraInfo states, binning and region of interest applied.

    Args:
        camera: name for messages.
        info: the CameraInfo of rclpy (`k`, `p`, `d`) or of a bag of any ROS version.
        projection: `k` for unrectified images, `p` for rectified ones, `auto`: `p` if there is a P that differs from
            K and no distortion is left.

    Raises:
        CalibrationError: for an uncalibrated camera (k[0] = 0), numbers that are not finite, a centre off the image.
    """
    matrix = np.array(_field(info, "k", "K"), dtype=np.float64).reshape(-1)
    projected = np.array(_field(info, "p", "P"), dtype=np.float64).reshape(-1)
    distortion = np.array(_field(info, "d", "D"), dtype=np.float64).reshape(-1)
    if matrix.size != 9 or projected.size != 12:
        raise CalibrationError(f"camera {camera}: CameraInfo has {matrix.size} numbers in k and {projected.size} in p")
    lens_model = str(getattr(info, "distortion_model", "")).strip().lower()
    fisheye = lens_model not in _POLYNOMIAL_MODELS
    distorted = fisheye or bool(np.any(distortion != 0))
    rectified = projected.reshape(3, 4)[:, :3]
    use_p = projection == "p"
    if projection == "auto":
        use_p = not distorted and rectified[0, 0] > 0 and not np.allclose(rectified, matrix.reshape(3, 3))
    intrinsics = rectified.copy() if use_p else matrix.reshape(3, 3).copy()
    if intrinsics[0, 0] == 0:
        raise CalibrationError(f"camera {camera}: CameraInfo says that the camera is not calibrated (focal length 0)")
    check_calibration(camera, intrinsics, np.eye(4))
    height, width = _crop_and_bin(info, intrinsics)
    if height <= 0 or width <= 0:
        raise CalibrationError(f"camera {camera}: CameraInfo is for an image of {width} x {height} pixels")
    cx, cy = intrinsics[0, 2], intrinsics[1, 2]
    if not (0 <= cx <= width and 0 <= cy <= height):
        raise CalibrationError(
            f"camera {camera}: the principal point ({cx:.1f}, {cy:.1f}) lies outside the {width} x {height} image"
        )
    doubts = {}
    if distorted and not use_p:
        lens = f"a lens of the model {lens_model!r}, which is no pinhole" if fisheye else "lens distortion"
        doubts["distorted_lens"] = (
            f"camera {camera}: its CameraInfo has {lens}; the map will be off, as a pinhole is assumed; publish "
            "rectified images, or if they are, set the projection to p"
        )
    turn_deg = math.degrees(_rectifying_turn(info))
    if (use_p or not distorted) and projection != "k" and not turn_deg <= math.degrees(_TURN_RAD):
        doubts["turned_rectification"] = (
            f"camera {camera}: its CameraInfo turns the rectified image by {turn_deg:.1f} degrees (R), which is not "
            "applied; the map will be off; give the pose of the rectified camera in TF and an R that is the identity"
        )
    return CameraCalibration(intrinsics, (height, width), info.header.frame_id.lstrip("/"), doubts)


def _rectifying_turn(info: Any) -> float:
    """The angle of the rectification R in radians; 0 where it was never filled in."""
    rotation = np.array(_field(info, "r", "R"), dtype=np.float64).reshape(-1)
    if rotation.size != 9 or not rotation.any():
        return 0.0
    return math.acos(min(1.0, max(-1.0, (rotation[[0, 4, 8]].sum() - 1) / 2)))


def _field(info: Any, *names: str) -> Any:
    return next(getattr(info, name) for name in names if hasattr(info, name))


def _crop_and_bin(info: Any, intrinsics: np.ndarray) -> tuple[int, int]:
    """Applies region of interest, then binning (0 means 1) to intrinsics in place; returns (H, W)."""
    height, width = int(info.height), int(info.width)
    roi = info.roi
    if roi.width and roi.height:
        intrinsics[0, 2] -= roi.x_offset
        intrinsics[1, 2] -= roi.y_offset
        height, width = int(roi.height), int(roi.width)
    for axis, binning in ((0, int(info.binning_x) or 1), (1, int(info.binning_y) or 1)):
        intrinsics[axis, axis] /= binning
        intrinsics[axis, 2] = (intrinsics[axis, 2] + 0.5) / binning - 0.5
    return height // (int(info.binning_y) or 1), width // (int(info.binning_x) or 1)


def read_calibration_file(path: str | Path) -> dict[str, CameraCalibration]:
    """Camera name -> calibration from YAML, for rigs without CameraInfo (nuscenes2bag writes none).

    One mapping per camera: `intrinsics` (3x3), `image_size` [H, W], optional `translation` [x, y, z] in metres and
    `rotation` [w, x, y, z] of the camera in the base frame (without them TF is asked), optional `frame_id`.

    Raises:
        CalibrationError: naming file, camera and field.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CalibrationError(f"cannot read the calibration file {path}: {error}") from None
    cameras = content.get("cameras") if isinstance(content, dict) else None
    if not isinstance(cameras, dict) or not cameras:
        raise CalibrationError(f"{path}: expected a mapping 'cameras' with one entry per camera")
    return {str(name): _file_entry(path, str(name), entry) for name, entry in cameras.items()}


def _file_entry(path: Path, name: str, entry: Any) -> CameraCalibration:
    where = f"{path}, camera {name}"
    try:
        intrinsics = np.array(entry["intrinsics"], dtype=np.float64)
        height, width = (int(side) for side in entry["image_size"])
        pose = None
        if "rotation" in entry or "translation" in entry:
            rotation = rotation_from_quaternion(entry["rotation"])
            translation = np.array(entry["translation"], dtype=np.float64)
            if translation.shape != (3,) or not all(map(math.isfinite, translation)):
                raise CalibrationError(f"{where}: 'translation' must be three finite numbers")
            pose = se3(rotation, translation)
    except KeyError as error:
        raise CalibrationError(f"{where}: the field {error} is missing") from None
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{where}: {error}") from None
    check_calibration(name, intrinsics, np.eye(4))
    return CameraCalibration(intrinsics, (height, width), str(entry.get("frame_id", name.lower())), {}, pose)
