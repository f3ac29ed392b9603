"""Zstandard and LZ4, with what rosbags installs: whole frames, and the beginning of frames that were cut off."""

import sys
from typing import Any

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def zstd_decompress(data: bytes) -> bytes:
    """The content of a Zstandard frame."""
    return _zstd().decompress(data)


def decompress_as_far_as_possible(data: bytes, compression: str) -> bytes:
    """What can be read of a chunk of an MCAP file, whose compression is zstd, lz4 or none (an empty string)."""
    if not compression:
        return data
    if compression == "zstd":
        decompressor = _zstd().ZstdDecompressor()
    elif compression == "lz4":
        from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]

        decompressor = LZ4FrameDecompressor()
    else:
        return b""
    parts, step = [], 4096
    for begin in range(0, len(data), step):  # in small steps: one that fails gives nothing of what it was given
        try:
            parts.append(decompressor.decompress(data[begin : begin + step]))
        except (_zstd().ZstdError, RuntimeError, EOFError):
            break
    return b"".join(parts)


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
