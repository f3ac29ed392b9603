"""How large a picture may be: looked up in its header before memory is asked for.

A file of a few hundred bytes can claim four thousand million pixels, and a JPEG can have each of them decoded anew by
hundreds of scans.
"""

import numpy as np

from hdmap_core.errors import ImageError

MOST_PIXELS = 50_000_000
"""Of one picture: 150 MB of RGB. Cameras have up to 20 million."""
_MOST_SCANS = 100  # a progressive JPEG has ten


def check_pixels(height: int, width: int, source: str) -> None:
    """Raises ImageError if a picture of this size is not to be decoded.

    Args:
        height: pixels, as a header states them.
        width: pixels.
        source: what the error message calls the picture.
    """
    if height * width > MOST_PIXELS:
        raise ImageError(
            f"{source}: {width} x {height} pixels; more than {MOST_PIXELS // 1_000_000} million are not decoded, scale "
            "the pictures down"
        )


def check_png(data: bytes, source: str) -> None:
    """Raises ImageError if a PNG file states a size that is not to be decoded.

    Args:
        data: a whole file.
        source: what the error message calls it.
    """
    check_pixels(int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big"), source)


def check_jpeg(data: bytes, height: int, width: int, source: str) -> None:
    """Raises ImageError if a JPEG file of this size, as its header states it, is not to be decoded; also for its scans.

    Args:
        data: a whole file.
        height: pixels.
        width: pixels.
        source: what the error message calls it.
    """
    check_pixels(height, width, source)
    content = np.frombuffer(data, np.uint8)  # which counts five times as fast as bytes do
    starts = (content[:-1] == 0xFF) & (content[1:] == 0xDA)  # inside a scan 0xff is never followed by this
    if np.count_nonzero(starts) > _MOST_SCANS:
        raise ImageError(f"{source}: a JPEG of more than {_MOST_SCANS} scans is not decoded")
