"""A frames folder as a data set: the second reader beside nuScenes', of cameras, drives and maps of one's own."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from hdmap_core.datasets.frames.format import Frame, SceneFacts
from hdmap_core.datasets.frames.geojson_map import read_map, shapes_of
from hdmap_core.datasets.frames.index import read_frames
from hdmap_core.datasets.frames.mounts import camera_of, elements_of, matrix_of
from hdmap_core.datasets.keyframe_reader import SWEEP_REACH_NS, KeyframeReader
from hdmap_core.datasets.nuscenes.vector_map import VectorMap
from hdmap_core.datasets.protocol import Scene, SensorFrame, lidar_of
from hdmap_core.datasets.sd_map import SdMap
from hdmap_core.elements import MapElement, read_elements
from hdmap_core.errors import DatasetError, ElementError
from hdmap_core.geometry.map_origin import GeodeticOrigin, MapOrigin

ALL = "all"
"""A split that every frames folder has, unless it calls one of its own so: all scenes."""


class FramesDataset(KeyframeReader):
    """The frames of a folder; see `MapDataset` for what its methods say.

    Args:
        path: `frames.json`, `frames.jsonl`, or another file of this format; what it names lies beside it.
        road_plane: see `KeyframeReader`.

    Raises:
        DatasetError: naming frame, camera and field of what cannot be.
    """

    def __init__(self, path: Path | str, road_plane: bool = True) -> None:
        path = Path(path)
        super().__init__(path.parent, path.name, path, "frame", road_plane)
        self._index = read_frames(self.place)
        self._heads = self._index.heads
        told = {scene.name: scene for scene in self._index.scenes}
        names = dict.fromkeys(head.scene for head in self._heads.values())
        self._facts = {name: told.get(name, SceneFacts(name=name)) for name in names}
        self._maps: dict[str, VectorMap] = {}
        self._elements: dict[str, dict[str, list[MapElement]]] = {}

    @cached_property
    def scenes(self) -> tuple[Scene, ...]:
        """In the order of their first frames; frames in time order."""
        tokens: dict[str, list[str]] = {name: [] for name in self._facts}
        for head in sorted(self._heads.values(), key=lambda head: head.stamp_ns):
            tokens[head.scene].append(head.token)
        return tuple(
            Scene(name, _location(facts), facts.description, tuple(tokens[name])) for name, facts in self._facts.items()
        )

    @cached_property
    def splits(self) -> Mapping[str, Sequence[str]]:
        """As the scenes say, and `all`."""
        splits: dict[str, list[str]] = {ALL: list(self._facts)}
        for name in dict.fromkeys(facts.split for facts in self._facts.values() if facts.split):
            splits[name] = [facts.name for facts in self._facts.values() if facts.split == name]
        return splits

    def map_from_ego(self, token: str) -> np.ndarray | None:
        """As the frame says."""
        pose = self._frame(token).map_from_ego
        return None if pose is None else matrix_of(pose)

    def has_vector_map(self, token: str) -> bool:
        """Whether the frame has true elements, or its scene a map and the frame a pose in it."""
        frame, facts = self._frame(token), self._facts_of(token)
        if frame.elements is not None or (facts.elements and token in self._listed(facts.elements)):
            return True
        return facts.map is not None and frame.map_from_ego is not None and (self.root / facts.map).is_file()

    def sd_lines(self, token: str) -> tuple[np.ndarray, ...] | None:
        """Roads that the frame brings, else those of the scene's SD map."""
        lines = self._frame(token).sd_lines
        return super().sd_lines(token) if lines is None else tuple(np.array(line, dtype=np.float32) for line in lines)

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
        if self.map_from_ego(token) is None:
            return []
        tokens, now = self.scene_of(token).sample_tokens, self._heads[token].stamp_ns
        recent = [other for other in reversed(tokens) if 0 < now - self._heads[other].stamp_ns <= SWEEP_REACH_NS]
        found = (lidar_of(self.keyframe(other)) for other in recent if self.map_from_ego(other) is not None)
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

    def _facts_of(self, token: str) -> SceneFacts:
        return self._facts[self._frame(token).scene]

    def _instant(self, token: str) -> tuple[int, np.ndarray | None]:
        return self._frame(token).stamp_ns, self.map_from_ego(token)

    def _truth(self, token: str) -> tuple[VectorMap, np.ndarray]:
        frame, facts = self._frame(token), self._facts_of(token)
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

    def _cameras(self, token: str, files: Mapping[str, SensorFrame], images: bool) -> list[SensorFrame]:
        return [file for file in files.values() if file.modality == "camera"]

    def _listed(self, name: str) -> dict[str, list[MapElement]]:
        if name not in self._elements:
            try:
                self._elements[name] = read_elements(self.root / name)
            except ElementError as error:
                raise DatasetError(str(error)) from None
        return self._elements[name]

    def _origin(self, token: str) -> MapOrigin | None:
        origin = self._facts_of(token).map_origin
        if origin is None:
            return None
        kind = MapOrigin if origin.earth == "sphere" else GeodeticOrigin
        return kind(origin.latitude, origin.longitude)

    def _sd_map(self, token: str) -> SdMap | None:
        name = self._facts_of(token).sd_map
        if name is not None and name not in self._sd_maps:
            self._sd_maps[name] = SdMap.read(self.root / name, self._origin(token))
        return None if name is None else self._sd_maps[name]


def _location(facts: SceneFacts) -> str:
    return facts.location or (Path(facts.map).stem if facts.map else "somewhere")
