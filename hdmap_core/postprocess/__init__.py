"""ModelOutput -> list of MapElement."""

from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import Field

from hdmap_core.config import Config
from hdmap_core.elements import MapClass
from hdmap_core.errors import ConfigError
from hdmap_core.postprocess.dense import DenseDecodeConfig
from hdmap_core.postprocess.masks import MaskDecodeConfig
from hdmap_core.postprocess.vectors import VectorDecodeConfig

Head = Literal["vectors", "masks", "dense"]
"""The vector decoder; the segmentation, which is traced; or the dense heads, whose cells are clustered."""


class DecodeConfig(Config):
    """Which head is published, and which elements of it.

    Attributes:
        head: where elements come from.
        by_class: classes that come from another head, e.g. `{boundary: vectors}`.
        score_threshold: elements with a lower score are dropped; none by default, as published: MapTR and its kin keep
            their best 50 whatever their score. A model for a vehicle wants a threshold.
        max_elements: at most so many, best first.
        vectors: suppression and simplification of what the vector decoder makes.
        masks: how the segmentation is traced.
        dense: how lines are made of the dense heads' rasters.
    """

    head: Head = "vectors"
    by_class: dict[MapClass, Head] = Field(default_factory=dict)
    score_threshold: float = Field(default=0.0, ge=0, le=1)
    max_elements: int = 50
    vectors: VectorDecodeConfig = VectorDecodeConfig()
    masks: MaskDecodeConfig = MaskDecodeConfig()
    dense: DenseDecodeConfig = DenseDecodeConfig()

    def head_of(self, label: MapClass) -> Head:
        """The head that a class is published from."""
        return self.by_class.get(label, self.head)

    def heads_of(self, classes: Iterable[MapClass]) -> list[Head]:
        """The heads that any of these classes are published from, in alphabetical order."""
        return sorted({self.head_of(label) for label in classes})

    def only(self, head: Head) -> "DecodeConfig":
        """The same with every class from one head."""
        return self.model_copy(update={"head": head, "by_class": {}})


def no_such_head(wanted: Head, there: Sequence[Head]) -> ConfigError:
    """Says of a model that it has not the head that is to be published, and which it has."""
    return ConfigError(f"decode.head is {wanted!r}, which the model has not; it has {' and '.join(there) or 'none'}")


__all__ = ["DecodeConfig", "DenseDecodeConfig", "Head", "MaskDecodeConfig", "VectorDecodeConfig", "no_such_head"]
