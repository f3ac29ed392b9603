"""A small MapFM with its real losses: the terms, the parameters that learn, and numbers in half precision."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.models import build_model
from training.config import TrainConfig
from training.data.batches import Batch, make_batch
from training.data.keyframes import Keyframe
from training.objectives import supervised

Load = Callable[..., TrainConfig]
Make = Callable[[TrainConfig], list[Keyframe]]
VIT = (
    "model.backbone={image_size: [56, 84], out_channels: 16, arguments: {embed_dim: 24, num_heads: 2, depth: 2}}",
    "model.name=small-vit",
)
FAMILIES = {"resnet": (), "vit": VIT}


def batch_of(config: TrainConfig, model: nn.Module, frames: list[Keyframe]) -> Batch:
    return make_batch(frames, config, model.backbone.feature_size)  # type: ignore[union-attr]


def optimizer_of(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)


def silent(model: nn.Module) -> set[str]:
    """Trainable parameters whose gradient is missing or zero."""
    parameters = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return {name for name, p in parameters if p.grad is None or not p.grad.any()}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_has_a_gradient_within_two_steps(
    image_config: Load, image_keyframes: Make, family: str
) -> None:
    config = image_config(*FAMILIES[family])
    torch.manual_seed(0)
    model = build_model(config.model).train()
    optimizer, batch = optimizer_of(model, 1e-3), batch_of(config, model, image_keyframes(config))
    steps = []
    for _ in range(2):
        optimizer.zero_grad()
        terms = supervised(model, batch, config)
        sum(terms.values()).backward()  # type: ignore[union-attr]
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        steps.append(silent(model))
        optimizer.step()
    assert set(terms) == {
        *("class", "points", "direction", "class_many", "points_many", "direction_many"),
        *("surface_dice", "bev_lines", "image_lines", "depth"),
    }
    assert all(value.item() > 0 for value in terms.values())
    # What only reaches the result through a layer that starts at zero waits for that layer's first step: positions,
    # which decide where deformable attention looks, and the first layers of a ResNet's blocks.
    assert {"view_transform.column_position", "view_transform.row_position"} <= steps[0]
    assert [name for name in steps[0] if not re.search(r"position|backbone\.trunk\.layer\d", name)] == []
    assert steps[1] == set()


DEPTH_LIFT = (
    "model.view_transform={kind: depth_lift_splat, channels: 16, depth_range: [1, 9], depth_step: 2, "
    "pyramid_channels: 8}",
    "model.vectors={kind: maptr, self_attention: decoupled, num_queries: 6, num_points: 5, channels: 16, layers: 2, "
    "attention_heads: 4, feedforward: 32, dropout: 0, one_to_many: 2}",
    "model.auxiliary.depth={said_by: view_transform, min_depth: 1, max_depth: 9, bin_size: 2}",
    "model.name=small-maptrv2",
)


def test_maptrv2_learns_its_depth_from_lidar(image_config: Load, image_keyframes: Make) -> None:
    """The term is the cross-entropy at the cells that a LiDAR point lies in, and all parameters learn."""
    config = image_config(*DEPTH_LIFT)
    torch.manual_seed(0)
    model = build_model(config.model).train()
    batch, said = batch_of(config, model, image_keyframes(config)), list[Tensor]()
    model.view_transform.register_forward_hook(  # type: ignore[union-attr]
        lambda *call: said.append(call[-1][1]), with_kwargs=True
    )
    terms = supervised(model, batch, config)
    assert batch.targets.auxiliary is not None and batch.targets.auxiliary.depth is not None
    metres = batch.targets.auxiliary.depth
    known = ~metres.isnan()
    assert 10 < known.sum() < known.numel()
    logits = said[0].movedim(2, -1)[known]
    wanted = F.cross_entropy(logits, ((metres[known] - 1) / 2).long())
    torch.testing.assert_close(terms["depth"], config.loss.auxiliary.depth * wanted)
    optimizer, losses = optimizer_of(model, 1e-2), []
    for step in range(12):
        optimizer.zero_grad()
        terms = supervised(model, batch, config)
        sum(terms.values()).backward()  # type: ignore[union-attr]
        if step == 1:
            # a bias before a batch norm learns nothing
            assert silent(model) <= {"view_transform.depth_net.reduce.0.bias"}
        optimizer.step()
        losses.append(terms["depth"].item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        ("model.vectors.one_to_many=0", {"class_many", "points_many", "direction_many"}),
        ("model.auxiliary=null", {"surface_dice", "bev_lines", "image_lines", "depth"}),
        ("model.auxiliary.depth=null", {"depth"}),
        ("model.auxiliary.surface=[]", {"surface_dice"}),
        ("model.auxiliary.bev_lines=false", {"bev_lines"}),
    ],
)
def test_a_term_for_each_head_that_there_is(
    image_config: Load, image_keyframes: Make, change: str, gone: set[str]
) -> None:
    def terms(*overrides: str) -> set[str]:
        config = image_config(*overrides)
        model = build_model(config.model).train()
        return set(supervised(model, batch_of(config, model, image_keyframes(config)[:1]), config))

    assert terms() - terms(change) == gone and terms(change) <= terms()


def test_weights_are_those_of_the_config(image_config: Load, image_keyframes: Make) -> None:
    """Every weight scales its own term and no other."""
    weights = {
        **{"classes": ("class", "class_many"), "points": ("points", "points_many")},
        **{"direction": ("direction", "direction_many")},
        **{"one_to_many": ("class_many", "points_many", "direction_many")},
        **{f"auxiliary.{name}": (name,) for name in ("surface_dice", "bev_lines", "image_lines", "depth")},
    }
    config = image_config()
    torch.manual_seed(0)
    model = build_model(config.model).train()
    batch = batch_of(config, model, image_keyframes(config)[:2])
    with torch.no_grad():
        output = model(batch.inputs)

        def terms(recipe: TrainConfig) -> dict[str, float]:
            return {k: v.item() for k, v in supervised(lambda inputs: output, batch, recipe).items()}

        before = terms(config)
        for name, scaled in weights.items():
            value = getattr(config.loss.auxiliary if "." in name else config.loss, name.removeprefix("auxiliary."))
            # The matching looks at the weights of classes and points too: so little changes no pair.
            after = terms(image_config(f"loss.{name}={value * 1.001}"))
            for term, number in before.items():
                expected = number * (1.001 if term in scaled else 1)
                assert after[term] == pytest.approx(expected, rel=1e-5), (name, term)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "dtype"), [("resnet", torch.bfloat16), ("vit", torch.float16)])
def test_half_precision_learns_and_stays_finite(
    image_config: Load, image_keyframes: Make, family: str, dtype: torch.dtype
) -> None:
    """200 steps as `optim.precision` has them; float16 with a fixed scale in place of the scaler's."""
    config = image_config(
        *FAMILIES[family], f"model.backbone.image_size={[32, 64] if family == 'resnet' else [28, 56]}"
    )
    torch.manual_seed(0)
    model = build_model(config.model).train()
    scale = 256.0 if dtype == torch.float16 else 1.0
    optimizer, batch = optimizer_of(model, 2e-3), batch_of(config, model, image_keyframes(config)[:2])
    losses = []
    for step in range(200):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype):
            terms = supervised(model, batch, config)
        loss = torch.stack(list(terms.values())).sum()
        (scale * loss).backward()
        assert all(torch.isfinite(value) for value in terms.values()), (step, terms)
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                parameter.grad /= scale
                assert torch.isfinite(parameter.grad).all(), (step, name)
        nn.utils.clip_grad_norm_(model.parameters(), 35.0)
        optimizer.step()
        losses.append(loss.item())
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10]), losses[::20]
