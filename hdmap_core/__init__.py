"""hdmap_core: online HD-map models, data and metrics in PyTorch; no ROS, no training framework.

The names below are imported when first used, so that `hdmap --help` need not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hdmap_core.elements import MapClass, MapElement
    from hdmap_core.errors import HdmapError
    from hdmap_core.geometry import BEVGrid, CameraRig
    from hdmap_core.observation import Observation

__all__ = ["BEVGrid", "CameraRig", "HdmapError", "MapClass", "MapElement", "Observation"]

_HOME = {
    "BEVGrid": "geometry",
    "CameraRig": "geometry",
    "HdmapError": "errors",
    "MapClass": "elements",
    "MapElement": "elements",
    "Observation": "observation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
