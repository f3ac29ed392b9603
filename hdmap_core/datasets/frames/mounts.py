"""Numbers of a frames file as calibrations and poses; checked, and made once where many frames share them."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from hdmap_core.datasets.frames.format import Camera, Frame, Lidar, Pose
from hdmap_core.datasets.rig_file import RigCamera, rig_camera
from hdmap_core.elements import MapElement
from hdmap_core.errors import CalibrationError, DatasetError, ElementError
from hdmap_core.geometry.camera_rig import calibration_fault
from hdmap_core.geometry.se3 import rotation_from_quaternion, se3

_Part = TypeVar("_Part")
_OWN = {"name", "image", "stamp_ns", "map_from_ego"}


def camera_of(camera: Camera) -> RigCamera:
    """Calibration and mount of a camera.

    Raises:
        CalibrationError: naming the field of what no camera can have.
    """
    return _rig_camera(camera.model_copy(update={"image": "-", "stamp_ns": None, "map_from_ego": None}))


def matrix_of(pose: Pose | Lidar) -> np.ndarray:
    """(4, 4) float64.

    Raises:
        CalibrationError: if its rotation is none.
    """
    numbers = np.array(pose.rotation)
    matrix = se3(numbers if numbers.shape == (3, 3) else rotation_from_quaternion(numbers), pose.translation)
    fault = calibration_fault(np.eye(3), matrix)
    if fault:
        raise CalibrationError(fault)
    return matrix


def elements_of(frame: Frame) -> list[MapElement]:
    """The true elements that a frame brings."""
    return [MapElement.from_json(element.model_dump()) for element in frame.elements or ()]


def check_mounts(path: Path, frame: Frame) -> None:
    """Whether a frame's numbers can be those of cameras, poses and elements.

    Raises:
        DatasetError: naming file, frame, camera and field.
    """
    where = f"{path}: frame {frame.token!r}"
    names = [camera.name for camera in frame.cameras]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DatasetError(f"{where}: camera {twice!r} occurs twice; give every camera its own name")
    for camera in frame.cameras:
        at = f"{where}, camera {camera.name!r}"
        if camera.rotation is None and camera.yaw_pitch_roll_deg is None:
            raise DatasetError(f"{at}: the field 'rotation' is missing; give it, or 'yaw_pitch_roll_deg'")
        _told(at, camera_of, camera)
        if camera.map_from_ego is not None:
            if frame.map_from_ego is None:
                raise DatasetError(f"{at}: 'map_from_ego' is given, but the frame has none to relate it to; give both")
            _told(f"{at}: 'map_from_ego'", matrix_of, camera.map_from_ego)
    for name, part in (("map_from_ego", frame.map_from_ego), ("lidar", frame.lidar)):
        if part is not None:
            _told(f"{where}: {name!r}", matrix_of, part)
    _told(where, elements_of, frame)


def _told(where: str, make: Callable[[_Part], object], part: _Part) -> None:
    try:
        make(part)
    except (CalibrationError, ElementError) as error:
        raise DatasetError(f"{where}: {error}") from None


@lru_cache(maxsize=1024)
def _rig_camera(camera: Camera) -> RigCamera:
    entry: dict[str, Any] = {name: value for name, value in camera if name not in _OWN and value is not None}
    return rig_camera("", entry)
