"""The rig file: a plain YAML file that says of each camera what its images show, and where on the car it is mounted.

    cameras:
      front:
        image_size: [1080, 1920]                                  # height, width
        intrinsics: [[1000, 0, 960], [0, 1000, 540], [0, 0, 1]]   # or [fx, fy, cx, cy], pixels
        distortion_model: plumb_bob                               # CameraInfo's names; left out: a pinhole
        distortion_coefficients: [-0.3, 0.1, 0, 0, 0]
        translation: [1.7, 0.0, 1.5]                              # metres: x forward, y left, z above the road
        yaw_pitch_roll_deg: [0, 0, 0]                             # of the view: left, down, clockwise
        # rotation: [0.5, -0.5, 0.5, -0.5]                        # in its place: (w, x, y, z) or 3 x 3
        start: 1.25                                               # seconds: when its video begins; may be left out

The node, bag replay, `hdmap predict` and `hdmap frames from-video` read it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hdmap_core.errors import CalibrationError
from hdmap_core.files.yaml_files import read_yaml
from hdmap_core.geometry import CameraRig
from hdmap_core.geometry.camera_rig import calibration_fault
from hdmap_core.geometry.lens import Lens, lens_of
from hdmap_core.geometry.se3 import rotation_from_euler, rotation_from_quaternion, se3

_ASPECT_TOLERANCE = 0.01
_MOST_PIXELS = 1 << 16  # along a side
LATEST_START_S = 9e9
"""Seconds since 1970 at which no video begins."""
_FORWARD = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # camera axes (right, down, forward) that look along x


@dataclass(frozen=True)
class RigCamera:
    """What a rig file says of one camera.

    Attributes:
        intrinsics: (3, 3) pixels, for images of `image_size`.
        image_size: (H, W).
        lens: that the images show; None for a pinhole.
        ego_from_camera: (4, 4) metres, camera frame optical; None where the file does not say.
        frame_id: ROS' name of the camera's frame.
        start_ns: when its video begins, nanoseconds on a clock that all cameras share; None where it does not say.
    """

    intrinsics: np.ndarray
    image_size: tuple[int, int]
    lens: Lens | None
    ego_from_camera: np.ndarray | None
    frame_id: str
    start_ns: int | None = None


def read_rig_file(path: str | Path) -> dict[str, RigCamera]:
    """Camera name -> what the file says of it, in the file's order.

    Raises:
        CalibrationError: naming file, camera and field.
    """
    path = Path(path)
    try:
        content = read_yaml(path)
    except OSError as error:
        raise CalibrationError(f"cannot read the calibration file {path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise CalibrationError(f"cannot read the calibration file {path}: {error}") from None
    cameras = content.get("cameras") if isinstance(content, dict) else None
    if not isinstance(cameras, dict) or not cameras:
        raise CalibrationError(f"{path}: expected a mapping 'cameras' with one entry per camera")
    rig = {}
    for name, entry in cameras.items():
        try:
            rig[str(name)] = rig_camera(str(name), entry)
        except CalibrationError as error:
            raise CalibrationError(f"{path}, camera {name}: {error}") from None
    return rig


def scaled_intrinsics(
    camera: str, intrinsics: np.ndarray, known_for: tuple[int, int], image_size: tuple[int, int], source: str
) -> np.ndarray:
    """(3, 3) intrinsics for images of another size than those that they are known for.

    Args:
        camera: its name, for the message.
        intrinsics: (3, 3) pixels.
        known_for: (H, W) of the images that they are for.
        image_size: (H, W) of those that came.
        source: what says so, for the message: `its CameraInfo`, a file.

    Raises:
        CalibrationError: if the aspect ratio differs by more than 1 %: then it was cropped, nobody knows where.
    """
    if image_size == known_for:
        return intrinsics
    scale_y, scale_x = (side / known for side, known in zip(image_size, known_for, strict=True))
    if abs(scale_x / scale_y - 1) > _ASPECT_TOLERANCE:
        raise CalibrationError(
            f"camera {camera}: the image has {image_size[1]} x {image_size[0]} pixels, {source} is for "
            f"{known_for[1]} x {known_for[0]}: another shape; give the calibration of this image"
        )
    return np.array([[scale_x, 0, (scale_x - 1) / 2], [0, scale_y, (scale_y - 1) / 2], [0, 0, 1]]) @ intrinsics


def rig_for(cameras: Mapping[str, RigCamera], sizes: Mapping[str, tuple[int, int]], source: str | Path) -> CameraRig:
    """The rig of images of these sizes.

    Args:
        cameras: as `read_rig_file` gives them.
        sizes: camera -> (H, W) of its images, for those cameras that have images; the rig has them in this order.
        source: the file, for messages.

    Raises:
        CalibrationError: naming a camera that the file does not know or gives no pose, or whose images have another
            shape.
    """
    for name in sizes:
        if name not in cameras:
            raise CalibrationError(f"{source} has no camera {name!r}; it has {', '.join(cameras)}")
        if cameras[name].ego_from_camera is None:
            raise CalibrationError(
                f"{source}, camera {name}: where it is mounted is missing; give 'translation' and 'rotation' or "
                "'yaw_pitch_roll_deg'"
            )
    return CameraRig.from_arrays(
        list(sizes),
        [
            scaled_intrinsics(name, cameras[name].intrinsics, cameras[name].image_size, size, str(source))
            for name, size in sizes.items()
        ],
        [pose for name in sizes if (pose := cameras[name].ego_from_camera) is not None],
        list(sizes.values()),
        [cameras[name].lens for name in sizes],
    )


def rig_camera(name: str, entry: Any) -> RigCamera:
    """What an entry of `cameras` says.

    Args:
        name: of the camera.
        entry: a mapping; what it holds beside these fields is not read.

    Raises:
        CalibrationError: naming the field.
    """
    try:
        intrinsics = _intrinsics(entry["intrinsics"])
        height, width = (int(side) for side in entry["image_size"])
        if not (0 < height < _MOST_PIXELS and 0 < width < _MOST_PIXELS):
            raise CalibrationError(f"'image_size' must be [height, width] in pixels, got {entry['image_size']!r:.40}")
        lens = lens_of(str(entry.get("distortion_model", "")), entry.get("distortion_coefficients", ()))
        pose, start_ns = _pose(entry), _start_ns(entry.get("start"))
    except KeyError as error:
        raise CalibrationError(f"the field {error} is missing") from None
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise CalibrationError(str(error)) from None
    fault = calibration_fault(intrinsics, np.eye(4) if pose is None else pose)
    if fault:
        raise CalibrationError(fault)
    return RigCamera(intrinsics, (height, width), lens, pose, str(entry.get("frame_id", name.lower())), start_ns)


def _intrinsics(value: Any) -> np.ndarray:
    numbers = np.array(value, dtype=np.float64)
    if numbers.shape == (4,):
        fx, fy, cx, cy = numbers
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    if numbers.shape != (3, 3):
        raise CalibrationError(f"'intrinsics' must be 3 x 3, or [fx, fy, cx, cy], got a shape of {numbers.shape}")
    return numbers


def _start_ns(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < LATEST_START_S:
        raise CalibrationError(
            f"'start' must be seconds, 0 or more, since 1970 or since the first begins, got {value!r:.40}"
        )
    return round(value * 1e9) if isinstance(value, float) else value * 1_000_000_000


def _pose(entry: Any) -> np.ndarray | None:
    """(4, 4), or None where neither a place nor a direction is given."""
    directions = [key for key in ("rotation", "yaw_pitch_roll_deg") if key in entry]
    if len(directions) > 1:
        raise CalibrationError("give 'rotation' or 'yaw_pitch_roll_deg', not both")
    if not directions and "translation" not in entry:
        return None
    if not directions:
        raise CalibrationError("the field 'rotation' (or 'yaw_pitch_roll_deg') is missing beside 'translation'")
    translation = np.array(entry["translation"], dtype=np.float64)
    if translation.shape != (3,) or not all(map(math.isfinite, translation)):
        raise CalibrationError("'translation' must be three finite numbers, metres")
    numbers = np.array(entry[directions[0]], dtype=np.float64)
    if directions == ["rotation"]:
        rotation = numbers if numbers.shape == (3, 3) else rotation_from_quaternion(numbers)
    elif numbers.shape == (3,) and np.isfinite(numbers).all():
        yaw, pitch, roll = np.deg2rad(numbers)
        rotation = rotation_from_euler(roll, pitch, yaw) @ _FORWARD
    else:
        raise CalibrationError("'yaw_pitch_roll_deg' must be three finite numbers, degrees")
    return se3(rotation, translation)
