"""Reader of nuScenes folders: tables, observations, vector-map ground truth and splits."""

from hdmap_core.datasets.nuscenes.observations import CAMERAS, LIDAR, NuScenesDataset
from hdmap_core.datasets.nuscenes.splits import scenes_of_split, version_for
from hdmap_core.datasets.nuscenes.tables import NuScenesTables, Scene, SensorFrame
from hdmap_core.datasets.nuscenes.vector_map import VectorMap

__all__ = [
    "CAMERAS",
    "LIDAR",
    "NuScenesDataset",
    "NuScenesTables",
    "Scene",
    "SensorFrame",
    "VectorMap",
    "scenes_of_split",
    "version_for",
]
