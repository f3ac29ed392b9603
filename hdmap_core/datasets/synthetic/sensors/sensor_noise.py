"""The noise of a perfect camera's sensor: one of many windows of a fixed tile, picked by time."""

import cv2
import numpy as np

_LEEWAY = 64
_MIDDLE = 8


class SensorNoise:
    """Noise that follows from a seed and the time."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 3])
        noise = 2.0 * rng.standard_normal((512, 1024, 1), np.float32)
        noise = noise + 0.9 * rng.standard_normal((512, 1024, 3), np.float32)
        self.tile = np.tile(np.clip(np.rint(noise + _MIDDLE), 0, 2 * _MIDDLE).astype(np.uint8), (2, 2, 1))

    def add(self, image: np.ndarray, time_s: float) -> None:
        """Add noise to an image (H, W, 3) uint8, in place."""
        height, width = image.shape[:2]
        rng = np.random.default_rng(round(time_s * 1e6) & 0xFFFFFFFF)
        tile = self.tile
        if height > tile.shape[0] - _LEEWAY or width > tile.shape[1] - _LEEWAY:
            repeats = (height + _LEEWAY) // tile.shape[0] + 1, (width + _LEEWAY) // tile.shape[1] + 1, 1
            tile = np.tile(tile, repeats)
        top, left = rng.integers(0, _LEEWAY, 2)
        cv2.add(image, tile[top : top + height, left : left + width], dst=image)
        cv2.subtract(image, (_MIDDLE, _MIDDLE, _MIDDLE, 0), dst=image)  # type: ignore[call-overload]
