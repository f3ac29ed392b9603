"""What a path given as a bag really is, told by its first and last bytes; and if it is no bag, what to do about it.

Every way to open a bag (replay, player, launch) asks here first, so that all give the same answer. Needs no rosbags.
"""

import re
import shlex
import struct
from pathlib import Path
from typing import Any

import yaml

from hdmap_core.errors import BagError
from hdmap_core.files.yaml_files import read_yaml
from hdmap_ros.bag.compression import ZSTD_MAGIC
from hdmap_ros.bag.mcap_scan import MAGIC as MCAP_MAGIC
from hdmap_ros.bag.mcap_scan import declared_channels, is_bounded, is_closed
from hdmap_ros.bag.sqlite_salvage import SIDE_FILES

SQLITE_MAGIC = b"SQLite format 3\0"
_ROS1 = (b"#ROSBAG V", b"#ROSRECORD V")
_RECOVER = "or read what is whole with --recover"
# first bytes -> command that unpacks
_PACKED = {
    ZSTD_MAGIC: "zstd -d",
    b"\x04\x22\x4d\x18": "lz4 -d",
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ\0": "unxz",
    b"PK\x03\x04": "unzip",
    b"7z\xbc\xaf\x27\x1c": "7z x",
}
_PACKED_ENDINGS = (".zstd", ".zst", ".lz4", ".gz", ".bz2", ".xz", ".zip", ".7z")
_METADATA_VERSION = 9  # the newest that rosbags reads; of a newer one the storage files alone are looked at
STORAGE_ENDINGS = (".mcap", ".db3")


def is_bag(path: Path) -> bool:
    """Whether a file or folder looks like a bag, by its name or those of its files."""
    if not path.is_dir():
        return path.suffix in (*STORAGE_ENDINGS, ".bag")
    return (path / "metadata.yaml").is_file() or any(any(path.glob(f"*{ending}")) for ending in STORAGE_ENDINGS)


def storage_files(path: str | Path, damage: list[str] | None = None) -> list[Path]:
    """What a reader has to open for a bag.

    Args:
        path: an .mcap or .db3 file, or a rosbag2 folder.
        damage: None refuses a recording that was cut off or lacks files. A list takes it, for the whole messages in
            it, and gets a sentence about each file that is left out.

    Returns:
        The folder itself where its metadata.yaml is usable, otherwise the storage file or files, in order.

    Raises:
        BagError: if there is no bag that can be read; it says what is there instead, and what to do.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise BagError(f"{path}: no such bag; give an .mcap file or a rosbag2 folder")
        if path.is_dir():
            return _of_folder(path, damage)
        if path.name == "metadata.yaml":
            raise BagError(f"{path} only describes a bag; give its folder {path.parent}")
        _check_file(path, damage is not None)
        return [path]
    except OSError as error:
        raise BagError(f"cannot read {error.filename or path}: {error.strerror or error}") from None


def _of_folder(folder: Path, damage: list[str] | None) -> list[Path]:
    recover = damage is not None
    metadata = _metadata(folder)
    listed = [] if metadata is None else [folder / name for name in metadata["files"]]
    missing = [file.name for file in listed if not file.is_file()]
    if missing and damage is None:
        raise BagError(_missing_files(folder, missing))
    if metadata is not None and metadata["compression_mode"] == "file" and not missing:
        return [folder]
    here = [entry for entry in folder.iterdir() if entry.is_file()]
    files = sorted((entry for entry in here if _is_storage(entry)), key=_in_order)
    if not files:
        raise BagError(_folder_without_files(folder, here))
    if not listed and len({re.sub(r"\d*\.(mcap|db3).*$", "", file.name) for file in files}) > 1:
        names = ", ".join(file.name for file in files)
        raise BagError(
            f"{folder} has no usable metadata.yaml and files that are no parts of one bag: give one of {names}"
        )
    usable, refused = [], [f"{folder / name} is not there" for name in missing]
    for file in files if recover or not listed else listed:
        try:
            _check_file(file, recover)
        except BagError as error:
            refused.append(str(error))
        else:
            usable.append(file)
    if refused and (damage is None or not usable):
        raise BagError(refused[0])
    if damage is None:
        # Readers of folders unpack chunks whole; file by file those that do not say how large they are get ours.
        trusted = all(is_bounded(file) for file in usable if _head(file).startswith(MCAP_MAGIC))
        return [folder] if listed and trusted else usable
    damage += refused
    return usable


def _metadata(folder: Path) -> dict[str, Any] | None:
    """Files and compression mode that metadata.yaml states; None where there is none, or half of one."""
    try:
        content = read_yaml(folder / "metadata.yaml")
        content = content["rosbag2_bagfile_information"]
        names = [Path(name).name for name in content["relative_file_paths"]]
        [entry["topic_metadata"]["name"] for entry in content["topics_with_message_count"]]
        mode = str(content.get("compression_mode") or "").lower()
        written_with = (content["storage_identifier"], content.get("compression_format") or "zstd")
        known = content["version"] <= _METADATA_VERSION
    except (FileNotFoundError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None
    if written_with[0] not in ("mcap", "sqlite3") or (mode in ("file", "message") and written_with[1] != "zstd"):
        raise BagError(
            f"{folder} was recorded with the storage plugin {written_with[0]!r} and the compression "
            f"{written_with[1]!r}, which only rosbag2 reads; run ros2 bag convert, to mcap or sqlite3 with zstd or none"
        )
    return {"files": names, "compression_mode": mode} if names and known else None


def _is_storage(file: Path) -> bool:
    """Whether it is called like a storage file, or like a packed one that was not unpacked beside it."""
    if file.suffix in _PACKED_ENDINGS and Path(file.stem).suffix in STORAGE_ENDINGS:
        return not file.with_suffix("").exists()
    return file.suffix in STORAGE_ENDINGS


def _missing_files(folder: Path, missing: list[str]) -> str:
    others = sorted(entry.name for entry in folder.iterdir() if entry.suffix in STORAGE_ENDINGS)
    has = f" (it has {', '.join(others[:5])})" if others else ""
    return (
        f"{folder}: metadata.yaml names {', '.join(missing)}, which is not there{has}; copy it as well, run "
        f"ros2 bag reindex {_quoted(folder)}, {_RECOVER}"
    )


def _folder_without_files(folder: Path, here: list[Path]) -> str:
    """Why a folder without .mcap and .db3 files is no bag."""
    for entry in sorted(here):
        head = _head(entry)
        if entry.suffix == ".bag" or head.startswith(_ROS1):
            return f"{folder} is no rosbag2 folder: {_ros1(entry, head)}"
        if entry.suffix in _PACKED_ENDINGS:
            return f"{folder} is no rosbag2 folder: {entry} is compressed; run {_unpacking(entry, head)} first"
    bags = [entry.parent for entry in sorted(folder.glob("*/metadata.yaml"))]
    bags += sorted(folder.glob("*/*.mcap")) if not bags else []
    hint = f"; it contains bags: give {bags[0]}" if bags else ""
    has = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5]) or "nothing"
    return f"{folder} is no rosbag2 folder: it has no metadata.yaml and no .mcap or .db3 file, but {has}{hint}"


def _check_file(file: Path, recover: bool) -> None:
    if not file.is_file():
        raise BagError(f"{file} is no file; give an .mcap file or a rosbag2 folder")
    head = _head(file)
    if not head:
        raise BagError(
            f"{file} is empty (0 bytes): the recording never reached the disk, or was not copied; copy it again"
        )
    if head.startswith(_ROS1):
        raise BagError(_ros1(file, head))
    if head.startswith(MCAP_MAGIC):
        _check_mcap(file, recover)
    elif head.startswith(SQLITE_MAGIC):
        _check_sqlite(file, head, recover)
    elif head.startswith(tuple(_PACKED)):
        folder = f"the folder {file.parent}" if (file.parent / "metadata.yaml").is_file() else "the folder of the bag"
        raise BagError(f"{file} is compressed; run {_unpacking(file, head)}, or give {folder} with its metadata.yaml")
    else:
        raise BagError(f"{file} is no bag: {_what_else(head)}; a bag is an .mcap or .db3 file, or a rosbag2 folder")


def _check_mcap(file: Path, recover: bool) -> None:
    channels = declared_channels(file)
    if channels and not any(channel.is_ros2 for channel in channels):
        raise BagError(_foreign_messages(file, {c.encoding or c.schema_encoding for c in channels}, channels[0].kind))
    if recover:
        return
    if not is_closed(file):
        raise BagError(
            f"{file} is cut off: it ends without the index that closes a recording (a power failure, an incomplete "
            f"copy, or it is still being recorded); copy it again, {_RECOVER}"
        )
    if file.suffix != ".mcap":
        raise BagError(f"{file} is an MCAP file by its content; rename it so that it ends in .mcap")


def _foreign_messages(file: Path, encodings: set[str], kind: str) -> str:
    if "ros1" in encodings:
        return (
            f"{file} holds ROS 1 messages in an MCAP file, not ROS 2 ones; convert the .bag that it was made from "
            "with rosbags-convert"
        )
    names = "/".join("JSON" if name == "json" else name or "unnamed" for name in sorted(encodings))
    whose = "Foxglove " if kind.startswith("foxglove.") else ""
    return (
        f"{file} holds {whose}{names} messages, not ROS 2 ones; convert them to ROS 2 messages (it has {kind}), or "
        "write the nuScenes scene anew with hdmap bag write"
    )


def _check_sqlite(file: Path, head: bytes, recover: bool) -> None:
    if recover:
        return
    unfinished = [f"{file.name}{ending}" for ending in SIDE_FILES if _size(Path(f"{file}{ending}"))]
    if unfinished:
        raise BagError(
            f"{file} was never closed (a power failure, or it is still being recorded): {unfinished[0]} "
            f"beside it holds what is not in it yet; stop the recorder, {_RECOVER}"
        )
    head = head.ljust(32, b"\0")
    page, pages = struct.unpack_from(">H", head, 16)[0], struct.unpack_from(">I", head, 28)[0]
    page = 65536 if page == 1 else page  # it does not fit in the two bytes
    if file.stat().st_size < page * pages:
        raise BagError(
            f"{file} is cut off: it has {file.stat().st_size} of {page * pages} bytes (a power failure, or an "
            f"incomplete copy); copy it again, {_RECOVER}"
        )
    if file.suffix != ".db3":
        raise BagError(f"{file} is an SQLite file by its content; if it is a bag, rename it so that it ends in .db3")


def _ros1(file: Path, head: bytes) -> str:
    convert = f"rosbags-convert --src {_quoted(file)} --dst {_quoted(file.with_suffix(''))}"
    if not head.startswith(_ROS1):
        return f"{file} is called like a ROS 1 bag, but {_what_else(head)}"
    if not head.startswith(b"#ROSBAG V2.0"):
        return f"{file} is a ROS 1 bag of a version before 2.0; run rosbag migrate of a ROS 1, then {convert}"
    index = head.find(b"index_pos=")
    if file.name.endswith(".active") or (index >= 0 and head[index + 10 : index + 18] == bytes(8)):
        reindex = f"rosbag reindex {_quoted(file)}"
        return f"{file} is a ROS 1 bag that was never closed; run {reindex} of a ROS 1, then {convert}"
    return f"{file} is a ROS 1 bag; run {convert} first"


def _unpacking(file: Path, head: bytes) -> str:
    command = next((command for magic, command in _PACKED.items() if head.startswith(magic)), "its unpacker on")
    return f"{command} {_quoted(file)}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _what_else(head: bytes) -> str:
    text = head.lstrip()[:200].decode("utf-8", errors="replace")
    if not head.strip(b"\0"):
        return "it begins with zeros, as after a power failure"
    if text.startswith("version https://git-lfs"):
        return "it is a Git LFS pointer (run git lfs pull)"
    if text.lower().startswith(("<!doctype", "<html")):
        return "it is a web page (the download failed)"
    if head[257:262] == b"ustar":
        return "it is a tar archive (run tar xf)"
    if "\ufffd" not in text[:100] and text.isprintable() | ("\n" in text):
        return f"it is a text file that begins with {text[:20]!r}"
    return f"it begins with the bytes {head[:8].hex(' ')}"


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(4096)


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _in_order(file: Path) -> list[Any]:
    """drive_2 before drive_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)]
