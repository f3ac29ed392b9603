"""What of a pretrained network trains: freezing that lasts, and MapFM's tuning modes."""

from typing import Any, Literal, TypeVar

from torch import nn

from hdmap_core.errors import ConfigError

Tuning = Literal["frozen", "last_block", "full"]
M = TypeVar("M", bound=nn.Module)


def freeze(module: M) -> M:
    """Makes a module a constant: no gradients, evaluation mode, and neither changes by `.train()` of its parents.

    Batch norms keep their statistics, dropout and stochastic depth are off. Copies (`copy.deepcopy`, pickle) are
    frozen as well.

    Returns:
        The module itself.
    """
    module.requires_grad_(False)
    module.eval()
    # Module.train of a parent calls train() of its children: ours is found on the instance first.
    module.__dict__["train"] = _StaysInEvaluation(module)
    return module


class _StaysInEvaluation:
    """Stands in for `train` of a frozen module; an object, not a closure, so that it can be copied and pickled."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, mode: bool = True) -> nn.Module:
        return self.module


def tune(trunk: nn.Module, mode: Tuning, *, frozen_stages: int | None, frozen_batch_norm: bool) -> None:
    """Freezes what a tuning mode does not train. The neck is no part of the trunk and always trains.

    A stage is a transformer block of a ViT, and a stage of a ResNet, Swin or other pyramid. The stem is everything in
    front of them: patch embedding, class and register tokens, position embedding; a ResNet's first convolution and
    norm. The final norm is a ViT's or Swin's `norm`, where the network has one (RADIO and ResNet have none).

    | mode | trains | train mode |
    |---|---|---|
    | full | everything but the stem and the first `frozen_stages` stages (None: everything) | what trains |
    | last_block | the last stage and the final norm | the same; stochastic depth only in the last stage |
    | frozen | the final norm alone, as MapFM's frozen DINOv2; nothing where there is none | the final norm |

    With `frozen_batch_norm` no batch norm trains in any mode: its statistics and its affine are those of the
    pretraining. MapFM's wrapper counts its frozen stages differently: k there is k - 1 blocks here.

    Raises:
        ConfigError: if the network's stages are not known, or `frozen_stages` is more than it has.
    """
    stages = _stages(trunk)
    norm = getattr(trunk, "norm", None)
    if mode == "full":
        count = frozen_stages
        if count is not None and not 0 <= count <= len(stages):
            raise ConfigError(f"backbone.frozen_stages is {count}, but {type(trunk).__name__} has {len(stages)} stages")
    else:
        count = len(stages) - (mode == "last_block")
    if count is not None:
        moving = {id(module) for module in (*stages[count:], norm) if module is not None}
        _freeze_all_but(trunk, moving)
    if frozen_batch_norm:
        for module in trunk.modules():
            if isinstance(module, nn.BatchNorm2d):
                freeze(module)


def _freeze_all_but(module: nn.Module, moving: set[int]) -> None:
    """Freezes the module's own parameters and every child that has none of the `moving` modules inside."""
    for parameter in module.parameters(recurse=False):
        parameter.requires_grad_(False)
    for child in module.children():
        if id(child) in moving:
            continue
        if any(id(inner) in moving for inner in child.modules()):
            _freeze_all_but(child, moving)
        else:
            freeze(child)


def _stages(trunk: nn.Module) -> list[nn.Module]:
    container: Any
    for name in ("blocks", "stages", "layers"):
        container = getattr(trunk, name, None)
        if isinstance(container, nn.Sequential | nn.ModuleList):
            return list(container)
    layers = [getattr(trunk, f"layer{number}", None) for number in range(1, 5)]
    # A trunk cut after an earlier stage has empty ones at its end.
    found = [layer for layer in layers if isinstance(layer, nn.Module) and any(True for _ in layer.children())]
    if not found:
        raise ConfigError(f"backbone.tuning: the stages of {type(trunk).__name__} are not known; use tuning: full")
    return found
