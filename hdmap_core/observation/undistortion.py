"""Observations whose images still show their lenses, made into those of pinholes, for models that see whole images."""

from dataclasses import replace

import numpy as np
import torch

from hdmap_core.geometry.lens_sampling import Optics
from hdmap_core.observation import Observation


def without_lenses(observation: Observation) -> Observation:
    """The same observation by pinholes that see as far to the sides as the lenses, but at most 60 degrees.

    The tables are kept, so that a calibration is worked out once; a camera without a lens keeps its image. Images must
    be of the size that the rig says.
    """
    rig = observation.rig
    if not rig.lenses:
        return observation
    images, intrinsics = list(observation.images), rig.intrinsics.clone()
    for index, (lens, size) in enumerate(zip(rig.lenses, rig.image_sizes, strict=True)):
        optics = Optics.of(lens, rig.intrinsics[index].numpy())
        if optics is not None:
            pinhole, image = optics.pinhole(size), images[index]
            intrinsics[index] = torch.from_numpy(np.reshape(pinhole, (3, 3)))
            images[index] = None if image is None else optics.undistorted(image, pinhole)
    return replace(observation, images=tuple(images), rig=replace(rig, intrinsics=intrinsics, lenses=()))
