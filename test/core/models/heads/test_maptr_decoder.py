"""Vector heads of MapTR and MapTRv2: shapes, counts, who attends to whom, groups, refinement."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.models.heads.maptr_decoder import MapTRDecoder, MapTRDecoderConfig
from hdmap_core.models.heads.maptr_layer import MapTRLayer

KINDS = ["full", "decoupled"]


def build(*, in_channels: int = 16, **changes: Any) -> MapTRDecoder:
    """A small decoder whose every weight, zero-initialised ones too, matters."""
    small: dict[str, Any] = {
        "num_queries": 5,
        "num_points": 4,
        "channels": 16,
        "layers": 2,
        "attention_heads": 4,
        "samples": 2,
        "feedforward": 24,
        "dropout": 0.0,
        "one_to_many": 2,
    }
    torch.manual_seed(0)
    decoder = MapTRDecoder(MapTRDecoderConfig(**(small | changes)), in_channels=in_channels, num_classes=3)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return decoder


def bev(batch: int = 2, channels: int = 16, size: tuple[int, int] = (6, 12)) -> Tensor:
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(6, 12), (9, 7)])
def test_shapes(kind: str, size: tuple[int, int]) -> None:
    output = build(self_attention=kind)([bev(3, size=size)])
    assert output.logits.shape == (2, 3, 5, 3) and output.points.shape == (2, 3, 5, 4, 2)
    assert output.one_to_many is not None and output.one_to_many.points.shape == (2, 3, 10, 4, 2)
    assert output.queries is not None and output.queries.shape == (3, 5, 16)
    assert output.points.min() >= 0 and output.points.max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_batched_is_single_and_features_stay(kind: str) -> None:
    decoder, features = build(self_attention=kind).eval(), bev()
    before = features.clone()
    together = decoder([features])
    for index in range(2):
        alone = decoder([features[index : index + 1]])
        torch.testing.assert_close(together.points[:, index], alone.points[:, 0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.logits[:, index], alone.logits[:, 0], rtol=1e-4, atol=1e-5)
    assert torch.equal(features, before)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_receives_a_gradient(kind: str) -> None:
    decoder = build(self_attention=kind, in_channels=8)
    output = decoder([bev(channels=8)])
    assert output.one_to_many is not None
    parts = (output.logits, output.points, output.one_to_many.logits, output.one_to_many.points)
    sum(part.square().sum() for part in parts).backward()  # type: ignore[union-attr]
    silent = [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("kind", KINDS)
def test_groups_do_not_see_each_other(kind: str) -> None:
    """What training adds changes nothing for the queries that count."""
    decoder, features = build(self_attention=kind), bev()
    with torch.no_grad():
        training, evaluation = decoder.train()([features]), decoder.eval()([features])
    torch.testing.assert_close(training.points, evaluation.points, rtol=1e-4, atol=1e-5)
    assert evaluation.one_to_many is None


def test_who_attends_to_whom() -> None:
    """Full: all to all. Decoupled: the same point of other instances, then the points of one's own instance."""
    torch.manual_seed(0)
    queries, position = torch.randn(1, 3, 4, 16), torch.zeros(3, 4, 16)
    moved = queries.clone()
    moved[0, 1, 2] += 1
    for kind, expected in (("full", torch.ones(3, 4)), ("decoupled", F.pad(torch.ones(3, 1), (2, 1)))):
        layer = MapTRLayer(16, self_attention=kind, heads=4, samples=2, feedforward=8, dropout=0.0)  # type: ignore[arg-type]
        first, second = (
            (layer._within_groups(each, position, [3]) for each in (queries, moved))
            if kind == "full"
            else (
                layer._within_groups(each.transpose(1, 2), position.transpose(0, 1), [3]).transpose(1, 2)
                for each in (queries, moved)
            )
        )
        changed = ((first - second).abs().amax(-1)[0] > 1e-6).float()
        torch.testing.assert_close(changed, expected)
        across = (
            layer._attended(len(layer.attentions) - 1, each, position.expand_as(each)) for each in (queries, moved)
        )
        one, two = across
        rows = ((one - two).abs().amax(-1)[0] > 1e-6).any(dim=1)
        assert rows.tolist() == [False, True, False]


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_refined_without_a_gradient_between_layers(kind: str) -> None:
    decoder = build(self_attention=kind).eval()
    with torch.no_grad():
        for branch in decoder.refine:
            assert isinstance(branch, nn.Sequential) and isinstance(branch[-1], nn.Linear)
            branch[-1].weight.zero_()
            branch[-1].bias.zero_()
    output = decoder([bev()])
    position, _ = (decoder.instances[:5, None] + decoder.points).chunk(2, dim=-1)
    torch.testing.assert_close(output.points[-1, 0], decoder.reference(position).sigmoid(), atol=1e-4, rtol=1e-4)
    output.points[-1].sum().backward()
    first, last = (branch[-1].bias.grad for branch in decoder.refine)  # type: ignore[index, union-attr]
    assert not first.abs().any() and last.abs().sum() > 0


def test_published_sizes_have_the_published_counts() -> None:
    """Counted from the tensors of the published code's state dicts."""
    full = MapTRDecoder(MapTRDecoderConfig(), in_channels=256, num_classes=3)
    decoupled = MapTRDecoder(
        MapTRDecoderConfig(self_attention="decoupled", one_to_many=6), in_channels=256, num_classes=3
    )
    layer = (
        263_168
        + (256 * 64 + 64)
        + (256 * 32 + 32)
        + 2 * (256 * 256 + 256)
        + (256 * 512 + 512 + 512 * 256 + 256)
        + 3 * 512
    )
    branches = 2 * (256 * 256 + 256 + 512) + 256 * 3 + 3 + 2 * (256 * 256 + 256) + 256 * 2 + 2
    rest = 20 * 512 + 256 * 2 + 2
    assert sum(p.numel() for p in full.parameters()) == 6 * (layer + branches) + 50 * 512 + rest
    assert sum(p.numel() for p in decoupled.parameters()) == 6 * (layer + 263_168 + 512 + branches) + 350 * 512 + rest


@pytest.mark.parametrize("kind", KINDS)
def test_export(kind: str, tensors_out: type[nn.Module]) -> None:
    wrapped = tensors_out(build(self_attention=kind).eval())
    program = torch.export.export(wrapped, (bev(1),))
    other = bev(1) + 0.5
    for ours, theirs in zip(program.module()(other), wrapped(other), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
