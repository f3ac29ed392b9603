"""Moments with what a model says of them, computed while one looks."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hdmap_core.errors import ConfigError
from hdmap_core.viewer.footage import Footage, Moment


def predicted(footage: Footage, weights: Path) -> Footage:
    """The same moments with what a model says of each when it is read.

    Args:
        footage: with images.
        weights: a checkpoint, an exported file or a run folder; it must look at cameras only.

    Raises:
        CheckpointError, ConfigError: if it is none, or needs more than images; when reading, if there are none.
    """
    from hdmap_core.checkpoint import find_checkpoint
    from hdmap_core.inference import load_predictor

    predictor = load_predictor(find_checkpoint(weights), cameras_only=True)

    def moments(scene: str) -> Iterator[Moment]:
        for moment in footage.moments(scene):
            if moment.observation is None:
                raise ConfigError(f"{footage.name} has no images for --weights; give a data set, a bag, or --data")
            prediction = predictor.predict(moment.observation)
            yield replace(moment, predicted=prediction.elements, latency_ms=prediction.timings_ms)

    facts = (*footage.facts, f"predicted by {predictor.info.model_id}")
    return replace(footage, facts=facts, moments=moments, region=predictor.info.grid)
