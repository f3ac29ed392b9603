"""Observation -> ModelInput: the same function in training, evaluation, bag replay and node."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hdmap_core.errors import ImageError
from hdmap_core.geometry import BEVGrid, CameraRig
from hdmap_core.geometry.ground_view import check_image, ground_view
from hdmap_core.geometry.sd_raster import sd_raster
from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig
from hdmap_core.models.backbones.image_backbone import ImageBackboneConfig
from hdmap_core.models.lidar.pillars import PillarsConfig
from hdmap_core.observation import Observation
from hdmap_core.observation.lidar_points import lidar_points
from hdmap_core.observation.undistortion import without_lenses

_PIXELS_PER_DEGREE = 11.0  # of nuScenes' cameras at half their size, but for the wide one at the back
_PUBLISHED_POINTS = 81_920


class ImageFit(NamedTuple):
    """How a camera's picture becomes an image of a network; the fields are those of `ImageBackboneConfig`."""

    filled_size: tuple[int, int] | None = None
    resampling: Literal["area", "bicubic"] = "area"
    scaling: Literal["edges", "origin"] = "edges"
    poses: Literal["moved", "mounted"] = "moved"

    @classmethod
    def of(cls, backbone: ImageBackboneConfig) -> "ImageFit":
        """That of a backbone."""
        return cls(*(getattr(backbone, name) for name in cls._fields))


PLAIN = ImageFit()
"""That of a backbone which says nothing."""


def enough_pixels(model: ModelConfig) -> float | None:
    """Pixels per degree that will do for a model of this config, or None where it takes all there is, exactly.

    A model that looks at the ground alone, from some metres above it, sees no more in more of them: 1600 x 900 pixels
    of 65 degrees are halved, of 110 degrees they are not, and 800 x 450 never are (decision 46). What a backbone sees
    is left as it was evaluated.
    """
    return _PIXELS_PER_DEGREE if model.sees_ground and model.image_backbone is None else None


def preprocess(observation: Observation, model: ModelConfig, pool: Executor | None = None) -> ModelInput:
    """A batch of one with the fields that a model of this config looks at.

    A model with a LiDAR branch takes an observation without points as one of an empty sweep; one with an SD prior takes
    an observation without SD map, or outside of it, as one without roads. With a pool its threads share the cameras.

    Raises:
        ImageError: see `check_images`.
    """
    inputs = camera_inputs(observation, model, pool)
    return with_points_and_roads(inputs, lidar_points(observation), observation.sd_lines, model)


def camera_inputs(observation: Observation, model: ModelConfig, pool: Executor | None = None) -> ModelInput:
    """The fields that come from the cameras; what is costly, and may be kept.

    Raises:
        ImageError: see `check_images`.
    """
    backbone, inputs = model.image_backbone, ModelInput()
    if backbone is not None:
        inputs = image_inputs(observation, backbone.image_size, backbone.cameras, ImageFit.of(backbone))
    if model.sees_ground:
        inputs.ground = torch.from_numpy(ground_pixels(observation, model.grid, pool))[None]
    return inputs


def check_images(observation: Observation) -> None:
    """Whether the images are those that the rig speaks of.

    Raises:
        ImageError: if there is not one image (or None) per camera, naming the cameras; naming a camera whose image is
            no (H, W, 3) uint8 array, or has not the size that its calibration is for.
    """
    rig, images = observation.rig, observation.images
    if not isinstance(images, list | tuple) or len(images) != rig.num_cameras:
        count = len(images) if isinstance(images, list | tuple) else f"a {type(images).__name__} in place of a tuple of"
        raise ImageError(
            f"observation {observation.token!r} has {count} images for {rig.num_cameras} cameras "
            f"({', '.join(rig.names)}); give one per camera in this order, None for a camera that is missing"
        )
    for name, image, size in zip(rig.names, images, rig.image_sizes, strict=True):
        if image is not None:
            check_image(name, image, size)


def with_points_and_roads(
    inputs: ModelInput, points: np.ndarray | None, sd_lines: Sequence[np.ndarray] | None, model: ModelConfig
) -> ModelInput:
    """Adds the fields for the LiDAR branch and the SD prior, as far as the model has them.

    Args:
        inputs: a batch of one; left as it is.
        points: (P, 5) float32 of `lidar_points`; None: no sweep.
        sd_lines: roads, each (P, 2) metres in the ego frame; None: no SD map.
        model: decides what is added.
    """
    added: dict[str, Tensor] = {}
    if model.lidar_sweeps:
        points = np.zeros((0, 5), np.float32) if points is None else points
        if isinstance(model.lidar, PillarsConfig) and model.lidar.cells == "published":
            points = _published_points(points, model.lidar)
        added["points"] = torch.from_numpy(np.ascontiguousarray(points, np.float32))[None]
        added["point_count"] = torch.tensor([len(points)])
    if model.sd_prior is not None:
        added["sd_raster"] = torch.from_numpy(sd_raster(sd_lines, model.grid))[None]
    return replace(inputs, **added)


def _published_points(points: np.ndarray, pillars: PillarsConfig) -> np.ndarray:
    """As many points as published code takes, which leaves out those of the car itself before it counts."""
    (x_low, x_high), (y_low, y_high) = pillars.own_vehicle_x, pillars.own_vehicle_y
    x, y = points[:, 0], points[:, 1]
    own = (x > x_low) & (x < x_high) & (y > y_low) & (y < y_high)
    return points[~own][:_PUBLISHED_POINTS]


def ground_grid(grid: BEVGrid) -> BEVGrid:
    """The grid of the ground pixels: the same region in cells of half the size."""
    return BEVGrid(grid.x_range, grid.y_range, grid.resolution / 2)


def ground_pixels(observation: Observation, grid: BEVGrid, pool: Executor | None = None) -> np.ndarray:
    """(4, 2Y, 2X) uint8 ground pixels of an observation for a model with this BEV grid, see `ModelInput`.

    Raises:
        ImageError: see `check_images`.
    """
    check_images(observation)
    view = ground_view(observation.images, observation.rig, ground_grid(grid), pool, observation.relief)
    return np.ascontiguousarray(view.transpose(2, 0, 1))


def image_inputs(
    observation: Observation, image_size: tuple[int, int], cameras: tuple[str, ...] = (), fit: ImageFit = PLAIN
) -> ModelInput:
    """A batch of one of resized images and their projections.

    Args:
        observation: images of any size; those that came through a lens are made a pinhole's.
        image_size: (H, W) of the result; both axes are scaled on their own, without cropping.
        cameras: exactly these, in this order, absent ones masked; when empty all cameras in the order of their names,
            so that the order in which a rig lists them never matters.
        fit: how pictures become images.

    Raises:
        ImageError: see `check_images`.
    """
    check_images(observation)
    observation = without_lenses(observation)
    height, width = fit.filled_size or image_size
    names, _, projection = camera_slots(observation.rig, (height, width), cameras, fit)
    picture = dict(zip(observation.rig.names, observation.images, strict=True))
    images = np.zeros((len(names), *image_size, 3), np.uint8)
    mask = torch.zeros(len(names), dtype=torch.bool)
    for index, name in enumerate(names):
        image = picture.get(name)
        if image is None:
            continue
        images[index, :height, :width] = _resized(image, (height, width), fit.resampling)
        mask[index] = True
    channels_first = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return ModelInput(images=channels_first[None], projection=projection[None], camera_mask=mask[None])


def _resized(image: np.ndarray, size: tuple[int, int], resampling: str) -> np.ndarray:
    if resampling == "area":
        return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))


def camera_slots(
    rig: CameraRig, image_size: tuple[int, int], cameras: tuple[str, ...] = (), fit: ImageFit = PLAIN
) -> tuple[tuple[str, ...], CameraRig, Tensor]:
    """The cameras that a model is given, for `image_inputs`.

    Returns:
        Their N names in order; the rig as pinholes, of whose images theirs are made; and (N, 3, 4) float32 their
        projections, computed in float64, 0 for cameras that the rig has not.
    """
    pinholes = without_lenses(Observation((None,) * rig.num_cameras, rig, 0, "")).rig
    names = cameras or tuple(sorted(rig.names))
    resized = replace(pinholes, intrinsics=pinholes.intrinsics.double()).resized(image_size)
    if fit.poses == "mounted":
        resized = resized.as_mounted()
    if fit.scaling == "origin":
        scales = [[[image_size[1] / w, 0, 0], [0, image_size[0] / h, 0], [0, 0, 1]] for h, w in pinholes.image_sizes]
        resized = replace(resized, intrinsics=resized.intrinsics.new_tensor(scales) @ pinholes.intrinsics.double())
    known = dict(zip(rig.names, resized.projection().float(), strict=True))
    return names, pinholes, torch.stack([known.get(name, torch.zeros(3, 4)) for name in names])
