"""Lines and depth in feature maps, against hand-computed cells, CameraRig and finely sampled points."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.geometry import CameraRig, se3
from training.data.camera_targets import line_mask, nearest_depth, project_segments

# A camera at 1.5 m height that looks straight ahead; the horizon is row 44.5, the middle column 79.5.
FORWARD = se3.se3(np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=float), [0.0, 0.0, 1.5])
K = np.array([[100.0, 0, 79.5], [0, 100.0, 44.5], [0, 0, 1]])
IMAGE, FEATURES = (90, 160), (9, 16)
RIG = CameraRig.from_arrays(["front"], [K], [FORWARD], IMAGE)
MATRIX = RIG.projection()[0].numpy()


def ground(*points: tuple[float, float]) -> np.ndarray:
    return np.array([[x, y, 0.0] for x, y in points])


def marked(mask: np.ndarray) -> list[tuple[int, int]]:
    return [(int(row), int(column)) for row, column in np.argwhere(mask)]


def test_the_cells_of_a_known_line() -> None:
    # 10 m ahead and 1.5 m below, the ground is 15 pixels under the horizon: (59.5 + 0.5) / 90 * 9 = row 6.0 is the
    # border of rows 5 and 6, so take 12 m: row (44.5 + 12.5 + 0.5) / 10 = 5.75. From y = 3 m to -3 m: 25 pixels.
    mask = line_mask([ground((12, 3), (12, -3))], MATRIX, IMAGE, FEATURES)
    # columns (79.5 -+ 25 + 0.5) / 10 = 5.5 and 10.5
    assert mask.dtype == np.uint8 and mask.shape == FEATURES
    assert marked(mask) == [(5, column) for column in range(5, 11)]


def test_feature_sizes_need_not_divide_the_image() -> None:
    mask = line_mask([ground((12, 3), (12, -3))], MATRIX, IMAGE, (7, 11))
    row, first, last = 57.5 / 90 * 7, 55 / 160 * 11, 105 / 160 * 11  # 4.47, 3.8 and 7.2
    assert marked(mask) == [(int(row), column) for column in range(int(first), int(last) + 1)]


def test_a_line_through_the_camera_plane_is_cut_there() -> None:
    # From behind the camera on the right to ahead on the right: only the near, right, lower part of the image.
    line = ground((-30.0, -2.0), (30.0, -2.0))
    mask = line_mask([line], MATRIX, IMAGE, FEATURES)
    ahead = line_mask([ground((0.2, -2.0), (30.0, -2.0))], MATRIX, IMAGE, FEATURES)
    assert marked(mask) == marked(ahead) and mask.any()
    assert not mask[:5].any() and not mask[:, :8].any(), "nothing above the horizon, nothing on the left"
    assert not line_mask([ground((-30.0, -2.0), (-1.0, 5.0))], MATRIX, IMAGE, FEATURES).any(), "all behind"


def test_parts_before_and_after_the_camera_plane_are_not_joined() -> None:
    # A U whose bottom lies behind the camera: joining the points that are ahead would draw a line across the road.
    line = ground((20, 6), (-5, 6), (-5, -6), (20, -6))
    mask = line_mask([line], MATRIX, IMAGE, FEATURES)
    left, right = (line_mask([ground((20, y), (0.2, y))], MATRIX, IMAGE, FEATURES) for y in (6, -6))
    np.testing.assert_array_equal(mask, left | right)
    assert left.any() and right.any() and not mask[5:, 6:10].any()


def test_nothing_to_draw() -> None:
    assert not line_mask([], MATRIX, IMAGE, FEATURES).any()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31))
def test_segments_are_what_camera_rig_shows_of_them(seed: int) -> None:
    generator = np.random.default_rng(seed)
    segment = np.append(generator.uniform(-25, 25, (2, 2)), np.zeros((2, 1)), axis=1)
    samples = segment[0] + np.linspace(0, 1, 4001)[:, None] * (segment[1] - segment[0])
    pixels, _, visible = RIG.project(torch.from_numpy(samples))
    cells = np.floor((pixels[0, visible[0]].numpy() + 0.5) / 10).astype(int)
    mask = line_mask([segment], MATRIX, IMAGE, FEATURES)
    near = np.zeros((11, 18), bool)
    for row, column in marked(mask):
        near[row : row + 3, column : column + 3] = True
    assert near[cells[:, 1] + 1, cells[:, 0] + 1].all(), "every visible sample is on a marked cell or beside one"
    beside = np.zeros((11, 18), bool)
    for column, row in cells:
        beside[row : row + 3, column : column + 3] = True
    assert all(beside[row + 1, column + 1] for row, column in marked(mask)), "and no marked cell is elsewhere"
    np.testing.assert_array_equal(mask, line_mask([segment[::-1]], MATRIX, IMAGE, FEATURES))
    projected = project_segments(segment[None], MATRIX, IMAGE)
    assert len(projected) <= 1 and (len(projected) or not visible.any())
    assert (np.abs(projected - [79.5, 44.5]) <= [80 + 1e-6, 45 + 1e-6]).all()
    if visible[0, [0, -1]].all():
        np.testing.assert_allclose(projected[0], pixels[0, [0, -1]].numpy(), rtol=1e-9)


def test_the_nearest_point_of_each_cell() -> None:
    points = np.array(
        [
            [12.0, 0.05, 0.0, 9, 9],  # row 5.75, column (79.5 - 0.42 + 0.5) / 10 = 7.96
            [8.0, 0.05, 0.5, 9, 9],  # row (44.5 + 12.5 + 0.5) / 10, the same cell, nearer
            [20.0, -0.1, 0.0, 9, 9],  # row 5.25, column 8.05
            [0.5, 0.0, 1.5, 9, 9],  # on the car
            [34.0, 0.0, 1.5, 9, 9],  # row 4.5, column 8.0
            [33.0, 0.0, 1.5, 9, 9],
            [36.0, 5.0, 1.5, 9, 9],  # too far
            [-9.0, 0.0, 1.5, 9, 9],  # behind
            [10.0, 50.0, 1.5, 9, 9],  # beside the image
        ],
        dtype=np.float32,
    )
    depth = nearest_depth(points, MATRIX, IMAGE, FEATURES, (1.0, 35.0))
    assert depth.dtype == np.float32 and depth.shape == FEATURES
    found = {cell: float(depth[cell]) for cell in marked(~np.isnan(depth))}
    assert found == pytest.approx({(5, 7): 8.0, (5, 8): 20.0, (4, 8): 33.0})
    assert np.isnan(nearest_depth(points[:0], MATRIX, IMAGE, FEATURES, (1.0, 35.0))).all()


def test_depth_of_a_real_sweep_is_what_camera_rig_shows(real_frame_root: Path) -> None:
    dataset = NuScenesDataset(real_frame_root)
    observation = dataset.observation(dataset.tokens[0], images=False)
    assert observation.points is not None
    rig = observation.rig.resized((448, 798))
    pixels, depth, visible = rig.project(torch.from_numpy(observation.points[:, :3].astype(np.float64)))
    for camera, matrix in enumerate(rig.projection().numpy()):
        expected = np.full((32, 57), np.inf)
        shown = (visible[camera] & (depth[camera] >= 1) & (depth[camera] < 35)).numpy()
        for (u, v), metres in zip(pixels[camera].numpy()[shown], depth[camera].numpy()[shown], strict=True):
            cell = int((v + 0.5) / 14), int((u + 0.5) / 14)
            expected[cell] = min(expected[cell], metres)
        found = nearest_depth(observation.points, matrix, (448, 798), (32, 57), (1.0, 35.0))
        np.testing.assert_array_equal(np.isnan(found), np.isinf(expected))
        np.testing.assert_allclose(found[~np.isnan(found)], expected[np.isfinite(expected)], atol=1e-4)
        assert 200 < np.isfinite(found).sum() < 1500
