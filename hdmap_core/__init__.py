"""hdmap_core: online HD-map models, data and metrics in PyTorch; no ROS, no training framework."""

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import HdmapError
from hdmap_core.geometry import BEVGrid, CameraRig
from hdmap_core.observation import Observation

__all__ = ["BEVGrid", "CameraRig", "HdmapError", "MapClass", "MapElement", "Observation"]
