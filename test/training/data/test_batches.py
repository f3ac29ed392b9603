from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import ImageError
from hdmap_core.models import build_model
from training.config import TrainConfig
from training.data.auxiliary_targets import AuxiliaryTargets
from training.data.batches import Batch, TrainBatches, make_batch
from training.data.keyframes import Keyframe
from training.objectives import supervised

Load = Callable[..., TrainConfig]
Make = Callable[[TrainConfig], list[Keyframe]]


def equal(a: Batch, b: Batch) -> bool:
    assert a.inputs.ground is not None and b.inputs.ground is not None
    return a.tokens == b.tokens and torch.equal(a.inputs.ground, b.inputs.ground)


def test_a_batch_depends_on_seed_and_step_only(tiny_config: Load, keyframes: Make) -> None:
    config = tiny_config()
    first, second = (TrainBatches(keyframes(config), config) for _ in range(2))
    assert len(first) == 20
    _ = [second[step] for step in range(5)]
    assert all(equal(first[step], second[step]) for step in (7, 0, 19))
    other = tiny_config("seed=1")
    assert not all(equal(first[step], TrainBatches(keyframes(other), other)[step]) for step in range(3))


def test_every_epoch_sees_every_frame_once_in_another_order(tiny_config: Load, keyframes: Make) -> None:
    config = tiny_config()
    batches = TrainBatches(keyframes(config), config)
    seen = [token for step in range(15) for token in batches[step].tokens]
    epochs = [seen[start : start + 5] for start in range(0, 30, 5)]
    assert all(sorted(epoch) == sorted(epochs[0]) and len(set(epoch)) == 5 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_the_same_frame_is_augmented_anew(tiny_config: Load, keyframes: Make) -> None:
    config = tiny_config("optim.batch_size=5")
    batches = TrainBatches(keyframes(config), config)
    views = []
    for step in range(4):
        batch = batches[step]
        assert batch.inputs.ground is not None
        views.append(batch.inputs.ground[batch.tokens.index("frame-2")].numpy())
    assert any(not np.array_equal(views[0], view) for view in views[1:])


class Damaged(list[Keyframe]):
    """Keyframes some of which cannot be read."""

    damaged: frozenset[int] = frozenset()

    def __getitem__(self, index: int) -> Keyframe:  # type: ignore[override]
        if index in self.damaged:
            raise ImageError(f"image of keyframe {index} is truncated")
        return super().__getitem__(index)


def test_another_keyframe_takes_the_place_of_one_that_cannot_be_read(tiny_config: Load, keyframes: Make) -> None:
    config = tiny_config("optim.batch_size=5")
    whole = TrainBatches(keyframes(config), config)[1]
    frames = Damaged(keyframes(config))
    frames.damaged = frozenset({2})
    batches = TrainBatches(frames, config)
    batch = batches[1]
    assert batch.faults == ("image of keyframe 2 is truncated",) and whole.faults == ()
    assert batch.to("cpu").faults == batch.faults
    place = whole.tokens.index("frame-2")
    assert batch.tokens[place] == whole.tokens[(place + 1) % 5]
    assert [t for i, t in enumerate(batch.tokens) if i != place] == [t for t in whole.tokens if t != "frame-2"]
    assert equal(batch, batches[1])


def test_when_nothing_can_be_read_the_run_ends(tiny_config: Load, keyframes: Make) -> None:
    config = tiny_config()
    frames = Damaged(keyframes(config))
    frames.damaged = frozenset(range(5))
    with pytest.raises(ImageError, match="truncated"):
        TrainBatches(frames, config)[0]


def test_targets_lie_on_the_pixels(tiny_config: Load, keyframes: Make) -> None:
    config = tiny_config("augment.blind=0", "optim.batch_size=5")
    batch = TrainBatches(keyframes(config), config)[3]
    assert batch.inputs.ground is not None
    bright = batch.inputs.ground[:, :3].float().mean(dim=1) > 128
    assert batch.targets.masks is not None
    masks = batch.targets.masks[:, 0].bool()
    assert masks.any() and (bright & masks).sum() / masks.sum() > 0.6
    assert batch.targets.labels.tolist() == [[0]] * 5


def test_masks_are_drawn_for_those_who_read_them(tiny_config: Load, keyframes: Make) -> None:
    config = tiny_config("model.segmentation=null", "decode.head=vectors")
    batch = TrainBatches(keyframes(config), config)[0]
    assert batch.targets.masks is None and batch.to("cpu").targets.masks is None
    assert (batch.targets.labels >= 0).any()


# --- models with a backbone and auxiliary heads ---
FEATURES = (8, 12)
STRAIGHT = ("augment.colour=0", "augment.mirror=0", "augment.turn=0", "augment.blind=0")


def auxiliary(batch: Batch) -> AuxiliaryTargets:
    assert batch.targets.auxiliary is not None
    return batch.targets.auxiliary


def bright(batch: Batch) -> torch.Tensor:
    """(B, N, h, w) share of each feature cell's pixels that show the painted line."""
    assert batch.inputs.images is not None
    pixels = (batch.inputs.images[:, :, 0] > 200).float()
    return torch.nn.functional.avg_pool2d(pixels, 8)


@pytest.mark.parametrize("change", [{}, {"mirror": 1}, {"turn": 1}, {"mirror": 1, "turn": 1}], ids=str)
def test_lines_in_the_images_lie_on_their_pixels(
    image_config: Load, image_keyframes: Make, change: dict[str, float]
) -> None:
    config = image_config(*STRAIGHT, *(f"augment.{name}={value}" for name, value in change.items()))
    frames = [replace(frame, elements=frame.elements[:1]) for frame in image_keyframes(config)]
    batch = TrainBatches(frames, config, FEATURES)[0]
    marked = auxiliary(batch).image_lines
    assert marked is not None and marked.shape == (4, 2, 1, *FEATURES)
    lines, paint = marked[:, :, 0].bool(), bright(batch)
    assert lines.flatten(2).any(dim=2).all(), "every camera sees the divider"
    assert (paint[lines] > 0).float().mean() > 0.9, "marked cells show paint"
    assert lines[paint > 0.4].float().mean() > 0.8, "cells full of paint are marked"
    assert lines.float().mean() < 0.3


def test_known_classes_only_are_drawn(image_config: Load, image_keyframes: Make) -> None:
    config = image_config(*STRAIGHT)
    frames = image_keyframes(config)
    centre = MapElement(MapClass.CENTERLINE, np.array([[-8.0, 5], [8.0, -5]]))
    more = [replace(frame, elements=[*frame.elements, centre]) for frame in frames]
    plain, with_centre = (auxiliary(make_batch(each, config, FEATURES)) for each in (frames, more))
    knowing = image_config(*STRAIGHT, "model.classes=[divider, ped_crossing, boundary, centerline]")
    known = auxiliary(make_batch(more, knowing, FEATURES))
    for name in ("bev_lines", "image_lines"):
        assert torch.equal(getattr(plain, name), getattr(with_centre, name))
        assert getattr(known, name).sum() > getattr(plain, name).sum()


def test_surfaces_follow_the_areas(image_config: Load, image_keyframes: Make) -> None:
    config = image_config(*STRAIGHT, "model.auxiliary.surface=[drivable_area, ped_crossing]")
    frames = image_keyframes(config)
    surface = auxiliary(make_batch(frames, config, FEATURES)).surface
    assert surface is not None and surface.shape == (4, 2, 12, 18)
    assert not surface[:, 1].any(), "the frames' crossings cover nothing"
    for frame, rows in zip(frames, surface[:, 0].float().mean(dim=2), strict=True):
        low, high = frame.areas["drivable_area"].bounds[1::2]
        expected = [float(low <= y <= high) for y in np.arange(-5.5, 6)]
        assert rows.tolist() == expected


@pytest.mark.parametrize("mirror", [0, 1])
def test_depth_lies_where_the_point_is_seen(image_config: Load, image_keyframes: Make, mirror: int) -> None:
    config = image_config(*STRAIGHT, f"augment.mirror={mirror}", "optim.batch_size=2")
    ahead = np.array([[5.0, 1.0, 0.5, 9, 0], [5.2, 1.0, 0.5, 9, 0]], np.float32)  # the second is behind the first
    first, second, *_ = image_keyframes(config)
    frames = [replace(first, points=ahead), replace(second, points=None)]
    batch = TrainBatches(frames, config, FEATURES)[0]
    depth = auxiliary(batch).depth
    assert depth is not None and depth.shape == (2, 2, *FEATURES)
    with_points = depth[batch.tokens.index("frame-0")]
    assert torch.isfinite(depth).sum() == torch.isfinite(with_points).sum() == 1, "one cell of one camera"
    assert frames[0].inputs.projection is not None  # the change of the frame moves no pixel
    u, v, z = (frames[0].inputs.projection[0, 0].double() @ torch.tensor([5.0, 1.0, 0.5, 1.0]).double()).tolist()
    row, column = int((v / z + 0.5) / 8), int((u / z + 0.5) / 8)
    assert with_points[0, row, column].item() == pytest.approx(z, abs=1e-4)


def test_a_camera_that_was_taken_away_has_no_targets(image_config: Load, image_keyframes: Make) -> None:
    config = image_config(*STRAIGHT, "augment.blind=1")
    batch = TrainBatches(image_keyframes(config), config, FEATURES)[0]
    mask, found = batch.inputs.camera_mask, auxiliary(batch)
    assert mask is not None and mask.sum(dim=1).tolist() == [1] * 4
    assert found.image_lines is not None and found.depth is not None
    assert not found.image_lines[~mask].any() and found.image_lines[mask].flatten(1).any(dim=1).all()
    assert found.depth[~mask].isnan().all() and not found.depth[mask].flatten(1).isnan().all(dim=1).any()


def test_a_model_without_auxiliary_heads_has_no_such_targets(image_config: Load, image_keyframes: Make) -> None:
    config = image_config("model.auxiliary=null")
    assert make_batch(image_keyframes(config), config, FEATURES).targets.auxiliary is None


def test_a_feature_size_that_is_absent_or_wrong_is_named(image_config: Load, image_keyframes: Make) -> None:
    config = image_config()
    frames = image_keyframes(config)
    with pytest.raises(ValueError, match="'image_lines' needs feature_size"):
        make_batch(frames, config)
    model = build_model(config.model)
    assert model.backbone is not None and model.backbone.feature_size == FEATURES
    with pytest.raises(ValueError, match=r"'image_lines' says \(4, 2, 1, 8, 12\), its target is \(4, 2, 1, 4, 6\)"):
        supervised(model, make_batch(frames, config, (4, 6)), config)
