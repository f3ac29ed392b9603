"""MapQR's vector head as a slot: shapes, counts, groups, refinement, precision, export."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hdmap_core.config import parse_config
from hdmap_core.errors import ConfigError
from hdmap_core.model_io import VectorOutput
from hdmap_core.models.heads.mapqr_decoder import MapQRDecoder, MapQRDecoderConfig

GRIDS = [(6, 12), (9, 7)]
KINDS = ["full", "lean"]


def build(*, in_channels: int = 16, num_classes: int = 3, **changes: Any) -> MapQRDecoder:
    """A small decoder whose every weight, zero-initialised ones too, matters."""
    small: dict[str, Any] = {
        "num_queries": 5,
        "num_points": 4,
        "channels": 16,
        "layers": 3,
        "attention_heads": 4,
        "samples": 2,
        "feedforward": 24,
        "dropout": 0.0,
        "one_to_many": 2,
    }
    torch.manual_seed(0)
    decoder = MapQRDecoder(MapQRDecoderConfig(**(small | changes)), in_channels=in_channels, num_classes=num_classes)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return decoder


def bev(batch: int = 2, channels: int = 16, size: tuple[int, int] = GRIDS[0], seed: int = 1) -> Tensor:
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(seed))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def assert_same(first: VectorOutput, second: VectorOutput) -> None:
    torch.testing.assert_close(first.logits, second.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.points, second.points, rtol=1e-4, atol=1e-5)


def differ(first: VectorOutput, second: VectorOutput) -> bool:
    return bool((first.logits - second.logits).abs().max() > 1e-4)


@pytest.mark.parametrize("size", GRIDS)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("gather", KINDS)
def test_shapes(size: tuple[int, int], batch: int, gather: str) -> None:
    decoder = build(gather=gather)
    output = decoder([bev(batch, size=size)])
    assert output.logits.shape == (3, batch, 5, 3) and output.points.shape == (3, batch, 5, 4, 2)
    assert output.one_to_many is not None and output.one_to_many.one_to_many is None
    assert output.one_to_many.logits.shape == (3, batch, 10, 3)
    assert output.one_to_many.points.shape == (3, batch, 10, 4, 2)
    for points in (output.points, output.one_to_many.points):
        assert points.min() >= 0 and points.max() <= 1


def test_only_the_finest_level_is_read() -> None:
    decoder = build().eval()
    pyramid = [bev(), bev(size=(3, 6))]
    assert_same(decoder(pyramid), decoder(pyramid[:1]))
    assert differ(decoder(pyramid[1:]), decoder(pyramid[:1]))


def test_features_of_another_width_are_projected_others_are_not() -> None:
    assert count(build(in_channels=16).project) == 0
    decoder = build(in_channels=7).eval()
    assert count(decoder.project) == 7 * 16 + 16
    assert decoder([bev(channels=7)]).logits.shape == (3, 2, 5, 3)


def test_batched_is_single() -> None:
    decoder, features = build(), bev(3)
    together = decoder([features])
    for index in range(3):
        alone = decoder([features[index : index + 1]])
        assert_same(alone, VectorOutput(together.logits[:, index, None], together.points[:, index, None]))
        assert_same(
            alone.one_to_many,
            VectorOutput(together.one_to_many.logits[:, index, None], together.one_to_many.points[:, index, None]),
        )
    assert (together.points[:, 0] - together.points[:, 1]).abs().max() > 1e-4, "the features matter"


@pytest.mark.parametrize("gather", KINDS)
@pytest.mark.parametrize("separate", [True, False])
def test_every_parameter_receives_a_gradient(gather: str, separate: bool) -> None:
    decoder = build(gather=gather, separate_groups=separate, in_channels=7)
    output = decoder([bev(channels=7)])
    assert output.one_to_many is not None
    sum(
        (value * torch.randn_like(value)).sum()
        for group in (output, output.one_to_many)
        for value in (group.logits, group.points)
    ).backward()
    silent = [
        name
        for name, parameter in decoder.named_parameters()
        if parameter.grad is None or not torch.isfinite(parameter.grad).all() or not parameter.grad.any()
    ]
    assert silent == []
    assert decoder.queries.grad.any(dim=1).all(), "of every query"


def test_features_are_left_as_they_were() -> None:
    features = bev()
    before = features.clone()
    build()([features])
    assert torch.equal(features, before)


def test_published_size_has_the_published_counts() -> None:
    with torch.device("meta"):
        full = MapQRDecoder(MapQRDecoderConfig(), in_channels=256, num_classes=3)
        lean = MapQRDecoder(MapQRDecoderConfig(gather="lean"), in_channels=256, num_classes=3)
    assert count(full.layers[0]) == 14_515_040
    assert count(full.layers[0].gather) == 13_831_168
    assert count(lean.layers[0].gather) == 344_384
    assert count(full.classify) + count(full.refine) == 4_864_770
    assert full.queries.shape == (700, 512) and count(full.reference) == 76_072
    assert count(full) == 6 * 14_515_040 + 4_864_770 + 700 * 512 + 76_072 == 92_389_482
    assert count(full) - count(lean) == 6 * (13_831_168 - 344_384)


def test_a_query_is_of_a_class_with_probability_one_in_a_hundred_at_first() -> None:
    decoder = MapQRDecoder(MapQRDecoderConfig(channels=32, num_queries=50, layers=2), in_channels=32, num_classes=3)
    probability = decoder.eval()([bev(channels=32)]).logits.sigmoid()
    assert 0.005 < probability.median() < 0.02


@pytest.mark.parametrize("gather", KINDS)
def test_further_queries_exist_in_training_only(gather: str) -> None:
    decoder, features = build(gather=gather), bev()
    trained = decoder([features])
    used = decoder.eval()([features])
    assert used.one_to_many is None
    assert_same(used, trained)
    with torch.no_grad():
        decoder.queries[5:] = float("nan")
    assert_same(decoder([features]), used)


def test_without_one_to_many_training_is_the_same() -> None:
    decoder, features = build(one_to_many=0), bev()
    assert decoder.queries.shape == (5, 32)
    trained = decoder([features])
    assert trained.one_to_many is None
    assert_same(trained, decoder.eval()([features]))


@pytest.mark.parametrize("separate", [True, False])
def test_groups_see_each_other_only_as_published(separate: bool) -> None:
    decoder, features = build(separate_groups=separate), bev()
    before = decoder([features])
    with torch.no_grad():
        decoder.queries[7, 16:] += 3.0  # the content of one one-to-many query
    after = decoder([features])
    assert differ(after, before) != separate
    assert differ(after.one_to_many, before.one_to_many)
    one_to_many = VectorOutput(before.one_to_many.logits, before.one_to_many.points)
    with torch.no_grad():
        decoder.queries[7, 16:] -= 3.0
        decoder.queries[2, 16:] += 3.0  # and of a one-to-one query
    changed = decoder([features])
    assert differ(changed, before)
    assert differ(changed.one_to_many, one_to_many) != separate


def test_a_point_branch_that_answers_zero_leaves_the_points() -> None:
    decoder = build()
    with torch.no_grad():
        decoder.refine[0][-1].weight.zero_()
        decoder.refine[0][-1].bias.zero_()
    output = decoder([bev()])
    start = decoder.reference(decoder.queries[:5, :16]).sigmoid().view(5, 4, 2)
    torch.testing.assert_close(output.points[0, 1], start)
    assert (output.points[1, 1] - start).abs().max() > 1e-3


def test_points_are_refined_from_layer_to_layer_without_a_gradient_between_them() -> None:
    decoder = build()
    output = decoder([bev()])
    output.points[1].sum().backward()
    reached = {
        name for name, parameter in decoder.named_parameters() if parameter.grad is not None and parameter.grad.any()
    }
    assert not {name for name in reached if name.startswith(("refine.0", "refine.2", "classify"))}
    assert {"refine.1.0.weight", "layers.0.gather.1.weight", "reference.0.weight"} <= reached, "content has one"
    last = decoder([bev()]).points[2]
    with torch.no_grad():
        decoder.refine[0][-1].bias += 1.0
    assert (decoder([bev()]).points[2] - last).abs().max() > 1e-2, "but their values are passed on"


def test_points_at_the_edge_come_back() -> None:
    """The references' logits are clamped to those of 1e-5, so that a layer can undo what the one before did."""
    decoder = build(layers=2).eval()
    with torch.no_grad():
        for branch, bias in zip(decoder.refine, (1e4, -11.5129), strict=True):
            branch[-1].weight.zero_()
            branch[-1].bias.fill_(bias)
    points = decoder([bev()]).points
    assert (points[0] == 1).all()
    torch.testing.assert_close(points[1], torch.full_like(points[1], 0.5), atol=1e-3, rtol=0)


def test_order_of_the_queries_does_not_matter() -> None:
    decoder, features = build().eval(), bev()
    before = decoder([features])
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        decoder.queries[:5] = decoder.queries[order]
    assert_same(decoder([features]), VectorOutput(before.logits[:, :, order], before.points[:, :, order]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_points_in_full_precision(dtype: torch.dtype) -> None:
    decoder, features = build(), bev()
    exact = decoder([features])
    with torch.autocast("cpu", dtype=dtype):
        rough = decoder([features])
        loss = rough.logits.square().mean() + rough.points.square().mean() + rough.one_to_many.points.mean()
    assert rough.logits.dtype == rough.points.dtype == torch.float32
    assert rough.points.isfinite().all() and rough.logits.isfinite().all()
    assert (rough.points - exact.points).abs().max() < 0.05
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in decoder.parameters() if parameter.grad is not None)


def test_export(tensors_out: type[nn.Module]) -> None:
    wrapped = tensors_out(build().eval())
    program = torch.export.export(wrapped, (bev(1),))
    other = bev(1, seed=9)
    assert_same(VectorOutput(*program.module()(other)), VectorOutput(*wrapped(other)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 36, "attention_heads": 8}, "multiple of attention_heads 8"),
        ({"channels": 30, "attention_heads": 2}, "channels"),
        ({"num_points": 1}, "num_points"),
        ({"one_to_many": -1}, "one_to_many"),
        ({"gather": "tiny"}, "gather"),
        ({"kind": "scatter_gather"}, "kind"),
    ],
)
def test_configs_that_cannot_work_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(MapQRDecoderConfig, change, "recipe")
