"""By how many cameras any cell of the grid can be seen on the rig at hand."""

from torch import Tensor, equal

from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig
from hdmap_core.models.model_frame import in_model_frame
from hdmap_core.models.view_transforms.bevformer import BEVFormerConfig, most_views


class RigViews:
    """Looks at a calibration when it changes; of the last one it remembers the answer."""

    def __init__(self, model: ModelConfig) -> None:
        self._model = model
        self._known: tuple[Tensor, tuple[int, int], int] | None = None

    def most(self, inputs: ModelInput) -> int | None:
        """At least 1, whatever heights are learned; None of a model that does not look up its cells in the cameras.

        A network with fixed shapes that reads this many per cell equals the one that reads all.
        """
        transform = self._model.view_transform
        if not isinstance(transform, BEVFormerConfig) or inputs.images is None or inputs.projection is None:
            return None
        projection, size = inputs.projection.cpu(), (inputs.images.shape[-2], inputs.images.shape[-1])
        if self._known is None or self._known[1] != size or not equal(self._known[0], projection):
            frame = self._model.ego_from_model
            seen = projection if frame is None else in_model_frame(projection, frame)
            found = max(1, most_views(transform, self._model.grid, seen, size))
            self._known = projection.clone(), size, found
        return self._known[2]
