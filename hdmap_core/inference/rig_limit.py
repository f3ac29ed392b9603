"""A network for rigs on which no cell is seen by more than so many cameras, and whether a rig is one of them."""

import torch

from hdmap_core.errors import ConfigError
from hdmap_core.inference.engine import Source
from hdmap_core.model_io import ModelInput
from hdmap_core.models.view_transforms.bevformer import BEVFormerConfig, most_views


class RigLimit:
    """Looks at a calibration when it changes; on a rig within the limit the network equals the whole one exactly.

    Args:
        source: whose `max_views` is the limit.
        file: its name, for the message.
    """

    def __init__(self, source: Source, file: str) -> None:
        self._model, self._limit, self._file = source.config.model, source.max_views, file
        self._known: torch.Tensor | None = None

    def check(self, inputs: ModelInput) -> None:
        """Whether the network may run on these inputs.

        Raises:
            ConfigError: if a cell is seen by more cameras than the network reads.
        """
        transform, projection = self._model.view_transform, inputs.projection
        if self._limit is None or projection is None or inputs.images is None:
            return
        if self._known is not None and torch.equal(projection, self._known):
            return
        assert isinstance(transform, BEVFormerConfig)
        size = inputs.images.shape[-2], inputs.images.shape[-1]
        most = most_views(transform, self._model.grid, projection.cpu(), size)
        if most > self._limit:
            raise ConfigError(
                f"{self._file} was exported for rigs on which no cell is seen by more than {self._limit} cameras, on "
                f"this one some are by {most}; export it again with --max-views {most}, or give the checkpoint"
            )
        self._known = projection.clone()
