"""What an exported network can be given: tensors of the shapes, and rigs, that it was exported for."""

from collections.abc import Mapping

from torch import Tensor

from hdmap_core.errors import ConfigError
from hdmap_core.inference.engine import Source, input_tensors
from hdmap_core.inference.rig_views import RigViews
from hdmap_core.model_io import ModelInput


class FittingInputs:
    """Looks at the shapes each time, at a calibration when it changes.

    Args:
        source: of the network. On rigs within its `max_views` it equals the whole model exactly.
        shapes: of the inputs in the network's order, by name; None stands for any size.
        file: the file's name, for messages.
    """

    def __init__(self, source: Source, shapes: Mapping[str, tuple[int | None, ...]], file: str) -> None:
        self._source, self._shapes, self._file = source, dict(shapes), file
        self._rig = RigViews(source.config.model)

    def __call__(self, inputs: ModelInput) -> dict[str, Tensor]:
        """The network's inputs by name, in its order.

        Raises:
            ConfigError: saying how many cameras it was exported for, or what else does not fit.
        """
        given = input_tensors(inputs)
        for name, shape in self._shapes.items():
            self._check_shape(name, tuple(given[name].shape) if name in given else None, shape)
        if self._source.max_views is not None:
            self._check_rig(self._rig.most(inputs), self._source.max_views)
        return {name: given[name] for name in self._shapes}

    def _check_shape(self, name: str, found: tuple[int, ...] | None, shape: tuple[int | None, ...]) -> None:
        sizes = zip(found or (), shape, strict=False)
        if found is not None and len(found) == len(shape) and all(size in (None, one) for one, size in sizes):
            return
        if name == "images" and found is not None and found[2:] == shape[2:]:
            raise ConfigError(
                f"{self._file} was exported for {shape[1]} cameras, here are {found[1]}; export it again with "
                f"--cameras {found[1]}, or give the checkpoint"
            )
        raise ConfigError(f"{self._file} takes {name} of shape {shape}, got {found}; export the checkpoint again")

    def _check_rig(self, most: int | None, limit: int) -> None:
        if most is not None and most > limit:
            raise ConfigError(
                f"{self._file} was exported for rigs on which no cell is seen by more than {limit} cameras, on "
                f"this one some are by {most}; export it again with --max-views {most}, or give the checkpoint"
            )
