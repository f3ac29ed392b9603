"""The two cross-attentions, cell by cell, camera by camera, tap by tap, in loops that share nothing with them."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor

from hdmap_core.models.view_transforms.pillar_projection import choose_views, project_pillars
from hdmap_core.models.view_transforms.spatial_cross_attention import (
    HeightKernelAttention,
    SpatialCrossAttention,
    kernel_taps,
)

SIZE = (48, 80)
IN_CHANNELS = 6


def random_projection(cameras: int, seed: int) -> Tensor:
    """(N, 3, 4) of cameras all around, 1.6 m above the ground, about 90 degrees wide."""
    rng = np.random.default_rng(seed)
    matrices = []
    for index in range(cameras):
        yaw, focal = 2 * np.pi * index / cameras + rng.uniform(-0.3, 0.3), rng.uniform(32, 48)
        forward, left = np.array([np.cos(yaw), np.sin(yaw), -0.15]), np.array([-np.sin(yaw), np.cos(yaw), 0])
        forward /= np.linalg.norm(forward)
        camera_from_ego = np.stack([-left, -np.cross(forward, left), forward])
        intrinsics = np.array([[focal, 0, 40], [0, focal, 24], [0, 0, 1]])
        matrices.append(intrinsics @ np.c_[camera_from_ego, camera_from_ego @ [0, 0, -1.6]])
    return torch.from_numpy(np.stack(matrices)).float()


def slow_cross_attention(
    module: HeightKernelAttention | SpatialCrossAttention,
    query: Tensor,
    features: Tensor,
    pillars: Tensor,
    projection: Tensor,
) -> np.ndarray:
    """One sample: query (Q, C), features (N, C', h, w), pillars (Q, A, 3) metres, projection (N, 3, 4)."""
    queries, anchors = pillars.shape[:2]
    height, width = features.shape[-2:]
    heads = module.heads
    with torch.no_grad():
        logits = module.weight(query).view(queries, heads, -1).double().numpy()
        value = module.value(features).unflatten(1, (heads, -1)).numpy()
        offset = module.offset(query).view(queries, heads, -1, 2).numpy() if hasattr(module, "offset") else None
    weights = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    out = np.zeros((queries, module.output.in_features))
    for q in range(queries):
        reads = []
        for n in range(len(features)):
            u, v, depth = (
                projection[n].double() @ torch.cat([pillars[q], torch.ones(anchors, 1)], 1).double().T
            ).numpy()
            x, y = (u / depth + 0.5) / SIZE[1], (v / depth + 0.5) / SIZE[0]
            if not any(depth[a] > 0.1 and 0 < x[a] < 1 and 0 < y[a] < 1 for a in range(anchors)):
                continue
            read = np.zeros((heads, value.shape[2]))
            for m in range(heads):
                for tap in range(weights.shape[-1]):
                    a = m if offset is None else tap % anchors
                    dx, dy = module.taps[tap].tolist() if offset is None else offset[q, m, tap]
                    if depth[a] <= 0.1:
                        continue
                    place = [[y[a] * height - 0.5 + dy], [x[a] * width - 0.5 + dx]]
                    for d in range(value.shape[2]):
                        sample = map_coordinates(value[n, m, d], place, order=1, mode="grid-constant")
                        read[m, d] += weights[q, m, tap] * sample.item()
            reads.append(read.reshape(-1))
        if reads:
            weight, bias = module.output.weight.detach().numpy(), module.output.bias.detach().numpy()
            out[q] = weight @ np.mean(reads, axis=0) + bias
    return out


@pytest.mark.parametrize("kind", ["kernel", "deformable"])
@pytest.mark.parametrize("max_views", [None, 3])
def test_cross_attention_is_that_of_the_loops(kind: str, max_views: int | None) -> None:
    """Two samples with different rigs; some cells are seen by no camera, some by several."""
    torch.manual_seed(0)
    module: HeightKernelAttention | SpatialCrossAttention
    if kind == "kernel":
        module, anchors = HeightKernelAttention(8, in_channels=IN_CHANNELS, heads=2, kernel_size=(2, 4)), 2
    else:
        module, anchors = SpatialCrossAttention(8, in_channels=IN_CHANNELS, heads=2, samples=6), 3
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    features = torch.randn(2, 6, IN_CHANNELS, 6, 10)
    projection = torch.stack([random_projection(6, 1), random_projection(6, 2)])
    centres = torch.cat([12 * torch.rand(14, 2) - 6, torch.tensor([[0.0, 0.0], [0.2, -0.1]])])
    heights = 2 * torch.rand(2, 16, anchors)
    query = torch.randn(2, 16, 8)
    points, visible = project_pillars(centres, heights, projection, SIZE)
    counts = visible.any(-1).sum(1)
    assert counts.min() == 0 and 2 <= counts.max() <= 3, "what this test is about"
    with torch.no_grad():
        got = module(query, features, choose_views(points, visible, max_views))
    for b in range(2):
        pillars = torch.cat([centres[:, None].expand(-1, anchors, -1), heights[b][..., None]], dim=-1)
        slow = slow_cross_attention(module, query[b], features[b], pillars, projection[b])
        np.testing.assert_allclose(got[b].numpy(), slow, atol=2e-4)
        assert not got[b][counts[b] == 0].any()


def test_taps() -> None:
    assert kernel_taps((2, 4)).tolist() == [[x, y] for y in (-1, 0) for x in (-2, -1, 0, 1)]
    assert kernel_taps((3, 5)).tolist() == [[x, y] for y in (-1, 0, 1) for x in (-2, -1, 0, 1, 2)]
