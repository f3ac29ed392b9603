"""What a file that somebody hands over is, by its content: never run, hardly read.

A pickle runs whatever code its author put into it, so its first bytes are all that is looked at, and of a zip archive
the list of its members.
"""

import json
import re
import zipfile
from pathlib import Path

_HEAD = 4096
_LONGEST = 100_000_000  # bytes of such a header; what safetensors allows
_LENGTH = 8  # bytes that say how long the header of a safetensors file is
_PICKLE = re.compile(rb"\x80[\x01-\x05]|c[\w.]+\n[\w.]+\n|\((?:dp|lp)\d+\n|\(i[\w.]+\n")
_PAGE = re.compile(rb"\s*<(?:!doctype html|html|head|body|\?xml)", re.IGNORECASE)
_STARTS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; `git lfs pull` fetches that",
    b"../.git/annex/": "a pointer of git-annex, not the file itself; `git annex get` fetches that",
    b"/annex/objects/": "a pointer of git-annex, not the file itself; `git annex get` fetches that",
    b"\x1f\x8b": "a gzip archive, to be unpacked first",
    b"BZh": "a bzip2 archive, to be unpacked first",
    b"\xfd7zXZ": "an xz archive, to be unpacked first",
    b"\x28\xb5\x2f\xfd": "a zstd archive, to be unpacked first",
    b"7z\xbc\xaf": "a 7-zip archive, to be unpacked first",
    b"Rar!": "a RAR archive, to be unpacked first",
    b"ftrt": "a TensorRT engine",
    b"ptrt": "a TensorRT engine",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"GGUF": "a GGUF model",
    b"\x89MCAP": "a bag",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}
_ENGINES = {".onnx": "an ONNX model", ".engine": "a TensorRT engine", ".plan": "a TensorRT engine"}


def what_it_is(path: Path) -> str | None:
    """Words for a file that is no safetensors file, or not a whole one; None for one that looks like it or is unknown.

    Raises:
        OSError: if it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
        if not head.strip(b"\0"):
            return f"{size} zero bytes: a copy or download that failed" if head else "empty (0 bytes)"
        length = int.from_bytes(head[:_LENGTH], "little")
        if head[_LENGTH : _LENGTH + 1] == b"{" and length < _LONGEST:
            stream.seek(_LENGTH)
            return _cut_off(stream.read(length), length, size)
    if head.startswith(b"PK\x03\x04"):
        return _zip(path)
    if _PICKLE.match(head):
        return "a Python pickle (.pkl, or a PyTorch .pth, .pt, .ckpt, .bin), which is not read: it can run any code"
    if _PAGE.match(head):
        return "a web page, not the file that it offers: a log-in or a download page was saved"
    if head[257:262] == b"ustar":
        return "a tar archive, to be unpacked first"
    for start, kind in _STARTS.items():
        if head.startswith(start):
            return kind
    if path.suffix in _ENGINES:
        return f"{_ENGINES[path.suffix]}, not a checkpoint"
    if head[0] == 0x08 and head[2:3] in (b"\x12", b"\x3a") and (b"onnx" in head.lower() or b"pytorch" in head):
        return "an ONNX model, not a checkpoint"
    if _is_text(head):
        return "a text file" + (" (JSON)" if head.lstrip().startswith((b"{", b"[")) else "")
    return None


def _is_text(head: bytes) -> bool:
    if any(byte < 0x20 and byte not in b"\t\n\r\f" for byte in head):
        return False
    try:
        head[: head.rfind(b"\n") + 1 or len(head)].decode()
    except UnicodeDecodeError:
        return False
    return True


def _zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return "a zip archive that is cut off (a PyTorch .pth is one too); such files are not read"
    if any(name.endswith("constants.pkl") for name in names):
        return "a TorchScript archive, which is not read: it can run code"
    if any(name.endswith(".pkl") for name in names):
        return "a PyTorch file (.pth, .pt, .ckpt or .bin), which is not read: the pickle in it can run any code"
    return "a zip archive, to be unpacked first"


def _cut_off(header: bytes, length: int, size: int) -> str | None:
    """What a safetensors file lacks by its own header; None if it is whole or the header cannot be read."""
    if len(header) < length:
        return f"a safetensors file that is cut off in its header, after {size} bytes; copy it again"
    try:
        content = json.loads(header)
        ours = "hdmap" in content.get("__metadata__", {})
        ends = [entry["data_offsets"][1] for name, entry in content.items() if name != "__metadata__"]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError, IndexError):
        return None
    whole = _LENGTH + length + max(ends, default=0)
    if size >= whole:
        return None
    whose = "a checkpoint of hdmap_ros" if ours else "a safetensors file"
    return f"{whose} that is cut off: {size} of {whole} bytes; copy it again"
