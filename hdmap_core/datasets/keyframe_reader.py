"""What the readers of all formats share: keyframes by token, truth and roads around them, where the car came from."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np
from shapely import MultiPolygon

from hdmap_core.datasets.observing import observe
from hdmap_core.datasets.protocol import AREA_LAYERS, CLASSES, Crossings, Range, Scene, SensorFrame, lidar_of
from hdmap_core.datasets.sd_map import SdMap
from hdmap_core.datasets.true_map import TrueMap
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import DatasetError
from hdmap_core.geometry import se3
from hdmap_core.geometry.bev_grid import ROADS_REACH_M
from hdmap_core.geometry.map_origin import MapOrigin
from hdmap_core.geometry.road_plane import WINDOW_S
from hdmap_core.images.decoding import Enough
from hdmap_core.observation import Observation

SWEEP_REACH_NS = 300_000_000
"""How far before a keyframe LiDAR sweeps are taken: six of them at nuScenes' 20 Hz, and no keyframe as a rule."""


class KeyframeReader(ABC):
    """A `MapDataset` but for what its format alone knows; see there for what the methods say.

    Args:
        root: the folder.
        version: which of the data sets in it.
        place: the file or folder that says what the keyframes are.
        word: what they are called in messages.
        road_plane: turn each observation onto the road (`on_the_road`); False: leave it in the ego frame as it is.
    """

    def __init__(self, root: Path, version: str, place: Path, word: str, road_plane: bool) -> None:
        self.root, self.version, self.place, self.road_plane = root, version, place, road_plane
        self._word = word
        self._sd_maps: dict[str, SdMap | None] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    @overload
    def __getitem__(self, which: int | str) -> Observation: ...
    @overload
    def __getitem__(self, which: slice) -> list[Observation]: ...
    def __getitem__(self, which: int | str | slice) -> Observation | list[Observation]:
        """The keyframe at a place in `tokens` (from the end when negative) or of a token; several of a slice.

        Raises:
            IndexError: if there is no such place.
            DatasetError, ImageError: see `MapDataset.observation`.
        """
        if isinstance(which, str):
            return self.observation(which)
        if isinstance(which, slice):
            return [self.observation(token) for token in self.tokens[which]]
        return self.observation(self.tokens[which])

    def __iter__(self) -> Iterator[Observation]:
        """The keyframes in the order of `tokens`, read one at a time."""
        return map(self.observation, self.tokens)

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Tokens of all keyframes, scene by scene in time order."""
        return tuple(self._scene_of)

    def scene_of(self, token: str) -> Scene:
        """The scene that a keyframe belongs to."""
        if token not in self._scene_of:
            raise DatasetError(f"{self.place} has no {self._word} {token!r}")
        return self._scene_of[token]

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
        """One keyframe."""
        if sweeps < 1:
            raise ValueError(f"sweeps must be at least 1, got {sweeps}")
        files, (stamp_ns, map_from_ego) = self.keyframe(token), self._instant(token)
        cameras, lidar = self._cameras(token, files, images), self._lidar(files)
        swept = []
        if points and lidar is not None:
            swept = [lidar, *(self.previous_sweeps(token)[: sweeps - 1] if sweeps > 1 else ())]
        return observe(
            token,
            stamp_ns,
            map_from_ego,
            cameras,
            sweeps=swept,
            images=images,
            at_least=at_least,
            coarse=coarse,
            sd_lines=self.sd_lines(token) if roads else None,
            map_origin=self._origin(token),
            recent=self._recent_poses(token) if self.road_plane else None,
            ground=lidar if lidar_ground else None,
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
        """The true elements around a keyframe."""
        true_map, pose = self._truth(token)
        return true_map.elements(_moved(pose, ego_from_moved), x_range, y_range, classes, crossings)

    def areas(
        self,
        token: str,
        x_range: Range = (-30.0, 30.0),
        y_range: Range = (-15.0, 15.0),
        layers: Sequence[str] = AREA_LAYERS,
        ego_from_moved: np.ndarray | None = None,
    ) -> dict[str, MultiPolygon]:
        """What polygon layers of the true map cover around a keyframe."""
        true_map, pose = self._truth(token)
        return true_map.areas(_moved(pose, ego_from_moved), x_range, y_range, layers)

    def sd_lines(self, token: str) -> tuple[np.ndarray, ...] | None:
        """Roads of the SD map around the car, each (P, 2) float32 metres in the ego frame; None without an SD map."""
        _, pose = self._instant(token)
        sd_map = None if pose is None else self._sd_map(token)
        reach = (-ROADS_REACH_M, ROADS_REACH_M)
        return None if pose is None or sd_map is None else sd_map.near(pose, reach, reach)

    @property
    @abstractmethod
    def scenes(self) -> tuple[Scene, ...]:
        """All scenes, in the folder's order."""

    @abstractmethod
    def map_from_ego(self, token: str) -> np.ndarray | None:
        """(4, 4) float64: the car's pose at the keyframe's instant; None where nobody knows it."""

    @abstractmethod
    def keyframe(self, token: str) -> dict[str, SensorFrame]:
        """Name of the sensor -> its file of one keyframe."""

    @abstractmethod
    def previous_sweeps(self, token: str) -> list[SensorFrame]:
        """The LiDAR sweeps just before a keyframe's, newest first."""

    @abstractmethod
    def _instant(self, token: str) -> tuple[int, np.ndarray | None]:
        """A keyframe's stamp, and the car's pose (4, 4) then, or None where nobody knows it."""

    @abstractmethod
    def _truth(self, token: str) -> tuple[TrueMap, np.ndarray]:
        """A keyframe's true map, and the pose (4, 4) of the car in it."""

    @abstractmethod
    def _cameras(self, token: str, files: Mapping[str, SensorFrame], images: bool) -> list[SensorFrame]:
        """The cameras' files of a keyframe in the order of the rig; `images`: they will be read."""

    def _lidar(self, files: Mapping[str, SensorFrame]) -> SensorFrame | None:
        """The LiDAR's file of a keyframe; None where it has none."""
        return lidar_of(files)

    def _origin(self, token: str) -> MapOrigin | None:
        """Where the map of a keyframe lies on the earth; None where nobody knows."""
        return None

    def _sd_map(self, token: str) -> SdMap | None:
        """The SD map of a keyframe's place, read once; None without one."""
        path = self._sd_path(token)
        if path.name not in self._sd_maps:
            self._sd_maps[path.name] = SdMap.read(path) if path.is_file() else None
        return self._sd_maps[path.name]

    def _sd_path(self, token: str) -> Path:
        return self.root / "maps" / "sd" / f"{self.scene_of(token).location}.geojson"

    def _recent_poses(self, token: str) -> tuple[list[np.ndarray], list[int]]:
        """Poses and stamps of the scene's keyframes up to this one, as far back as they tell of the road."""
        tokens = self.scene_of(token).sample_tokens
        now, _ = self._instant(token)
        recent: list[tuple[np.ndarray, int]] = []
        for earlier in reversed(tokens[: tokens.index(token) + 1]):
            stamp_ns, pose = self._instant(earlier)
            if now - stamp_ns > WINDOW_S * 1e9:
                break
            if pose is not None:
                recent.insert(0, (pose, stamp_ns))
            elif earlier == token:
                break
        return [pose for pose, _ in recent], [stamp_ns for _, stamp_ns in recent]

    @cached_property
    def _scene_of(self) -> dict[str, Scene]:
        return {token: scene for scene in self.scenes for token in scene.sample_tokens}


def _moved(map_from_ego: np.ndarray, ego_from_moved: np.ndarray | None) -> np.ndarray:
    """A pose after a flat motion, in the plane: of a pose the ground truth takes x, y and yaw."""
    if ego_from_moved is None:
        return map_from_ego
    yaw = se3.yaw_of(map_from_ego)
    return se3.se3(se3.rotation_from_euler(0, 0, yaw), map_from_ego[:3, 3]) @ ego_from_moved
