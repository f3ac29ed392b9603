"""The logs of a folder: where they lie, what they hold, and how their sensors are calibrated.

    <root>/{train,val,test}/<log>/   or the same below <root>/sensor, or a split's folder, or one log
        calibration/{intrinsics,egovehicle_SE3_sensor}.feather
        city_SE3_egovehicle.feather                the car's poses, at every sensor's stamps
        map/log_map_archive_<log>____<CITY>_city_<number>.json
        sensors/cameras/<camera>/<stamp in ns>.jpg
        sensors/lidar/<stamp in ns>.feather

Argoverse's car frame lies at the rear axle; ours stands on the road below it (`GROUND_FROM_CAR`). Pictures are already
without their lens: `k1`, `k2`, `k3` tell what it was (av2-api, issues 219 and 226), and nobody has to read them.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hdmap_core.datasets.argoverse.feather import read_columns
from hdmap_core.errors import CalibrationError, DatasetError
from hdmap_core.geometry import se3

SPLITS = ("train", "val", "test")
AXLE_ABOVE_ROAD_M = 0.33
"""Of the car's frame; the LiDAR of the real log at hand sees the road there to 2 cm."""
GROUND_FROM_CAR = se3.se3(np.eye(3), [0.0, 0.0, AXLE_ABOVE_ROAD_M])
_CITY = re.compile(r"____([A-Z]{3})_city_")
_QUATERNION = ("qw", "qx", "qy", "qz")
_TRANSLATION = ("tx_m", "ty_m", "tz_m")
_INTRINSICS = ("fx_px", "fy_px", "cx_px", "cy_px", "height_px", "width_px")


@dataclass(frozen=True)
class Camera:
    """A calibrated camera: intrinsics (3, 3) in pixels, (H, W), and (4, 4) its pose in our ego frame."""

    intrinsics: np.ndarray
    image_size: tuple[int, int]
    ego_from_camera: np.ndarray


@dataclass(frozen=True)
class Log:
    """One log: some 15 s of a drive.

    Attributes:
        folder: its own.
        split: the name of the folder that it lies in.
    """

    folder: Path
    split: str

    @property
    def name(self) -> str:
        """Its id."""
        return self.folder.name

    @cached_property
    def map_files(self) -> list[Path]:
        """Its vector maps; one, as a rule."""
        return sorted((self.folder / "map").glob("log_map_archive_*.json"))

    @cached_property
    def city(self) -> str:
        """Three letters, as its map file has them; `unknown` without one."""
        named = _CITY.search(self.map_files[0].name) if self.map_files else None
        return named[1] if named else "unknown"

    @cached_property
    def lidar_stamps(self) -> list[int]:
        """Of its sweeps, nanoseconds, ascending."""
        return _stamps(self.folder / "sensors" / "lidar", ".feather")

    @cached_property
    def image_stamps(self) -> dict[str, np.ndarray]:
        """Camera -> (N,) stamps of its pictures, ascending; calibrated cameras but the stereo pair, which is grey."""
        folder = self.folder / "sensors" / "cameras"
        return {
            name: np.array(_stamps(folder / name, ".jpg"), dtype=np.int64)
            for name in self.cameras
            if not name.startswith("stereo_")
        }

    @property
    def instants(self) -> list[int]:
        """Stamps that keyframes can have: of the sweeps, or without any of the pictures of the camera ahead."""
        if self.lidar_stamps or not self.image_stamps:
            return self.lidar_stamps
        ahead = self.image_stamps.get("ring_front_center", next(iter(self.image_stamps.values())))
        return [int(stamp) for stamp in ahead]

    @property
    def has_images(self) -> bool:
        """Whether any camera has any."""
        return any(len(stamps) for stamps in self.image_stamps.values())

    @cached_property
    def cameras(self) -> dict[str, Camera]:
        """Every calibrated camera.

        Raises:
            DatasetError: naming file and sensor of what no camera can have.
        """
        path = self.folder / "calibration" / "intrinsics.feather"
        columns = read_columns(path, ("sensor_name", *_INTRINSICS))
        mounted = self._mounts
        cameras = {}
        for row, name in enumerate(map(str, columns["sensor_name"])):
            values = {key: float(columns[key][row]) for key in _INTRINSICS}
            wrong = [key for key, value in values.items() if not np.isfinite(value) or (key[0] != "c" and value <= 0)]
            if wrong:
                raise DatasetError(
                    f"{path}: {wrong[0]} of {name} is {values[wrong[0]]}, which no camera has; unpack the "
                    "calibration again"
                )
            if name not in mounted:
                raise DatasetError(
                    f"{path.with_name('egovehicle_SE3_sensor.feather')} has no row of {name}, which {path.name} has; "
                    "unpack the calibration again"
                )
            fx, fy, cx, cy, height, width = values.values()
            matrix = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
            cameras[name] = Camera(matrix, (int(height), int(width)), GROUND_FROM_CAR @ mounted[name])
        return cameras

    @cached_property
    def _mounts(self) -> dict[str, np.ndarray]:
        """Sensor -> (4, 4) its pose in Argoverse's car frame."""
        path = self.folder / "calibration" / "egovehicle_SE3_sensor.feather"
        columns = read_columns(path, ("sensor_name", *_QUATERNION, *_TRANSLATION))
        names = list(map(str, columns["sensor_name"]))
        return {name: _pose(path, columns, row, f"the pose of {name}") for row, name in enumerate(names)}

    def map_from_ego(self, stamp_ns: int) -> np.ndarray:
        """(4, 4) float64: the pose of our ego frame in the city at a sensor's stamp.

        Raises:
            DatasetError: if the poses have not this stamp, or what is no pose.
        """
        path = self.folder / "city_SE3_egovehicle.feather"
        stamps, columns = self._poses
        at = int(np.searchsorted(stamps, stamp_ns))
        if at == len(stamps) or stamps[at] != stamp_ns:
            raise DatasetError(f"{path} has no pose at {stamp_ns}, the stamp of a sensor's file; unpack the log again")
        return _pose(path, columns, at, f"the pose at {stamp_ns}") @ se3.inverse(GROUND_FROM_CAR)

    @cached_property
    def _poses(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        path = self.folder / "city_SE3_egovehicle.feather"
        columns = read_columns(path, ("timestamp_ns", *_QUATERNION, *_TRANSLATION))
        order = np.argsort(columns["timestamp_ns"], kind="stable")
        return columns["timestamp_ns"][order], {name: values[order] for name, values in columns.items()}


def find_logs(root: Path) -> list[Log]:
    """The logs of a folder, split by split, by name; none where it is no folder of logs."""
    for base in (root, root / "sensor"):
        found = [Log(folder, split) for split in SPLITS for folder in _folders(base / split) if _is_log(folder)]
        if found:
            return found
    if _is_log(root):
        return [Log(root, root.parent.name if root.parent.name in SPLITS else "all")]
    split = root.name if root.name in SPLITS else "all"
    return [Log(folder, split) for folder in _folders(root) if _is_log(folder)]


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def _is_log(folder: Path) -> bool:
    return (folder / "calibration").is_dir() or (folder / "city_SE3_egovehicle.feather").is_file()


def _stamps(folder: Path, ending: str) -> list[int]:
    """Of the files of a sensor that are called by their stamp; there may be others beside them."""
    names = (path.stem for path in folder.glob(f"*{ending}"))
    stamps = (int(name) for name in names if name.isascii() and name.isdigit() and len(name) <= 19)
    return sorted(stamp for stamp in stamps if stamp < 1 << 63)


def _pose(path: Path, columns: dict[str, np.ndarray], row: int, what: str) -> np.ndarray:
    quaternion, translation = ([float(columns[key][row]) for key in keys] for keys in (_QUATERNION, _TRANSLATION))
    try:
        if not np.isfinite(translation).all():
            raise CalibrationError(f"not a place: {translation}")
        return se3.se3(se3.rotation_from_quaternion(quaternion), translation)
    except CalibrationError as error:
        raise DatasetError(f"{path}: {what} cannot be used: {error}; unpack the file again") from None
