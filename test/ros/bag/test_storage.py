"""Paths that are no bag, or a damaged one: the true cause, what to do, and what can still be read."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from hdmap_core.errors import BagError
from hdmap_ros.bag.mcap import open_bag
from hdmap_ros.bag.storage import storage_files


def ros1(index_pos: int) -> bytes:
    fields = b"".join(
        (len(field)).to_bytes(4, "little") + field
        for field in (b"op=\x03", b"index_pos=" + index_pos.to_bytes(8, "little"), b"conn_count=" + bytes(4))
    )
    return b"#ROSBAG V2.0\n" + len(fields).to_bytes(4, "little") + fields + bytes(4000)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("drive.bag", ros1(4117), r"is a ROS 1 bag; run rosbags-convert --src \S*drive\.bag --dst \S*drive first"),
        ("renamed.mcap", ros1(4117), r"is a ROS 1 bag; run rosbags-convert"),
        ("cut.bag", ros1(0), r"ROS 1 bag that was never closed; run rosbag reindex \S*cut\.bag of a ROS 1, then rosb"),
        ("old.bag", b"#ROSBAG V1.2\nxx", "ROS 1 bag of a version before 2.0; run rosbag migrate"),
        ("drive.mcap.zstd", b"\x28\xb5\x2f\xfd" + bytes(9), r"is compressed; run zstd -d \S*zstd, or give the folder"),
        ("drive.db3.zst", b"\x28\xb5\x2f\xfd" + bytes(9), "is compressed; run zstd -d"),
        ("drive.mcap.lz4", b"\x04\x22\x4d\x18" + bytes(9), "is compressed; run lz4 -d"),
        ("drive.mcap.gz", b"\x1f\x8b\x08" + bytes(9), "is compressed; run gunzip"),
        ("bag.zip", b"PK\x03\x04" + bytes(9), "is compressed; run unzip"),
        ("empty.mcap", b"", r"is empty \(0 bytes\)"),
        ("zeros.mcap", bytes(999), "begins with zeros, as after a power failure"),
        ("text.mcap", b"hello\nworld\n" * 9, "is a text file that begins with 'hello"),
        ("page.mcap", b"<!DOCTYPE html><html>", "is a web page"),
        ("lfs.mcap", b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        ("short.db3", b"SQLite format 3\0", "is damaged|is no bag|is cut off"),
        ("noise.db3", bytes(range(200, 256)), "begins with the bytes c8 c9"),
        ("metadata.yaml", b"rosbag2_bagfile_information:", "only describes a bag; give its folder"),
    ],
)
def test_what_is_no_bag(tmp_path: Path, name: str, content: bytes, reason: str, refused: Any) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert re.search(reason, refused(path))
    assert "truncated" not in refused(path)


def test_foreign_folders(tmp_path: Path, drive: Path, refused: Any) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "it has no metadata.yaml and no .mcap or .db3 file, but nothing" in refused(folder)
    (folder / "notes.txt").write_text("hello")
    (folder / "inner").mkdir()
    shutil.copy(drive, folder / "inner")
    assert f"but inner, notes.txt; it contains bags: give {folder / 'inner' / 'drive.mcap'}" in refused(folder)
    (folder / "bag.tar.gz").write_bytes(b"\x1f\x8b")
    assert f"bag.tar.gz is compressed; run gunzip {folder / 'bag.tar.gz'} first" in refused(folder)
    (folder / "a.bag").write_bytes(ros1(4117))
    assert "is a ROS 1 bag; run rosbags-convert --src" in refused(folder)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            ("", "protobuf", "foxglove.CompressedImage", "protobuf"),
            "holds Foxglove protobuf messages, not ROS 2 ones; con",
        ),
        (
            ("", "json", "foxglove.PointCloud", "jsonschema"),
            "holds Foxglove JSON messages, not ROS 2 ones; convert them",
        ),
        (("ros2", "flatbuffer", "mine.Thing", "flatbuffer"), "holds flatbuffer messages, not ROS 2 ones; convert them"),
        (("ros1", "ros1", "sensor_msgs/Image", "ros1msg"), "holds ROS 1 messages in an MCAP file"),
    ],
)
def test_mcap_files_of_others(
    tmp_path: Path, content: tuple[str, str, str, str], reason: str, refused: Any, mcap: Any
) -> None:
    path = tmp_path / "scene.mcap"
    path.write_bytes(mcap(*content))
    assert reason in refused(path)


@pytest.mark.parametrize("storage", ["MCAP", "SQLITE3"])
@pytest.mark.parametrize("metadata", [None, "", "rosbag2_bagfile_information:\n  ver"])
def test_a_folder_without_usable_metadata_is_read(
    drive: Path, tmp_path: Path, storage: str, metadata: str, rewrite: Any, messages: Any
) -> None:
    folder = rewrite(drive, tmp_path / "folder", storage)
    (folder / "metadata.yaml").unlink()
    if metadata is not None:
        (folder / "metadata.yaml").write_text(metadata)
    assert sorted(messages(folder)) == sorted(messages(drive))


def test_metadata_of_other_versions_and_plugins(
    drive: Path, tmp_path: Path, rewrite: Any, messages: Any, refused: Any
) -> None:
    folder = rewrite(drive, tmp_path / "folder")
    metadata = (folder / "metadata.yaml").read_text()
    (folder / "metadata.yaml").write_text(metadata.replace("version: 9", "version: 10"))
    assert sorted(messages(folder)) == sorted(messages(drive))
    (folder / "metadata.yaml").write_text(metadata.replace("storage_identifier: mcap", "storage_identifier: mine"))
    assert "was recorded with the storage plugin 'mine'" in refused(folder)
    for old, new in (("compression_format: ''", "compression_format: lz4"), ("mode: ''", "mode: FILE")):
        assert old in metadata
        metadata = metadata.replace(old, new)
    (folder / "metadata.yaml").write_text(metadata)
    assert "and the compression 'lz4', which only rosbag2 reads; run ros2 bag convert" in refused(folder)


def test_nothing_whole_to_recover(drive: Path, tmp_path: Path) -> None:
    path = tmp_path / "begun.mcap"
    path.write_bytes(drive.read_bytes()[:60])
    with pytest.raises(BagError, match="holds no message that is whole"), open_bag(path, recover=True):
        pass


def test_split_files_are_read_as_one(drive: Path, tmp_path: Path, rewrite: Any, messages: Any) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    first = rewrite(drive, tmp_path / "first", end=100)
    shutil.copy(drive, folder / "drive_10.mcap")  # begins before the other ends: by time they lie in each other
    shutil.copy(first / "first.mcap", folder / "drive_2.mcap")
    assert [path.name for path in storage_files(folder)] == ["drive_2.mcap", "drive_10.mcap"]
    found = messages(folder)
    assert [log_ns for _, log_ns, _ in found] == sorted(log_ns for _, log_ns, _ in found)
    assert sorted(found) == sorted([*messages(drive), *messages(drive)[:100]])


def test_files_of_a_folder_that_are_no_parts_of_one_bag(
    drive: Path, tmp_path: Path, messages: Any, refused: Any
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(drive, folder / "drive_0.mcap")
    (folder / "drive_1.mcap.zstd").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(9))
    assert f"run zstd -d {folder / 'drive_1.mcap.zstd'}, or" in refused(folder), "a part of it is packed"
    shutil.copy(drive, folder / "drive_1.mcap")
    assert len(messages(folder)) == 2 * len(messages(drive)), "unpacked beside it"
    shutil.copy(drive, folder / "other.mcap")
    assert "give one of drive_0.mcap, drive_1.mcap, other.mcap" in refused(folder)


def test_a_file_that_the_metadata_names_is_missing(
    drive: Path, tmp_path: Path, rewrite: Any, messages: Any, refused: Any
) -> None:
    folder = rewrite(drive, tmp_path / "folder")
    (folder / "folder.mcap").rename(folder / "other.mcap")
    assert "metadata.yaml names folder.mcap, which is not there (it has other.mcap); copy it" in refused(folder)
    assert len(messages(folder, recover=True)) == len(messages(drive))


def test_recovery_of_a_folder_leaves_out_what_holds_nothing(
    drive: Path, tmp_path: Path, messages: Any, refused: Any
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(drive, folder / "drive_0.mcap")
    (folder / "drive_1.mcap").write_bytes(b"")
    assert "drive_1.mcap is empty" in refused(folder / "drive_1.mcap")
    with pytest.raises(BagError, match=r"drive_1\.mcap is empty"), open_bag(folder):
        pass
    with open_bag(folder, recover=True) as bag:
        assert sorted(bag.raw()) == sorted(messages(drive))
        assert "drive_1.mcap is empty" in bag.damage[0]


def test_public_cases(shared_case: Any, messages: Any, refused: Any) -> None:
    for name, reason in {
        "bag_ros1/drive.bag": "is a ROS 1 bag; run rosbags-convert",
        "bag_foxglove_protobuf/NuScenes-scene.mcap": "holds Foxglove protobuf messages, not ROS 2 ones",
        "bag_zstd_file/drive.mcap.zstd": "is compressed; run zstd -d",
    }.items():
        assert reason in refused(shared_case(name))
    assert len(messages(shared_case("bag_without_metadata/drive"))) == 96
