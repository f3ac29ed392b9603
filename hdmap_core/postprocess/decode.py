"""One place that turns a model's output into elements, whatever runtime made the output."""

from collections.abc import Sequence
from typing import get_args

import numpy as np
from torch import Tensor
from typing_extensions import assert_never

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import ModelOutput
from hdmap_core.postprocess import DecodeConfig, Head
from hdmap_core.postprocess.dense import decode_dense
from hdmap_core.postprocess.masks import decode_masks
from hdmap_core.postprocess.vectors import decode_vectors


def decode(
    output: ModelOutput, config: DecodeConfig, *, classes: Sequence[MapClass], grid: BEVGrid, index: int = 0
) -> list[MapElement]:
    """Elements of frame `index` of a batch, in the ego frame, sorted by class, then by falling score.

    Raises:
        ConfigError: if the model has not the head that the config wants to publish.
    """
    elements = [
        element
        for head in sorted({config.head_of(label) for label in classes})
        for element in _elements_of(head, output, config, classes, grid, index)
        if config.head_of(element.label) == head and element.score >= config.score_threshold
    ]
    best = sorted(elements, key=lambda element: -element.score)[: config.max_elements]
    return sorted(best, key=lambda element: (classes.index(element.label), -element.score))


def _elements_of(
    head: Head, output: ModelOutput, config: DecodeConfig, classes: Sequence[MapClass], grid: BEVGrid, index: int
) -> list[MapElement]:
    match head:
        case "vectors":
            if output.vectors is None:
                raise _missing(head)
            logits, points = output.vectors.logits[-1, index], output.vectors.points[-1, index]
            return decode_vectors(
                logits,
                points,
                classes=classes,
                grid=grid,
                max_elements=logits.numel(),  # those of the other head compete with them
                min_score=config.score_threshold,
                config=config.vectors,
            )
        case "masks":
            if output.semantic is None:
                raise _missing(head)
            probability = output.semantic[index].float().sigmoid().cpu().numpy()
            return decode_masks(probability, config.masks, classes=classes, grid=grid)
        case "dense":
            dense = output.dense
            if dense is None:
                raise _missing(head)
            return decode_dense(
                _softmax(dense.semantic[index]),
                dense.embedding[index].float().cpu().numpy(),
                _softmax(dense.direction[index]),
                config.dense,
                classes=classes,
                grid=grid,
            )
        case other:
            assert_never(other)


def _softmax(logits: Tensor) -> np.ndarray:
    return logits.float().softmax(dim=0).cpu().numpy()


def _missing(head: Head) -> ConfigError:
    others = " or ".join(f"decode.head={name}" for name in get_args(Head) if name != head)
    return ConfigError(f"decode.head is {head!r}, which this model has not; use {others}")
