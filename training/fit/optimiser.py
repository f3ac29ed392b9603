"""AdamW's parameter groups and the learning rate over time."""

import math

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from hdmap_core.models.backbones.image_backbone import ImageBackbone
from training.config import OptimConfig

_FREE = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.Embedding)
_TABLES = ("embed", "embedding", "places", "position", "queries", "query", "reference", "token")
"""What the names of learned tables end in: position and query embeddings, class tokens."""


def build_optimizer(model: nn.Module, optim: OptimConfig) -> torch.optim.AdamW:
    """AdamW over what is trainable.

    Pretrained trunks (of every `ImageBackbone` in the model) learn at `lr * backbone_lr`. Norms, biases,
    other vectors, and tables of embeddings do not decay.
    """
    trunks = [module.trunk for module in model.modules() if isinstance(module, ImageBackbone)]
    of_trunk = {id(parameter) for trunk in trunks for parameter in trunk.parameters()}
    free = {id(parameter) for parameter in _without_decay(model)}
    groups = []
    for pretrained in (False, True):
        for decays in (True, False):
            members = [
                parameter
                for parameter in model.parameters()
                if parameter.requires_grad
                and (id(parameter) in of_trunk) == pretrained
                and (id(parameter) not in free) == decays
            ]
            if members:
                rate = optim.lr * (optim.backbone_lr if pretrained else 1.0)
                groups.append({"params": members, "lr": rate, "weight_decay": optim.weight_decay if decays else 0.0})
    return torch.optim.AdamW(groups, lr=optim.lr)


def schedule(step: int, optim: OptimConfig) -> float:
    """Factor on the learning rate of a step (from 0): linear warm-up, then cosine or steps down.

    The cosine ends at `final_lr`; `step` multiplies by `gamma` at each of `milestones`, which are fractions of the run.
    """
    if step < optim.warmup_steps:
        return (step + 1) / optim.warmup_steps
    if optim.schedule == "step":
        return optim.gamma ** sum(step >= milestone * optim.steps for milestone in optim.milestones)
    done = (step - optim.warmup_steps) / max(1, optim.steps - optim.warmup_steps)
    return optim.final_lr + (1 - optim.final_lr) * (1 + math.cos(math.pi * done)) / 2


def _without_decay(model: nn.Module) -> list[nn.Parameter]:
    return [
        parameter
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, _FREE) or parameter.ndim <= 1 or name.endswith(_TABLES)
    ]
