"""What the tests of several heads need."""

import pytest
from torch import Tensor, nn


class TensorsOut(nn.Module):
    """What an exporter wraps a vector head in: tensors in, tensors out."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        output = self.decoder([features])
        return output.logits, output.points


@pytest.fixture
def tensors_out() -> type[TensorsOut]:
    """The wrapper's class."""
    return TensorsOut
