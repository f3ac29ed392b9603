"""What depends on weights alone, kept for as long as they stay as they are."""

from collections.abc import Callable, Sequence

from torch import Tensor

from hdmap_core.models.layers.on_cpu import only_inferred_on_cpu


class KnownWeights:
    """Remembers what was made of parameters. A copy of it remembers nothing."""

    def __init__(self) -> None:
        self._last: tuple[list[tuple[Tensor, int, int]], Tensor] | None = None

    def __call__(self, weights: Sequence[Tensor], make: Callable[[], Tensor]) -> Tensor:
        """What `make` makes of these weights, or has made of them last time.

        Wherever `only_inferred_on_cpu` is false it is made anew each time; so it is of weights that were made in
        inference mode, in which nothing tells that they change. Whoever writes to a parameter's `.data`, which nothing
        tells either, must not do so between two calls without gradients.
        """
        if not all(only_inferred_on_cpu(weight) and not weight.is_inference() for weight in weights):
            return make()
        last = self._last
        if last is None or not _same(last[0], weights):
            last = [(weight, weight.data_ptr(), weight._version) for weight in weights], make()
            self._last = last
        return last[1]

    def __reduce__(self) -> tuple[type["KnownWeights"], tuple[()]]:
        return KnownWeights, ()


def _same(known: Sequence[tuple[Tensor, int, int]], weights: Sequence[Tensor]) -> bool:
    return len(known) == len(weights) and all(
        one is weight and place == weight.data_ptr() and version == weight._version
        for (one, place, version), weight in zip(known, weights, strict=True)
    )
