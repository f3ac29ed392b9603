"""JPEG and PNG bytes -> RGB arrays, with damaged files refused, and at a fraction of their size when that is enough.

OpenCV returns a half-grey picture for a truncated JPEG and only prints a warning, so the end marker is looked for
first.
"""

import cv2
import numpy as np

from hdmap_core.errors import ImageError

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"


_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_SLACK = 15 / 16


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


def decode_image(data: bytes, source: str, reduction: int = 1) -> np.ndarray:
    """The picture as (H, W, 3) uint8 RGB, pixels as stored (no EXIF rotation, which would not fit the calibration).

    Args:
        data: a whole JPEG or PNG file.
        source: what the error message calls it: a file, a topic.
        reduction: 2, 4 or 8 for a picture of (ceil(H / n), ceil(W / n)) pixels. Of a JPEG it is made in the frequency
            domain: quicker than decoding all of it, and close to the mean over n x n pixels.

    Raises:
        ImageError: if the data is empty, neither format, truncated, or cannot be decoded.
    """
    data = bytes(data)
    check_complete(data, source)
    try:
        flags = _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"{source}: the image cannot be decoded ({error.err})") from None
    if image is None:
        raise ImageError(f"{source}: the image cannot be decoded; it is damaged")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


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
        scan = data.rfind(_JPEG_SCAN)
        complete = scan >= 0 and data.find(_JPEG_END, scan) >= 0
    elif data.startswith(_PNG_START):
        complete = _PNG_END in data[-64:]
    else:
        raise ImageError(f"{source}: neither JPEG nor PNG (it begins with {data[:4].hex(' ')})")
    if not complete:
        raise ImageError(f"{source}: the image is truncated after {len(data)} bytes; copy or unpack it again")
