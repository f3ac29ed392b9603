"""Keyframes of Argoverse 2 logs as `Observation`s, with the ground truth of their vector maps.

Which sweeps are keyframes, and what a version is: `keyframe_choice`. Six logs are in no split (`LEFT_OUT`): av2-api
names four whose maps are broken, MapTRv2's and P-MapNet's code two more.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from hdmap_core.datasets.argoverse.ground_height import GroundHeight
from hdmap_core.datasets.argoverse.keyframe_choice import RATE, chosen_sweeps, rate_of
from hdmap_core.datasets.argoverse.logs import GROUND_FROM_CAR, Log, find_logs
from hdmap_core.datasets.argoverse.vector_map import ArgoverseMap
from hdmap_core.datasets.keyframe_reader import SWEEP_REACH_NS, KeyframeReader
from hdmap_core.datasets.protocol import Scene, SensorFrame
from hdmap_core.errors import DatasetError

RING_CAMERAS = (
    "ring_front_center", "ring_front_right", "ring_front_left", "ring_rear_right", "ring_rear_left",
    "ring_side_right", "ring_side_left",
)  # fmt: skip
"""In MapTRv2's order."""
LIDAR = "lidar"
LEFT_OUT = frozenset({
    "75e8adad-50a6-3245-8726-5e612db3d165", "54bc6dbc-ebfb-3fba-b5b3-57f88b4b79ca",
    "af170aac-8465-3d7b-82c5-64147e94af7d", "6e106cf8-f6dd-38f6-89c8-9be7a71e7275",
    "01bb304d-7bd8-35f8-bbef-7086b688e35e", "453e5558-6363-38e3-bf9b-42b5ba0a6f1d",
})  # fmt: skip


class ArgoverseDataset(KeyframeReader):
    """The keyframes of a folder of logs, real or synthetic. The number of the laser stands for a point's ring.

    Args:
        root: see `logs`.
        version: how many keyframes per second, `<number>hz`.
        road_plane: see `KeyframeReader`.

    Raises:
        DatasetError: if the folder has no logs, or the rate is none.
    """

    def __init__(self, root: Path | str, version: str | None = None, road_plane: bool = True) -> None:
        root, version = Path(root), version or RATE
        super().__init__(root, version, root, f"{version} keyframe", road_plane)
        self._rate_hz = rate_of(version, root)
        self._logs = {log.name: log for log in find_logs(root)}
        if not self._logs:
            raise DatasetError(f"{root} has no Argoverse 2 log in train/, val/, test/ or sensor/")
        self._maps: dict[str, ArgoverseMap] = {}

    @cached_property
    def scenes(self) -> tuple[Scene, ...]:
        """One per log, split by split."""
        return tuple(
            Scene(log.name, log.city, f"{log.split}, {log.city}", self._keyframes(log)) for log in self._logs.values()
        )

    @property
    def splits(self) -> Mapping[str, Sequence[str]]:
        """train, val and test are the folders."""
        splits: dict[str, list[str]] = {}
        for log in self._logs.values():
            if log.name not in LEFT_OUT:
                splits.setdefault(log.split, []).append(log.name)
        return splits

    def map_from_ego(self, token: str) -> np.ndarray:
        """(4, 4) float64: the car's pose in the city at the keyframe's instant, on the road below its rear axle."""
        return self._log(token).map_from_ego(_stamp(token))

    def keyframe(self, token: str) -> dict[str, SensorFrame]:
        """Name of the sensor -> its file: the sweep, if there are any, and of each camera the nearest picture."""
        log, stamp = self._log(token), _stamp(token)
        frames = {LIDAR: self._sweep(log, token, stamp, True)} if log.lidar_stamps else {}
        for name, stamps in log.image_stamps.items():
            at = stamp if not len(stamps) else int(stamps[np.abs(stamps - stamp).argmin()])
            frames[name] = self._picture(log, token, name, at, True)
        return frames

    def previous_sweeps(self, token: str) -> list[SensorFrame]:
        """The sweeps of the same log at most `SWEEP_REACH_NS` before a keyframe's, newest first."""
        log, stamp = self._log(token), _stamp(token)
        before = [other for other in log.lidar_stamps if stamp - SWEEP_REACH_NS <= other < stamp]
        return [self._sweep(log, token, other, False) for other in reversed(before)]

    def sensor_frames(self, scene: Scene, channels: Collection[str] | None = None) -> list[SensorFrame]:
        """All files of a log in time order; each belongs to its keyframe or the next one. None without keyframes."""
        log = self._logs[scene.name]
        if not scene.sample_tokens:
            return []
        keys = np.array([_stamp(token) for token in scene.sample_tokens], dtype=np.int64)
        of_key = {
            (name, frame.stamp_ns): token
            for token in scene.sample_tokens
            for name, frame in self.keyframe(token).items()
        }
        frames = []
        stamps = {LIDAR: np.array(log.lidar_stamps, dtype=np.int64), **log.image_stamps}
        for name in stamps if channels is None else [name for name in stamps if name in channels]:
            for stamp in stamps[name].tolist():
                following = scene.sample_tokens[min(int(np.searchsorted(keys, stamp)), len(keys) - 1)]
                token, is_key = of_key.get((name, stamp), following), (name, stamp) in of_key
                if name == LIDAR:
                    frames.append(self._sweep(log, token, stamp, is_key))
                else:
                    frames.append(self._picture(log, token, name, stamp, is_key))
        return sorted(frames, key=lambda frame: (frame.stamp_ns, frame.channel))

    def has_vector_map(self, token: str) -> bool:
        """Whether the log holds a vector map."""
        return bool(self._log(token).map_files)

    def vector_map(self, token: str) -> ArgoverseMap:
        """The vector map of a keyframe's log, read once.

        Raises:
            DatasetError: if there is none, or it is damaged.
        """
        log = self._log(token)
        if log.name not in self._maps:
            if not log.map_files:
                raise DatasetError(f"no map of log {log.name}: {self.advice('vector map', token)}")
            self._maps[log.name] = ArgoverseMap(log.map_files[0])
        return self._maps[log.name]

    def ground_height(self, token: str) -> GroundHeight:
        """The raster of the ground's height around a keyframe's log; reads it anew each time."""
        return GroundHeight(self._log(token).folder / "map")

    def advice(self, what: Literal["vector map", "SD map", "LiDAR"], token: str) -> str:
        """See `MapDataset.advice`."""
        log = self._log(token)
        if what == "vector map":
            return f"no {log.folder / 'map'}/log_map_archive_*.json; unpack the log's map"
        if what == "LiDAR":
            return f"{log.folder / 'sensors' / LIDAR} needs points; a synthetic log, `hdmap synth --lidar keyframes`"
        return f"{self._sd_path(token)} is missing: GeoJSON lines in metres of the city's frame (docs/argoverse.md)"

    def truth_state(self) -> list[tuple[str, object]]:
        """Names and sizes of the logs' maps."""
        return [(path.name, path.stat().st_size) for log in self._logs.values() for path in log.map_files]

    def digest(self) -> str:
        """Of names, maps and calibration, and of the size of the poses."""
        digest = hashlib.sha256(self.version.encode())
        for log in self._logs.values():
            digest.update(str(log.folder.relative_to(self.root)).encode())
            for path in [*log.map_files, *sorted((log.folder / "calibration").glob("*.feather"))]:
                digest.update(path.read_bytes())
            poses = log.folder / "city_SE3_egovehicle.feather"
            digest.update(str(poses.stat().st_size if poses.is_file() else 0).encode())
        for path in sorted((self.root / "maps" / "sd").glob("*.geojson")):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def _keyframes(self, log: Log) -> tuple[str, ...]:
        return tuple(f"{log.name}_{stamp}" for stamp in chosen_sweeps(log, self._rate_hz))

    def _log(self, token: str) -> Log:
        return self._logs[self.scene_of(token).name]

    def _instant(self, token: str) -> tuple[int, np.ndarray]:
        return _stamp(token), self.map_from_ego(token)

    def _truth(self, token: str) -> tuple[ArgoverseMap, np.ndarray]:
        return self.vector_map(token), self.map_from_ego(token)

    def _cameras(self, token: str, files: Mapping[str, SensorFrame], images: bool) -> list[SensorFrame]:
        log = self._log(token)
        if images and not log.has_images:
            raise DatasetError(
                f"{log.folder} has no pictures in sensors/cameras; download that part of the log too, or read it "
                "without images"
            )
        known = [name for name in RING_CAMERAS if name in log.image_stamps]
        return [files[name] for name in [*known, *(name for name in log.image_stamps if name not in known)]]

    def _picture(self, log: Log, token: str, name: str, stamp: int, is_key: bool) -> SensorFrame:
        camera = log.cameras[name]
        path = log.folder / "sensors" / "cameras" / name / f"{stamp}.jpg"
        return SensorFrame(
            f"{log.name}_{name}_{stamp}", token, name, "camera", path, stamp, is_key, camera.ego_from_camera,
            log.map_from_ego(stamp), camera.intrinsics, camera.image_size, named_by="intrinsics.feather",
        )  # fmt: skip

    def _sweep(self, log: Log, token: str, stamp: int, is_key: bool) -> SensorFrame:
        path = log.folder / "sensors" / "lidar" / f"{stamp}.feather"
        return SensorFrame(
            f"{log.name}_{LIDAR}_{stamp}", token, LIDAR, "lidar", path, stamp, is_key, GROUND_FROM_CAR,
            log.map_from_ego(stamp), None, (0, 0), named_by="its name",
        )  # fmt: skip


def _stamp(token: str) -> int:
    return int(token.rpartition("_")[2])
