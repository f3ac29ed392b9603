"""Colours and grid masks on the device: against pixel-by-pixel definitions; the loader around them."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch

from hdmap_core.config import parse_config
from hdmap_core.errors import ConfigError
from training.config import AugmentConfig, TrainConfig
from training.data.batches import Batch, TrainBatches, load_batches
from training.data.distortion import MEAN_COLOUR, Distortion, collate, distort, draw_distortion
from training.data.keyframes import Keyframe

NONE = AugmentConfig(mirror=0, turn=0, blind=0, colour=0)
ALL = NONE.model_copy(update={"photometric": 1.0, "grid_mask": 0.7})


def images(batch: int = 2, cameras: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (batch, cameras, 3, 20, 30), dtype=np.uint8))


def test_the_affine_map_is_applied_to_each_camera_on_its_own() -> None:
    pixels, random = images(), np.random.default_rng(1)
    colour = torch.from_numpy(random.normal(0, 1, (2, 3, 3, 3)).astype(np.float32))
    offset = torch.from_numpy(random.uniform(-60, 60, (2, 3, 3)).astype(np.float32))
    found = distort(pixels, Distortion(colour, offset))
    exact = (
        np.einsum("bnij,bnjhw->bnihw", colour.numpy(), pixels.numpy().astype(np.float64))
        + offset.numpy()[..., None, None]
    )
    assert np.abs(found.numpy() - np.clip(exact, 0, 255)).max() <= 0.51
    assert found.dtype == torch.uint8 and torch.equal(pixels, images())


def test_drawn_colours_are_what_the_papers_draw() -> None:
    """Grey stays grey, brightness and contrast stay within their ranges, and each step is drawn about half the time."""
    random = np.random.default_rng(0)
    drawn = [draw_distortion(NONE.model_copy(update={"photometric": 1.0}), 1, 20, random) for _ in range(2000)]
    colour = torch.cat([d.colour for d in drawn])[:, 0].numpy()
    offset = torch.cat([d.offset for d in drawn])[:, 0].numpy()
    np.testing.assert_allclose(colour.sum(-1), colour.sum(-1)[:, :1].repeat(3, 1), atol=1e-5)
    contrast = colour.sum(-1)[:, 0]
    assert contrast.min() >= 0.5 - 1e-5 and contrast.max() <= 1.5 + 1e-5
    assert 0.45 < (np.abs(contrast - 1) > 1e-5).mean() < 0.55
    assert np.abs(offset).max() <= 32 * 1.5 and np.ptp(offset, axis=1).max() < 1e-4
    assert 0.45 < (np.abs(offset[:, 0]) > 0).mean() < 0.55
    untouched = (np.abs(colour - np.eye(3)).max((1, 2)) < 1e-6) & (np.abs(offset).max(1) == 0)
    assert 0.01 < untouched.mean() < 0.08, "1/2 ** 5, and shuffles that change nothing"


@pytest.mark.parametrize("seed", range(6))
def test_the_grid_mask_against_its_definition(seed: int) -> None:
    """Bars of a share of the period stay, squares between them go; the same for all cameras of a frame."""
    distortion = draw_distortion(NONE.model_copy(update={"grid_mask": 1.0}), 3, 20, np.random.default_rng(seed))
    assert distortion is not None and distortion.grid is not None
    period, bar, row, column = distortion.grid[0].tolist()
    assert 2 <= period < 20 and 1 <= bar < period
    pixels = images(1)
    found = distort(pixels, distortion)[0].numpy()
    for y in range(20):
        for x in range(30):
            hidden = (y - row) % period >= bar and (x - column) % period >= bar
            expected = np.array(MEAN_COLOUR) if hidden else pixels[0, :, :, y, x].numpy()
            np.testing.assert_array_equal(found[:, :, y, x], np.broadcast_to(expected, (3, 3)))


def test_how_often_and_how_much_is_hidden() -> None:
    random = np.random.default_rng(0)
    drawn = [draw_distortion(NONE.model_copy(update={"grid_mask": 0.7}), 1, 480, random).grid[0] for _ in range(600)]
    on = [grid for grid in drawn if grid[0]]
    assert 0.64 < len(on) / 600 < 0.76
    black = torch.zeros(1, 1, 3, 480, 800, dtype=torch.uint8)
    shares = [float((distort(black, Distortion(grid=grid[None])) > 0).float().mean()) for grid in on[:40]]
    assert 0.2 < np.mean(shares) < 0.3


def test_missing_cameras_stay_black_and_frames_without_mask_whole() -> None:
    random = np.random.default_rng(0)
    pixels, present = images(), torch.tensor([[True, False, True], [True, True, True]])
    distortion = collate([draw_distortion(ALL, 3, 20, random), draw_distortion(ALL, 3, 20, random)])
    assert distortion is not None and distortion.grid is not None and distortion.grid.shape == (2, 4)
    assert not distort(pixels, distortion, present)[0, 1].any()
    no_mask = Distortion(grid=torch.tensor([[0, 1, 0, 0], [6, 3, 1, 2]]))
    found = distort(pixels, no_mask)
    assert torch.equal(found[0], pixels[0]) and not torch.equal(found[1], pixels[1])


def test_nothing_asked_nothing_drawn() -> None:
    random = np.random.default_rng(0)
    assert draw_distortion(NONE, 6, 480, random) is None and collate([None, None]) is None
    assert random.random() == np.random.default_rng(0).random(), "no number was used up"


def test_batches_carry_their_distortion_to_the_device(
    image_config: Callable[..., TrainConfig], image_keyframes: Callable[[TrainConfig], list[Keyframe]]
) -> None:
    plain, changed = (image_config(f"augment.photometric={on}", f"augment.grid_mask={on}") for on in (0, 1))
    frames = image_keyframes(plain)
    batch, distorted = (TrainBatches(frames, config, (16, 24))[3] for config in (plain, changed))
    assert batch.distortion is None and distorted.distortion is not None
    assert torch.equal(batch.inputs.images, distorted.inputs.images), "nothing is distorted before the device"
    before = distorted.inputs.images.clone()
    moved = distorted.to("cpu")
    assert moved.distortion is None and not torch.equal(moved.inputs.images, before)
    assert torch.equal(distorted.inputs.images, before)
    again = TrainBatches(frames, changed, (16, 24))[3].to("cpu")
    assert torch.equal(moved.inputs.images, again.inputs.images)
    missing = ~moved.inputs.camera_mask
    assert not moved.inputs.images[missing].any()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_loader_keeps_the_order(
    workers: int,
    tiny_config: Callable[..., TrainConfig],
    keyframes: Callable[[TrainConfig], list[Keyframe]],
) -> None:
    config = tiny_config()
    batches = TrainBatches(keyframes(config), config)
    loaded: list[Batch] = list(load_batches(batches, [3, 4, 5, 9], workers))
    for step, batch in zip([3, 4, 5, 9], loaded, strict=True):
        expected = batches[step]
        assert batch.tokens == expected.tokens
        assert torch.equal(batch.inputs.ground, expected.inputs.ground)
        assert torch.equal(batch.targets.masks, expected.targets.masks)


def test_workers_do_not_inherit_threads_of_opencv(
    tiny_config: Callable[..., TrainConfig], keyframes: Callable[[TrainConfig], list[Keyframe]]
) -> None:
    """What the first process of a run prepares leaves a pool of them behind; forked, it would hang."""
    cv2.setNumThreads(4)
    cv2.GaussianBlur(np.zeros((1000, 1000, 3), np.uint8), (9, 9), 3)
    config = tiny_config()
    loader = load_batches(TrainBatches(keyframes(config), config), [0], 2)
    assert cv2.getNumThreads() == 1, "or the next line would wait for ever"
    assert len(list(loader)) == 1


@pytest.mark.parametrize("name", ["zoom", "photometric", "grid_mask"])
def test_image_augmentation_is_refused_without_images(name: str) -> None:
    content = {"model": {"name": "x"}, "data": {"root": "x"}, "augment": {name: 0.5}}
    with pytest.raises(ConfigError, match=f"augment.{name} is for models of images"):
        parse_config(TrainConfig, content, "recipe")


@pytest.mark.parametrize("wrong", [{"zoom": 1.0}, {"grid_mask": 1.5}, {"rotate": -1}, {"shift": -0.1}, {"mirror": 2}])
def test_impossible_strengths_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=f"augment.{next(iter(wrong))}"):
        parse_config(TrainConfig, {"model": {"name": "x"}, "data": {"root": "x"}, "augment": wrong}, "recipe")
