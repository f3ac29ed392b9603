"""JPEG and PNG bytes -> RGB arrays, with damaged files refused, and at a fraction of their size when that is enough.

JPEG is decoded by libjpeg-turbo through simplejpeg, whose strict mode takes libjpeg's warnings for errors: OpenCV gives
out a half-grey picture and prints them. The pixels are the same, unless coarse ones are asked for. What cannot be told:
a damage of a few dozen bytes after which the number of blocks is right by chance, and what a camera itself encoded from
wrong pixels.
"""

import math
from typing import TypeAlias

import cv2
import numpy as np
import simplejpeg

from hdmap_core.errors import ImageError
from hdmap_core.images.jpeg_tidying import tidied
from hdmap_core.images.limits import check_pixels, check_png, check_scans, has_one_scan

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_OTHERS = {
    b"RIFF": "WebP or another RIFF file",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"qoif": "QOI",
    b"BM": "BMP",
    b"\0\0\0\1": "H.264 or H.265 video",
    b"\0\0\1": "MPEG or H.264 video",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"version https://git-lfs": "a pointer of Git LFS; `git lfs pull` fetches the picture",
}
"""What else images come in -> how a message calls it."""
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_SLACK = 15 / 16
Enough: TypeAlias = tuple[int, int] | float
"""What will do of a camera's picture: (H, W) in pixels, or so many pixels per degree in its middle."""


def enough_of(enough: Enough, size: tuple[int, int], focal: float) -> tuple[int, int]:
    """(H, W) that will do of the picture of a camera: a wide lens needs more pixels than a narrow one.

    Args:
        enough: what will do of any.
        size: (H, W) of its pictures.
        focal: its focal length in their pixels, which is what a radian covers in their middle.
    """
    if isinstance(enough, tuple):
        return enough
    height, width = (round(side * math.degrees(enough) / focal) for side in size)
    return height, width


def reduction_for(stored: tuple[int, int], wanted: tuple[int, int]) -> int:
    """The largest n of 1, 2, 4, 8 such that an image decoded at 1/n of its size is still large enough.

    Large enough is 15/16 of what is wanted: 1600 x 900 images halved serve models of 800 x 480, whose papers halve
    them too and fill up with zeros. Only where n divides both sides, so that the edges of the image stay edges and
    `CameraRig.resized` is exact.

    Args:
        stored: (H, W) of the file.
        wanted: (H, W) in pixels.
    """
    fitting = [
        n
        for n in _REDUCED
        if all(have % n == 0 and have / n >= _SLACK * want for have, want in zip(stored, wanted, strict=True))
    ]
    return max(fitting, default=1)


def reduction_of(data: bytes, wanted: tuple[int, int]) -> int:
    """`reduction_for` a JPEG file; 1 for what is none, or has no header to read, which `decode_image` then tells.

    Decoding less of a PNG saves nothing.

    Args:
        data: a whole file.
        wanted: (H, W) in pixels.
    """
    if not data.startswith(_JPEG_START):
        return 1
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return 1
    return reduction_for((height, width), wanted)


def is_sound_jpeg(data: bytes) -> bool:
    """Whether a file is a JPEG of usual colours without any fault, for decoders that do not look for themselves.

    All of its compressed data is read, but only an eighth of each side is drawn: half the work of `decode_image`.
    """
    if not data.startswith(_JPEG_START):
        return False
    try:
        check_complete(data, "")
        _, _, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in ("YCbCr", "Gray"):
            return False
        _decode_strictly(data, "", 8, "Gray", None, True)
    except (ImageError, ValueError):
        return False
    return True


def decode_image(
    data: bytes, source: str, reduction: int = 1, out: np.ndarray | None = None, *, coarse: bool = False
) -> np.ndarray:
    """The picture as (H, W, 3) uint8 RGB, pixels as stored (no EXIF rotation, which would not fit the calibration).

    Args:
        data: a whole JPEG or PNG file.
        source: what the error message calls it: a file, a topic.
        reduction: 2, 4 or 8 for a picture of (ceil(H / n), ceil(W / n)) pixels. Of a JPEG it is made in the frequency
            domain: quicker than decoding all of it, and close to the mean over n x n pixels.
        out: an array of this function whose picture nobody needs any more: a JPEG of the same size is written into it,
            which saves the system the work of handing out fresh memory. Overwritten even when decoding fails.
        coarse: a JPEG by libjpeg's quicker transform, its chroma without interpolation: an eighth less time, and pixels
            that differ from OpenCV's by one or two on average.

    Raises:
        ImageError: if the data is empty, neither format, truncated, damaged, too large, or cannot be decoded.
    """
    data = bytes(data)
    check_complete(data, source)
    if data.startswith(_JPEG_START):
        return _decode_jpeg(data, source, reduction, out=out, coarse=coarse)
    image = _decode_png(data, source, _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def decode_stored(data: bytes, source: str) -> np.ndarray:
    """The picture with the channels that the file has: (H, W) or (H, W, 3) RGB, uint8, of PNG also uint16.

    For what is no picture yet, such as the mosaic of a Bayer sensor.

    Args:
        data: a whole JPEG or PNG file.
        source: what the error message calls it.

    Raises:
        ImageError: as `decode_image`.
    """
    data = bytes(data)
    check_complete(data, source)
    if data.startswith(_JPEG_START):
        image = _decode_jpeg(data, source, 1, grey="Gray")
        return image[..., 0] if image.shape[2] == 1 else image
    image = _decode_png(data, source, cv2.IMREAD_UNCHANGED)
    return image if image.ndim == 2 else cv2.cvtColor(image[..., :3], cv2.COLOR_BGR2RGB)


def check_complete(data: bytes, source: str) -> None:
    """Looks for the end of a JPEG or PNG file without decoding it.

    Args:
        data: a whole JPEG or PNG file.
        source: what the error message calls it.

    Raises:
        ImageError: if the data is empty, neither format, or truncated.
    """
    if not data:
        raise ImageError(f"{source}: the image is empty")
    if data.startswith(_JPEG_START):
        # A thumbnail in the header has an end marker of its own, so look behind the last start of a scan. Inside
        # compressed data a byte 0xff is always followed by 0x00 or a restart marker.
        end = data.rfind(_JPEG_END)  # of a whole file it lies at the very end, and the search ends at once
        complete = end >= 0 and data.find(_JPEG_SCAN, end) < 0 <= data.find(_JPEG_SCAN, 0, end)
    elif data.startswith(_PNG_START):
        complete = _PNG_END in data[-64:]
    elif not data.strip(b"\0"):
        raise ImageError(f"{source}: neither JPEG nor PNG: {len(data)} zero bytes; copy or unpack it again")
    else:
        other = next((name for start, name in _OTHERS.items() if data.startswith(start)), "")
        raise ImageError(f"{source}: neither JPEG nor PNG (it begins with {data[:4].hex(' ')}{other and f': {other}'})")
    if not complete:
        raise ImageError(f"{source}: the image is truncated after {len(data)} bytes; copy or unpack it again")


def _decode_jpeg(
    data: bytes, source: str, reduction: int, grey: str = "RGB", out: np.ndarray | None = None, coarse: bool = False
) -> np.ndarray:
    """(H, W, 3), or (H, W, 1) of a grey picture where `grey` says so."""
    try:
        return _decode_strictly(data, source, reduction, grey, out, coarse)
    except ValueError as error:
        fault = str(error)
    check_scans(data, source)
    try:
        return _decode_strictly(tidied(data), source, reduction, grey, out, coarse)
    except ValueError:
        raise ImageError(
            f"{source}: the image is damaged (libjpeg: {fault}); copy or unpack a file again, look at the connection "
            "of a camera"
        ) from None


def _decode_strictly(
    data: bytes, source: str, reduction: int, grey: str, out: np.ndarray | None, coarse: bool
) -> np.ndarray:
    height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    check_pixels(height, width, source)
    if not has_one_scan(data):
        check_scans(data, source)
    space = {"Gray": grey, "CMYK": "CMYK", "YCCK": "CMYK"}.get(colours, "RGB")
    size = -(-height // reduction), -(-width // reduction)
    fits = out is not None and space == "RGB" and out.shape == (*size, 3)
    image = simplejpeg.decode_jpeg(
        data, space, coarse, coarse, min_height=size[0], min_width=size[1], min_factor=1, buffer=out if fits else None
    )
    if space == "CMYK":  # inverted, as Adobe writes it
        return (image[..., :3].astype(np.uint16) * image[..., 3:] // 255).astype(np.uint8)
    return image


def _decode_png(data: bytes, source: str, flags: int) -> np.ndarray:
    check_png(data, source)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"{source}: the image cannot be decoded ({error.err})") from None
    if image is None:
        raise ImageError(f"{source}: the image cannot be decoded; it is damaged")
    return image
