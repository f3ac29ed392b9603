"""Corruptions of one image: pure functions `(image, severity, random) -> image`.

Image: (H, W, 3) uint8 RGB, returned anew and never written to. Severity: 1 to 3, strengths between the whole numbers
are interpolated. The same random state gives the same pattern at every severity, only stronger, so that they can be
compared. The kinds are those of RoboBEV (Xie et al.); the strengths are ours, so figures do not compare with its
tables.
"""

from collections.abc import Callable

import cv2
import numpy as np

ImageCorruption = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
SEVERITIES = (1, 2, 3)

_BITS = (5, 4, 3)
_BLUR_LENGTH = (0.012, 0.024, 0.048)  # of the image's width
_BRIGHTNESS = (0.2, 0.35, 0.5)  # added to the value of HSV
_LIGHT = (0.5, 0.32, 0.18)  # share of the light that is left
_PHOTONS = (400.0, 160.0, 60.0)  # at full light; their count is what makes dark pictures noisy
_FOG = (0.45, 0.62, 0.78)  # how much of the far scene the fog hides
_SNOW = (0.0006, 0.0014, 0.003)  # flakes per pixel of a 900-line image


def strength(table: tuple[float, ...], severity: float) -> float:
    """What a table says of severities 1, 2, 3, and between them."""
    return float(np.interp(severity, SEVERITIES, table))


def colour_quantisation(image: np.ndarray, severity: float, random: np.random.Generator) -> np.ndarray:
    """Fewer bits per channel: 5, 4, 3."""
    shift = 8 - round(strength(_BITS, severity))
    levels = (np.arange(256) >> shift).astype(np.float64)
    return cv2.LUT(image, np.round(levels * 255 / levels.max()).astype(np.uint8))


def motion_blur(image: np.ndarray, severity: float, random: np.random.Generator) -> np.ndarray:
    """A blur along a line in a random direction within 30 degrees of the horizontal, as a moving car makes it."""
    angle = random.uniform(-np.pi / 6, np.pi / 6)
    length = max(3.0, strength(_BLUR_LENGTH, severity) * image.shape[1])
    radius = int(np.ceil(length / 2))
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    half = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    ends = np.round((np.array([radius, radius]) + np.stack([-half, half])) * 16).astype(int)
    cv2.line(kernel, ends[0].tolist(), ends[1].tolist(), 1.0, 1, cv2.LINE_AA, shift=4)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def brightness(image: np.ndarray, severity: float, random: np.random.Generator) -> np.ndarray:
    """Overexposed: the value of HSV rises by 0.2, 0.35, 0.5 and is clipped; hue and saturation stay."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    added = np.clip(np.arange(256) + 255 * strength(_BRIGHTNESS, severity), 0, 255).astype(np.uint8)
    hsv[..., 2] = cv2.LUT(hsv[..., 2], added)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def low_light(image: np.ndarray, severity: float, random: np.random.Generator) -> np.ndarray:
    """Night: less light, and the shot noise of the few photons that are left."""
    left = np.arange(256) / 255 * strength(_LIGHT, severity)
    sigma = np.sqrt(left / strength(_PHOTONS, severity))
    rows, columns = -(-image.shape[0] // 2), -(-image.shape[1] // 2)
    # The noise of a quarter serves all four: drawing it is what takes the time.
    quarter = random.standard_normal((rows, columns, 3), dtype=np.float32)
    noise = np.tile(quarter, (2, 2, 1))[: image.shape[0], : image.shape[1]]
    noise *= cv2.LUT(image, (255 * sigma).astype(np.float32))
    noise += cv2.LUT(image, (255 * left).astype(np.float32))
    return _to_uint8(noise)


def fog(image: np.ndarray, severity: float, random: np.random.Generator) -> np.ndarray:
    """Grey haze in drifting patches, thickest at the horizon and thin on the near ground at the lower edge.

    A camera image has no depth here; the height in the image stands for it, as for a level road.
    """
    height, width = image.shape[:2]
    patches = np.zeros((height, width), np.float32)
    for octave in range(1, 6):  # fractal noise: each octave twice as fine and half as strong
        cells = random.random((2**octave + 1, 2 ** (octave + 1) + 1), dtype=np.float32)
        patches += cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(0.5**octave)
    patches = np.clip(patches, 0, 1)
    row = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    far = np.clip(1.6 - 1.2 * row, 0.35, 1.0)  # full above the horizon
    hidden = (np.float32(strength(_FOG, severity)) * far * (0.7 + 0.45 * patches)).clip(0, 0.95)
    return _to_uint8(_mixed(image.astype(np.float32), 205, hidden))


def snow(image: np.ndarray, severity: float, random: np.random.Generator) -> np.ndarray:
    """Falling flakes, blurred along their fall, in a scene that is greyer and brighter."""
    height, width = image.shape[:2]
    scale = max(height / 900, 0.1)
    # As many as the hardest needs are drawn always; an easier one shows the first of them.
    most = max(8, int(_SNOW[-1] * width * height / scale**2))
    flakes = random.random((most, 3))[: max(3, int(most * strength(_SNOW, severity) / _SNOW[-1]))]
    slant = random.uniform(-0.5, 0.5)
    layer = np.zeros((height, width), np.uint8)
    for x, y, size in flakes:
        centre = (int(x * width), int(y * height))
        cv2.circle(layer, centre, max(1, round((1 + 3.5 * size**3) * scale)), 255, -1)
    radius = max(1, round(5 * scale))
    fall = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    reach = round(slant * radius)
    cv2.line(fall, (radius - reach, 0), (radius + reach, 2 * radius), 1.0, 1)
    cover = cv2.filter2D(layer, -1, fall / fall.sum() * 2.0) * np.float32(1 / 255)
    pale = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0.6 * np.arange(256) + 95).astype(np.uint8))
    haze = 0.12 + 0.1 * severity
    scene = cv2.addWeighted(image, 1 - haze, cv2.cvtColor(pale, cv2.COLOR_GRAY2RGB), haze, 0)
    return _to_uint8(_mixed(scene.astype(np.float32), 250, cover))


def _mixed(image: np.ndarray, grey: float, share: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 image with a (H, W) share of grey in it."""
    mixed = np.asarray(cv2.merge((share, share, share)), dtype=np.float32)
    mixed *= np.float32(grey) - image
    mixed += image
    return mixed


def _to_uint8(values: np.ndarray) -> np.ndarray:
    """Rounded and clipped; `values` may be overwritten."""
    values += 0.5
    return np.clip(values, 0, 255, out=values).astype(np.uint8)
