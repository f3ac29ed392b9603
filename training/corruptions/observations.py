"""Corruptions of a whole observation: each camera's image, whole cameras, or the calibration.

Everything is decided by the observation's token, the camera's name and a seed: the same frame is corrupted in the same
way on every machine and in any order.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch

from hdmap_core.errors import ConfigError
from hdmap_core.geometry import se3
from hdmap_core.observation import Observation
from training.corruptions import images
from training.corruptions.images import SEVERITIES, ImageCorruption, strength

_IMAGES: dict[str, ImageCorruption] = {
    "colour_quantisation": images.colour_quantisation,
    "motion_blur": images.motion_blur,
    "brightness": images.brightness,
    "low_light": images.low_light,
    "fog": images.fog,
    "snow": images.snow,
}
CORRUPTIONS = ("camera_crash", "frame_lost", *_IMAGES, "calibration_noise", "missing_camera")
"""The first eight are those of RoboBEV; noise of the calibration is MapTR's ablation; the last is ours."""

_DARK_SHARE = (2 / 6, 4 / 6, 5 / 6)  # cameras that crash; and how probable it is that a frame of a camera is lost
_MISSING = (1, 2, 3)  # cameras
_TRANSLATION_SIGMA = (0.05, 0.1, 0.5)  # metres; the last pair is the strongest of MapTR's ablation
_ROTATION_SIGMA = (0.005, 0.01, 0.05)  # radians


@dataclass(frozen=True)
class Corruption:
    """One kind at one severity.

    Attributes:
        name: one of `CORRUPTIONS`.
        severity: 1, 2 or 3; or, as training draws it, anything between.
        seed: another seed is another draw of everything random.
    """

    name: str
    severity: float
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in CORRUPTIONS:
            raise ConfigError(f"no corruption {self.name!r}; there are {', '.join(CORRUPTIONS)}")
        if not SEVERITIES[0] <= self.severity <= SEVERITIES[-1]:
            raise ConfigError(f"severity {self.severity} of {self.name}: use 1, 2 or 3, or what lies between")

    @property
    def label(self) -> str:
        """For folders and files: `fog-2`."""
        return f"{self.name}-{self.severity}"


def corrupt(observation: Observation, corruption: Corruption) -> Observation:
    """The observation as the corrupted sensors would give it; the original keeps its arrays.

    - `camera_crash`: the same 2, 4, 5 of 6 cameras are black in every frame (that share of another number).
    - `frame_lost`: each camera's image is black with probability 2/6, 4/6, 5/6, frame by frame.
    - `missing_camera`: 1, 2, 3 cameras of each frame are known to be missing (None), at least one stays.
    - `calibration_noise`: every camera's pose is off by Gaussian noise per axis of 0.05, 0.1, 0.5 m and 0.005, 0.01,
      0.05 rad, another one in each frame; MapTR's ablation (Liao et al., ICLR 2023) has 0.5 m and 0.05 rad, each alone.
    - all others: every image by its function in `training.corruptions.images`.
    """
    if corruption.name in _IMAGES:
        function = _IMAGES[corruption.name]
        cameras = zip(observation.rig.names, observation.images, strict=True)
        return replace(
            observation,
            images=tuple(
                None if image is None else function(image, corruption.severity, _random(corruption, observation, name))
                for name, image in cameras
            ),
        )
    if corruption.name == "calibration_noise":
        return _with_calibration_noise(observation, corruption)
    if corruption.name == "missing_camera":
        number = min(round(strength(_MISSING, corruption.severity)), observation.rig.num_cameras - 1)
        gone = _random(corruption, observation).permutation(observation.rig.num_cameras)[:number]
        numbered = enumerate(observation.images)
        return replace(observation, images=tuple(None if index in gone else image for index, image in numbered))
    dark = _dark_cameras(observation, corruption)
    return replace(
        observation,
        images=tuple(
            np.zeros_like(image) if image is not None and index in dark else image
            for index, image in enumerate(observation.images)
        ),
    )


def _dark_cameras(observation: Observation, corruption: Corruption) -> set[int]:
    share, number = strength(_DARK_SHARE, corruption.severity), observation.rig.num_cameras
    if corruption.name == "frame_lost":
        return set(np.flatnonzero(_random(corruption, observation).random(number) < share).tolist())
    # The order depends on names and seed only: what crashed once stays dark, and more severe means more of them.
    ranked = sorted(range(number), key=lambda index: _digest(corruption, observation.rig.names[index]))
    return set(ranked[: max(1, round(share * number))])


def _with_calibration_noise(observation: Observation, corruption: Corruption) -> Observation:
    sigma_t, sigma_r = (strength(table, corruption.severity) for table in (_TRANSLATION_SIGMA, _ROTATION_SIGMA))
    camera_from_noisy = []
    for name in observation.rig.names:
        random = _random(corruption, observation, name)
        angles, offset = random.standard_normal(3) * sigma_r, random.standard_normal(3) * sigma_t
        camera_from_noisy.append(se3.se3(se3.rotation_from_euler(*angles), offset))
    noise = torch.from_numpy(np.array(camera_from_noisy))
    return replace(observation, rig=observation.rig.changed_poses(lambda poses: poses @ noise.to(poses)))


def _random(corruption: Corruption, observation: Observation, *more: str) -> np.random.Generator:
    """Without the severity, so that a stronger corruption is more of the same."""
    return np.random.default_rng(list(_digest(corruption, observation.token, *more)))


def _digest(corruption: Corruption, *parts: str) -> bytes:
    return hashlib.sha256("/".join((str(corruption.seed), corruption.name, *parts)).encode()).digest()[:16]
