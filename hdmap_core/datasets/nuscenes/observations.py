"""nuScenes keyframes as `Observation`s in the ego frame, with their vector-map ground truth.

The instant of a keyframe is the stamp of its LIDAR_TOP sweep. Every camera fired up to 47 ms before it; its pose is
carried over by the car's own motion:

    ego_from_camera = inverse(map_from_ego[lidar stamp]) @ map_from_ego[camera stamp] @ ego_from_camera[calibrated]

A folder without LIDAR_TOP, as a car without LiDAR leaves it, takes stamp and pose of CAM_FRONT, else of its first
camera; that is said once.
"""

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from hdmap_core.datasets.keyframe_reader import KeyframeReader
from hdmap_core.datasets.nuscenes.cities import CITIES
from hdmap_core.datasets.nuscenes.keyframe_index import KeyframeIndex
from hdmap_core.datasets.nuscenes.splits import splits_of
from hdmap_core.datasets.nuscenes.tables import LIDAR, NuScenesTables
from hdmap_core.datasets.nuscenes.vector_map import VectorMap
from hdmap_core.datasets.protocol import Scene, SensorFrame
from hdmap_core.errors import DatasetError
from hdmap_core.geometry.map_origin import MapOrigin

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
_TABLES = ("scene", "sample", "calibrated_sensor", "log")
_SIZES_ONLY = ("sample_data", "ego_pose")  # a gigabyte each in the full data set
_MAPS = ("maps/sd/*.geojson", "maps/expansion/*.json")  # models look at SD maps; overlaps are with the HD maps
_log = logging.getLogger(__name__)


class NuScenesDataset(KeyframeReader):
    """The keyframes of a nuScenes folder, real or synthetic.

    Args:
        root: the folder that holds `v1.0-*`, `samples/` and `maps/`.
        version: which `v1.0-*` folder; may be left out when there is only one.
        tables: an index to use in place of the tables (`keyframe_index`).
        road_plane: turn each observation onto the road (`on_the_road`); False: leave it in the ego frame as it is.

    Raises:
        DatasetError: if the folder is not a usable nuScenes folder.
    """

    def __init__(
        self,
        root: Path | str,
        version: str | None = None,
        tables: NuScenesTables | KeyframeIndex | None = None,
        road_plane: bool = True,
    ) -> None:
        self.tables = tables or NuScenesTables(root, version)
        super().__init__(self.tables.root, self.tables.version, self.tables.folder, "sample", road_plane)
        self._maps: dict[str, VectorMap] = {}
        self._anchored_by: set[str] = set()

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """All scenes, in file order."""
        return self.tables.scenes

    @cached_property
    def splits(self) -> Mapping[str, Sequence[str]]:
        """Split name -> scene names: the published lists and the folder's own."""
        return splits_of(self.tables)

    def map_from_ego(self, token: str) -> np.ndarray:
        """(4, 4) float64: the car's pose at the keyframe's instant."""
        return self._anchor(token).map_from_ego

    def keyframe(self, token: str) -> dict[str, SensorFrame]:
        """See `NuScenesTables.keyframe`."""
        return self.tables.keyframe(token)

    def previous_sweeps(self, token: str) -> list[SensorFrame]:
        """See `NuScenesTables.previous_sweeps`."""
        return self.tables.previous_sweeps(token)

    def sensor_frames(self, scene: Scene, channels: Collection[str] | None = None) -> list[SensorFrame]:
        """See `NuScenesTables.sensor_frames`; reads the tables anew where only an index is open."""
        tables = self.tables
        if isinstance(tables, KeyframeIndex):
            tables = NuScenesTables(self.root, self.version)
        return tables.sensor_frames(scene, channels)

    def has_vector_map(self, token: str) -> bool:
        """Whether the folder holds the map expansion of the keyframe's city."""
        return self._map_path(token).is_file()

    def advice(self, what: Literal["vector map", "SD map", "LiDAR"], token: str) -> str:
        """See `MapDataset.advice`."""
        if what == "vector map":
            return f"no {self._map_path(token)}"
        if what == "LiDAR":
            return "a synthetic data set needs `hdmap synth --lidar keyframes`, or `all` for several sweeps"
        return f"{self._sd_path(token)} is missing; `hdmap sdmap OSM_FOLDER {self.root}` makes it"

    def truth_state(self) -> list[tuple[str, object]]:
        """Names and sizes of the HD maps."""
        return [(path.name, path.stat().st_size) for path in sorted((self.root / "maps/expansion").glob("*.json"))]

    def digest(self) -> str:
        """Of the smaller tables, of the maps, and of the size of the big tables."""
        digest = hashlib.sha256(self.version.encode())
        for path in [*(self.place / f"{name}.json" for name in _TABLES), self.root / "synth.json"]:
            digest.update(path.read_bytes() if path.is_file() else b"-")
        for path in sorted(path for pattern in _MAPS for path in self.root.glob(pattern)):
            digest.update(str(path.relative_to(self.root)).encode() + path.read_bytes())
        for name in _SIZES_ONLY:
            digest.update(str((self.place / f"{name}.json").stat().st_size).encode())
        return digest.hexdigest()

    def _map_path(self, token: str) -> Path:
        return self.root / "maps" / "expansion" / f"{self.scene_of(token).location}.json"

    def vector_map(self, city: str) -> VectorMap:
        """The vector map of a city, read once."""
        if city not in self._maps:
            self._maps[city] = VectorMap.of_city(self.root, city)
        return self._maps[city]

    def _instant(self, token: str) -> tuple[int, np.ndarray]:
        anchor = self._anchor(token)
        return anchor.stamp_ns, anchor.map_from_ego

    def _truth(self, token: str) -> tuple[VectorMap, np.ndarray]:
        return self.vector_map(self.scene_of(token).location), self.map_from_ego(token)

    def _anchor(self, token: str) -> SensorFrame:
        """The file whose stamp and pose are the keyframe's."""
        frames = self.tables.keyframe(token)
        if LIDAR in frames:
            return frames[LIDAR]
        anchor = self._cameras(token, frames)[0]
        if anchor.channel not in self._anchored_by:
            self._anchored_by.add(anchor.channel)
            _log.warning(
                "%s has no %s: stamps and poses of keyframes are those of %s", self.place, LIDAR, anchor.channel
            )
        return anchor

    def _cameras(self, token: str, files: Mapping[str, SensorFrame], images: bool = True) -> list[SensorFrame]:
        """Those of a keyframe, nuScenes' own first and in its order."""
        present = {name for name, frame in files.items() if frame.modality == "camera"}
        if not present:
            raise DatasetError(f"{self.place}: sample {token!r} has no camera keyframe")
        known = [name for name in CAMERAS if name in present]
        return [files[name] for name in known + sorted(present.difference(known))]

    def _lidar(self, files: Mapping[str, SensorFrame]) -> SensorFrame | None:
        return files.get(LIDAR)

    def _origin(self, token: str) -> MapOrigin | None:
        return CITIES.get(self.scene_of(token).location)
