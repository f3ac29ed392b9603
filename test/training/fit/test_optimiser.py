"""Who learns how fast, and who decays."""

import numpy as np
import pytest
import torch
from torch import nn

from hdmap_core.models.backbones.image_backbone import ImageBackbone
from training.config import OptimConfig
from training.fit.optimiser import build_optimizer, schedule


class Backbone(ImageBackbone):
    """One as far as the optimiser looks at it: the trunk of any `ImageBackbone`, wherever it is, is pretrained."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.trunk = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm((3, 2)), nn.Linear(2, 3))
        self.trunk[2].requires_grad_(False)
        self.neck = nn.Linear(3, 2, bias=False)


class Model(nn.Module):
    def __init__(self, backbone: nn.Module | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.queries = nn.Parameter(torch.zeros(4, 2))
        self.table = nn.Embedding(3, 2)
        self.head = nn.Linear(2, 2)


def test_groups() -> None:
    model = Model(Backbone())
    optimizer = build_optimizer(model, OptimConfig(lr=1.0, backbone_lr=0.1, weight_decay=0.5))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        (group["lr"], group["weight_decay"]): {names[id(parameter)] for parameter in group["params"]}
        for group in optimizer.param_groups
    }
    assert found == {
        (1.0, 0.5): {"backbone.neck.weight", "head.weight"},
        (1.0, 0.0): {"queries", "table.weight", "head.bias"},
        (0.1, 0.5): {"backbone.trunk.0.weight"},
        (0.1, 0.0): {"backbone.trunk.0.bias", "backbone.trunk.1.weight", "backbone.trunk.1.bias"},
    }
    assert len(build_optimizer(Model(None), OptimConfig()).param_groups) == 2


def test_cosine() -> None:
    optim = OptimConfig(steps=100, warmup_steps=10)
    factors = [schedule(step, optim) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == pytest.approx(1.0) and max(factors) <= 1.0
    assert (np.diff(factors[:10]) > 0).all() and (np.diff(factors[10:]) < 0).all()
    assert factors[-1] == pytest.approx(0.01, abs=2e-3)
    assert schedule(0, OptimConfig(steps=5, warmup_steps=0)) == pytest.approx(1.0)


def test_steps_down() -> None:
    optim = OptimConfig(steps=100, warmup_steps=4, schedule="step", milestones=(0.5, 0.8), gamma=0.1)
    factors = [schedule(step, optim) for step in range(100)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert set(factors[4:50]) == {1.0}
    assert factors[50:80] == pytest.approx([0.1] * 30) and factors[80:] == pytest.approx([0.01] * 20)
