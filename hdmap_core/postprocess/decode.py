"""One place that turns a model's output into elements, whatever runtime made the output."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor
from typing_extensions import assert_never

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import DenseOutput, ModelOutput
from hdmap_core.postprocess import DecodeConfig, Head, no_such_head
from hdmap_core.postprocess.dense import decode_dense
from hdmap_core.postprocess.masks import decode_masks
from hdmap_core.postprocess.vectors import rank_vectors, ranked_elements


def decode(
    output: ModelOutput, config: DecodeConfig, *, classes: Sequence[MapClass], grid: BEVGrid, index: int = 0
) -> list[MapElement]:
    """Elements of frame `index` of a batch, in the ego frame, sorted by class, then by falling score.

    Raises:
        ConfigError: if the model has not the head that the config wants to publish.
    """
    wanted = reduced(output, config, classes=classes, grid=grid, index=index)
    return elements_of({key: value.cpu().numpy() for key, value in wanted.items()}, config, classes=classes, grid=grid)


def reduced(
    output: ModelOutput, config: DecodeConfig, *, classes: Sequence[MapClass], grid: BEVGrid, index: int = 0
) -> dict[str, Tensor]:
    """What `elements_of` reads, where the output is and of fixed shapes: on a GPU nobody waits for it.

    Masks are probabilities, in half precision where the network's are no finer.

    Raises:
        ConfigError: as `decode`.
    """
    found: dict[str, Tensor] = {}
    for head in config.heads_of(classes):
        match head:
            case "vectors":
                if output.vectors is None:
                    raise no_such_head(head, _heads_in(output))
                last, score = output.vectors, config.score_threshold
                logits, points = last.logits[-1, index], last.points[-1, index]
                found |= rank_vectors(logits, points, grid=grid, min_score=score, config=config.vectors)
            case "masks":
                if output.semantic is None:
                    raise no_such_head(head, _heads_in(output))
                probability = output.semantic[index].float().sigmoid()
                found["masks"] = probability if output.semantic.dtype == torch.float32 else probability.half()
            case "dense":
                if output.dense is None:
                    raise no_such_head(head, _heads_in(output))
                found |= {f"dense_{f.name}": getattr(output.dense, f.name)[index].float() for f in fields(DenseOutput)}
                found["dense_semantic"] = found["dense_semantic"].softmax(dim=0)
                found["dense_direction"] = found["dense_direction"].softmax(dim=0)
            case other:
                assert_never(other)
    return found


def elements_of(
    found: Mapping[str, np.ndarray], config: DecodeConfig, *, classes: Sequence[MapClass], grid: BEVGrid
) -> list[MapElement]:
    """Elements of what `reduced` left, sorted by class, then by falling score."""
    elements = [
        element
        for head in config.heads_of(classes)
        for element in _elements_of(head, found, config, classes, grid)
        if config.head_of(element.label) == head and element.score >= config.score_threshold
    ]
    best = sorted(elements, key=lambda element: -element.score)[: config.max_elements]
    return sorted(best, key=lambda element: (classes.index(element.label), -element.score))


def _elements_of(
    head: Head, found: Mapping[str, np.ndarray], config: DecodeConfig, classes: Sequence[MapClass], grid: BEVGrid
) -> list[MapElement]:
    match head:
        case "vectors":
            ranked = found["scores"], found["pairs"], found["metres"]
            return ranked_elements(*ranked, classes=classes, config=config.vectors)
        case "masks":
            return decode_masks(found["masks"], config.masks, classes=classes, grid=grid)
        case "dense":
            rasters = found["dense_semantic"], found["dense_embedding"], found["dense_direction"]
            return decode_dense(*rasters, config.dense, classes=classes, grid=grid)
        case other:
            assert_never(other)


def _heads_in(output: ModelOutput) -> list[Head]:
    outputs: dict[Head, object] = {"vectors": output.vectors, "masks": output.semantic, "dense": output.dense}
    return [head for head, found in outputs.items() if found is not None]
