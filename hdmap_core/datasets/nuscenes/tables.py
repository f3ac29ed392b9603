"""The 13 JSON tables of a nuScenes folder: found, checked, indexed, followed. No devkit needed.

Tables are read when they are first asked for. `sample_data` and `ego_pose` of v1.0-trainval hold 2.6 million rows each,
so records are decoded one by one and only those that are wanted (keyframes and the LiDAR sweeps just before them, or
one scene) are kept.
"""

import itertools
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from hdmap_core.datasets.keyframe_reader import SWEEP_REACH_NS
from hdmap_core.datasets.nuscenes.records import Record, city_of, inside, lens_of_record, read_records
from hdmap_core.datasets.protocol import Scene, SensorFrame
from hdmap_core.errors import CalibrationError, DatasetError
from hdmap_core.geometry import se3

VERSIONS = ("v1.0-mini", "v1.0-trainval", "v1.0-test")
LIDAR = "LIDAR_TOP"
TABLES = (
    "attribute",
    "calibrated_sensor",
    "category",
    "ego_pose",
    "instance",
    "log",
    "map",
    "sample",
    "sample_annotation",
    "sample_data",
    "scene",
    "sensor",
    "visibility",
)
# The fields that this package reads; a record without one of them is reported by file and token.
_FIELDS = {
    "calibrated_sensor": ("sensor_token", "translation", "rotation", "camera_intrinsic"),
    "ego_pose": ("timestamp", "translation", "rotation"),
    "log": ("location",),
    "sample": ("timestamp", "scene_token"),
    "sample_data": (
        "sample_token",
        "ego_pose_token",
        "calibrated_sensor_token",
        "timestamp",
        "is_key_frame",
        "filename",
    ),
    "scene": ("name", "log_token", "nbr_samples"),
    "sensor": ("channel", "modality"),
}


class NuScenesTables:
    """Reads the tables of one version of a nuScenes folder.

    Args:
        root: the folder that holds `v1.0-*`, `samples/`, `sweeps/` and `maps/`.
        version: which `v1.0-*` folder; may be left out when there is only one.

    Raises:
        DatasetError: if `root` is not such a folder, has several versions and none is named, or lacks a table.
    """

    def __init__(self, root: Path | str, version: str | None = None) -> None:
        self.root = Path(root)
        self.version = find_version(self.root, version)
        self.folder = self.root / self.version
        missing = [name for name in TABLES if not (self.folder / f"{name}.json").is_file()]
        if missing:
            raise DatasetError(
                f"{self.folder} lacks {', '.join(f'{name}.json' for name in missing)}; unpack the meta data of "
                f"{self.version} again, or run the generator again if this is a synthetic folder"
            )
        self._tables: dict[str, dict[str, Record]] = {}

    def table(self, name: str) -> dict[str, Record]:
        """All records of a small table by token, in file order. Big ones: `keyframes`, `sensor_frames`."""
        if name not in self._tables:
            self._tables[name] = {record["token"]: record for record in self.records(name)}
        return self._tables[name]

    def records(self, name: str, keep: Callable[[Record], bool] = lambda _: True) -> Iterator[Record]:
        """The records of a table that `keep` accepts, decoded one after the other.

        Raises:
            DatasetError: naming file and position of broken JSON, or the record and field that is missing.
        """
        path = self.folder / f"{name}.json"
        fields = ("token", *_FIELDS.get(name, ()))
        for record in read_records(path):
            lacking = [key for key in fields if key not in record]
            if lacking:
                raise DatasetError(f"{path}: record {record.get('token', '?')!r} lacks the field {lacking[0]!r}")
            if keep(record):
                yield record

    def follow(self, table: str, token: str, origin: str) -> Record:
        """The record that a foreign key names.

        Raises:
            DatasetError: naming `origin` (who points there) if the table has no such token.
        """
        try:
            return self.table(table)[token]
        except KeyError:
            raise self._dangling(table, token, origin) from None

    @cached_property
    def scenes(self) -> tuple[Scene, ...]:
        """All scenes in file order, keyframes in time order.

        Raises:
            DatasetError: if keys lead nowhere or a scene has other than `nbr_samples` samples.
        """
        samples: dict[str, list[Record]] = {token: [] for token in self.table("scene")}
        for sample in self.table("sample").values():
            if sample["scene_token"] not in samples:
                raise self._dangling("scene", sample["scene_token"], f"sample {sample['token']}")
            samples[sample["scene_token"]].append(sample)
        scenes = []
        for token, record in self.table("scene").items():
            log = self.follow("log", record["log_token"], f"scene {record['name']}")
            ordered = sorted(samples[token], key=lambda sample: sample["timestamp"])
            if len(ordered) != record["nbr_samples"]:
                raise DatasetError(
                    f"{self.folder}: scene {record['name']} announces {record['nbr_samples']} samples, sample.json has "
                    f"{len(ordered)}; the folder is incomplete, unpack or generate it again"
                )
            tokens = tuple(sample["token"] for sample in ordered)
            scenes.append(Scene(record["name"], city_of(log, self.folder), record.get("description", ""), tokens))
        return tuple(scenes)

    @property
    def keyframes(self) -> dict[str, dict[str, Record]]:
        """Sample token -> channel -> keyframe row of `sample_data`."""
        return self._rows[0]

    @cached_property
    def _rows(self) -> tuple[dict[str, dict[str, Record]], dict[str, list[Record]]]:
        """Of `sample_data`, read once: keyframes, and scene token -> LiDAR rows near keyframes in time order."""
        keyframes: dict[str, dict[str, Record]] = {token: {} for token in self.table("sample")}
        lidar: dict[str, list[Record]] = {}
        for record in self.records("sample_data", self._is_wanted):
            if record["sample_token"] not in keyframes:
                raise self._dangling("sample", record["sample_token"], f"sample_data {record['token']}")
            if record["is_key_frame"]:
                keyframes[record["sample_token"]][self._sensor(record)[1]["channel"]] = record
            if record["calibrated_sensor_token"] in self._lidar_mounts:
                lidar.setdefault(self.table("sample")[record["sample_token"]]["scene_token"], []).append(record)
        for rows in lidar.values():
            rows.sort(key=lambda row: row["timestamp"])
        return keyframes, lidar

    def _is_wanted(self, row: Record) -> bool:
        if row["is_key_frame"]:
            return True
        # A sweep belongs to the sample that follows it.
        sample = self.table("sample").get(row["sample_token"])
        if sample is None or row["calibrated_sensor_token"] not in self._lidar_mounts:
            return False
        return 0 < (sample["timestamp"] - row["timestamp"]) * 1000 <= SWEEP_REACH_NS

    @cached_property
    def _lidar_mounts(self) -> frozenset[str]:
        """Tokens of the calibrations of the LiDAR."""
        sensors = {token for token, sensor in self.table("sensor").items() if sensor["channel"] == LIDAR}
        calibrations = self.table("calibrated_sensor").items()
        return frozenset(token for token, row in calibrations if row["sensor_token"] in sensors)

    def keyframe(self, sample_token: str) -> dict[str, SensorFrame]:
        """Channel -> keyframe file of one sample."""
        if sample_token not in self.keyframes:
            raise DatasetError(f"{self.folder} has no sample {sample_token!r}")
        poses = self._poses
        return {name: self._frame(record, poses) for name, record in self.keyframes[sample_token].items()}

    def previous_sweeps(self, sample_token: str) -> list[SensorFrame]:
        """The LiDAR sweeps of the same scene that ended at most `SWEEP_REACH_NS` before a keyframe's, newest first."""
        if sample_token not in self.keyframes:
            raise DatasetError(f"{self.folder} has no sample {sample_token!r}")
        key = self.keyframes[sample_token].get(LIDAR)
        if key is None:
            return []
        rows = self._rows[1][self.table("sample")[sample_token]["scene_token"]]
        end = bisect_left(rows, key["timestamp"], key=lambda row: row["timestamp"])
        start = bisect_left(rows, key["timestamp"] - SWEEP_REACH_NS // 1000, key=lambda row: row["timestamp"])
        return [self._frame(row, self._poses) for row in reversed(rows[start:end])]

    def sensor_frames(self, scene: Scene, channels: Collection[str] | None = None) -> list[SensorFrame]:
        """Keyframes and sweeps of a scene (of these channels) in time order."""
        samples = set(scene.sample_tokens)
        rows = list(self.records("sample_data", lambda record: record["sample_token"] in samples))
        rows = [row for row in rows if channels is None or self._sensor(row)[1]["channel"] in channels]
        wanted = {row["ego_pose_token"] for row in rows}
        poses = {pose["token"]: pose for pose in self.records("ego_pose", lambda pose: pose["token"] in wanted)}
        return sorted((self._frame(row, poses) for row in rows), key=lambda frame: (frame.stamp_ns, frame.channel))

    @cached_property
    def _poses(self) -> dict[str, Record]:
        keyframes, lidar = self._rows
        rows = itertools.chain(*(rows.values() for rows in keyframes.values()), *lidar.values())
        wanted = {row["ego_pose_token"] for row in rows}
        return {pose["token"]: pose for pose in self.records("ego_pose", lambda pose: pose["token"] in wanted)}

    def _sensor(self, row: Record) -> tuple[Record, Record]:
        calibration = self.follow("calibrated_sensor", row["calibrated_sensor_token"], f"sample_data {row['token']}")
        origin = f"calibrated_sensor {calibration['token']}"
        return calibration, self.follow("sensor", calibration["sensor_token"], origin)

    def _frame(self, row: Record, poses: dict[str, Record]) -> SensorFrame:
        calibration, sensor = self._sensor(row)
        if row["ego_pose_token"] not in poses:
            raise self._dangling("ego_pose", row["ego_pose_token"], f"sample_data {row['token']}")
        intrinsics = np.asarray(calibration["camera_intrinsic"], dtype=np.float64)
        return SensorFrame(
            token=row["token"],
            sample_token=row["sample_token"],
            channel=sensor["channel"],
            modality=sensor["modality"],
            path=inside(self.root, row["filename"], self.folder),
            stamp_ns=round(row["timestamp"]) * 1000,
            is_key_frame=bool(row["is_key_frame"]),
            ego_from_sensor=self._pose("calibrated_sensor", calibration),
            map_from_ego=self._pose("ego_pose", poses[row["ego_pose_token"]]),
            intrinsics=intrinsics if sensor["modality"] == "camera" else None,
            image_size=(int(row.get("height") or 0), int(row.get("width") or 0)),
            lens=lens_of_record(self.folder, calibration) if sensor["modality"] == "camera" else None,
        )

    def _pose(self, table: str, record: Record) -> np.ndarray:
        try:
            return se3.se3(se3.rotation_from_quaternion(record["rotation"]), record["translation"])
        except (CalibrationError, TypeError, ValueError, OverflowError) as error:
            path = self.folder / f"{table}.json"
            raise DatasetError(f"{path}: record {record['token']!r} is not a pose: {error}") from None

    def _dangling(self, table: str, token: str, origin: str) -> DatasetError:
        return DatasetError(
            f"{self.folder / table}.json has no record {token!r}, which {origin} points to; the tables do not belong "
            "together or are incomplete, unpack or generate them again"
        )


def find_version(root: str | Path, version: str | None = None) -> str:
    """The name of the table folder in `root`.

    Raises:
        DatasetError: if `root` does not exist, has no table folder, not this one, or several and `version` is None.
    """
    found = versions_in(root)
    if version is None and len(found) > 1:
        raise DatasetError(
            f"{root} holds {', '.join(found)}; say which version is meant: --version {found[0]} (in a recipe "
            f"data.version={found[0]}, in Python version={found[0]!r})"
        )
    if version is not None and version not in found:
        raise DatasetError(f"{root} has no version {version!r}; it holds {', '.join(found)}")
    return version or found[0]


def versions_in(root: str | Path) -> list[str]:
    """The names of the table folders in `root`, at least one.

    Raises:
        DatasetError: if there is none.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; give the folder that holds v1.0-mini, v1.0-trainval or v1.0-test")
    found = [name for name in VERSIONS if (root / name).is_dir()]
    if not found:
        raise DatasetError(
            f"{root} is not a nuScenes folder: it holds none of {', '.join(VERSIONS)}; give the folder above them, or "
            "make one with `hdmap synth`"
        )
    return found
