"""The model: named slots, the modules that fill them, and the one place that puts them together."""

from hdmap_core.models.build import ModelConfig, build_model
from hdmap_core.models.map_model import MapModel

__all__ = ["MapModel", "ModelConfig", "build_model"]
