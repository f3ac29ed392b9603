"""From a set of image messages, CameraInfo and TF to an Observation.

Every camera's pose is taken at its own stamp and brought into the base frame of the set's reference stamp through a
frame that does not move (odom): at 10 m/s the 42.6 ms between nuScenes' first and last camera are 0.43 m.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import cv2
import numpy as np

from hdmap_core.errors import CalibrationError, ImageError
from hdmap_core.geometry import CameraRig
from hdmap_core.observation import Observation
from hdmap_ros.calibration import CameraCalibration, calibration_from_info
from hdmap_ros.images import decode_image
from hdmap_ros.synchronizer import ImageSet
from hdmap_ros.transforms import TransformBuffer, TransformError


@dataclass(frozen=True)
class BuilderConfig:
    """Frames and rules.

    Attributes:
        base_frame: the frame of the observation.
        fixed_frame: does not move between two exposures; "" switches motion compensation off.
        motion_required: without a transform to the fixed frame a set fails; otherwise it goes on with static poses.
        projection: see `calibration_from_info`.
        frame_ids: camera -> frame, where a driver's header is wrong.
        tf_timeout_s: how long a lookup may wait.
        min_cameras: fewer images that can be decoded are an error.
    """

    base_frame: str = "base_link"
    fixed_frame: str = "odom"
    motion_required: bool = False
    projection: str = "auto"
    frame_ids: Mapping[str, str] = field(default_factory=dict)
    tf_timeout_s: float = 0.05
    min_cameras: int = 1


class NotReadyError(CalibrationError):
    """Calibration or transform of a camera has not come yet; a later set may succeed.

    Attributes:
        camera: the camera it is about.
        state: `waiting_camera_info`, `bad_calibration` or `no_transform`.
    """

    def __init__(self, camera: str, state: str, message: str) -> None:
        super().__init__(message)
        self.camera = camera
        self.state = state


class ObservationBuilder:
    """Holds the newest valid calibration per camera. `add_camera_info` and `build` may run in different threads."""

    def __init__(
        self,
        cameras: tuple[str, ...],
        config: BuilderConfig,
        transforms: TransformBuffer,
        calibrations: Mapping[str, CameraCalibration] | None = None,
        pool: Executor | None = None,
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.cameras = cameras
        self.config = config
        self.transforms = transforms
        self.image_errors: dict[str, str] = {}
        self.camera_states: dict[str, str] = dict.fromkeys(cameras, "waiting_camera_info")
        self.motion_compensated = False
        self._pool = pool
        self._warn_once = _once(warn)
        self._lock = Lock()
        self._calibrations: dict[str, CameraCalibration] = {}
        self._bad: dict[str, str] = {}
        self._seen: dict[str, bytes] = {}
        self._from_file = dict(calibrations or {})

    def add_camera_info(self, camera: str, info: Any) -> str | None:
        """Takes a CameraInfo; a bad one is refused and the previous good one stays.

        Returns:
            What is wrong with it, or None.
        """
        key = np.array([*_numbers(info)], dtype=np.float64).tobytes() + info.header.frame_id.encode()
        if self._seen.get(camera) == key:
            return self._bad.get(camera)
        self._seen[camera] = key
        try:
            calibration = calibration_from_info(camera, info, self.config.projection)
        except CalibrationError as error:
            with self._lock:
                self._bad[camera] = str(error)
            return str(error)
        if calibration.distorted:
            self._warn_once(
                f"camera {camera}: CameraInfo has lens distortion, the model assumes none; publish rectified images"
            )
        with self._lock:
            self._calibrations[camera] = calibration
            self._bad.pop(camera, None)
        return None

    def build(self, images: ImageSet) -> Observation:
        """Decodes and calibrates a set.

        A camera whose image cannot be decoded counts as missing; the reason is in `image_errors`.

        Raises:
            NotReadyError: if CameraInfo or transform of a camera with an image is missing.
            ImageError: if too few images of the set can be decoded.
        """
        present = list(images.messages)
        calibrations = {camera: self._calibration(camera) for camera in present}
        poses = {camera: self._pose(camera, calibrations[camera], images) for camera in present}
        decoded = self._decode(images)
        usable = [camera for camera in present if decoded[camera] is not None]
        if len(usable) < self.config.min_cameras:
            reasons = "; ".join(self.image_errors.values())
            raise ImageError(
                f"{len(usable)} images of the set can be decoded, {self.config.min_cameras} are needed: {reasons}"
            )
        size = _common_size([decoded[camera] for camera in usable])
        intrinsics, rig_poses, pictures = [], [], []
        for camera in self.cameras:
            picture = decoded.get(camera)
            if picture is None:  # masked: any valid camera does, nothing is read from it
                camera_or_other = camera if camera in calibrations else usable[0]
                intrinsics.append(calibrations[camera_or_other].intrinsics)
                rig_poses.append(poses[camera_or_other])
            else:
                matrix = calibrations[camera].intrinsics_for(camera, picture.shape[:2])
                picture, matrix = _resized(picture, matrix, size)
                intrinsics.append(matrix)
                rig_poses.append(poses[camera])
                self.camera_states[camera] = "ok"
            pictures.append(picture)
        return Observation(
            tuple(pictures),
            CameraRig.from_arrays(self.cameras, intrinsics, rig_poses, size),
            images.stamp_ns,
            str(images.stamp_ns),
            map_from_ego=self._map_from_ego(images.stamp_ns),
            camera_stamps_ns=tuple(images.stamps_ns.get(camera, images.stamp_ns) for camera in self.cameras),
        )

    def _calibration(self, camera: str) -> CameraCalibration:
        with self._lock:
            known = self._calibrations.get(camera) or self._from_file.get(camera)
            bad = self._bad.get(camera)
        if known is not None:
            return known
        state = "bad_calibration" if bad else "waiting_camera_info"
        self.camera_states[camera] = state
        raise NotReadyError(camera, state, bad or f"camera {camera}: no CameraInfo has come yet")

    def _pose(self, camera: str, calibration: CameraCalibration, images: ImageSet) -> np.ndarray:
        """(4, 4) base frame at the set's stamp from the camera at its own."""
        try:
            base_from_camera = calibration.base_from_camera
            if base_from_camera is None:
                base_from_camera = self._static_pose(camera, calibration, images)
            return self._base_motion(images.stamp_ns, images.stamps_ns[camera]) @ base_from_camera
        except TransformError as error:
            self.camera_states[camera] = "no_transform"
            raise NotReadyError(camera, "no_transform", f"camera {camera}: {error}") from None

    def _static_pose(self, camera: str, calibration: CameraCalibration, images: ImageSet) -> np.ndarray:
        message_frame = images.messages[camera].header.frame_id.lstrip("/")
        frame = self.config.frame_ids.get(camera) or calibration.frame_id or message_frame
        if not frame:
            frame = camera.lower()
            self._warn_once(f"camera {camera}: neither image nor CameraInfo names a frame; using {frame!r}")
        base, stamp_ns = self.config.base_frame, images.stamps_ns[camera]
        try:
            return self.transforms.lookup(base, frame, stamp_ns)
        except TransformError:
            # Some converters repeat the sensors' poses on /tf with other stamps: they do not move, so take the latest.
            return self.transforms.lookup(base, frame, None, self.config.tf_timeout_s)

    def _base_motion(self, reference_ns: int, camera_ns: int) -> np.ndarray:
        config = self.config
        if not config.fixed_frame:
            return np.eye(4)
        base = config.base_frame
        try:
            motion = self.transforms.lookup_between(
                base, reference_ns, base, camera_ns, config.fixed_frame, config.tf_timeout_s
            )
        except TransformError as error:
            if config.motion_required or config.fixed_frame in self.transforms.frames():
                raise
            self._warn_once(f"no motion compensation between the cameras: {error}")
            self.motion_compensated = False
            return np.eye(4)
        self.motion_compensated = True
        return motion

    def _map_from_ego(self, stamp_ns: int) -> np.ndarray | None:
        for frame in ("map", self.config.fixed_frame):
            try:
                return self.transforms.lookup(frame, self.config.base_frame, stamp_ns)
            except TransformError:
                continue
        return None

    def _decode(self, images: ImageSet) -> dict[str, np.ndarray | None]:
        def attempt(camera: str) -> np.ndarray | None:
            try:
                picture = decode_image(images.messages[camera])
            except ImageError as error:
                self.image_errors[camera] = f"camera {camera}: {error}"
                self.camera_states[camera] = "rejected_image"
                return None
            self.image_errors.pop(camera, None)
            return picture

        cameras = list(images.messages)
        decoded = self._pool.map(attempt, cameras) if self._pool else map(attempt, cameras)
        return dict(zip(cameras, decoded, strict=True))


def _numbers(info: Any) -> list[float]:
    """Every number of a CameraInfo that calibration depends on."""
    fields = [getattr(info, name) if hasattr(info, name) else getattr(info, name.upper()) for name in "kpd"]
    roi = info.roi
    extra = (info.height, info.width, info.binning_x, info.binning_y, roi.x_offset, roi.y_offset, roi.height, roi.width)
    return [*(float(value) for values in fields for value in values), *map(float, extra)]


def _common_size(pictures: list[np.ndarray | None]) -> tuple[int, int]:
    """(H, W) of the largest image: a rig has one size, smaller cameras are scaled up to it."""
    return max((picture.shape[:2] for picture in pictures if picture is not None), key=lambda size: size[0] * size[1])


def _resized(picture: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    height, width = picture.shape[:2]
    if (height, width) == size:
        return picture, matrix
    scale_y, scale_x = size[0] / height, size[1] / width
    scale = np.array([[scale_x, 0, (scale_x - 1) / 2], [0, scale_y, (scale_y - 1) / 2], [0, 0, 1]])
    return cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), scale @ matrix


def _once(warn: Callable[[str], None]) -> Callable[[str], None]:
    said: set[str] = set()

    def warn_once(message: str) -> None:
        subject = message.split(":")[0]  # times differ from one to the next
        if subject not in said:
            said.add(subject)
            warn(message)

    return warn_once
