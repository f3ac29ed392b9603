from dataclasses import replace

import numpy as np
import pytest
import torch

from hdmap_core.errors import CalibrationError
from hdmap_core.geometry import CameraRig, se3

# A camera at 1.5 m height that looks straight ahead: its z is the car's x, its x the car's -y, its y the car's -z.
FORWARD = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=float)
K = np.array([[100.0, 0, 79.5], [0, 100.0, 44.5], [0, 0, 1]])


@pytest.fixture
def rig() -> CameraRig:
    ahead = se3.se3(FORWARD, [1.0, 0.0, 1.5])
    back = se3.se3(se3.rotation_from_euler(0, 0, np.pi), [0, 0, 0]) @ ahead
    return CameraRig.from_arrays(["front", "back"], [K, K], [ahead, back], (90, 160))


def test_known_points(rig: CameraRig) -> None:
    points = torch.tensor([[11.0, 0, 1.5], [11.0, 1.0, 1.5], [11.0, 0, 0.5], [-11.0, 0, 1.5]], dtype=torch.float64)
    pixels, depth, visible = rig.project(points)
    assert pixels.shape == (2, 4, 2)
    expected = [[79.5, 44.5], [69.5, 44.5], [79.5, 54.5]]  # left in the world is left in the image, low is low
    np.testing.assert_allclose(pixels[0, :3], expected)
    np.testing.assert_allclose(depth[0], [10, 10, 10, -12])
    assert visible[0].tolist() == [True, True, True, False]
    assert visible[1].tolist() == [False, False, False, True]


def test_image_borders_are_half_a_pixel_out(rig: CameraRig) -> None:
    left = (79.5 + 0.5) / 100 * 10
    points = torch.tensor([[11.0, left - 1e-3, 1.5], [11.0, left + 1e-3, 1.5]], dtype=torch.float64)
    assert rig.project(points)[2][0].tolist() == [True, False]


def test_batches_equal_single_rigs(rig: CameraRig) -> None:
    moved = replace(rig, ego_from_camera=rig.ego_from_camera + torch.eye(4, dtype=torch.float64) * 0)
    batch = replace(
        rig,
        intrinsics=torch.stack([rig.intrinsics, moved.intrinsics]),
        ego_from_camera=torch.stack([rig.ego_from_camera, moved.ego_from_camera]),
    )
    points = torch.randn(2, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 20
    pixels, depth, visible = batch.project(points)
    assert pixels.shape == (2, 2, 7, 2)
    for index in range(2):
        single = rig.project(points[index])
        torch.testing.assert_close(pixels[index], single[0])
        torch.testing.assert_close(depth[index], single[1])
        assert torch.equal(visible[index], single[2])


def test_poses_as_mounted_go_along(rig: CameraRig) -> None:
    """Chosen, resized, moved to another type and frame like the poses that have the car's motion in them."""
    moved = rig.ego_from_camera.numpy().copy()
    moved[:, 0, 3] += 0.5
    both = CameraRig.from_arrays(rig.names, rig.intrinsics.numpy(), moved, (90, 160), (), rig.ego_from_camera.numpy())
    assert torch.equal(both.as_mounted().projection(), rig.projection())
    changed = both.select(["back"]).resized((45, 80)).to(torch.float32)
    turn = torch.from_numpy(se3.se3(se3.rotation_from_euler(0, 0.1, 0), [0, 0, 1])).float()
    changed = changed.changed_poses(lambda poses: turn @ poses)
    assert changed.mounted is not None and changed.mounted.dtype == torch.float32
    torch.testing.assert_close(changed.mounted, (turn.double() @ rig.ego_from_camera[1:]).float())
    torch.testing.assert_close(changed.ego_from_camera, (turn.double() @ both.ego_from_camera[1:]).float())
    assert rig.as_mounted() is rig and rig.changed_poses(torch.clone).mounted is None
    with pytest.raises(CalibrationError, match="camera back: the extrinsics"):
        CameraRig.from_arrays(["front", "back"], [K, K], moved, (90, 160), (), [moved[0], np.zeros((4, 4))])


def test_resizing_keeps_pixel_edges(rig: CameraRig) -> None:
    points = torch.tensor([[11.0, 2.0, 0.3]], dtype=torch.float64)
    before = rig.project(points)[0][0, 0]
    half = rig.resized((45, 80))
    after = half.project(points)[0][0, 0]
    assert half.image_size == (45, 80)
    torch.testing.assert_close((after + 0.5) * 2, before + 0.5)
    torch.testing.assert_close(half.resized((90, 160)).intrinsics, rig.intrinsics)


def test_cameras_are_found_by_name(rig: CameraRig) -> None:
    turned = rig.select(["back", "front"])
    assert turned.names == ("back", "front")
    torch.testing.assert_close(turned.ego_from_camera[1], rig.ego_from_camera[0])
    assert rig.to(torch.float32).intrinsics.dtype == torch.float32
    with pytest.raises(CalibrationError, match="camera 'left' is not in this rig; it has front, back"):
        rig.select(["left"])


def test_gradients_flow_to_the_calibration(rig: CameraRig) -> None:
    points = torch.tensor([[11.0, 1.0, 0.3], [14.0, -2.0, 0.0]], dtype=torch.float64)
    front = rig.select(["front"])

    def pixels(intrinsics: torch.Tensor) -> torch.Tensor:
        return replace(front, intrinsics=intrinsics).project(points)[0]

    assert torch.autograd.gradcheck(pixels, (front.intrinsics.clone().requires_grad_(),))


@pytest.mark.parametrize(
    ("intrinsics", "pose", "message"),
    [
        (K * [[0], [1], [1]], np.eye(4), "focal lengths must be positive"),
        (K * np.nan, np.eye(4), "finite 3x3"),
        (K[:2], np.eye(4), "finite 3x3"),
        (K, np.diag([1.0, 1, 2, 1]), "not a rotation"),
        (K, np.diag([1.0, 1, -1, 1]), "not a rotation"),
        (K, np.full((4, 4), np.inf), "finite 4x4"),
    ],
)
def test_impossible_cameras_are_named(intrinsics: np.ndarray, pose: np.ndarray, message: str) -> None:
    with pytest.raises(CalibrationError, match=f"camera front: .*{message}"):
        CameraRig.from_arrays(["front"], [intrinsics], [pose], (90, 160))


def test_cameras_of_different_sizes() -> None:
    rig = CameraRig.from_arrays(["front", "back"], [K, K], [np.eye(4)] * 2, [(90, 160), (45, 80)])
    assert rig.image_size == rig.image_sizes == ((90, 160), (45, 80))
    assert rig.select(["back"]).image_size == (45, 80)
    assert rig.to(torch.float32).image_sizes == rig.image_sizes
    points = torch.tensor([[2.0, 0.5, 3.0]], dtype=torch.float64)  # right of the middle: only the larger image has it
    pixels, _, visible = rig.project(points)
    assert 80 < pixels[0, 0, 0] < 160 and visible.tolist() == [[True], [False]]
    common = rig.resized((180, 320))
    assert common.image_size == (180, 320)
    torch.testing.assert_close(common.intrinsics[0, 0, 0] * 2, common.intrinsics[1, 0, 0])
    assert CameraRig.from_arrays(["a", "b"], [K, K], [np.eye(4)] * 2, [(9, 16)] * 2).image_size == (9, 16)


def test_counts_that_do_not_fit() -> None:
    with pytest.raises(CalibrationError, match=r"2 cameras \(a, b\), 1 intrinsics and 2 extrinsics"):
        CameraRig.from_arrays(["a", "b"], [K], [np.eye(4)] * 2, (9, 16))
    with pytest.raises(CalibrationError, match="2 cameras, 3 image sizes"):
        CameraRig.from_arrays(["a", "b"], [K, K], [np.eye(4)] * 2, [(9, 16)] * 3)
    with pytest.raises(CalibrationError, match="camera 'a' is in the rig twice"):
        CameraRig.from_arrays(["a", "a"], [K, K], [np.eye(4)] * 2, (9, 16))
