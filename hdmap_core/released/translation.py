"""From another program's tensors to the state of a model of ours, strict both ways."""

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from hdmap_core.errors import CheckpointError
from hdmap_core.models.state import counted, misfit

Change = Callable[[Tensor], Tensor]
COUNTER = "num_batches_tracked"


class Translation:
    """Tensors on their way: each is taken or left out on purpose, once, and what nobody asked for is told.

    Args:
        tensors: those of the file, by its names.
        source: the file, for messages.
    """

    def __init__(self, tensors: Mapping[str, Tensor], source: str) -> None:
        self.source, self.state = source, dict[str, Tensor]()
        self._left = dict(tensors)
        self._lacking: list[str] = []
        self._known_as: dict[str, str] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor of this name in float32; zeros of the shape, where the file has none, which `finished` tells.

        Raises:
            CheckpointError: if it has another shape, which no later step could make sense of; -1 stands for any size.
        """
        tensor = self._left.pop(name, None)
        if tensor is None:
            self._lacking.append(name)
            return torch.zeros([max(size, 1) for size in shape])
        fits = tensor.dim() == len(shape) and all(b in (-1, a) for a, b in zip(tensor.shape, shape, strict=True))
        if not fits:
            wanted = ", ".join("any" if size < 0 else str(size) for size in shape)
            raise CheckpointError(f"{self.source}: {name} has the shape {tuple(tensor.shape)}, expected ({wanted})")
        return self._real(name, tensor)

    def _real(self, name: str, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            raise CheckpointError(f"{self.source}: {name} holds whole numbers ({tensor.dtype}), which no weights are")
        return tensor.float()

    @property
    def lacks_some(self) -> bool:
        """Whether a tensor that was to be taken is not there."""
        return bool(self._lacking)

    def put(self, name: str, tensor: Tensor) -> None:
        """Fills a tensor of ours."""
        self.state[name] = tensor.contiguous()

    def move(self, source: str, target: str, change: Mapping[str, Change] | None = None) -> None:
        """All tensors below a name of theirs go below one of ours, some of them changed.

        Args:
            source: `a.b` for `a.b.weight`, `a.b.bias` ..., as far as they have not been taken.
            target: likewise.
            change: of the tensors whose name below `source` is the key.
        """
        self._known_as[target] = source
        for name in [name for name in self._left if name.startswith(source + ".")]:
            rest = name[len(source) :]
            tensor = self._left.pop(name)
            tensor = tensor if rest.endswith(COUNTER) else self._real(name, tensor)
            try:
                self.put(target + rest, (change or {}).get(rest[1:], lambda same: same)(tensor))
            except (RuntimeError, IndexError):  # of a shape that it cannot have
                raise CheckpointError(
                    f"{self.source}: {name} has the shape {tuple(tensor.shape)}, which does not fit"
                ) from None

    def drop(self, *patterns: str) -> None:
        """Leaves out every tensor whose name begins with one of these regular expressions."""
        for pattern in patterns:
            for name in [name for name in self._left if re.match(pattern, name)]:
                del self._left[name]

    def finished(self, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state, if it is whole, and nothing of the file is left over.

        Raises:
            CheckpointError: saying which tensors do not fit, in the file's names as far as they are known.
        """
        lacking = [*self._lacking, *self._theirs(sorted(expected.keys() - self.state.keys()))]
        told = [f"it lacks {counted(lacking)}"] if lacking else []
        if self._left:
            told.append(f"there is no place for {counted(list(self._left))}")
        if not told and (problem := misfit(expected, self.state)) is not None:
            told.append(f"translated it {problem}")
        odd = [name for name, tensor in self.state.items() if not tensor.isfinite().all()]
        if odd and not told:
            told.append(f"numbers are not finite in {counted(self._theirs(odd))}")
        if told:
            raise CheckpointError(f"{self.source} does not fit: " + "; ".join(told))
        return {name: self.state[name].to(expected[name].dtype) for name in expected}

    def _theirs(self, ours: Iterable[str]) -> list[str]:
        return [self._name_of(name) for name in ours]

    def _name_of(self, ours: str) -> str:
        parts = ours.split(".")
        for length in range(len(parts), 0, -1):
            theirs = self._known_as.get(".".join(parts[:length]))
            if theirs is not None:
                return ".".join([theirs, *parts[length:]])
        return f"what becomes {ours}"
