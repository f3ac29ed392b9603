"""JPEG streams without the harmless faults that cameras write, so that every warning left means a damaged picture.

libjpeg warns alike about lost data and about what costs no pixel: zeros that fill up a packet of an MJPEG camera, bytes
between two headers, an odd version in a JFIF header, the spectral range of a baseline scan set wrong.
"""

import re

_SCAN, _FRAMES = 0xDA, range(0xC0, 0xD0)
_BASELINE = (0xC0, 0xC1)
_APPLICATION = {*range(0xE0, 0xEE), 0xEF, 0xFE}  # all but Adobe's, which tells the colours, and comments
# Zeros before a marker, but for the one that belongs to a stuffed 0xff. At the end one more stays: it may be data.
_FILL = re.compile(rb"(?<=[^\xff])\x00+(?=\xff[\xd0-\xd7])|(?<=[^\xff]\x00)\x00+(?=\xff\xd9)")


def tidied(data: bytes) -> bytes:
    """The same picture without fill bytes, stray bytes and comments; as it is where it is no JPEG stream.

    A picture of which data are missing does not become whole: zeros in a hole are taken away as well, and its decoder
    then finds too little.

    Args:
        data: a JPEG file.
    """
    kept, at, baseline = [data[:2]], 2, False
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data):
        marker = data[at + 1]
        if marker in (0x00, 0x01, 0xFF, *range(0xD0, 0xDA)):  # stray or fill bytes, markers without content
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at:end]
        if marker == _SCAN:
            if baseline:
                segment = segment[:-3] + b"\x00\x3f\x00"
            return b"".join([*kept, segment, _FILL.sub(b"", data[end:])])
        if marker in _FRAMES and marker not in (0xC4, 0xC8, 0xCC):
            baseline = marker in _BASELINE
        if marker not in _APPLICATION:
            kept.append(segment)
        at = end
    return data
