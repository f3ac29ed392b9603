"""The SHA-256 of what need not fit into memory."""

import hashlib
from typing import IO

_CHUNK_BYTES = 1 << 20


def sha256_of(stream: IO[bytes]) -> str:
    """In hexadecimal digits, of all that a binary stream still has to read."""
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
