import numpy as np
import torch

from hdmap_core.geometry import BEVGrid, CameraRig, se3
from hdmap_core.geometry.ground_view import ground_view
from hdmap_core.models import ModelConfig
from hdmap_core.observation import Observation
from hdmap_core.preprocess import ground_grid, ground_pixels, preprocess

GRID = BEVGrid((-12.0, 12.0), (-6.0, 6.0), 0.6)
SIZE = (60, 100)


def observation(image: np.ndarray | None) -> Observation:
    pose = se3.se3(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), [1.0, 0.0, 1.5])
    rig = CameraRig.from_arrays(["FRONT"], [np.array([[60.0, 0, 49.5], [0, 60, 20], [0, 0, 1]])], [pose], SIZE)
    return Observation((image,), rig, stamp_ns=0, token="a")


def test_ground_grid_halves_the_cells_of_the_same_region() -> None:
    fine = ground_grid(GRID)
    assert (fine.x_range, fine.y_range, fine.resolution) == (GRID.x_range, GRID.y_range, 0.3)
    assert fine.shape == (40, 80)


def test_channels_first_and_batched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    seen = observation(image)
    pixels = ground_pixels(seen, GRID)
    assert pixels.shape == (4, 40, 80) and pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels.transpose(1, 2, 0), ground_view([image], seen.rig, ground_grid(GRID)))
    batch = preprocess(seen, ModelConfig(name="x", grid=GRID))
    assert batch.ground is not None and batch.ground.dtype == torch.uint8
    np.testing.assert_array_equal(batch.ground.numpy(), pixels[None])


def test_what_lies_ahead_fills_high_columns() -> None:
    pixels = ground_pixels(observation(np.full((*SIZE, 3), 90, np.uint8)), GRID)
    assert pixels[3, 18:22, 70:].all() and not pixels[3, :, :40].any()
    assert (pixels[0][pixels[3] == 255] == 90).all()


def test_no_image_is_all_zero() -> None:
    assert not ground_pixels(observation(None), GRID).any()
