from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from hdmap_core.errors import ImageError
from hdmap_core.geometry import BEVGrid, CameraRig, se3
from hdmap_core.geometry.ground_view import ground_view
from hdmap_core.images.decoding import enough_of, reduction_for
from hdmap_core.models import ModelConfig
from hdmap_core.models.backbones.image_backbone import ImageBackbone, ImageBackboneConfig
from hdmap_core.models.view_transforms.bevformer import BEVFormerConfig
from hdmap_core.observation import Observation
from hdmap_core.preprocess import ImageFit, enough_pixels, ground_grid, ground_pixels, image_inputs, preprocess

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


# --- image_inputs: what a model with a backbone gets ---
NAMES = ("RIGHT", "FRONT", "BACK", "LEFT")  # not in the order of their names
YAW = {"FRONT": 0.0, "LEFT": 90.0, "BACK": 180.0, "RIGHT": 270.0}


def surround(names: tuple[str, ...] = NAMES, missing: tuple[str, ...] = ()) -> Observation:
    """Cameras that look around; each has its own noise, focal length and place, whatever the order they come in."""
    images, intrinsics, poses = [], [], []
    for name in names:
        number = sorted(NAMES).index(name)
        yaw = np.radians(YAW[name])
        forward, left = np.array([np.cos(yaw), np.sin(yaw), 0]), np.array([-np.sin(yaw), np.cos(yaw), 0])
        rotation = np.stack([-left, [0.0, 0.0, -1.0], forward], axis=1)  # camera's x, y and z in the ego frame
        poses.append(se3.se3(rotation, 0.5 * forward + [0, 0, 1.5 + 0.1 * number]))
        intrinsics.append(np.array([[60.0 + number, 0, 49.5], [0, 62.0 + number, 24.0], [0, 0, 1]]))
        noise = np.random.default_rng(number).integers(1, 256, (*SIZE, 3), dtype=np.uint8)
        images.append(None if name in missing else noise)
    rig = CameraRig.from_arrays(names, intrinsics, poses, SIZE)
    return Observation(tuple(images), rig, stamp_ns=0, token="a")


@pytest.mark.parametrize("size", [(60, 100), (30, 50), (36, 70), (120, 100)])
def test_images_have_the_size_and_type_that_was_asked_for(size: tuple[int, int]) -> None:
    batch = image_inputs(surround(), size)
    assert batch.images is not None and batch.projection is not None and batch.camera_mask is not None
    assert batch.images.shape == (1, 4, 3, *size) and batch.images.dtype == torch.uint8
    assert batch.projection.shape == (1, 4, 3, 4) and batch.projection.dtype == torch.float32
    assert batch.camera_mask.tolist() == [[True] * 4]
    assert batch.ground is None


def test_channels_stay_red_green_blue() -> None:
    batch = image_inputs(observation(np.full((*SIZE, 3), (200, 120, 40), np.uint8)), (30, 50))
    assert batch.images is not None
    assert batch.images[0, 0].flatten(1).unique(dim=1).flatten().tolist() == [200, 120, 40]


def test_the_same_size_changes_no_pixel() -> None:
    seen = surround(("FRONT",))
    batch = image_inputs(seen, SIZE)
    assert batch.images is not None and seen.images[0] is not None
    np.testing.assert_array_equal(batch.images[0, 0].numpy().transpose(1, 2, 0), seen.images[0])


@pytest.mark.parametrize("size", [(60, 100), (30, 50), (36, 70), (120, 200)])
def test_projection_is_that_of_the_resized_rig(size: tuple[int, int]) -> None:
    seen = surround()
    batch = image_inputs(seen, size)
    assert batch.projection is not None
    points = torch.from_numpy(np.random.default_rng(0).uniform([-9, -9, -1], [9, 9, 3], (200, 3)))
    order = sorted(NAMES)
    pixels, depth, visible = seen.rig.select(order).resized(size).project(points)
    assert visible.any(dim=1).all(), "every camera sees some"
    matrix = batch.projection[0].double()
    homogeneous = points @ matrix[:, :, :3].transpose(1, 2) + matrix[:, None, :, 3]
    torch.testing.assert_close(homogeneous[..., 2], depth, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        (homogeneous[..., :2] / homogeneous[..., 2:])[visible], pixels[visible], rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("size", [(30, 50), (20, 80), (45, 75)])
def test_a_place_has_the_same_colour_before_and_after(size: tuple[int, int]) -> None:
    """Half a pixel of shift between image and projection would be 1 here, several times what is allowed."""
    rows, columns = np.indices(SIZE)
    picture = np.stack([2 * columns, 4 * rows, columns + rows], axis=-1).astype(np.uint8)
    seen = observation(picture)
    batch = image_inputs(seen, size)
    assert batch.images is not None and batch.projection is not None
    points = torch.from_numpy(np.random.default_rng(0).uniform([3, -4, 0], [12, 4, 2], (400, 3)))
    (before,), _, (visible,) = seen.rig.project(points)
    homogeneous = points @ batch.projection[0, 0, :, :3].double().T + batch.projection[0, 0, :, 3].double()
    after = homogeneous[:, :2] / homogeneous[:, 2:]
    inside = visible & ((after > 1) & (after < torch.tensor(size[::-1]) - 2)).all(dim=1)
    assert inside.sum() > 100
    u, v = before[inside].T
    scale = 2 * (after[inside] + 0.5) / torch.tensor(size[::-1]) - 1  # grid_sample's corners are the image's edges
    read = torch.nn.functional.grid_sample(
        batch.images[:, 0].double(), scale[None, None], mode="bilinear", align_corners=False
    )[0, :, 0]
    for channel, expected in enumerate([2 * u, 4 * v, u + v]):
        difference = read[channel] - expected
        assert difference.abs().mean() < 0.5 and difference.mean().abs() < 0.15


def test_cameras_are_sorted_by_name_whatever_order_the_rig_has() -> None:
    batches = [image_inputs(surround(names), (30, 50)) for names in (NAMES, NAMES[::-1], tuple(sorted(NAMES)))]
    for batch in batches[1:]:
        for name in ("images", "projection", "camera_mask"):
            assert torch.equal(getattr(batch, name), getattr(batches[0], name))
    alone = image_inputs(surround(("BACK",)), (30, 50))
    assert batches[0].images is not None and alone.images is not None and batches[0].projection is not None
    assert torch.equal(batches[0].images[:, :1], alone.images), "BACK comes first"
    assert not torch.equal(batches[0].projection[:, :1], batches[0].projection[:, 1:2])


def test_a_config_may_name_cameras_and_their_order() -> None:
    wanted = ("LEFT", "TOP", "FRONT")
    batch, every = image_inputs(surround(), (30, 50), wanted), image_inputs(surround(), (30, 50))
    assert batch.camera_mask is not None and batch.camera_mask.tolist() == [[True, False, True]]
    assert batch.images is not None and batch.projection is not None
    assert every.images is not None and every.projection is not None
    assert not batch.images[0, 1].any() and torch.isfinite(batch.projection).all()
    for index, name in ((0, "LEFT"), (2, "FRONT")):
        place = sorted(NAMES).index(name)
        assert torch.equal(batch.images[0, index], every.images[0, place])
        assert torch.equal(batch.projection[0, index], every.projection[0, place])


def test_preprocess_asks_the_backbone_for_size_and_cameras() -> None:
    backbone = ImageBackboneConfig(model="resnet18.tv_in1k", image_size=(32, 64), cameras=("LEFT", "BACK"))
    config = ModelConfig(name="x", grid=GRID, backbone=backbone, view_transform=BEVFormerConfig())
    batch, expected = preprocess(surround(), config), image_inputs(surround(), (32, 64), ("LEFT", "BACK"))
    assert batch.ground is None and batch.images is not None and expected.images is not None
    assert batch.images.shape == (1, 2, 3, 32, 64) and torch.equal(batch.images, expected.images)


def test_a_camera_without_image_is_black_and_masked_and_keeps_its_projection() -> None:
    batch, whole = image_inputs(surround(missing=("FRONT",)), (30, 50)), image_inputs(surround(), (30, 50))
    assert batch.camera_mask is not None and batch.camera_mask.tolist() == [[True, False, True, True]]
    assert batch.images is not None and whole.images is not None
    assert not batch.images[0, 1].any()
    assert torch.equal(batch.images[0, [0, 2, 3]], whole.images[0, [0, 2, 3]])
    assert batch.projection is not None and whole.projection is not None
    assert torch.equal(batch.projection, whole.projection)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((60, 99, 3), np.uint8),
        np.zeros((100, 60, 3), np.uint8),
        np.zeros((60, 100), np.uint8),
        np.zeros((60, 100, 4), np.uint8),
        np.zeros((60, 100, 3), np.float32),
    ],
    ids=lambda image: f"{image.dtype}{image.shape}",
)
def test_an_image_that_its_calibration_is_not_for_is_named(wrong: np.ndarray) -> None:
    seen = surround()
    images = tuple(wrong if name == "BACK" else image for name, image in zip(NAMES, seen.images, strict=True))
    with pytest.raises(ImageError, match=r"camera BACK: .*calibration is for uint8 of \(60, 100, 3\)"):
        image_inputs(replace(seen, images=images), (30, 50))


def test_images_are_read_only_read_and_may_be_views() -> None:
    seen = surround()
    before = [image.copy() for image in seen.images if image is not None]
    for image in seen.images:
        assert image is not None
        image.flags.writeable = False
    expected = image_inputs(seen, SIZE)
    for image, copy in zip(seen.images, before, strict=True):
        np.testing.assert_array_equal(image, copy)
    mirrored = replace(seen, images=tuple(np.ascontiguousarray(image[..., ::-1])[..., ::-1] for image in before))
    views = image_inputs(mirrored, SIZE)
    assert views.images is not None and expected.images is not None
    assert torch.equal(views.images, expected.images)


# --- cameras of different sizes ---
def test_each_camera_has_its_own_size() -> None:
    """A smaller camera gives what the same picture, enlarged with its calibration, gives."""
    seen = surround()
    small = [(30, 50), SIZE, SIZE, (20, 40)][: seen.rig.num_cameras]
    sizes = [*small, *([SIZE] * (seen.rig.num_cameras - len(small)))]
    images = tuple(np.full((*size, 3), 40 + 30 * index, np.uint8) for index, size in enumerate(sizes))
    mixed = replace(seen, images=images, rig=seen.rig.resized(sizes))
    assert mixed.rig.image_sizes == tuple(sizes)
    large = replace(seen, images=tuple(np.full((*SIZE, 3), 40 + 30 * i, np.uint8) for i in range(len(sizes))))
    ours, theirs = image_inputs(mixed, (32, 64)), image_inputs(large, (32, 64))
    torch.testing.assert_close(ours.projection, theirs.projection)
    torch.testing.assert_close(ours.images, theirs.images)
    ground, expected = ground_pixels(mixed, GRID), ground_pixels(large, GRID)
    assert (ground[3] == expected[3]).mean() > 0.97, "the same ground is seen"
    both = (ground[3] > 0) & (expected[3] > 0)
    assert (abs(ground[0].astype(int) - expected[0])[both] <= 2).mean() > 0.9, "in the same colours"


@pytest.mark.parametrize(
    ("stored", "focal", "reduction"),
    [
        pytest.param((900, 1600), 1252.8, 2, id="nuScenes"),
        pytest.param((900, 1600), 796.9, 1, id="nuScenes, the wide one at the back"),
        pytest.param((450, 800), 633.0, 1, id="half of nuScenes"),
        pytest.param((1550, 2048), 1683.0, 2, id="Argoverse"),
        pytest.param((1200, 1920), 1371.0, 2, id="70 degrees"),
        pytest.param((1200, 1920), 580.0, 1, id="fisheye"),
        pytest.param((2160, 3840), 2742.0, 4, id="4K, 70 degrees"),
        pytest.param((720, 1280), 914.0, 1, id="720p, 70 degrees"),
    ],
)
def test_the_ground_needs_so_many_pixels_per_degree_and_no_more(
    stored: tuple[int, int], focal: float, reduction: int
) -> None:
    enough = enough_pixels(ModelConfig(name="x"))
    assert enough is not None and reduction_for(stored, enough_of(enough, stored, focal)) == reduction


def test_what_a_backbone_sees_is_left_whole() -> None:
    backbone = ImageBackboneConfig(image_size=(64, 96))
    assert enough_pixels(ModelConfig(name="x", backbone=backbone, view_transform=BEVFormerConfig())) is None


# --- images as published code makes them ---


def test_pictures_fill_the_upper_left_alone_and_projections_know_it() -> None:
    seen = surround()
    batch = image_inputs(seen, (64, 50), fit=ImageFit(filled_size=(30, 50)))
    plain = image_inputs(seen, (30, 50))
    assert batch.images is not None and plain.images is not None
    assert batch.images.shape == (1, 4, 3, 64, 50) and not batch.images[..., 30:, :].any()
    assert torch.equal(batch.images[..., :30, :], plain.images)
    torch.testing.assert_close(batch.projection, plain.projection)


def test_bicubic_is_pillows() -> None:
    seen = surround(("FRONT",))
    batch = image_inputs(seen, (32, 44), fit=ImageFit(resampling="bicubic"))
    assert batch.images is not None and seen.images[0] is not None
    wanted = Image.fromarray(seen.images[0]).resize((44, 32))  # whose default it is
    np.testing.assert_array_equal(batch.images[0, 0].permute(1, 2, 0).numpy(), np.asarray(wanted))


def test_scaling_by_the_origin_multiplies_pixels() -> None:
    seen = surround()
    batch = image_inputs(seen, (30, 50), fit=ImageFit(scaling="origin"))
    order = seen.rig.select(sorted(NAMES))
    scale = torch.tensor([[0.5, 0, 0], [0, 0.5, 0], [0, 0, 1]]).double()
    assert batch.projection is not None
    torch.testing.assert_close(batch.projection[0], (scale @ order.projection()).float())


def test_poses_as_mounted_know_nothing_of_the_cars_motion() -> None:
    seen = surround()
    forward = torch.eye(4).double()
    forward[0, 3] = 0.4
    moving = replace(
        seen,
        rig=replace(seen.rig, ego_from_camera=forward @ seen.rig.ego_from_camera, mounted=seen.rig.ego_from_camera),
    )
    wanted, mounted = image_inputs(seen, SIZE).projection, ImageFit(poses="mounted")
    found = image_inputs(moving, SIZE).projection
    assert wanted is not None and found is not None
    assert (found - wanted).abs().max() > 1
    for observation in (moving, seen):  # one whose car stood still
        found = image_inputs(observation, SIZE, fit=mounted).projection
        assert found is not None and torch.equal(found, wanted)
    by_origin = image_inputs(moving, (30, 50), fit=ImageFit(scaling="origin", poses="mounted")).projection
    still = image_inputs(seen, (30, 50), fit=ImageFit(scaling="origin")).projection
    assert by_origin is not None and still is not None and torch.equal(by_origin, still)
    config = ImageBackboneConfig(image_size=SIZE, poses="mounted", filled_size=(30, 50), resampling="bicubic")
    assert ImageFit.of(config) == ImageFit((30, 50), "bicubic", "edges", "mounted")


def test_what_is_not_filled_is_zero_behind_the_normalisation() -> None:
    config = ImageBackboneConfig(model="resnet18.tv_in1k", image_size=(64, 64), filled_size=(40, 64))
    backbone = ImageBackbone(config).eval()
    seen: list[torch.Tensor] = []
    backbone.trunk.conv1.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    images = torch.randint(0, 255, (1, 1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        backbone(images)
    assert not seen[0][..., 40:, :].any()
    wanted = (images[0].float() - backbone.mean) / backbone.std
    torch.testing.assert_close(seen[0][..., :40, :], wanted[..., :40, :])
    with pytest.raises(ValueError, match="larger than image_size"):
        ImageBackboneConfig(image_size=(64, 64), filled_size=(64, 96))
