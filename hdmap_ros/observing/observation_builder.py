"""From a set of image messages, CameraInfo and TF to an Observation.

Every camera's pose is taken at its own stamp and brought into the base frame of the set's reference stamp through a
frame that does not move (odom): at 10 m/s the 42.6 ms between nuScenes' first and last camera are 0.43 m.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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
from hdmap_ros.sync.image_sets import ImageSet


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

    def tell(self, problems: Problems) -> None:
        """Counts it, unless it is about a camera: the builder has told of those."""
        if not self.camera:
            problems.add(self.state, "", str(self))


class _Placed(NamedTuple):
    """A camera of a set.

    Attributes:
        pose: (4, 4) base frame at the set's stamp from the camera at its own.
        mounted: (4, 4) base frame from the camera, both at one time.
    """

    calibration: CameraCalibration
    pose: np.ndarray
    mounted: np.ndarray


class _Seen(NamedTuple):
    """A camera with its picture, (H, W, 3) uint8, an array or a tensor on a GPU, and (3, 3) intrinsics for that."""

    placed: _Placed
    intrinsics: np.ndarray
    picture: Any


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
        placed: dict[str, _Placed] = {}
        deadline_s = time.monotonic() + self.config.tf_timeout_s
        for camera in images.messages:
            try:
                placed[camera] = self._placed(camera, images, deadline_s)
            except NotReadyError as error:
                errors.append(error)
        seen: dict[str, _Seen] = {}
        if self._enough(len(placed)):
            sizes = None
            if enough:
                known = {name: each.calibration for name, each in placed.items()}
                sizes = {name: enough_of(enough, of.image_size, of.intrinsics[0, 0]) for name, of in known.items()}
            for camera, found in self._decode(images.messages, list(placed), sizes, reuse, on_device).items():
                try:
                    seen[camera] = self._seen(camera, placed[camera], found)
                except NotReadyError as error:
                    errors.append(error)
        self._note(errors, set(placed) - {error.camera for error in errors})
        if not self._enough(len(seen)):
            usable, reasons = len(images.messages) - len(errors), "; ".join(map(str, errors))
            raise NotReadyError(
                errors[0].camera if errors else "",
                errors[0].state if errors else "rejected_image",
                f"{usable} cameras of the set can be used, {self.config.min_cameras} are needed: {reasons}",
            )
        observation = self._observation(images, seen)
        return self._on_the_road(observation) if self.config.road_plane else observation

    def _observation(self, images: ImageSet, seen: Mapping[str, _Seen]) -> Observation:
        """The observation of the cameras that were seen; the others are masked, without image."""
        any_one = next(iter(seen.values()))  # for a masked camera any will do, nothing is read from it
        given = [seen.get(camera) for camera in self.cameras]
        views = [view or any_one for view in given]
        pictures = [view.picture if view else None for view in given]
        on_device = [None if isinstance(picture, np.ndarray) else picture for picture in pictures]
        return Observation(
            tuple(picture if isinstance(picture, np.ndarray) else None for picture in pictures),
            CameraRig.from_arrays(
                self.cameras,
                [view.intrinsics for view in views],
                [view.placed.pose for view in views],
                [tuple(view.picture.shape[:2]) for view in views],
                [view.placed.calibration.lens if view else None for view in given],
                [view.placed.mounted for view in views],
            ),
            images.stamp_ns,
            str(images.stamp_ns),
            map_from_ego=self._map_from_ego(images.stamp_ns),
            camera_stamps_ns=tuple(images.stamps_ns.get(camera, images.stamp_ns) for camera in self.cameras),
            device_images=tuple(on_device) if any(each is not None for each in on_device) else (),
        )

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

    def _placed(self, camera: str, images: ImageSet, deadline_s: float) -> _Placed:
        calibration = self._calibration(camera, images.messages[camera])
        try:
            mounted = calibration.base_from_camera
            if mounted is None:
                mounted = self._static_pose(camera, calibration, images, deadline_s) @ calibration.frame_from_camera
            motion = self._base_motion(images.stamp_ns, images.stamps_ns[camera], deadline_s)
            return _Placed(calibration, motion @ mounted, mounted)
        except TransformError as error:
            raise NotReadyError(camera, "no_transform", f"camera {camera}: {error}") from None

    def _seen(self, camera: str, placed: _Placed, found: Any) -> _Seen:
        """What was decoded, an image or why there is none, with the intrinsics for its size."""
        if isinstance(found, str):
            raise NotReadyError(camera, "rejected_image", f"camera {camera}: {found}")
        size = found.shape[:2]
        try:
            intrinsics = placed.calibration.intrinsics_for(camera, size)
            check_calibration(camera, intrinsics, placed.pose)
        except CalibrationError as error:
            raise NotReadyError(camera, "bad_calibration", str(error)) from None
        before = self._sizes.get(camera, size)
        self._sizes[camera] = size
        if before != size:
            sizes = " and are now ".join(f"{width} x {height}" for height, width in (before, size))
            self.problems.add("new_image_size", camera, f"camera {camera}: its decoded images were {sizes} pixels")
        return _Seen(placed, intrinsics, found)

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
        return self.transforms.lookup_mount(base, frame, stamp_ns, deadline_s - time.monotonic())

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
