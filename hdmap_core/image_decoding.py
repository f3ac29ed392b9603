"""JPEG and PNG bytes -> RGB arrays, with damaged files refused.

OpenCV returns a half-grey picture for a truncated JPEG and only prints a warning, so the end marker is looked for
first.
"""

import cv2
import numpy as np

from hdmap_core.errors import ImageError

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"


def decode_image(data: bytes, source: str) -> np.ndarray:
    """The picture as (H, W, 3) uint8 RGB, pixels as stored (no EXIF rotation, which would not fit the calibration).

    Args:
        data: a whole JPEG or PNG file.
        source: what the error message calls it: a file, a topic.

    Raises:
        ImageError: if the data is empty, neither format, truncated, or cannot be decoded.
    """
    data = bytes(data)
    check_complete(data, source)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
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
