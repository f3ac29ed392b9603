"""What everything downstream needs of a data set, whatever format it lies in: one protocol, several readers.

Prediction, evaluation, preparation, training and bags know these names alone; `opening.open_dataset` finds the reader.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from shapely import MultiPolygon

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import DatasetError
from hdmap_core.geometry.lens import Lens
from hdmap_core.images.decoding import Enough
from hdmap_core.observation import Observation

Range = tuple[float, float]
Crossings = Literal["outlines", "edges"]
CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)
AREA_LAYERS = ("drivable_area", "ped_crossing")


@dataclass(frozen=True)
class Scene:
    """Some seconds or minutes of one drive, with one rig.

    Attributes:
        name: for example `scene-0061`; splits are lists of names.
        location: the city or place; scenes of one place share a map.
        description: free text that says weather and light.
        sample_tokens: the keyframes in time order.
    """

    name: str
    location: str
    description: str
    sample_tokens: tuple[str, ...]


@dataclass(frozen=True)
class SensorFrame:
    """One file of one sensor with its calibration and the car's pose at its own stamp.

    Attributes:
        sample_token: the keyframe that it belongs to.
        channel: the sensor's name.
        modality: `camera`, `lidar`, or what else a format has.
        path: the file, which may be missing until somebody reads it.
        stamp_ns: exposure time, or end of the LiDAR turn, nanoseconds since 1970.
        ego_from_sensor: (4, 4) float64.
        map_from_ego: (4, 4) float64, the pose at `stamp_ns`; the identity in all frames of a scene whose poses nobody
            knows (`MapDataset.map_from_ego` is None there).
        intrinsics: (3, 3) float64, pixels; None unless a camera.
        image_size: (H, W) as the data set says; (0, 0) where it says nothing.
        lens: that the images still show; None for a pinhole, as all of nuScenes.
        named_by: the file that names this one, for messages.
        point_columns: float32 per point of a LiDAR file; the first are x, y, z, intensity and ring.
    """

    token: str
    sample_token: str
    channel: str
    modality: str
    path: Path
    stamp_ns: int
    is_key_frame: bool
    ego_from_sensor: np.ndarray
    map_from_ego: np.ndarray
    intrinsics: np.ndarray | None
    image_size: tuple[int, int]
    lens: Lens | None = None
    named_by: str = "sample_data.json"
    point_columns: int = 5


class MapDataset(Protocol):
    """A folder of keyframes with calibrated cameras and, as far as it has them, poses, LiDAR, roads and true maps."""

    @property
    def root(self) -> Path:
        """The folder."""

    @property
    def version(self) -> str:
        """Which of the data sets in the folder; `open_dataset` opens it again by this name."""

    @property
    def place(self) -> Path:
        """The file or folder that says what the keyframes are, for messages."""

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """All scenes, in the folder's order."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """Tokens of all keyframes, scene by scene in time order."""

    @property
    def splits(self) -> Mapping[str, Sequence[str]]:
        """Split name -> scene names, whether this folder has them or not."""

    def scene_of(self, token: str) -> Scene:
        """The scene that a keyframe belongs to; DatasetError if there is no such keyframe."""

    def map_from_ego(self, token: str) -> np.ndarray | None:
        """(4, 4) float64: the car's pose at the keyframe's instant; None where nobody knows it."""

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
            token: of the keyframe.
            images: decode the images; without, every image is None and the rig still complete.
            points: read the LiDAR sweep as stored, with the returns from the car itself; None where there is none.
            at_least: what is enough of each: images are then decoded at the half, quarter or eighth of their size that
                `images.decoding.reduction_for` allows, and the rig is that of the smaller images.
            sweeps: of the LiDAR: the keyframe's and so many less one before it, carried along by the car's own motion;
                fewer where none is recent enough (`SWEEP_REACH_NS`). What moved meanwhile leaves a trail. Returns from
                the car itself (within 2.2 m of the sensor along x and along y) are left out of those before the
                keyframe's.
            roads: cut out those of the SD map, if there is one.
            coarse: see `decode_image`.
            lidar_ground: the road is what the keyframe's LiDAR sweep sees of it, if there is one; points need not be
                asked for.

        Raises:
            DatasetError: if a file is missing or does not fit what the data set says of it.
            ImageError: if an image is truncated or damaged.
        """

    def elements(
        self,
        token: str,
        x_range: Range = (-30.0, 30.0),
        y_range: Range = (-15.0, 15.0),
        classes: Sequence[MapClass] = CLASSES,
        crossings: Crossings = "outlines",
        ego_from_moved: np.ndarray | None = None,
    ) -> list[MapElement]:
        """The true elements around a keyframe, class by class.

        Args:
            token: of the keyframe.
            x_range: metres ahead.
            y_range: metres to the left.
            classes: which, in this order.
            crossings: as closed outlines, or as the two long sides of each.
            ego_from_moved: (4, 4) of a flat motion: ranges and elements are then in the moved frame.

        Raises:
            DatasetError: if there is no true map.
        """

    def areas(
        self,
        token: str,
        x_range: Range = (-30.0, 30.0),
        y_range: Range = (-15.0, 15.0),
        layers: Sequence[str] = AREA_LAYERS,
        ego_from_moved: np.ndarray | None = None,
    ) -> dict[str, MultiPolygon]:
        """What polygon layers of the true map cover around a keyframe, metres, in the same frame as `elements`."""

    def has_vector_map(self, token: str) -> bool:
        """Whether the keyframe has true elements."""

    def sd_lines(self, token: str) -> tuple[np.ndarray, ...] | None:
        """Roads of the SD map around the car, each (P, 2) float32 metres in the ego frame; None without an SD map."""

    def keyframe(self, token: str) -> dict[str, SensorFrame]:
        """Name of the sensor -> its file of one keyframe."""

    def previous_sweeps(self, token: str) -> list[SensorFrame]:
        """The LiDAR sweeps just before a keyframe's, newest first."""

    def sensor_frames(self, scene: Scene, channels: Collection[str] | None = None) -> list[SensorFrame]:
        """Keyframes of a scene and what lies between them (of these sensors) in time order."""

    def advice(self, what: Literal["vector map", "SD map", "LiDAR"], token: str) -> str:
        """Where a keyframe's part that is missing would lie, and what makes it; the end of a message."""

    def truth_state(self) -> list[tuple[str, object]]:
        """What changes when the true maps do, as plain JSON values, cheaply; a copied folder keeps it."""

    def digest(self) -> str:
        """Tells data sets apart: of all that predictions and ground truth depend on, but for images and points."""


def lidar_of(frames: Mapping[str, SensorFrame]) -> SensorFrame | None:
    """The LiDAR's file of a keyframe; None where it has none."""
    return next((frame for frame in frames.values() if frame.modality == "lidar"), None)


def scene_named(dataset: MapDataset, name: str) -> Scene:
    """The scene of this name.

    Raises:
        DatasetError: listing the scenes that exist.
    """
    for scene in dataset.scenes:
        if scene.name == name:
            return scene
    names = sorted(scene.name for scene in dataset.scenes)
    shown = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    raise DatasetError(f"{dataset.place} has no scene {name!r}; it has {shown or 'none'}")


def scenes_of_split(dataset: MapDataset, name: str) -> list[Scene]:
    """The scenes of a split that this folder has, in the folder's order.

    Raises:
        DatasetError: listing the splits that have scenes here, if `name` is not one of them.
    """
    wanted = set(dataset.splits.get(name, ()))
    found = [scene for scene in dataset.scenes if scene.name in wanted]
    if not found:
        present = {scene.name for scene in dataset.scenes}
        usable = sorted(split for split, scenes in dataset.splits.items() if present & set(scenes))
        raise DatasetError(
            f"{dataset.place} has no scene of a split {name!r}; it has scenes of {', '.join(usable) or 'no split'}"
        )
    return found
