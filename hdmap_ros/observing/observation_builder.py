"""From a set of image messages, CameraInfo and TF to an Observation.

Every camera's pose is taken at its own stamp and brought into the base frame of the set's reference stamp through a
frame that does not move (odom): at 10 m/s the 42.6 ms between nuScenes' first and last camera are 0.43 m.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hdmap_core.errors import CalibrationError, HdmapError
from hdmap_core.geometry import CameraRig
from hdmap_core.geometry.camera_rig import check_calibration
from hdmap_core.geometry.road_plane import WINDOW_S
from hdmap_core.images.decoding import Enough, enough_of
from hdmap_core.observation import Observation
from hdmap_core.observation.road_plane import on_the_road
from hdmap_ros.observing.calibration import CameraCalibration
from hdmap_ros.observing.camera_infos import CameraInfos
from hdmap_ros.observing.set_decoding import DeviceDecoder, SetDecoder
from hdmap_ros.observing.transforms import TransformBuffer, TransformError, UnconnectedError
from hdmap_ros.problems import Problems
from hdmap_ros.stamps import stamp_to_ns
from hdmap_ros.sync.synchronizer import ImageSet


@dataclass(frozen=True)
class BuilderConfig:
    """Frames and rules.

    Attributes:
        base_frame: the frame of the observation.
        fixed_frame: does not move between two exposures; "" switches motion compensation off.
        motion_required: without a transform to the fixed frame a set fails; otherwise it goes on with static poses.
        projection: see `calibration_from_info`.
        projections: camera -> its own.
        image_topics: camera -> topic, whose name may say that its images are rectified.
        frame_ids: camera -> frame, where a driver's header is wrong.
        road_plane: turn the base frame onto the road, see `on_the_road`.
        tf_timeout_s: how long the lookups of one set may wait, together.
        min_cameras: fewer cameras that can be used are an error.
    """

    base_frame: str = "base_link"
    fixed_frame: str = "odom"
    motion_required: bool = False
    projection: str = "auto"
    projections: Mapping[str, str] = field(default_factory=dict)
    image_topics: Mapping[str, str] = field(default_factory=dict)
    frame_ids: Mapping[str, str] = field(default_factory=dict)
    road_plane: bool = True
    tf_timeout_s: float = 0.05
    min_cameras: int = 1


class NotReadyError(HdmapError):
    """A camera, or too many of a set, cannot be used; a later set may succeed.

    Attributes:
        camera: the camera it is about, of several the first.
        state: `waiting_camera_info`, `bad_calibration`, `no_transform` or `rejected_image`.
    """

    def __init__(self, camera: str, state: str, message: str) -> None:
        super().__init__(message)
        self.camera = camera
        self.state = state


class ObservationBuilder:
    """Knows each camera's calibrations. `add_camera_info` and `build` may run in different threads.

    Attributes:
        problems: what was found wrong, counted.
        camera_states: camera -> `ok`, or a `NotReadyError`'s state.
        camera_faults: camera -> why it is not ok.
        motion_compensated: whether the last set was.
        pool: the threads that decode; None: the caller's does.
        sweep_at: gives the LiDAR's sweep about an instant (nanoseconds) as (P, 3 or more) x, y, z in metres in the base
            frame of the instant, or None; where the road is taken from it. None: nobody asks a LiDAR.
    """

    def __init__(
        self,
        cameras: tuple[str, ...],
        config: BuilderConfig,
        transforms: TransformBuffer,
        calibrations: Mapping[str, CameraCalibration] | None = None,
        pool: Executor | None = None,
        problems: Problems | None = None,
    ) -> None:
        self.cameras = cameras
        self.config = config
        self.transforms = transforms
        self.problems = problems or Problems()
        self.camera_faults: dict[str, str] = {}
        self.camera_states: dict[str, str] = dict.fromkeys(cameras, "waiting_camera_info")
        self.motion_compensated = False
        self.pool = pool
        self.sweep_at: Callable[[int], np.ndarray | None] | None = None
        self._infos = CameraInfos(
            config.projection, config.projections, config.image_topics, dict(calibrations or {}), self.problems
        )
        self._sizes: dict[str, tuple[int, ...]] = {}
        self._recent: deque[tuple[int, np.ndarray]] = deque()
        self._decode = SetDecoder(self.problems, pool)

    def add_camera_info(self, camera: str, info: Any) -> str | None:
        """Takes a CameraInfo, see `CameraInfos.add`."""
        return self._infos.add(camera, info)

    @property
    def readings(self) -> dict[str, str]:
        """Camera -> how its images are taken, see `CameraCalibration.reading`; of those whose calibration is known."""
        known = self._infos.newest
        return {camera: known[camera].reading for camera in self.cameras if camera in known}

    def build(
        self,
        images: ImageSet,
        enough: Enough | None = None,
        *,
        reuse: bool = False,
        on_device: DeviceDecoder | None = None,
    ) -> Observation:
        """Decodes and calibrates a set.

        A camera that cannot be used counts as missing; why stands in `camera_faults` and is counted in `problems`.

        Args:
            images: the set.
            enough: what will do of each picture, see `decode_image`; the rig is that of the smaller pictures.
            reuse: the observation's images need to last until the next `build` has ended, the one after that may write
                over them.
            on_device: decodes what it can of the files, by camera, to (H, W, 3) uint8 on a GPU, given `enough` and the
                threads; see `DevicePath.decode`. What it leaves out is decoded on the CPU.

        Raises:
            NotReadyError: if fewer cameras than `min_cameras` can be used.
        """
        errors: list[NotReadyError] = []
        calibrations: dict[str, CameraCalibration] = {}
        poses: dict[str, np.ndarray] = {}
        mounted: dict[str, np.ndarray] = {}
        deadline_s = time.monotonic() + self.config.tf_timeout_s
        for camera in images.messages:
            try:
                calibrations[camera] = self._calibration(camera, images.messages[camera])
                poses[camera], mounted[camera] = self._poses(camera, calibrations[camera], images, deadline_s)
            except NotReadyError as error:
                errors.append(error)
        pictures: dict[str, Any] = {}  # arrays, and tensors on a device
        matrices: dict[str, np.ndarray] = {}
        if self._enough(len(poses)):
            known = [(camera, calibrations[camera]) for camera in poses]
            sizes = None
            if enough:
                sizes = {name: enough_of(enough, of.image_size, of.intrinsics[0, 0]) for name, of in known}
            for camera, found in self._decode(images.messages, list(poses), sizes, reuse, on_device).items():
                try:
                    if isinstance(found, str):
                        raise NotReadyError(camera, "rejected_image", f"camera {camera}: {found}")
                    matrices[camera] = self._matrix(camera, calibrations[camera], found, poses[camera])
                    pictures[camera] = found
                except NotReadyError as error:
                    errors.append(error)
        self._note(errors, set(poses) - {error.camera for error in errors})
        if not self._enough(len(pictures)):
            usable, reasons = len(images.messages) - len(errors), "; ".join(map(str, errors))
            raise NotReadyError(
                errors[0].camera if errors else "",
                errors[0].state if errors else "rejected_image",
                f"{usable} cameras of the set can be used, {self.config.min_cameras} are needed: {reasons}",
            )
        other = next(iter(pictures))  # for masked cameras any valid one does, nothing is read from it
        shapes = [tuple(pictures.get(camera, pictures[other]).shape[:2]) for camera in self.cameras]
        given = [pictures.get(camera) for camera in self.cameras]
        there = [None if isinstance(picture, np.ndarray) else picture for picture in given]
        observation = Observation(
            tuple(picture if isinstance(picture, np.ndarray) else None for picture in given),
            CameraRig.from_arrays(
                self.cameras,
                [matrices.get(camera, matrices[other]) for camera in self.cameras],
                [poses[camera if camera in pictures else other] for camera in self.cameras],
                shapes,
                [calibrations[camera].lens if camera in pictures else None for camera in self.cameras],
                [mounted[camera if camera in pictures else other] for camera in self.cameras],
            ),
            images.stamp_ns,
            str(images.stamp_ns),
            map_from_ego=self._map_from_ego(images.stamp_ns),
            camera_stamps_ns=tuple(images.stamps_ns.get(camera, images.stamp_ns) for camera in self.cameras),
            device_images=tuple(there) if any(each is not None for each in there) else (),
        )
        return self._on_the_road(observation) if self.config.road_plane else observation

    def _enough(self, cameras: int) -> bool:
        return cameras >= max(1, self.config.min_cameras)

    def _note(self, errors: list[NotReadyError], sound: set[str]) -> None:
        for camera in sound:
            self.camera_states[camera] = "ok"
            self.camera_faults.pop(camera, None)
        for error in errors:
            self.camera_states[error.camera] = error.state
            self.camera_faults[error.camera] = str(error)
            self.problems.add(error.state, error.camera, str(error))

    def _calibration(self, camera: str, message: Any) -> CameraCalibration:
        known, bad = self._infos.at(camera, stamp_to_ns(message.header.stamp))
        if known is not None:
            return known
        state = "bad_calibration" if bad else "waiting_camera_info"
        raise NotReadyError(camera, state, bad or f"camera {camera}: no CameraInfo has come yet")

    def _matrix(self, camera: str, calibration: CameraCalibration, picture: np.ndarray, pose: np.ndarray) -> np.ndarray:
        """(3, 3) intrinsics for this picture."""
        size = picture.shape[:2]
        try:
            matrix = calibration.intrinsics_for(camera, size)
            check_calibration(camera, matrix, pose)
        except CalibrationError as error:
            raise NotReadyError(camera, "bad_calibration", str(error)) from None
        before = self._sizes.get(camera, size)
        self._sizes[camera] = size
        if before != size:
            sizes = " and are now ".join(f"{width} x {height}" for height, width in (before, size))
            self.problems.add("new_image_size", camera, f"camera {camera}: its decoded images were {sizes} pixels")
        return matrix

    def _poses(
        self, camera: str, calibration: CameraCalibration, images: ImageSet, deadline_s: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """(4, 4) each: base frame at the set's stamp from the camera at its own, and as it is mounted."""
        try:
            base_from_camera = calibration.base_from_camera
            if base_from_camera is None:
                base_from_frame = self._static_pose(camera, calibration, images, deadline_s)
                base_from_camera = base_from_frame @ calibration.frame_from_camera
            motion = self._base_motion(images.stamp_ns, images.stamps_ns[camera], deadline_s)
            return motion @ base_from_camera, base_from_camera
        except TransformError as error:
            raise NotReadyError(camera, "no_transform", f"camera {camera}: {error}") from None

    def _static_pose(
        self, camera: str, calibration: CameraCalibration, images: ImageSet, deadline_s: float
    ) -> np.ndarray:
        message_frame = images.messages[camera].header.frame_id.lstrip("/")
        frame = self.config.frame_ids.get(camera) or calibration.frame_id or message_frame
        if not frame:
            frame = camera.lower()
            message = f"camera {camera}: neither image nor CameraInfo names a frame; using {frame!r}"
            self.problems.add_once("no_frame_id", camera, message)
        base, stamp_ns = self.config.base_frame, images.stamps_ns[camera]
        try:
            return self.transforms.lookup(base, frame, stamp_ns)
        except TransformError:
            # Some converters repeat the sensors' poses on /tf with other stamps: they do not move, so take the latest.
            return self.transforms.lookup(base, frame, None, deadline_s - time.monotonic())

    def _base_motion(self, reference_ns: int, camera_ns: int, deadline_s: float) -> np.ndarray:
        config = self.config
        if not config.fixed_frame:
            return np.eye(4)
        base = config.base_frame
        try:
            motion = self.transforms.lookup_between(
                base, reference_ns, base, camera_ns, config.fixed_frame, deadline_s - time.monotonic()
            )
        except UnconnectedError as error:
            if config.motion_required:
                raise
            self.problems.add_once(
                "no_motion",
                "",
                f"no motion compensation between the cameras, the map is off by what the car moves: {error}",
            )
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

    def _on_the_road(self, observation: Observation) -> Observation:
        """By LiDAR, else by the poses of the last sets; those before a jump of the stamps do not count."""
        stamp_ns, recent = observation.stamp_ns, self._recent
        sweep = None if self.sweep_at is None else self.sweep_at(stamp_ns)
        if recent and not 0 < stamp_ns - recent[-1][0] < WINDOW_S * 1e9:
            recent.clear()
        if observation.map_from_ego is None:
            recent.clear()
            return on_the_road(observation, sweep=sweep)
        recent.append((stamp_ns, observation.map_from_ego))
        while stamp_ns - recent[0][0] > WINDOW_S * 1e9:
            recent.popleft()
        return on_the_road(observation, [pose for _, pose in recent], [stamp for stamp, _ in recent], sweep)
