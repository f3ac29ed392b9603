"""The keyframes of a nuScenes folder in memory-mapped arrays, so that nobody has to read the big tables again.

`sample_data` and `ego_pose` of v1.0-trainval are more than a gigabyte of JSON each, a minute and gigabytes of memory
in every process that reads them. The index holds what training asks of them: cameras and LiDAR of each keyframe, and
the LiDAR sweeps just before it, with calibration and pose: 8 kB per keyframe. To `NuScenesDataset` it is the same
as the tables.
"""

import hashlib
import json
import shutil
from functools import cached_property
from pathlib import Path

import numpy as np

from hdmap_core.datasets.nuscenes.tables import TABLES, NuScenesTables, find_version
from hdmap_core.datasets.protocol import Scene, SensorFrame
from hdmap_core.errors import DatasetError, OutputError, os_errors_as
from hdmap_core.geometry.lens import lens_of

_VERSION = 3
_COLUMNS = ("samples", "starts", "rows", "texts")
"""Names of keyframes; where the rows of each begin and where its sweeps do; what `SensorFrame` holds."""
_ROW = np.dtype(
    [
        ("channel", "u1"),
        ("sample", "u4"),
        ("is_key_frame", "?"),
        ("stamp_ns", "i8"),
        ("ego_from_sensor", "f8", (4, 4)),
        ("map_from_ego", "f8", (4, 4)),
        ("intrinsics", "f8", (3, 3)),
        ("image_size", "i4", (2,)),
        ("lens", "S9"),
        ("coefficients", "f8", (14,)),
    ]
)


class KeyframeIndex:
    """What `NuScenesTables` says of keyframes and the sweeps before them; radars and annotations are not in it.

    Args:
        root: the nuScenes folder.
        folder: the index.
        version: which `v1.0-*` folder of it.

    Raises:
        DatasetError: if the index is damaged.
    """

    def __init__(self, root: Path, folder: Path, version: str) -> None:
        self.root, self.version, self.folder = root, version, root / version
        try:
            described = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            self._samples, self._starts, self._rows, self._texts = (
                np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _COLUMNS
            )
            self._channels = [tuple(channel) for channel in described["channels"]]
            self.scenes = tuple(
                Scene(scene["name"], scene["location"], scene["description"], tuple(scene["sample_tokens"]))
                for scene in described["scenes"]
            )
        except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
            raise DatasetError(f"the index {folder} is damaged ({error}); delete it, it will be made again") from None

    @cached_property
    def _number(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self._samples.tolist())}

    def keyframe(self, sample_token: str) -> dict[str, SensorFrame]:
        """Channel -> keyframe file of one sample, as `NuScenesTables.keyframe` without radars."""
        first, sweeps, _ = self._span(sample_token)
        frames = (self._frame(at) for at in range(first, sweeps))
        return {frame.channel: frame for frame in frames}

    def previous_sweeps(self, sample_token: str) -> list[SensorFrame]:
        """As `NuScenesTables.previous_sweeps`."""
        _, sweeps, end = self._span(sample_token)
        return [self._frame(at) for at in range(sweeps, end)]

    def _span(self, sample_token: str) -> tuple[int, int, int]:
        """Where the rows of a keyframe begin, those of its sweeps, and those of the next keyframe."""
        if sample_token not in self._number:
            raise DatasetError(f"{self.folder} has no sample {sample_token!r}")
        at = 2 * self._number[sample_token]
        first, sweeps, end = self._starts[at : at + 3].tolist()
        return first, sweeps, end

    def _frame(self, at: int) -> SensorFrame:
        row = self._rows[at]
        channel, modality = self._channels[row["channel"]]
        token, path = (text.decode() for text in self._texts[at].tolist())
        return SensorFrame(
            token=token,
            sample_token=str(self._samples[row["sample"]]),
            channel=channel,
            modality=modality,
            path=self.root / path,
            stamp_ns=int(row["stamp_ns"]),
            is_key_frame=bool(row["is_key_frame"]),
            ego_from_sensor=np.array(row["ego_from_sensor"]),
            map_from_ego=np.array(row["map_from_ego"]),
            intrinsics=np.array(row["intrinsics"]) if modality == "camera" else None,
            image_size=(int(row["image_size"][0]), int(row["image_size"][1])),
            lens=lens_of(row["lens"].decode(), row["coefficients"]),
        )


def open_tables(root: Path, cache: Path, version: str | None = None) -> NuScenesTables | KeyframeIndex:
    """The index where there is one that fits the folder, else the tables themselves.

    Args:
        root: the nuScenes folder.
        cache: the folder that indexes lie in.
        version: which `v1.0-*` folder; may be left out when there is only one.
    """
    name = find_version(root, version)
    folder = cache / _name(root / name)
    return KeyframeIndex(root, folder, name) if folder.is_dir() else NuScenesTables(root, name)


def write_index(tables: NuScenesTables, cache: Path) -> KeyframeIndex:
    """Reads the tables once and keeps what they say of keyframes.

    Raises:
        DatasetError: if the tables cannot be used.
        OutputError: if the index cannot be written.
    """
    folder = cache / _name(tables.folder)
    channels: dict[tuple[str, str], int] = {}
    samples = [token for scene in tables.scenes for token in scene.sample_tokens]
    number_of = {token: number for number, token in enumerate(samples)}
    starts, rows, texts = [0], [], []
    for sample in samples:
        frames = [frame for frame in tables.keyframe(sample).values() if frame.modality in ("camera", "lidar")]
        for group in (frames, tables.previous_sweeps(sample)):
            for frame in group:
                channel = channels.setdefault((frame.channel, frame.modality), len(channels))
                rows.append(_row(frame, channel, number_of[frame.sample_token]))
                texts.append((frame.token.encode(), frame.path.relative_to(tables.root).as_posix().encode()))
            starts.append(len(rows))
    scenes = [{**vars(scene), "sample_tokens": list(scene.sample_tokens)} for scene in tables.scenes]
    arrays: tuple[np.ndarray, ...] = (
        np.array(samples, dtype=np.str_),
        np.array(starts),
        np.array(rows, dtype=_ROW),
        np.array(texts, dtype=np.bytes_).reshape(-1, 2),
    )
    part = folder.with_name(folder.name + ".part")
    with os_errors_as(OutputError, f"cannot write the cache {folder}", "name another with --cache or data.cache"):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, array in zip(_COLUMNS, arrays, strict=True):
            np.save(part / f"{name}.npy", array)
        content = {"channels": list(channels), "scenes": scenes}
        (part / "index.json").write_text(json.dumps(content), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    return KeyframeIndex(tables.root, folder, tables.version)


def _row(frame: SensorFrame, channel: int, sample: int) -> tuple[object, ...]:
    """What `_ROW` holds of a frame."""
    intrinsics = np.zeros((3, 3)) if frame.intrinsics is None else frame.intrinsics
    poses = frame.ego_from_sensor, frame.map_from_ego
    model, coefficients = b"", np.zeros(14)
    if frame.lens is not None:
        model = b"fisheye" if frame.lens.kind == "fisheye" else b"plumb_bob"
        coefficients[: len(frame.lens.coefficients)] = frame.lens.coefficients
    return (
        channel,
        sample,
        frame.is_key_frame,
        frame.stamp_ns,
        *poses,
        intrinsics,
        frame.image_size,
        model,
        coefficients,
    )


def _name(tables: Path) -> str:
    """Changes with any table: their sizes and times are part of it."""
    stats = [(path.name, path.stat()) for path in (tables / f"{name}.json" for name in TABLES) if path.is_file()]
    content = [_VERSION, tables.name, [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]]
    return f"index-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]}"
