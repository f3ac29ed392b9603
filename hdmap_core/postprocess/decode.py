"""One place that turns a model's output into elements, whatever runtime made the output."""

from collections.abc import Sequence

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import ModelOutput
from hdmap_core.postprocess import DecodeConfig
from hdmap_core.postprocess.masks import decode_masks
from hdmap_core.postprocess.vectors import decode_vectors


def decode(
    output: ModelOutput, config: DecodeConfig, *, classes: Sequence[MapClass], grid: BEVGrid, index: int = 0
) -> list[MapElement]:
    """Elements of frame `index` of a batch, in the ego frame, sorted by class, then by falling score.

    Raises:
        ConfigError: if the model has not the head that the config wants to publish.
    """
    if config.head == "vectors":
        if output.vectors is None:
            raise ConfigError("decode.head is 'vectors', but this model has no vector head; use decode.head=masks")
        logits, points = output.vectors.logits[-1, index], output.vectors.points[-1, index]
        elements = decode_vectors(logits, points, classes=classes, grid=grid, max_elements=config.max_elements)
    else:
        if output.semantic is None:
            raise ConfigError("decode.head is 'masks', but this model has no segmentation; use decode.head=vectors")
        probability = output.semantic[index].float().sigmoid().cpu().numpy()
        elements = decode_masks(probability, config.masks, classes=classes, grid=grid)
    kept = sorted((e for e in elements if e.score >= config.score_threshold), key=lambda e: -e.score)
    return sorted(kept[: config.max_elements], key=lambda e: (classes.index(e.label), -e.score))
