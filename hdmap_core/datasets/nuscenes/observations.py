"""nuScenes keyframes as `Observation`s in the ego frame, with their vector-map ground truth.

The instant of a keyframe is the stamp of its LIDAR_TOP sweep. Every camera fired up to 47 ms before it; its pose is
carried over by the car's own motion:

    ego_from_camera = inverse(map_from_ego[lidar stamp]) @ map_from_ego[camera stamp] @ ego_from_camera[calibrated]

A folder without LIDAR_TOP, as a car without LiDAR leaves it, takes stamp and pose of CAM_FRONT, else of its first
camera; that is said once.
"""

import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, overload

import numpy as np
from shapely import MultiPolygon

from hdmap_core.datasets.nuscenes.cities import CITIES
from hdmap_core.datasets.nuscenes.keyframe_index import KeyframeIndex
from hdmap_core.datasets.nuscenes.splits import splits_of
from hdmap_core.datasets.nuscenes.tables import LIDAR, NuScenesTables
from hdmap_core.datasets.nuscenes.vector_map import VectorMap
from hdmap_core.datasets.observing import moved, observe, sweeps_up_to
from hdmap_core.datasets.protocol import AREA_LAYERS, CLASSES, Crossings, Range, Scene, SensorFrame
from hdmap_core.datasets.sd_map import SdMap
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import DatasetError
from hdmap_core.geometry.bev_grid import ROADS_REACH_M
from hdmap_core.geometry.road_plane import WINDOW_S
from hdmap_core.images.decoding import Enough
from hdmap_core.observation import Observation

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
_TABLES = ("scene", "sample", "calibrated_sensor", "log")
_SIZES_ONLY = ("sample_data", "ego_pose")  # a gigabyte each in the full data set
_MAPS = ("maps/sd/*.geojson", "maps/expansion/*.json")  # models look at SD maps; overlaps are with the HD maps
_log = logging.getLogger(__name__)


class NuScenesDataset:
    """The keyframes of a nuScenes folder, real or synthetic.

    Args:
        root: the folder that holds `v1.0-*`, `samples/` and `maps/`.
        version: which `v1.0-*` folder; may be left out when there is only one.
        cameras: which cameras to read, in this order; all of a keyframe by default.
        sd_range: how far around the car SD-map roads are taken, metres.
        tables: an index to use in place of the tables (`keyframe_index`).
        road_plane: turn each observation onto the road (`on_the_road`); False: leave it in the ego frame as it is.

    Raises:
        DatasetError: if the folder is not a usable nuScenes folder.
    """

    def __init__(
        self,
        root: Path | str,
        version: str | None = None,
        cameras: Sequence[str] | None = None,
        sd_range: float = ROADS_REACH_M,
        tables: NuScenesTables | KeyframeIndex | None = None,
        road_plane: bool = True,
    ) -> None:
        self.tables = tables or NuScenesTables(root, version)
        self.root, self.version, self.place = self.tables.root, self.tables.version, self.tables.folder
        self.cameras = None if cameras is None else tuple(cameras)
        self.sd_range = sd_range
        self.road_plane = road_plane
        self._maps: dict[str, VectorMap] = {}
        self._sd_maps: dict[str, SdMap | None] = {}
        self._anchored_by: set[str] = set()

    def __len__(self) -> int:
        return len(self.tokens)

    @overload
    def __getitem__(self, which: int | str) -> Observation: ...
    @overload
    def __getitem__(self, which: slice) -> list[Observation]: ...
    def __getitem__(self, which: int | str | slice) -> Observation | list[Observation]:
        """The keyframe at a place in `tokens` (from the end when negative) or of a sample token; several of a slice.

        Raises:
            IndexError: if there is no such place.
            DatasetError, ImageError: see `observation`.
        """
        if isinstance(which, str):
            return self.observation(which)
        if isinstance(which, slice):
            return [self.observation(token) for token in self.tokens[which]]
        return self.observation(self.tokens[which])

    def __iter__(self) -> Iterator[Observation]:
        """The keyframes in the order of `tokens`, read one at a time."""
        return map(self.observation, self.tokens)

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """All scenes, in file order."""
        return self.tables.scenes

    @cached_property
    def splits(self) -> Mapping[str, Sequence[str]]:
        """Split name -> scene names: the published lists and the folder's own."""
        return splits_of(self.tables)

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Sample tokens of all keyframes, scene by scene in time order."""
        return tuple(self._scene_of)

    @cached_property
    def _scene_of(self) -> dict[str, Scene]:
        return {token: scene for scene in self.scenes for token in scene.sample_tokens}

    def scene_of(self, token: str) -> Scene:
        """The scene that a keyframe belongs to."""
        if token not in self._scene_of:
            raise DatasetError(f"{self.tables.folder} has no sample {token!r}")
        return self._scene_of[token]

    def map_from_ego(self, token: str) -> np.ndarray:
        """(4, 4) float64: the car's pose at the keyframe's instant."""
        return self._anchor(token, self.tables.keyframe(token)).map_from_ego

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

    def observation(
        self,
        token: str,
        images: bool = True,
        points: bool = True,
        at_least: Enough | None = None,
        sweeps: int = 1,
        roads: bool = True,
        coarse: bool = False,
        lidar_ground: bool = False,
    ) -> Observation:
        """One keyframe.

        Args:
            token: sample token.
            images: decode the JPEGs; without, every image is None and the rig still complete.
            points: read the LiDAR sweep. It comes as stored: already corrected for ego motion, and with the returns
                from the car itself.
            at_least: what is enough: images are then decoded at the half, quarter or eighth of their size that
                `images.decoding.reduction_for` allows, and the rig is that of the smaller images.
            sweeps: of the LiDAR: the keyframe's and so many less one before it, carried along by the car's own motion;
                fewer where the scene begins or none is recent enough (`tables.SWEEP_REACH_NS`). What moved meanwhile
                leaves a trail. Returns from the car itself (within 2.2 m of the sensor along x and along y) are left
                out of those before the keyframe's.
            roads: cut out those of the SD map, if there is one.
            coarse: see `decode_image`.
            lidar_ground: the road is what the keyframe's LiDAR sweep sees of it, if there is one; points need not be
                asked for.

        Raises:
            DatasetError: if a file is missing or does not fit the tables.
            ImageError: if an image is truncated or damaged; the message names the file.
        """
        frames = self.tables.keyframe(token)
        anchor, lidar = self._anchor(token, frames), frames.get(LIDAR) if points else None
        return observe(
            token,
            anchor.stamp_ns,
            anchor.map_from_ego,
            [frames[name] for name in self._camera_names(token, frames)],
            sweeps=sweeps_up_to(lidar, sweeps, lambda: self.previous_sweeps(token)),
            images=images,
            at_least=at_least,
            coarse=coarse,
            sd_lines=self.sd_lines(token) if roads else None,
            map_origin=CITIES.get(self.scene_of(token).location),
            recent=self._recent_poses(token) if self.road_plane else None,
            ground=frames.get(LIDAR) if lidar_ground else None,
        )

    def elements(
        self,
        token: str,
        x_range: Range = (-30.0, 30.0),
        y_range: Range = (-15.0, 15.0),
        classes: Sequence[MapClass] = CLASSES,
        crossings: Crossings = "outlines",
        ego_from_moved: np.ndarray | None = None,
    ) -> list[MapElement]:
        """The keyframe's ground truth: see `VectorMap.elements`."""
        pose = moved(self.map_from_ego(token), ego_from_moved)
        return self.vector_map(self.scene_of(token).location).elements(pose, x_range, y_range, classes, crossings)

    def areas(
        self,
        token: str,
        x_range: Range = (-30.0, 30.0),
        y_range: Range = (-15.0, 15.0),
        layers: Sequence[str] = AREA_LAYERS,
        ego_from_moved: np.ndarray | None = None,
    ) -> dict[str, MultiPolygon]:
        """What polygon layers cover around the car at a keyframe: see `VectorMap.areas`."""
        pose = moved(self.map_from_ego(token), ego_from_moved)
        return self.vector_map(self.scene_of(token).location).areas(pose, x_range, y_range, layers)

    def has_vector_map(self, token: str) -> bool:
        """Whether the folder holds the map expansion of the keyframe's city."""
        return self._map_path(token).is_file()

    def advice(self, what: Literal["vector map", "SD map", "LiDAR"], token: str) -> str:
        """See `MapDataset.advice`."""
        if what == "vector map":
            return f"no {self._map_path(token)}"
        if what == "LiDAR":
            return "a synthetic data set needs `hdmap synth --lidar keyframes`, or `all` for several sweeps"
        path = self.root / "maps" / "sd" / f"{self.scene_of(token).location}.geojson"
        return f"{path} is missing; `hdmap sdmap OSM_FOLDER {self.root}` makes it"

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

    def sd_lines(self, token: str) -> tuple[np.ndarray, ...] | None:
        """Roads of the SD map around the car, each (P, 2) float32 metres in the ego frame; None without an SD map."""
        city = self.scene_of(token).location
        if city not in self._sd_maps:
            path = self.root / "maps" / "sd" / f"{city}.geojson"
            self._sd_maps[city] = SdMap.read(path) if path.is_file() else None
        sd_map = self._sd_maps[city]
        reach = (-self.sd_range, self.sd_range)
        return None if sd_map is None else sd_map.near(self.map_from_ego(token), reach, reach)

    def _recent_poses(self, token: str) -> tuple[list[np.ndarray], list[int]]:
        """Poses and stamps of the scene's keyframes up to this one, as far back as they tell of the road."""
        tokens = self.scene_of(token).sample_tokens
        recent: list[SensorFrame] = []
        for earlier in reversed(tokens[: tokens.index(token) + 1]):
            frame = self._anchor(earlier, self.tables.keyframe(earlier))
            if recent and recent[0].stamp_ns - frame.stamp_ns > WINDOW_S * 1e9:
                break
            recent.append(frame)
        recent.reverse()
        return [frame.map_from_ego for frame in recent], [frame.stamp_ns for frame in recent]

    def _anchor(self, token: str, frames: dict[str, SensorFrame]) -> SensorFrame:
        """The file whose stamp and pose are the keyframe's."""
        if LIDAR in frames:
            return frames[LIDAR]
        name = self._camera_names(token, frames)[0] if CAMERAS[0] not in frames else CAMERAS[0]
        if name not in self._anchored_by:
            self._anchored_by.add(name)
            _log.warning("%s has no %s: stamps and poses of keyframes are those of %s", self.place, LIDAR, name)
        return frames[name]

    def _camera_names(self, token: str, frames: dict[str, SensorFrame]) -> list[str]:
        present = [name for name, frame in frames.items() if frame.modality == "camera"]
        missing = [name for name in self.cameras or () if name not in present]
        if missing:
            raise DatasetError(
                f"{self.tables.folder}: sample {token!r} has no camera {missing[0]!r}; it has {', '.join(present)}"
            )
        if not present:
            raise DatasetError(f"{self.tables.folder}: sample {token!r} has no camera keyframe")
        known = [name for name in CAMERAS if name in present]
        return list(self.cameras or known + sorted(set(present) - set(known)))
