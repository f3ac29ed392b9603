"""How large a picture may be: looked up in its header before memory is asked for.

A file of a few hundred bytes can claim four thousand million pixels, and a JPEG can have each of them decoded anew by
hundreds of scans.
"""

from hdmap_core.errors import ImageError

MOST_PIXELS = 50_000_000
"""Of one picture: 150 MB of RGB. Cameras have up to 20 million."""
_MOST_SCANS = 100  # a progressive JPEG has ten
_SCAN, _SEQUENTIAL = 0xDA, (0xC0, 0xC1, 0xC9)
_WITHOUT_LENGTH = (0x00, 0x01, *range(0xD0, 0xDA), 0xFF)  # stuffing, markers that stand alone, fill bytes


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


def check_scans(data: bytes, source: str) -> None:
    """Raises ImageError if a JPEG file has more scans than are to be decoded.

    Args:
        data: a whole file.
        source: what the error message calls it.
    """
    if data.count(b"\xff\xda") > _MOST_SCANS:  # inside a scan 0xff is never followed by this
        raise ImageError(f"{source}: a JPEG of more than {_MOST_SCANS} scans is not decoded")


def has_one_scan(data: bytes) -> bool:
    """Whether a JPEG file is a sequential one whose first scan holds all colours, after which libjpeg allows no other.

    Told by its header, as to count scans is to go through all of the data. False for a header with anything odd in it.

    Args:
        data: a whole file.
    """
    at, colours = 2, -1
    while at + 10 <= len(data) and data[at] == 0xFF and data[at + 1] not in _WITHOUT_LENGTH:
        marker = data[at + 1]
        if marker == _SCAN:
            return data[at + 4] == colours
        if marker in _SEQUENTIAL:
            colours = data[at + 9]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
