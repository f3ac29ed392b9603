"""The self-attention of the BEV against a slow reference."""

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor

from hdmap_core.geometry import BEVGrid
from hdmap_core.models.view_transforms.bev_self_attention import BEVSelfAttention


def slow_self_attention(module: BEVSelfAttention, bev: Tensor, position: Tensor) -> np.ndarray:
    """One sample, cell by cell; bev and position are (Q, C)."""
    rows, columns = module.shape
    heads, samples = module.heads, module.samples
    with torch.no_grad():
        query = torch.cat([bev, bev + position], dim=-1)
        offset = module.offset(query).view(-1, 2, heads, samples, 2).numpy()
        logits = module.weight(query).view(-1, 2, heads, samples).double().numpy()
        value = module.value(bev).T.reshape(heads, -1, rows, columns).numpy()
    read = np.zeros((len(bev), heads, value.shape[1]))
    for q, m in np.ndindex(len(bev), heads):
        for which in range(2):
            weight = np.exp(logits[q, which, m]) / np.exp(logits[q, which, m]).sum()
            x, y = q % columns + offset[q, which, m, :, 0], q // columns + offset[q, which, m, :, 1]
            for depth, image in enumerate(value[m]):
                read[q, m, depth] += weight @ map_coordinates(image, [y, x], order=1, mode="grid-constant") / 2
    weight, bias = module.output.weight.detach().numpy(), module.output.bias.detach().numpy()
    return read.reshape(len(bev), -1) @ weight.T + bias


def test_self_attention_is_that_of_the_loops() -> None:
    grid = BEVGrid((0.0, 3.0), (-1.0, 1.0), 0.5)  # (4, 6)
    torch.manual_seed(0)
    module = BEVSelfAttention(8, grid=grid, heads=2, samples=3).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
    bev, position = torch.randn(3, 24, 8), torch.randn(24, 8)
    with torch.no_grad():
        found = module(bev, position)
    for sample in range(3):
        slow = slow_self_attention(module, bev[sample], position)
        np.testing.assert_allclose(found[sample].numpy(), slow, atol=1e-4)
