"""What depends on weights alone, kept for as long as they stay as they are."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hdmap_core.models.layers.bilinear_bags import eager_on_cpu


class KnownWeights:
    """Remembers what was made of parameters. A copy of it remembers nothing."""

    def __init__(self) -> None:
        self._last: tuple[list[tuple[Tensor, int, int]], Tensor] | None = None

    def __call__(self, weights: Sequence[Tensor], make: Callable[[], Tensor]) -> Tensor:
        """What `make` makes of these weights, or has made of them last time.

        With gradients, under autocast, in a recorded graph or on a GPU it is made anew each time; so it is of weights
        that were made in inference mode, in which nothing tells that they change. Whoever writes to a parameter's
        `.data`, which nothing tells either, must not do so between two calls without gradients.
        """
        fixed = all(eager_on_cpu(weight) and not weight.is_inference() for weight in weights)
        if torch.is_grad_enabled() or not fixed or torch.is_autocast_enabled("cpu"):
            return make()
        last = self._last
        if last is None or not _same(last[0], weights):
            last = [(weight, weight.data_ptr(), weight._version) for weight in weights], make()
            self._last = last
        return last[1]

    def __deepcopy__(self, _memo: object) -> "KnownWeights":
        return KnownWeights()

    def __reduce__(self) -> tuple[type["KnownWeights"], tuple[()]]:
        return KnownWeights, ()


def _same(known: Sequence[tuple[Tensor, int, int]], weights: Sequence[Tensor]) -> bool:
    return len(known) == len(weights) and all(
        one is weight and place == weight.data_ptr() and version == weight._version
        for (one, place, version), weight in zip(known, weights, strict=True)
    )
