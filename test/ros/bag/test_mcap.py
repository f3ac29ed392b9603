"""Bags as single files: whole or absent, read with clear errors."""

from pathlib import Path

import pytest

from hdmap_core.errors import BagError
from hdmap_ros.bag.mcap import open_bag, write_mcap


def test_the_file_is_a_whole_mcap_by_itself(drive: Path) -> None:
    data = drive.read_bytes()
    assert data[:8] == data[-8:] == b"\x89MCAP0\r\n"
    assert b"serialized_metadata" in data and b"drive.mcap" in data
    assert sorted(path.name for path in drive.parent.iterdir()) == ["drive.mcap", "nuscenes"]


def test_damaged_bags(drive: Path, tmp_path: Path) -> None:
    data = drive.read_bytes()
    middle = bytearray(data)
    middle[len(data) // 3 : len(data) // 2] = b"\xff" * (len(data) // 2 - len(data) // 3)
    (tmp_path / "bits.mcap").write_bytes(middle)
    with pytest.raises(BagError, match=r"bits\.mcap is damaged"), open_bag(tmp_path / "bits.mcap") as bag:
        list(bag.messages())
    with pytest.raises(BagError, match="no such bag"), open_bag(tmp_path / "none.mcap"):
        pass


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), write_mcap(tmp_path / "a.mcap") as bag:
        bag.declare("/t", "std_msgs/msg/Header")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
