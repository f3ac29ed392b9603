"""hdmap_core: online HD-map models, data and metrics in PyTorch; no ROS, no training framework.

    from hdmap_core import NuScenesDataset, load_predictor

The names below are imported when first used, so that `import hdmap_core` and `hdmap --help` need not wait for torch.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# ONNX Runtime would leave a device number and a data base in the home folder and report to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from hdmap_core.datasets.nuscenes import NuScenesDataset
    from hdmap_core.datasets.opening import open_dataset
    from hdmap_core.elements import MapClass, MapElement, read_elements, write_elements
    from hdmap_core.errors import HdmapError
    from hdmap_core.geometry import BEVGrid, CameraRig
    from hdmap_core.inference import Prediction, Predictor, default_weights, load_predictor
    from hdmap_core.observation import Observation

    __version__: str

__all__ = [
    "BEVGrid",
    "CameraRig",
    "HdmapError",
    "MapClass",
    "MapElement",
    "NuScenesDataset",
    "Observation",
    "Prediction",
    "Predictor",
    "__version__",
    "default_weights",
    "load_predictor",
    "open_dataset",
    "read_elements",
    "write_elements",
]

_HOME = {
    "BEVGrid": "geometry",
    "CameraRig": "geometry",
    "HdmapError": "errors",
    "MapClass": "elements",
    "MapElement": "elements",
    "NuScenesDataset": "datasets.nuscenes",
    "Observation": "observation",
    "Prediction": "inference",
    "Predictor": "inference",
    "default_weights": "inference",
    "load_predictor": "inference",
    "open_dataset": "datasets.opening",
    "read_elements": "elements",
    "write_elements": "elements",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__


def _version() -> str:
    """Of the installed package: pip's is hdmap_ros; colcon installs the two Python packages each by itself."""
    from importlib.metadata import PackageNotFoundError, version

    for name in ("hdmap_ros", "hdmap_core"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"
