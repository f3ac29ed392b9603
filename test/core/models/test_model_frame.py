"""Models whose BEV stands around a LiDAR: what they see is seen from there, what they say is in the ego frame."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from hdmap_core.config import parse_config
from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import ModelInput, VectorOutput
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.models.model_frame import PointsToEgo, in_model_frame

POSE = np.eye(4)
POSE[:3, :3] = Rotation.from_euler("zyx", [3.0, -1.0, 0.7], degrees=True).as_matrix()
POSE[:3, 3] = [0.94, -0.2, 1.84]
MODEL: dict[str, Any] = {
    "name": "framed",
    "backbone": {"model": "resnet18.tv_in1k", "image_size": [64, 96], "out_channels": 16},
    "view_transform": {"kind": "bevformer", "channels": 16, "layers": 1, "heads": 4},
    "grid": {"resolution": 3.0},
    "bev_encoder": None,
    "vectors": {"kind": "maptr", "channels": 16, "num_queries": 3, "layers": 1, "num_points": 4},
    "segmentation": None,
}


def test_projections_take_points_of_the_models_frame() -> None:
    generator = torch.Generator().manual_seed(0)
    projection = torch.randn(1, 2, 3, 4, generator=generator)
    points = torch.cat([torch.randn(7, 3, generator=generator), torch.ones(7, 1)], dim=1)
    ego = points.double() @ torch.from_numpy(POSE).T
    wanted = ego @ projection[0, 1].double().T
    found = points.double() @ in_model_frame(projection, POSE.tolist())[0, 1].double().T
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_points_come_back_on_the_road() -> None:
    """Of points on the road the model knows x and y around the LiDAR; from these the ego frame's come back."""
    grid = BEVGrid()
    road = np.array([[-20.0, 3.0, 0, 1], [25.0, -11.0, 0, 1], [0.0, 0.0, 0, 1]])
    seen = (road @ np.linalg.inv(POSE).T)[:, :2]
    points = torch.from_numpy(grid.normalise(seen)).float().view(1, 1, 1, 3, 2)
    moved = PointsToEgo(POSE.tolist(), grid)
    output = moved(VectorOutput(torch.zeros(1), points, VectorOutput(torch.zeros(1), points)))
    assert output.one_to_many is not None and torch.equal(output.points, output.one_to_many.points)
    metres = grid.denormalise(output.points[0, 0, 0].double().numpy())
    np.testing.assert_allclose(metres, road[:, :2], atol=1e-4)


def test_a_model_in_a_frame_is_the_plain_one_with_frames_changed_around_it() -> None:
    framed = build_model(parse_config(ModelConfig, {**MODEL, "ego_from_model": POSE.tolist()}, "recipe")).eval()
    plain = build_model(parse_config(ModelConfig, MODEL, "recipe")).eval()
    plain.load_state_dict(framed.state_dict())
    images = torch.randint(0, 255, (1, 2, 3, 64, 96), dtype=torch.uint8)
    projection = torch.tensor([[40.0, -30, 5, 20], [10.0, 3, -40, 60], [1.0, 0.1, 0, 0.3]]).expand(1, 2, 3, 4)
    with torch.no_grad():
        found = framed(ModelInput(images=images, projection=projection)).vectors
        seen = in_model_frame(projection, POSE.tolist())
        wanted = plain(ModelInput(images=images, projection=seen)).vectors
    assert found is not None and wanted is not None
    torch.testing.assert_close(found.logits, wanted.logits)
    torch.testing.assert_close(found.points, PointsToEgo(POSE.tolist(), BEVGrid(resolution=3.0))(wanted).points)
    assert (found.points - wanted.points).abs().max() > 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ego_from_model": [[1.0, 0, 0, 0]] * 4}, "rotation"),
        ({"ego_from_model": [[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1]]}, "upright"),
        ({"ego_from_model": POSE.tolist(), "segmentation": {}}, "no head but vectors"),
    ],
)
def test_frames_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(ModelConfig, {**MODEL, **changes}, "recipe")
