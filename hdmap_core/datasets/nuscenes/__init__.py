"""Reader of nuScenes folders: tables, observations, vector-map ground truth and splits."""

from hdmap_core.datasets.nuscenes.observations import CAMERAS, NuScenesDataset
from hdmap_core.datasets.nuscenes.splits import version_for
from hdmap_core.datasets.nuscenes.tables import LIDAR, NuScenesTables
from hdmap_core.datasets.nuscenes.vector_map import VectorMap
from hdmap_core.datasets.protocol import Scene, SensorFrame, scenes_of_split

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
