"""ModelOutput -> list of MapElement."""

from typing import Literal

from hdmap_core.config import Config
from hdmap_core.postprocess.masks import MaskDecodeConfig


class DecodeConfig(Config):
    """Which head is published, and which elements of it.

    Attributes:
        head: `vectors` (the vector decoder) or `masks` (segmentation, then tracing).
        score_threshold: elements with a lower score are dropped.
        max_elements: at most so many, best first.
    """

    head: Literal["vectors", "masks"] = "vectors"
    score_threshold: float = 0.02
    max_elements: int = 50
    masks: MaskDecodeConfig = MaskDecodeConfig()


__all__ = ["DecodeConfig", "MaskDecodeConfig"]
