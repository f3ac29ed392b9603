"""Paths that are no bag, or a damaged one: the true cause, what to do, and what can still be read."""

import re
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_core.errors import BagError
from hdmap_ros.bag.mcap import open_bag, write_mcap
from hdmap_ros.bag.mcap_scan import MAGIC, McapScan
from hdmap_ros.bag.storage import storage_files
from hdmap_ros.bag.write import write_bag
from hdmap_ros.message_types import bag_types


@pytest.fixture
def drive(rig_nuscenes: Path, tmp_path: Path) -> Path:
    path = tmp_path / "drive.mcap"
    write_bag(rig_nuscenes, "scene-0001", path, lidar=False)
    return path


def rewrite(source: Path, folder: Path, storage: str = "MCAP", compression: str = "", end: int | None = None) -> Path:
    """The bag as rosbag2 would have recorded it into a folder."""
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.rosbag2.enums import CompressionFormat, CompressionMode

    writer = Writer(folder, version=9, storage_plugin=StoragePlugin[storage])
    if compression:
        writer.set_compression(CompressionMode[compression], CompressionFormat.ZSTD)
    with writer, open_bag(source) as bag:
        connections = {
            topic: writer.add_connection(topic, kind, typestore=bag_types()[1]) for topic, kind in bag.topics.items()
        }
        for topic, log_ns, data in list(bag.raw())[:end]:
            writer.write(connections[topic], log_ns, data)
    return folder


@pytest.fixture
def noise(tmp_path: Path, bag_rig: Any) -> Path:
    """A hundred messages that no compression makes smaller."""
    path, random = tmp_path / "noise.mcap", np.random.default_rng(0)
    kind = "sensor_msgs/msg/CompressedImage"
    with write_mcap(path) as bag:
        bag.declare("/cam_back/image_raw/compressed", kind)
        for stamp_ns in range(10**18, 10**18 + 100):
            message = bag_rig.image("CAM_BACK", stamp_ns, random.bytes(5000))
            bag.write("/cam_back/image_raw/compressed", stamp_ns, message)
    return path


def messages(path: Path, recover: bool = False) -> list[tuple[str, int, bytes]]:
    with open_bag(path, recover) as bag:
        found = list(bag.raw())
        assert sum(bag.counts.values()) == len(found)
        assert (bag.start_ns, bag.end_ns) == (found[0][1], found[-1][1])
    return found


def refused(path: Path) -> str:
    """The one answer, with and without rosbags."""
    with pytest.raises(BagError) as caught, open_bag(path):
        pass
    assert str(path) in str(caught.value)
    return str(caught.value)


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
def test_what_is_no_bag(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert re.search(reason, refused(path))
    assert "truncated" not in refused(path)


def test_foreign_folders(tmp_path: Path, drive: Path) -> None:
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


def mcap(profile: str, encoding: str, kind: str, schema: str) -> bytes:
    """A closed MCAP file with one message, without a summary."""

    def text(value: str) -> bytes:
        return len(value).to_bytes(4, "little") + value.encode()

    def record(op: int, body: bytes) -> bytes:
        return bytes([op]) + len(body).to_bytes(8, "little") + body

    channel = b"\1\0\1\0" + text("/cam_front/image") + text(encoding) + text("")
    parts = [
        record(1, text(profile) + text("test")),
        record(3, b"\1\0" + text(kind) + text(schema) + text("x")),
        record(4, channel),
        record(5, b"\1\0" + bytes(20) + b"\0\1\0\0payload"),
        record(15, bytes(4)),
        record(2, bytes(20)),
    ]
    return MAGIC + b"".join(parts) + MAGIC


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
def test_mcap_files_of_others(tmp_path: Path, content: tuple[str, str, str, str], reason: str) -> None:
    path = tmp_path / "scene.mcap"
    path.write_bytes(mcap(*content))
    assert reason in refused(path)


def test_an_mcap_without_index_is_read_in_order(drive: Path, tmp_path: Path) -> None:
    """As rosbag2's preset fastwrite leaves it: no chunks, no summary, messages in the order of their arrival."""
    parts = mcap("ros2", "cdr", "std_msgs/msg/Empty", "ros2msg")
    message = parts.index(b"\5" + (33).to_bytes(8, "little"))
    record = parts[message : message + 42]

    def at(log_ns: int) -> bytes:
        return record[:15] + log_ns.to_bytes(8, "little") + record[23:]

    path = tmp_path / "fast.mcap"
    path.write_bytes(parts[:message] + at(3) + at(1) + at(2) + parts[message + 42 :])
    assert [log_ns for _, log_ns, _ in messages(path)] == [1, 2, 3]


def test_ros2_messages_without_the_profile_are_read(tmp_path: Path) -> None:
    path = tmp_path / "scene.mcap"
    path.write_bytes(mcap("", "cdr", "std_msgs/msg/Empty", "ros2msg"))
    assert [(topic, data) for topic, _, data in messages(path)] == [("/cam_front/image", b"\0\1\0\0payload")]


@pytest.mark.parametrize("storage", ["MCAP", "SQLITE3"])
@pytest.mark.parametrize("metadata", [None, "", "rosbag2_bagfile_information:\n  ver"])
def test_a_folder_without_usable_metadata_is_read(drive: Path, tmp_path: Path, storage: str, metadata: str) -> None:
    folder = rewrite(drive, tmp_path / "folder", storage)
    (folder / "metadata.yaml").unlink()
    if metadata is not None:
        (folder / "metadata.yaml").write_text(metadata)
    assert sorted(messages(folder)) == sorted(messages(drive))


def test_metadata_of_other_versions_and_plugins(drive: Path, tmp_path: Path) -> None:
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


def test_split_files_are_read_as_one(drive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    first = rewrite(drive, tmp_path / "first", end=100)
    shutil.copy(drive, folder / "drive_10.mcap")  # begins before the other ends: by time they lie in each other
    shutil.copy(first / "first.mcap", folder / "drive_2.mcap")
    assert [path.name for path in storage_files(folder)] == ["drive_2.mcap", "drive_10.mcap"]
    found = messages(folder)
    assert [log_ns for _, log_ns, _ in found] == sorted(log_ns for _, log_ns, _ in found)
    assert sorted(found) == sorted([*messages(drive), *messages(drive)[:100]])


def test_files_of_a_folder_that_are_no_parts_of_one_bag(drive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(drive, folder / "drive_0.mcap")
    (folder / "drive_1.mcap.zstd").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(9))
    assert f"run zstd -d {folder / 'drive_1.mcap.zstd'}, or" in refused(folder), "a part of it is packed"
    shutil.copy(drive, folder / "drive_1.mcap")
    assert len(messages(folder)) == 2 * len(messages(drive)), "unpacked beside it"
    shutil.copy(drive, folder / "other.mcap")
    assert "give one of drive_0.mcap, drive_1.mcap, other.mcap" in refused(folder)


@pytest.mark.parametrize("compression", ["FILE", "MESSAGE", "STORAGE"])
def test_compressed_folders_are_read(drive: Path, tmp_path: Path, compression: str) -> None:
    folder = rewrite(drive, tmp_path / "folder", compression=compression)
    assert sorted(messages(folder)) == sorted(messages(drive))
    file = next(path for path in folder.iterdir() if path.name != "metadata.yaml")
    if compression == "FILE":
        assert f"run zstd -d {file}, or give the folder {folder}" in refused(file)
    else:
        assert sorted(messages(file)) == sorted(messages(drive))
        assert sorted(messages(file, recover=True)) == sorted(messages(drive))


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python has zstd itself")
def test_a_package_that_does_not_load_is_no_damage(drive: Path, tmp_path: Path, monkeypatch: Any) -> None:
    folder = rewrite(drive, tmp_path / "folder", compression="MESSAGE")
    (folder / "metadata.yaml").unlink()  # which says that messages are compressed, and rosbags unpacks them
    monkeypatch.delattr("backports.zstd")
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    with pytest.raises(BagError, match=r"cannot be read here, as a package of this Python does not load: .*zstd"):
        messages(folder)


def test_a_file_that_the_metadata_names_is_missing(drive: Path, tmp_path: Path) -> None:
    folder = rewrite(drive, tmp_path / "folder")
    (folder / "folder.mcap").rename(folder / "other.mcap")
    assert "metadata.yaml names folder.mcap, which is not there (it has other.mcap); copy it" in refused(folder)
    assert len(messages(folder, recover=True)) == len(messages(drive))


@pytest.mark.parametrize("compression", ["", "STORAGE"])
@pytest.mark.parametrize("share", [0.3, 0.8])
@pytest.mark.parametrize("tail", [b"", bytes(70_000)])
def test_a_cut_mcap(noise: Path, tmp_path: Path, share: float, tail: bytes, compression: str) -> None:
    folder = rewrite(noise, tmp_path / "folder", compression=compression)
    file = folder / "folder.mcap"
    whole = messages(folder)
    (folder / "metadata.yaml").unlink()
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)] + tail)
    for path in (file, folder):
        with pytest.raises(BagError, match=r"folder\.mcap is cut off.*power failure.*--recover"), open_bag(path):
            pass
        found = messages(path, recover=True)
        # A compressed chunk comes in blocks of 128 kB, and half of one says nothing.
        assert 100 * share - (30 if compression else 4) <= len(found) <= 100 * share
        assert set(found) <= set(whole), "only whole messages, unchanged"
        with open_bag(path, recover=True) as bag:
            assert "without its index" in bag.damage[0]


def test_damage_in_the_middle_of_an_mcap(drive: Path, tmp_path: Path) -> None:
    data = bytearray(drive.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = b"\xff" * 2000
    path = tmp_path / "bits.mcap"
    path.write_bytes(data)
    with pytest.raises(BagError, match=r"bits\.mcap is damaged: .*--recover"), open_bag(path) as bag:
        list(bag.messages())
    found = messages(path, recover=True)
    assert found
    with open_bag(path, recover=True) as bag:
        assert "is damaged, what is not whole left out" in bag.damage[0]


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_cut_sqlite_file(noise: Path, tmp_path: Path, share: float) -> None:
    file = rewrite(noise, tmp_path / "folder", "SQLITE3") / "folder.db3"
    data, whole = file.read_bytes(), messages(file)
    file.write_bytes(data[: int(len(data) * share)])
    assert "folder.db3 is cut off: it has" in refused(file)
    found = messages(file, recover=True)
    assert 100 * share - 10 < len(found) < 100 * share
    assert set(found) <= set(whole), "only whole messages, unchanged"


def test_a_sqlite_file_that_was_never_closed(drive: Path, tmp_path: Path) -> None:
    """A writer that died left its last messages in the write-ahead log."""
    file = rewrite(drive, tmp_path / "folder", "SQLITE3", end=100) / "folder.db3"
    left = tmp_path / "left.db3"
    writer = sqlite3.connect(file)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    writer.execute("INSERT INTO messages (topic_id, timestamp, data) SELECT topic_id, timestamp, data FROM messages")
    writer.commit()
    for ending in ("", "-wal"):
        shutil.copy(f"{file}{ending}", f"{left}{ending}")
    writer.close()
    assert "was never closed" in refused(left)
    assert "left.db3-wal beside it" in refused(left)
    assert len(messages(left, recover=True)) == 200


def test_recovery_of_a_folder_leaves_out_what_holds_nothing(drive: Path, tmp_path: Path) -> None:
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


def test_a_scan_reads_what_rosbags_reads(drive: Path) -> None:
    scan = McapScan(drive)
    assert scan.damage == []
    found = [(connection.topic, log_ns, data) for connection, log_ns, data in scan.messages(scan.connections)]
    assert sorted(found) == sorted(messages(drive))
    scan.close()


def test_public_cases(shared: Path) -> None:
    for name, reason in {
        "bag_ros1/drive.bag": "is a ROS 1 bag; run rosbags-convert",
        "bag_foxglove_protobuf/NuScenes-scene.mcap": "holds Foxglove protobuf messages, not ROS 2 ones",
        "bag_zstd_file/drive.mcap.zstd": "is compressed; run zstd -d",
    }.items():
        assert reason in refused(shared / "cases" / name)
    assert len(messages(shared / "cases" / "bag_without_metadata" / "drive")) == 96


@pytest.fixture
def shared() -> Any:
    folder = Path(__file__).resolve().parents[4] / "shared"
    if not (folder / "cases").is_dir():
        pytest.skip("the collected failing inputs are not beside the checkout")
    return folder
