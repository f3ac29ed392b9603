"""One layer against loops that follow the paper word by word."""

import math

import pytest
import torch
from torch import Tensor, nn

from hdmap_core.models.heads.mapqr_layer import MapQRLayer, gather_mlp, sine_embedding

C, POINTS, HEADS, SAMPLES, ROWS, COLUMNS = 8, 3, 2, 2, 4, 5


def layer(gather: str = "full") -> MapQRLayer:
    torch.manual_seed(0)
    built = MapQRLayer(
        C,
        num_points=POINTS,
        heads=HEADS,
        samples=SAMPLES,
        feedforward=12,
        dropout=0.0,
        gather=gather,  # type: ignore[arg-type]
    )
    with torch.no_grad():
        for parameter in built.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return built


def slow_embedding(x: float, y: float) -> Tensor:
    """Half of the channels for y, then half for x; dimension t of a half: sine if even, cosine if odd."""
    half = C // 2
    values = []
    for coordinate in (y, x):
        for t in range(half):
            angle = 2 * math.pi * coordinate / 10000 ** (2 * (t // 2) / half)
            values.append(math.sin(angle) if t % 2 == 0 else math.cos(angle))
    return torch.tensor(values)


def slow_read(grid: Tensor, x: float, y: float) -> Tensor:
    """Bilinear value (D,) of (D, Y, X) at normalised (x, y); zero outside."""
    column, row = x * COLUMNS - 0.5, y * ROWS - 0.5
    total = torch.zeros(grid.shape[0])
    for r in (math.floor(row), math.floor(row) + 1):
        for c in (math.floor(column), math.floor(column) + 1):
            if 0 <= r < ROWS and 0 <= c < COLUMNS:
                total = total + grid[:, r, c] * (1 - abs(row - r)) * (1 - abs(column - c))
    return total


def slow_self_attention(attention: nn.MultiheadAttention, queries: Tensor, allowed: list[list[bool]]) -> Tensor:
    q, k, v = (queries @ attention.in_proj_weight.T + attention.in_proj_bias).split(C, dim=-1)
    depth, rows = C // HEADS, []
    for i in range(len(queries)):
        heads = []
        for head in range(HEADS):
            cut = slice(head * depth, (head + 1) * depth)
            seen = [j for j in range(len(queries)) if allowed[i][j]]
            weight = torch.stack([q[i, cut] @ k[j, cut] / math.sqrt(depth) for j in seen]).softmax(dim=0)
            heads.append(sum(w * v[j, cut] for w, j in zip(weight, seen, strict=True)))
        rows.append(attention.out_proj(torch.cat(heads)))
    return torch.stack(rows)


def slow_layer(
    module: MapQRLayer, queries: Tensor, place: Tensor, features: Tensor, allowed: list[list[bool]]
) -> Tensor:
    """One sample: queries (Q, C), place (Q, P, 2), features (C, Y, X), which queries each may attend to."""
    queries = module.norms[0](queries + slow_self_attention(module.attention, queries, allowed))
    sampling, depth = module.sampling, C // HEADS
    value = torch.einsum("oc,cyx->oyx", sampling.value.weight[:, :, 0, 0], features)
    value = value + sampling.value.bias[:, None, None]
    rows = []
    for query, places in zip(queries, place.tolist(), strict=True):
        outputs = []
        for x, y in places:
            point = query + module.position(slow_embedding(x, y))
            offset = sampling.offset(point).view(HEADS, SAMPLES, 2)
            weight = sampling.weight(point).view(HEADS, SAMPLES).softmax(dim=-1)
            for head in range(HEADS):
                grid = value[head * depth : (head + 1) * depth]
                outputs.append(
                    sum(
                        weight[head, s]
                        * slow_read(grid, x + float(offset[head, s, 0]) / COLUMNS, y + float(offset[head, s, 1]) / ROWS)
                        for s in range(SAMPLES)
                    )
                )
        linear = [m for m in module.gather if isinstance(m, nn.Linear)]
        gathered = torch.cat(outputs)
        if len(linear) == 2:
            narrow = [linear[0](part).clamp(min=0) for part in gathered.split(C)]
            gathered = linear[1](torch.cat(narrow))
        else:
            gathered = linear[2](linear[1](linear[0](gathered).clamp(min=0)).clamp(min=0))
        rows.append(gathered)
    queries = module.norms[1](queries + torch.stack(rows))
    first, last = module.feed_forward[0], module.feed_forward[3]
    return module.norms[2](queries + last(first(queries).clamp(min=0)))


@pytest.mark.parametrize("gather", ["full", "lean"])
@pytest.mark.parametrize("groups", [[5], [2, 3]])
def test_layer_is_what_the_loops_say(gather: str, groups: list[int]) -> None:
    module = layer(gather)
    generator = torch.Generator().manual_seed(4)
    queries = torch.randn(2, 5, C, generator=generator)
    place = torch.rand(2, 5, POINTS, 2, generator=generator)
    place[0, 0, 0] = torch.tensor([0.0, 1.0])  # samples beyond the grid
    features = torch.randn(2, C, ROWS, COLUMNS, generator=generator)
    member = [group for group, size in enumerate(groups) for _ in range(size)]
    allowed = [[a == b for b in member] for a in member]
    with torch.no_grad():
        fast = module(queries, place, features, groups)
        slow = [slow_layer(module, queries[b], place[b], features[b], allowed) for b in range(2)]
    torch.testing.assert_close(fast, torch.stack(slow), rtol=1e-4, atol=1e-5)


def test_embedding_of_the_origin_is_zeros_and_ones() -> None:
    origin = sine_embedding(torch.zeros(2), 256)
    assert origin.shape == (256,)
    assert (origin[0::2] == 0).all() and (origin[1::2] == 1).all()


def test_embedding_has_y_first_and_turns_once_over_the_grid() -> None:
    middle = sine_embedding(torch.tensor([0.0, 0.5]), 256)
    assert torch.equal(middle[128:], sine_embedding(torch.zeros(2), 256)[128:]), "x did not move"
    torch.testing.assert_close(middle[:2], torch.tensor([0.0, -1.0]), atol=1e-6, rtol=0)  # half a turn
    for x, y in ((0.0, 0.0), (0.3, 0.9), (1.0, 0.01)):
        torch.testing.assert_close(sine_embedding(torch.tensor([x, y]), C), slow_embedding(x, y))


def test_gather_order_matters_and_every_point_counts() -> None:
    for kind in ("full", "lean"):
        torch.manual_seed(1)
        gather = gather_mlp(kind, channels=C, num_points=POINTS)  # type: ignore[arg-type]
        points = torch.randn(1, 1, POINTS, C, requires_grad=True)
        out = gather(points)
        assert out.shape == (1, 1, C)
        assert (gather(points.flip(2)) - out).abs().max() > 1e-3
        out.sum().backward()
        assert points.grad is not None and points.grad.abs().sum(dim=-1).min() > 0
