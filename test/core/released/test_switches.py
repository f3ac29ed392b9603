"""What the importer sets and recipes do not, and what it folds into weights: by hand, without a file."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hdmap_core.config import load_config
from hdmap_core.models import ModelConfig
from hdmap_core.released import lidar_axes
from hdmap_core.released.dense_models import DenseModel, dense_config
from hdmap_core.released.translation import Translation
from hdmap_core.released.vector_models import VectorModel, vector_config
from hdmap_core.released.vector_tensors import STANDING, can_bus_constant

RECIPES = Path(__file__).resolve().parents[3] / "config" / "recipes"
VECTORS = {
    "mapqr": VectorModel("mapqr", "height_kernel", (200, 100), 700, 3, bev_lines=True, image_lines=True),
    "mapfm": VectorModel("mapfm", "height_kernel", (200, 100), 700, 3, bev_lines=True, image_lines=True),
    "maptr": VectorModel("maptr", "nearest_kernel", (200, 100), 50, 1, bev_lines=False, image_lines=False),
    "maptr, bevformer": VectorModel("maptr", "deformable", (200, 100), 50, 1, bev_lines=False, image_lines=False),
    "maptrv2": VectorModel("maptrv2", "depth", (200, 100), 350, 0, bev_lines=True, image_lines=True),
}
BEVFORMER = {
    **{"height_bound": None, "unseen_bias": True, "position_halves": "row_column", "half_pixel": False},
    **{"z_range": (-2.0, 2.0), "camera_embeddings": 6},
}
FULL = DenseModel("points", sd_map=True, refiner=True, alone=False, student=False, cells=80_000)
COACH = DenseModel("simulated", sd_map=True, refiner=True, alone=False, student=False, cells=80_000)
STUDENT = DenseModel(None, sd_map=False, refiner=False, alone=False, student=True, cells=80_000)


def values(section: Any, names: dict[str, Any]) -> dict[str, Any]:
    return {name: getattr(section, name) for name in names}


@pytest.mark.parametrize("kind", VECTORS)
def test_switches_of_maptrs_line(kind: str) -> None:
    model = vector_config(VECTORS[kind])
    images = {"image_size": (480, 800), "filled_size": (450, 800), "scaling": "origin", "resampling": "area"}
    images["poses"] = "mounted" if kind == "maptrv2" else "moved"
    assert values(model.backbone, images) == images
    assert model.ego_from_model is not None and model.ego_from_model[0][3] == 0.94
    if kind != "maptrv2":
        assert values(model.view_transform, BEVFORMER) == BEVFORMER


@pytest.mark.parametrize("released", [FULL, COACH, STUDENT])
def test_switches_of_hdmapnets_line(released: DenseModel) -> None:
    model = dense_config(released, (60.0, 30.0))
    images = {"resampling": "bicubic", "scaling": "origin", "poses": "mounted", "image_size": (128, 352)}
    assert values(model.backbone, images) == images
    assert model.view_transform is not None and model.view_transform.geometry == "published"  # type: ignore[union-attr]
    if released.lidar == "points":
        assert model.lidar is not None and model.lidar.cells == "published"  # type: ignore[union-attr]
    if released.lidar == "simulated":
        assert model.lidar is not None and model.lidar.lift_splat.geometry == "published"  # type: ignore[union-attr]
    if released.refiner:
        assert model.hd_refiner is not None and model.sd_prior is not None
        assert (model.hd_refiner.inputs, model.hd_refiner.first_bias) == ("logits", True)
        assert not model.sd_prior.mask_empty
    if released.student:
        assert model.bottleneck is not None and not model.bottleneck.aligned_corners


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_recipes_set_none_of_them(path: Path) -> None:
    config = pytest.importorskip("training.config", reason="a vehicle has no training")
    model: ModelConfig = load_config(config.TrainConfig, path).model
    assert model.ego_from_model is None
    for backbone in (model.backbone, model.image_backbone):
        if backbone is not None:
            plain = {"filled_size": None, "resampling": "area", "scaling": "edges", "poses": "moved"}
            assert values(backbone, plain) == plain
    for section in (model.view_transform, getattr(model.lidar, "lift_splat", None)):
        assert getattr(section, "geometry", "cells") != "published"
        assert getattr(section, "position_halves", None) != "row_column" and not getattr(section, "unseen_bias", False)
        assert getattr(section, "half_pixel", True) and getattr(section, "height_bound", 2.0) is not None
    assert getattr(model.lidar, "cells", "floor") == "floor"
    assert model.hd_refiner is None or not model.hd_refiner.first_bias


# --- what is folded into weights ---


def right_forward(points: Tensor) -> Tensor:
    """(..., xy) of ours (forward, left), in shares of the grid or as offsets of it -> theirs."""
    return torch.stack([-points[..., 1], points[..., 0]], dim=-1)


def test_last_layers_of_points_are_turned() -> None:
    layer, hidden = nn.Linear(5, 6), torch.randn(4, 5)
    theirs = layer(hidden).unflatten(-1, (3, 2))
    weight, bias = lidar_axes.turned_points(layer.weight), lidar_axes.turned_points(layer.bias)
    ours = nn.functional.linear(hidden, weight, bias).unflatten(-1, (3, 2))
    torch.testing.assert_close(right_forward(ours), theirs)
    forward_left = ours.sigmoid()  # places: right is 1 - left
    torch.testing.assert_close(torch.stack([1 - forward_left[..., 1], forward_left[..., 0]], dim=-1), theirs.sigmoid())


def test_the_sine_of_a_mirrored_axis() -> None:
    pairs, forward, left = 4, torch.rand(7, dtype=torch.float64), torch.rand(7, dtype=torch.float64)
    weight = torch.randn(3, 4 * pairs)

    def embedded(place: Tensor) -> Tensor:
        angle = 2 * math.pi * place[:, None] / 10_000.0 ** (torch.arange(pairs) / pairs)
        return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)

    theirs = torch.cat([embedded(forward), embedded(1 - left)], dim=1) @ weight.double().T
    ours = torch.cat([embedded(left), embedded(forward)], dim=1) @ lidar_axes.turned_sine(weight).double().T
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_tables_kernels_and_orders() -> None:
    table = torch.arange(6.0)[:, None]  # rows forward 0 ... 2, columns right 0, 1
    assert lidar_axes.turned_cells(table, (3, 2)).flatten().tolist() == [1, 3, 5, 0, 2, 4]
    raster, kernel = torch.randn(1, 2, 5, 7), torch.randn(3, 2, 3, 3)
    theirs = nn.functional.conv2d(raster, kernel, padding=1).flip(-1).transpose(-1, -2)
    turned = raster.flip(-1).transpose(-1, -2)
    torch.testing.assert_close(nn.functional.conv2d(turned, lidar_axes.turned_kernel(kernel), padding=1), theirs)
    taps = torch.arange(8.0)[:, None]  # one head, four columns of two rows
    found = lidar_axes.kernel_rows_first(taps, heads=1, kernel=(2, 4)).flatten().tolist()
    assert found == [0, 2, 4, 6, 1, 3, 5, 7]
    rows = torch.arange(2 * 2 * 3.0)[:, None]  # two heads, two maps, three samples
    assert lidar_axes.maps_first(rows, heads=2).flatten().tolist() == [0, 1, 2, 6, 7, 8, 3, 4, 5, 9, 10, 11]


def test_the_vector_of_the_can_bus_is_added_for_good() -> None:
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(18, 4), nn.ReLU(), nn.Linear(4, 8), nn.ReLU(), nn.LayerNorm(8))
    names = {"0": mlp[0], "2": mlp[2], "norm": mlp[4]}
    prefix = "pts_bbox_head.transformer.can_bus_mlp"
    state = {
        f"{prefix}.{key}.{name}": value for key, part in names.items() for name, value in part.state_dict().items()
    }
    for vector in (STANDING, torch.randn(18).tolist()):
        found = can_bus_constant(Translation(state, "file"), 8, vector)
        torch.testing.assert_close(found, mlp(torch.tensor(vector)).detach())
    assert len(STANDING) == 18 and STANDING[3] == 1 and sum(STANDING) == 1, "a quaternion that turns nothing"
