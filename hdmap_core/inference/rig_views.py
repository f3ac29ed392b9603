"""By how many cameras any cell of the grid can be seen on the rig at hand."""

from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig
from hdmap_core.models.model_frame import in_model_frame
from hdmap_core.models.view_transforms.bevformer import BEVFormerConfig, most_views
from hdmap_core.models.view_transforms.last_rig import LastRig


class RigViews:
    """Looks at a calibration when it changes; of the last one it remembers the answer."""

    def __init__(self, model: ModelConfig) -> None:
        self._model = model
        self._last_rig: LastRig[int] = LastRig()

    def most(self, inputs: ModelInput) -> int | None:
        """At least 1, whatever heights are learned; None of a model that does not look up its cells in the cameras.

        A network with fixed shapes that reads this many per cell equals the one that reads all.
        """
        transform, grid, frame = self._model.view_transform, self._model.grid, self._model.ego_from_model
        if not isinstance(transform, BEVFormerConfig) or inputs.images is None or inputs.projection is None:
            return None
        projection, size = inputs.projection.cpu(), (inputs.images.shape[-2], inputs.images.shape[-1])

        def found() -> int:
            seen = projection if frame is None else in_model_frame(projection, frame)
            return max(1, most_views(transform, grid, seen, size))

        return self._last_rig((projection, size, None), found)
