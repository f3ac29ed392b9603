"""A forward pass on a GPU must not wait for the host: no tensor is made there and copied over.

Runs without a GPU: fake tensors go through the same operators and know their device.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hdmap_core.config import load_config
from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig, build_model

TrainConfig = pytest.importorskip("training.config", reason="colcon installs no `training`; see make test").TrainConfig

pytestmark = pytest.mark.skipif(torch.__version__ < "2.11", reason="fake tensors of older PyTorch need a GPU")
RECIPES = Path(__file__).resolve().parents[3] / "config" / "recipes"
SMALL = "model.backbone.image_size=[96, 160]"


class HostTensors(TorchDispatchMode):
    """Notes each operator that makes something on the host, or copies between it and the GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        devices = {value.device.type for value in tree_leaves((args, kwargs, result)) if isinstance(value, Tensor)}
        if "cpu" in devices:
            self.found.append(str(func))
        return result


def inputs_of(model: ModelConfig) -> ModelInput:
    """What a model looks at, of fake tensors on a fake GPU."""
    inputs, device = ModelInput(), torch.device("cuda")
    if model.sees_ground:
        rows, columns = model.grid.shape
        inputs.ground = torch.empty(1, 4, 2 * rows, 2 * columns, dtype=torch.uint8, device=device)
    if model.image_backbone is not None:
        inputs.images = torch.empty(1, 6, 3, *model.image_backbone.image_size, dtype=torch.uint8, device=device)
        inputs.projection = torch.empty(1, 6, 3, 4, device=device)
        inputs.camera_mask = torch.ones(1, 6, dtype=torch.bool, device=device)
    return inputs


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "overrides"), [("student/ground", ()), ("mapfm/resnet50", (SMALL,))])
def test_nothing_is_copied_from_the_host(recipe: str, overrides: tuple[str, ...]) -> None:
    config = load_config(TrainConfig, RECIPES / f"{recipe}.yaml", overrides)
    model = build_model(config.model).eval()
    with FakeTensorMode():
        state = {
            name: torch.empty(value.shape, dtype=value.dtype, device="cuda")
            for name, value in [*model.named_parameters(), *model.named_buffers()]
        }
        inputs, host = inputs_of(config.model), HostTensors()
        with torch.no_grad(), host:
            torch.func.functional_call(model, state, (inputs,))
    assert host.found == []
