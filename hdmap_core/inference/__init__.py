"""Running a model: checkpoint in, elements out.

Imported when first used: `hdmap predict --help` need not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hdmap_core.inference.prediction import Prediction
    from hdmap_core.inference.predictor import ModelInfo, Predictor, default_weights, load_predictor

__all__ = ["ModelInfo", "Prediction", "Predictor", "default_weights", "load_predictor"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "prediction" if name == "Prediction" else "predictor"
    return getattr(import_module(f"{__name__}.{home}"), name)
