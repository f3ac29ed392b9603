"""A frames folder as a data set: the second reader beside nuScenes', of cameras, drives and maps of one's own."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from shapely import MultiPolygon

from hdmap_core.datasets.frames.format import Frame, SceneFacts
from hdmap_core.datasets.frames.geojson_map import read_map, read_roads, shapes_of
from hdmap_core.datasets.frames.index import read_frames
from hdmap_core.datasets.frames.mounts import camera_of, elements_of, matrix_of
from hdmap_core.datasets.nuscenes.vector_map import VectorMap
from hdmap_core.datasets.observing import moved, observe, sweeps_up_to
from hdmap_core.datasets.protocol import AREA_LAYERS, CLASSES, Crossings, Range, Scene, SensorFrame, lidar_of
from hdmap_core.datasets.sd_map import SdMap
from hdmap_core.elements import MapClass, MapElement, read_elements
from hdmap_core.errors import DatasetError, ElementError
from hdmap_core.geometry.bev_grid import ROADS_REACH_M
from hdmap_core.geometry.map_origin import GeodeticOrigin, MapOrigin
from hdmap_core.geometry.road_plane import WINDOW_S
from hdmap_core.images.decoding import Enough
from hdmap_core.observation import Observation

SWEEP_REACH_NS = 300_000_000
"""How far before a frame LiDAR sweeps of earlier ones are taken, as in nuScenes folders."""
ALL = "all"
"""A split that every frames folder has, unless it calls one of its own so: all scenes."""


class FramesDataset:
    """The frames of a folder; see `MapDataset` for what its methods say.

    Args:
        path: `frames.json`, `frames.jsonl`, or another file of this format; what it names lies beside it.
        sd_range: how far around the car SD-map roads are taken, metres.
        road_plane: turn each observation onto the road (`on_the_road`).

    Raises:
        DatasetError: naming frame, camera and field of what cannot be.
    """

    def __init__(self, path: Path | str, sd_range: float = ROADS_REACH_M, road_plane: bool = True) -> None:
        self.place = Path(path)
        self.root, self.version = self.place.parent, self.place.name
        self.sd_range, self.road_plane = sd_range, road_plane
        self._index = read_frames(self.place)
        self._heads = self._index.heads
        told = {scene.name: scene for scene in self._index.scenes}
        names = dict.fromkeys(head.scene for head in self._heads.values())
        self._facts = {name: told.get(name, SceneFacts(name=name)) for name in names}
        self._maps: dict[str, VectorMap] = {}
        self._roads: dict[str, SdMap] = {}
        self._elements: dict[str, dict[str, list[MapElement]]] = {}

    def __len__(self) -> int:
        return len(self._heads)

    def __iter__(self) -> Iterator[Observation]:
        """The frames in the order of `tokens`, read one at a time."""
        return map(self.observation, self.tokens)

    @cached_property
    def scenes(self) -> tuple[Scene, ...]:
        """In the order of their first frames; frames in time order."""
        tokens: dict[str, list[str]] = {name: [] for name in self._facts}
        for head in sorted(self._heads.values(), key=lambda head: head.stamp_ns):
            tokens[head.scene].append(head.token)
        return tuple(
            Scene(name, name, _location(facts), self.version, facts.description, tuple(tokens[name]))
            for name, facts in self._facts.items()
        )

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Scene by scene in time order."""
        return tuple(token for scene in self.scenes for token in scene.sample_tokens)

    @cached_property
    def splits(self) -> Mapping[str, Sequence[str]]:
        """As the scenes say, and `all`."""
        splits: dict[str, list[str]] = {ALL: list(self._facts)}
        for name in dict.fromkeys(facts.split for facts in self._facts.values() if facts.split):
            splits[name] = [facts.name for facts in self._facts.values() if facts.split == name]
        return splits

    @cached_property
    def _scene_of(self) -> dict[str, Scene]:
        return {token: scene for scene in self.scenes for token in scene.sample_tokens}

    def scene_of(self, token: str) -> Scene:
        """The scene that a frame belongs to."""
        if token not in self._scene_of:
            raise DatasetError(f"{self.place} has no frame {token!r}")
        return self._scene_of[token]

    def map_from_ego(self, token: str) -> np.ndarray | None:
        """As the frame says."""
        pose = self._frame(token).map_from_ego
        return None if pose is None else matrix_of(pose)

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
        """One frame; see `MapDataset.observation`."""
        files = self.keyframe(token)
        lidar = lidar_of(files) if points else None
        return observe(
            token,
            self._frame(token).stamp_ns,
            self.map_from_ego(token),
            [file for file in files.values() if file.modality == "camera"],
            sweeps=sweeps_up_to(lidar, sweeps, lambda: self.previous_sweeps(token)),
            images=images,
            at_least=at_least,
            coarse=coarse,
            sd_lines=self.sd_lines(token) if roads else None,
            map_origin=self._origin(token),
            recent=self._recent_poses(token) if self.road_plane else None,
            ground=lidar_of(files) if lidar_ground else None,
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
        """True elements: cut from the scene's map, or from those that the frame brings."""
        true_map, pose = self._truth(token)
        return true_map.elements(moved(pose, ego_from_moved), x_range, y_range, classes, crossings)

    def areas(
        self,
        token: str,
        x_range: Range = (-30.0, 30.0),
        y_range: Range = (-15.0, 15.0),
        layers: Sequence[str] = AREA_LAYERS,
        ego_from_moved: np.ndarray | None = None,
    ) -> dict[str, MultiPolygon]:
        """What polygons of the true map cover."""
        true_map, pose = self._truth(token)
        return true_map.areas(moved(pose, ego_from_moved), x_range, y_range, layers)

    def has_vector_map(self, token: str) -> bool:
        """Whether the frame has true elements, or its scene a map and the frame a pose in it."""
        frame, facts = self._frame(token), self._facts[self._frame(token).scene]
        if frame.elements is not None or (facts.elements and token in self._listed(facts.elements)):
            return True
        return facts.map is not None and frame.map_from_ego is not None and (self.root / facts.map).is_file()

    def sd_lines(self, token: str) -> tuple[np.ndarray, ...] | None:
        """Roads that the frame brings, else those of the scene's SD map."""
        frame, facts = self._frame(token), self._facts[self._frame(token).scene]
        if frame.sd_lines is not None:
            return tuple(np.array(line, dtype=np.float32) for line in frame.sd_lines)
        pose = self.map_from_ego(token)
        if facts.sd_map is None or pose is None:
            return None
        if facts.sd_map not in self._roads:
            self._roads[facts.sd_map] = read_roads(self.root / facts.sd_map, self._origin(token))
        reach = (-self.sd_range, self.sd_range)
        return self._roads[facts.sd_map].near(pose, reach, reach)

    def keyframe(self, token: str) -> dict[str, SensorFrame]:
        """Name of the camera, and `lidar`, -> its file."""
        frame, pose = self._frame(token), self.map_from_ego(token)
        here = np.eye(4) if pose is None else pose
        files = {}
        for camera in frame.cameras:
            mount = camera_of(camera)
            assert mount.ego_from_camera is not None
            files[camera.name] = SensorFrame(
                token=f"{token}/{camera.name}",
                sample_token=token,
                channel=camera.name,
                modality="camera",
                path=self.root / camera.image,
                stamp_ns=frame.stamp_ns if camera.stamp_ns is None else camera.stamp_ns,
                is_key_frame=True,
                ego_from_sensor=mount.ego_from_camera,
                map_from_ego=here if camera.map_from_ego is None else matrix_of(camera.map_from_ego),
                intrinsics=mount.intrinsics,
                image_size=mount.image_size,
                lens=mount.lens,
                named_by=self.version,
            )
        if frame.lidar is not None:
            name = "lidar" if "lidar" not in files else "lidar (points)"
            files[name] = SensorFrame(
                token=f"{token}/{name}",
                sample_token=token,
                channel=name,
                modality="lidar",
                path=self.root / frame.lidar.file,
                stamp_ns=frame.stamp_ns,
                is_key_frame=True,
                ego_from_sensor=matrix_of(frame.lidar),
                map_from_ego=here,
                intrinsics=None,
                image_size=(0, 0),
                named_by=self.version,
                point_columns=frame.lidar.columns,
            )
        return files

    def previous_sweeps(self, token: str) -> list[SensorFrame]:
        """Those of the scene's frames within `SWEEP_REACH_NS` before, newest first; none without poses."""
        earlier = self._before(token, SWEEP_REACH_NS)[:-1] if self.map_from_ego(token) is not None else []
        found = (lidar_of(self.keyframe(frame.token)) for frame in reversed(earlier) if frame.map_from_ego is not None)
        return [sweep for sweep in found if sweep is not None]

    def sensor_frames(self, scene: Scene, channels: Collection[str] | None = None) -> list[SensorFrame]:
        """The files of a scene's frames; there is nothing between them."""
        files = [file for token in scene.sample_tokens for file in self.keyframe(token).values()]
        wanted = [file for file in files if channels is None or file.channel in channels]
        return sorted(wanted, key=lambda file: (file.stamp_ns, file.channel))

    def advice(self, what: Literal["vector map", "SD map", "LiDAR"], token: str) -> str:
        """See `MapDataset.advice`."""
        scene = self._frame(token).scene
        if what == "vector map":
            return (
                f"{self.place} gives frame {token!r} no 'elements', and its scene {scene!r} no 'map' that is there, or "
                "the frame no 'map_from_ego' in it"
            )
        if what == "LiDAR":
            return f"give it a 'lidar' with points in {self.place}"
        return f"{self.place} gives frame {token!r} no 'sd_lines', and its scene {scene!r} no 'sd_map'"

    def truth_state(self) -> list[tuple[str, object]]:
        """The digest: frames and truth stand in the same files."""
        return [(self.version, self.digest())]

    def digest(self) -> str:
        """Of the frames file and of the maps and elements that it names."""
        named = {name for facts in self._facts.values() for name in (facts.map, facts.sd_map, facts.elements) if name}
        digest = hashlib.sha256(self.place.read_bytes())
        for name in sorted(named):
            path = self.root / name
            digest.update(name.encode() + (path.read_bytes() if path.is_file() else b"-"))
        return digest.hexdigest()

    def _frame(self, token: str) -> Frame:
        if token not in self._heads:
            raise DatasetError(f"{self.place} has no frame {token!r}")
        return self._index.frame(token)

    def _truth(self, token: str) -> tuple[VectorMap, np.ndarray]:
        """A true map, and the pose of the car in it."""
        frame, facts = self._frame(token), self._facts[self._frame(token).scene]
        if frame.elements is not None:
            return VectorMap(shapes_of(elements_of(frame))), np.eye(4)
        if facts.elements and token in (listed := self._listed(facts.elements)):
            return VectorMap(shapes_of(listed[token])), np.eye(4)
        pose = self.map_from_ego(token)
        if facts.map is None or pose is None:
            raise DatasetError(self.advice("vector map", token))
        if facts.map not in self._maps:
            self._maps[facts.map] = VectorMap(read_map(self.root / facts.map, self._origin(token)))
        return self._maps[facts.map], pose

    def _listed(self, name: str) -> dict[str, list[MapElement]]:
        if name not in self._elements:
            try:
                self._elements[name] = read_elements(self.root / name)
            except ElementError as error:
                raise DatasetError(str(error)) from None
        return self._elements[name]

    def _origin(self, token: str) -> MapOrigin | None:
        origin = self._facts[self._frame(token).scene].map_origin
        if origin is None:
            return None
        kind = MapOrigin if origin.earth == "sphere" else GeodeticOrigin
        return kind(origin.latitude, origin.longitude)

    def _before(self, token: str, reach_ns: float) -> list[Frame]:
        """The frames of a scene up to one, as far back as that, in time order."""
        tokens = self.scene_of(token).sample_tokens
        place, now = tokens.index(token), self._heads[token].stamp_ns
        first = place
        while first and now - self._heads[tokens[first - 1]].stamp_ns <= reach_ns:
            first -= 1
        return [self._frame(other) for other in tokens[first : place + 1]]

    def _recent_poses(self, token: str) -> tuple[list[np.ndarray], list[int]]:
        if self.map_from_ego(token) is None:
            return [], []
        frames = [(frame, frame.map_from_ego) for frame in self._before(token, WINDOW_S * 1e9)]
        posed = [(matrix_of(pose), frame.stamp_ns) for frame, pose in frames if pose is not None]
        return [pose for pose, _ in posed], [stamp for _, stamp in posed]


def _location(facts: SceneFacts) -> str:
    return facts.location or (Path(facts.map).stem if facts.map else "somewhere")
