"""A ground whose colour is a linear function of the place is painted into images exactly; it must come back."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_core.errors import ImageError
from hdmap_core.geometry import BEVGrid, CameraRig, se3
from hdmap_core.geometry.ground_relief import GroundRelief
from hdmap_core.geometry.ground_view import _camera_weight, _warp, ground_view
from hdmap_core.geometry.lens import Lens, lens_of

GRID = BEVGrid((-15.0, 15.0), (-9.0, 9.0), 0.3)
SIZE = (180, 320)
YAW = {"FRONT": 0.0, "LEFT": 1.2, "RIGHT": -1.2, "BACK_LEFT": 2.2, "BACK_RIGHT": -2.2, "BACK": np.pi}
CAMERA_AXES = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # columns: camera x, y, z in a level ego frame


def make_rig(
    names: tuple[str, ...] = tuple(YAW),
    height: float = 1.5,
    pitch: float = 0.12,
    roll: float = 0.0,
    focal: float = 190.0,
    lens: Lens | None = None,
) -> CameraRig:
    intrinsics = np.array([[focal, 0, SIZE[1] / 2 - 0.5], [0, focal, SIZE[0] / 2 - 20.5], [0, 0, 1]])
    poses = [
        se3.se3(
            se3.rotation_from_euler(roll, pitch, YAW[name]) @ CAMERA_AXES,
            [1.0 + 0.6 * np.cos(YAW[name]), 0.5 * np.sin(YAW[name]), height],
        )
        for name in names
    ]
    return CameraRig.from_arrays(names, [intrinsics] * len(names), poses, SIZE, [lens] * len(names))


def colour(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(..., 3) in 0..255, linear in the place, so that no interpolation bends it; blue tells the quarters apart."""
    return np.stack([128 + 5 * x, 128 + 8 * y, 90 + 40 * (x > 0) + 80 * (y > 0)], axis=-1).clip(0, 255)


def paint(rig: CameraRig) -> list[np.ndarray]:
    """What each camera sees of the plane z = 0; black above the horizon."""
    rows, columns = np.indices(rig.image_size)
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    images = []
    cameras = zip(rig.intrinsics.numpy(), rig.ego_from_camera.numpy(), rig.lens_of_each, strict=True)
    for intrinsics, pose, lens in cameras:
        ray = pixels @ np.linalg.inv(intrinsics).T
        if lens is not None:
            ray, seen = lens.unproject(ray[..., :2])
            ray[~seen] = -pose[2, :3]  # up
        ray = ray @ pose[:3, :3].T
        down = np.minimum(ray[..., 2], -1e-9)
        place = pose[:2, 3] + ray[..., :2] * (-pose[2, 3] / down)[..., None]
        image = np.where(ray[..., 2:] < -1e-6, colour(place[..., 0], place[..., 1]), 0.0)
        images.append((image + 0.5).astype(np.uint8))
    return images


def expected() -> np.ndarray:
    centres = GRID.cell_centres().numpy()
    return colour(centres[..., 0], centres[..., 1])


def away_from_axes() -> np.ndarray:
    """Where the steps of blue do not mix within one cell."""
    centres = GRID.cell_centres().numpy()
    return (np.abs(centres) > 0.7).all(axis=-1)


@settings(max_examples=12, deadline=None)
@given(
    height=st.floats(1.4, 2.0), pitch=st.floats(0.05, 0.25), roll=st.floats(-0.05, 0.05), focal=st.floats(150.0, 230.0)
)
def test_ground_comes_back_at_its_place(height: float, pitch: float, roll: float, focal: float) -> None:
    rig = make_rig(height=height, pitch=pitch, roll=roll, focal=focal)
    view = ground_view(paint(rig), rig, GRID)
    assert view.shape == (*GRID.shape, 4) and view.dtype == np.uint8
    # Half a coarse weight cell beyond the image's border is smeared from it: leave the rim of what is seen out.
    seen = inner(view[..., 3] == 255)
    assert seen.mean() > 0.5
    error = np.abs(view[..., :3] - expected())
    metres = error[..., :2][seen] / np.array([5.0, 8.0])
    assert np.median(metres) <= 0.1
    assert np.quantile(metres, 0.995) <= GRID.resolution
    # Where two cameras barely meet, the pixels at their borders are stretched over the seam: up to one coarse cell.
    assert metres.max() <= 4 * GRID.resolution + 0.1
    assert error[..., 2][seen & away_from_axes()].max() <= 20, "blue: the right quarter"


LENSES = {
    "plumb_bob": lens_of("plumb_bob", [-0.3, 0.1, 0.001, -0.001, -0.01]),
    "pincushion": lens_of("plumb_bob", [0.3, 0.05, 0.0, 0.0]),
    "rational_polynomial": lens_of("rational_polynomial", [8.2, 5.1, 0.0003, -0.0002, 0.25, 8.5, 7.6, 1.3]),
    "thin_prism": lens_of("thin_prism", [-0.2, 0.05, 0.001, 0.001, 0.0, 0.0, 0.0, 0.0, 0.01, -0.005, 0.008, 0.003]),
    "equidistant": lens_of("equidistant", [0.05, -0.01, 0.002, 0.0]),
    "ideal equidistant": lens_of("equidistant", []),
}


@pytest.mark.parametrize("name", LENSES)
@pytest.mark.parametrize("focal", [190.0, 100.0])
def test_ground_behind_a_lens_comes_back_at_its_place(name: str, focal: float) -> None:
    """Half the focal length is twice the width: a fisheye of 180 degrees then."""
    rig = make_rig(focal=focal, lens=LENSES[name])
    images = paint(rig)
    view = ground_view(images, rig, GRID)
    # Under the car the lower rims of the images are smeared.
    seen = inner(view[..., 3] == 255) & (np.hypot(*(GRID.cell_centres().numpy() - [1.0, 0.0]).T).T > 2.5)
    assert seen.mean() > 0.5
    error = np.abs(view[..., :3] - expected())
    metres = error[..., :2][seen] / np.array([5.0, 8.0])
    assert np.median(metres) <= 0.1
    assert np.quantile(metres, 0.995) <= GRID.resolution * 210 / focal
    # As if it were not there: nothing lies where it should.
    ignored = np.abs(ground_view(images, replace(rig, lenses=()), GRID)[..., :3] - expected())
    assert np.quantile(ignored[..., :2][seen] / np.array([5.0, 8.0]), 0.9) > 1.5 * np.quantile(metres, 0.9)


def test_a_lens_that_does_nothing_changes_nothing() -> None:
    rig = make_rig(lens=Lens("polynomial", (0.0, 0.0, 0.0, 0.0)))
    images = paint(rig)
    found, plain = (ground_view(images, each, GRID).astype(int) for each in (rig, replace(rig, lenses=())))
    both = (found[..., 3] == 255) & (plain[..., 3] == 255)
    assert (found[..., 3] == plain[..., 3]).mean() > 0.999
    assert np.abs(found - plain)[both].mean() < 0.1


def test_what_lies_beyond_a_fold_is_not_seen() -> None:
    """A lens that turns round 34 degrees off its axis: the ground farther to the side would appear in the picture."""
    lens = Lens("polynomial", (-0.75, 0.0, 0.0, 0.0))
    rig = make_rig(("FRONT",), lens=lens)
    assert np.rad2deg(lens.reach_rad) == pytest.approx(33.7, abs=0.1)
    view = ground_view([np.full((*SIZE, 3), 200, np.uint8)], rig, GRID)
    centres = GRID.cell_centres().numpy()
    points = np.pad(centres, ((0, 0), (0, 0), (0, 1))).reshape(-1, 3)
    pixels, depth, visible = rig.project(torch.from_numpy(points).double())
    beyond = (depth[0] < 0).numpy().reshape(GRID.shape)
    assert not view[..., 3][inner(beyond)].any()
    assert not (visible[0].numpy() & (depth[0] < 0).numpy()).any()
    assert view[..., 3].any() and torch.isfinite(pixels).all()


def inner(seen: np.ndarray, cells: int = 5) -> np.ndarray:
    padded = np.pad(seen, cells, constant_values=True)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * cells + 1, 2 * cells + 1))
    return windows.all(axis=(-1, -2))


def test_fine_pattern_lands_on_the_right_cell() -> None:
    """A bright square of 0.9 m on dark ground: its centroid comes back to a few centimetres."""
    rig = make_rig()
    target = np.array([6.15, -2.85])
    rows, columns = np.indices(SIZE)
    pixels = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    images = []
    for intrinsics, pose in zip(rig.intrinsics.numpy(), rig.ego_from_camera.numpy(), strict=True):
        ray = pixels @ np.linalg.inv(intrinsics).T @ pose[:3, :3].T
        place = pose[:2, 3] + ray[..., :2] * (-pose[2, 3] / np.minimum(ray[..., 2], -1e-9))[..., None]
        inside = (np.abs(place - target) < 0.45).all(axis=-1) & (ray[..., 2] < -1e-6)
        images.append(np.where(inside[..., None], np.uint8(255), np.uint8(0)).repeat(3, axis=-1))
    view = ground_view(images, rig, BEVGrid(GRID.x_range, GRID.y_range, 0.1))
    weight = view[..., 0].astype(np.float64)
    centres = BEVGrid(GRID.x_range, GRID.y_range, 0.1).cell_centres().numpy()
    centroid = (centres * weight[..., None]).sum(axis=(0, 1)) / weight.sum()
    np.testing.assert_allclose(centroid, target, atol=0.06)
    assert (weight > 128).sum() * 0.01 == pytest.approx(0.81, rel=0.2)


def test_missing_camera_is_unseen_and_leaves_overlaps_to_the_others() -> None:
    rig = make_rig()
    images = paint(rig)
    everything = ground_view(images, rig, GRID)
    without: list[np.ndarray | None] = list(images)
    without[0] = None
    view = ground_view(without, rig, GRID)
    centres = GRID.cell_centres().numpy()
    ahead = (centres[..., 0] > 6) & (np.abs(centres[..., 1]) < 1)
    assert (everything[ahead][:, 3] == 255).all()
    assert (view[ahead] == 0).all(), "colour and mask of an unseen place are zero"
    both = inner(view[..., 3] == 255)
    assert np.abs(view[both].astype(int) - everything[both])[:, :2].max() <= 6
    assert ((view[..., 3] == 255) <= (everything[..., 3] == 255)).all()


def test_as_if_the_missing_camera_were_not_in_the_rig() -> None:
    rig = make_rig()
    images = paint(rig)
    kept = tuple(YAW)[1:]
    np.testing.assert_array_equal(
        ground_view([None, *images[1:]], rig, GRID), ground_view(images[1:], rig.select(kept), GRID)
    )


def test_no_image_at_all() -> None:
    view = ground_view([None] * 6, make_rig(), GRID)
    assert view.shape == (*GRID.shape, 4) and not view.any()


def test_order_of_cameras_does_not_matter() -> None:
    rig = make_rig()
    images = paint(rig)
    names = tuple(reversed(YAW))
    turned = ground_view(images[::-1], rig.select(names), GRID)
    np.testing.assert_allclose(turned.astype(int), ground_view(images, rig, GRID), atol=1)


def test_images_are_left_as_they_were() -> None:
    rig = make_rig()
    images = paint(rig)
    copies = [image.copy() for image in images]
    ground_view(images, rig, GRID)
    for image, copy in zip(images, copies, strict=True):
        np.testing.assert_array_equal(image, copy)


def test_every_frame_may_have_its_own_rig() -> None:
    """The same world seen by a rig that moved 1 m forward comes back 1 m further back."""
    still, moved = make_rig(), make_rig()
    poses = moved.ego_from_camera.clone()
    poses[:, 0, 3] += 1.2
    moved = CameraRig(moved.names, moved.intrinsics, poses, moved.image_size)
    images = paint(still)
    a, b = ground_view(images, still, GRID), ground_view(images, moved, GRID)
    both = inner((a[:, :-4, 3] == 255) & (b[:, 4:, 3] == 255))
    assert both.mean() > 0.4
    np.testing.assert_allclose(b[:, 4:, :2][both].astype(int), a[:, :-4, :2][both], atol=4)


def test_a_camera_that_looks_up_sees_nothing() -> None:
    rig = make_rig(("FRONT",), pitch=-1.0)
    assert not ground_view([np.full((*SIZE, 3), 200, np.uint8)], rig, GRID).any()


def test_grid_that_is_no_multiple_of_the_coarse_cells() -> None:
    grid = BEVGrid((-14.7, 15.0), (-9.0, 8.7), 0.3)
    rig = make_rig()
    view = ground_view(paint(rig), rig, grid)
    assert view.shape == (59, 99, 4)
    whole = ground_view(paint(rig), rig, GRID)[:59, 1:]
    both = inner((view[..., 3] == 255) & (whole[..., 3] == 255))
    assert np.abs(view[both].astype(int) - whole[both])[:, :2].max() <= 6


@pytest.mark.parametrize("image", [np.zeros((90, 160, 3), np.uint8), np.zeros((*SIZE, 3), np.float32)])
def test_an_image_that_does_not_fit_the_calibration_is_refused(image: np.ndarray) -> None:
    rig = make_rig()
    with pytest.raises(ImageError, match="camera LEFT: the image is"):
        ground_view([None, image, None, None, None, None], rig, GRID)


def test_float32_rig_works_as_well() -> None:
    rig = make_rig()
    images = paint(rig)
    view = ground_view(images, rig.to(torch.float32), GRID)
    np.testing.assert_allclose(view.astype(int), ground_view(images, rig, GRID), atol=3)


def test_threads_change_nothing_and_neither_does_opencv() -> None:
    """As the sum written down in NumPy, but for the rounding after each of the cameras that overlap."""
    rig = make_rig()
    images = paint(rig)
    total, weights = np.zeros((*GRID.shape, 3), np.float32), np.zeros(GRID.shape, np.float32)
    for image, matrix in zip(images, rig.projection().double().numpy()[:, :, [0, 1, 3]], strict=True):
        weight, *window = _camera_weight(matrix, SIZE, GRID)
        assert weight is not None
        total[tuple(window)] += _warp(image, matrix, GRID, *window) * weight[..., None]
        weights[tuple(window)] += weight
    colours = (total / np.maximum(weights, 1e-3)[..., None] + 0.5).astype(np.uint8)
    view = ground_view(images, rig, GRID)
    seen = weights > 1e-3
    np.testing.assert_allclose(view[seen, :3].astype(int), colours[seen], atol=3)
    assert (view[seen, :3] == colours[seen]).mean() > 0.9
    np.testing.assert_array_equal(view[..., 3], np.where(seen, 255, 0))
    with ThreadPoolExecutor(3) as pool:
        np.testing.assert_array_equal(ground_view(images, rig, GRID, pool), view)


@pytest.mark.parametrize(
    "lens", [None, lens_of("plumb_bob", [-0.2, 0.05, 0.001, -0.001, 0.0])], ids=["pinhole", "lens"]
)
def test_ground_that_is_higher_is_seen_as_by_cameras_that_are_lower(lens: Lens | None) -> None:
    rig = make_rig(lens=lens)
    images = paint(rig)
    lift = torch.eye(4, dtype=torch.float64)
    lift[2, 3] = -0.3
    lower = rig.changed_poses(lambda poses: lift @ poses)
    relief = GroundRelief(np.full((13, 25), 0.3, np.float32))
    found, wanted = ground_view(images, rig, GRID, relief=relief), ground_view(images, lower, GRID)
    near = away_from_axes() & (np.abs(GRID.cell_centres().numpy()).max(axis=-1) > 3.0)
    assert np.array_equal(found[..., 3], wanted[..., 3])
    assert np.abs(found[near].astype(int) - wanted[near]).mean() < 0.5
    assert np.abs(ground_view(images, rig, GRID)[near].astype(int) - wanted[near]).mean() > 3


def test_a_relief_that_is_a_plane_is_that_plane() -> None:
    """A slope of 3 % ahead, of which the colours are those of level ground under cameras that nod."""
    rig, slope = make_rig(roll=0.01), 0.03
    images = paint(rig)
    turn = se3.se3(se3.rotation_from_euler(0.0, np.arctan(slope), 0.0), np.zeros(3))
    nodding = rig.changed_poses(lambda poses: torch.from_numpy(turn) @ poses)
    x = np.arange(-36.0, 36.1, 3.0, dtype=np.float32)
    found = ground_view(images, rig, GRID, relief=GroundRelief(np.tile(slope * x, (13, 1))))
    wanted, place = ground_view(images, nodding, GRID), GRID.cell_centres().numpy()
    clear = away_from_axes() & (np.abs(place).max(axis=-1) > 3.0) & (found[..., 3] > 0) & (wanted[..., 3] > 0)
    assert np.abs(found[clear].astype(int) - wanted[clear]).mean() < 1.0
    assert np.abs(ground_view(images, rig, GRID)[clear].astype(int) - wanted[clear]).mean() > 3
