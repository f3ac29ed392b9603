"""Zstandard and LZ4, with what rosbags installs: whole frames, and the beginning of frames that were cut off.

A few kilobytes can unpack to gigabytes, so that what comes out is bounded.
"""

import sys
from typing import Any

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MOST_BYTES = 512 * 1024 * 1024
"""What one message or one chunk of a bag may unpack to: more than the largest picture that is decoded has."""


def zstd_decompress(data: bytes, most: int = MOST_BYTES) -> bytes:
    """The content of a Zstandard frame.

    Raises:
        ValueError: if it is more than `most` bytes, or the frame was cut off.
    """
    decompressor = _zstd().ZstdDecompressor()
    content = decompressor.decompress(data, max_length=most + 1)
    if len(content) > most:
        raise ValueError(f"{len(data)} bytes unpack to more than {most}")
    if not decompressor.eof:
        raise ValueError("compressed data is cut off")
    return bytes(content)


def stated_size(head: bytes, compression: str) -> int | None:
    """How many bytes a frame that begins so unpacks to by its own header; None where it does not say.

    Args:
        head: at least 19 bytes, or all there are.
        compression: zstd, lz4, or an empty string.
    """
    try:
        if compression == "zstd":
            return _zstd().get_frame_info(head).decompressed_size
        if compression == "lz4":
            from lz4.frame import get_frame_info

            return int(get_frame_info(head)["content_size"]) or None
    except Exception:  # a header that is none, or the library is missing, as the reader will say
        return None
    return None


def decompress_as_far_as_possible(data: bytes, compression: str, most: int = MOST_BYTES) -> bytes:
    """What can be read of a chunk of an MCAP file, whose compression is zstd, lz4 or none (an empty string).

    What is more than `most` bytes is left out.
    """
    if not compression:
        return data
    if compression == "zstd":
        decompressor = _zstd().ZstdDecompressor()
    elif compression == "lz4":
        from lz4.frame import LZ4FrameDecompressor

        decompressor = LZ4FrameDecompressor()
    else:
        return b""
    parts, step, left = [], 4096, most
    for begin in range(0, len(data), step):  # in small steps: one that fails gives nothing of what it was given
        try:
            parts.append(decompressor.decompress(data[begin : begin + step], max_length=left))
        except (_zstd().ZstdError, RuntimeError, EOFError):
            break
        left -= len(parts[-1])
        if left <= 0:
            break
    return b"".join(parts)


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
