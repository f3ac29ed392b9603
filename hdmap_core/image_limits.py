"""How large a picture may be: looked up in its header before memory is asked for.

A file of a few hundred bytes can claim four thousand million pixels, and a JPEG can have each of them decoded anew by
hundreds of scans.
"""

import simplejpeg

from hdmap_core.errors import ImageError

MOST_PIXELS = 50_000_000
"""Of one picture: 150 MB of RGB. Cameras have up to 20 million."""
_MOST_SCANS = 100  # a progressive JPEG has ten
_SCAN, _FRAMES = 0xDA, {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_SEQUENTIAL = {0xC0, 0xC1, 0xC9}
_PNG_START = b"\x89PNG\r\n\x1a\n"


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


def check_header(data: bytes, source: str) -> None:
    """Looks at the size that a JPEG or PNG file states, and at the number of a JPEG's scans.

    Args:
        data: a whole file.
        source: what the error message calls it.

    Raises:
        ImageError: if it is too large; a header that cannot be read is left to the decoder.
    """
    if data.startswith(_PNG_START):
        check_pixels(int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big"), source)
        return
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return
    check_pixels(height, width, source)
    # Inside a scan 0xff is never followed by this.
    if not _has_one_scan(data) and data.count(b"\xff\xda") > _MOST_SCANS:
        raise ImageError(f"{source}: a JPEG of more than {_MOST_SCANS} scans is not decoded")


def _has_one_scan(data: bytes) -> bool:
    """Whether a JPEG is a sequential one whose first scan holds all colours: what follows it is never decoded.

    Told by the header alone, as counting goes through all of the data.
    """
    at, colours = 2, -1
    while data[at : at + 1] == b"\xff" and at + 10 <= len(data):
        marker = data[at + 1]
        if marker == _SCAN:
            return data[at + 4] == colours
        if marker in _FRAMES:
            colours = data[at + 9] if marker in _SEQUENTIAL else -1
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
