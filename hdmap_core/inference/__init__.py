"""Running a model: checkpoint in, elements out."""

from hdmap_core.inference.predictor import ModelInfo, Prediction, Predictor, default_weights, load_predictor

__all__ = ["ModelInfo", "Prediction", "Predictor", "default_weights", "load_predictor"]
