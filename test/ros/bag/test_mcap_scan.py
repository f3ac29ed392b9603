"""MCAP files without their index: damaged ones, and those that rosbags does not take."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hdmap_core.errors import BagError
from hdmap_ros.bag.mcap import open_bag
from hdmap_ros.bag.mcap_scan import MAGIC, Channel, McapScan, declared_channels, has_summary, is_closed, profile


def test_an_mcap_without_index_is_read_in_order(drive: Path, tmp_path: Path, messages: Any, mcap: Any) -> None:
    """As rosbag2's preset fastwrite leaves it: no chunks, no summary, messages in the order of their arrival."""
    parts = mcap("ros2", "cdr", "std_msgs/msg/Empty", "ros2msg")
    message = parts.index(b"\5" + (33).to_bytes(8, "little"))
    record = parts[message : message + 42]

    def at(log_ns: int) -> bytes:
        return record[:15] + log_ns.to_bytes(8, "little") + record[23:]

    path = tmp_path / "fast.mcap"
    path.write_bytes(parts[:message] + at(3) + at(1) + at(2) + parts[message + 42 :])
    assert [log_ns for _, log_ns, _ in messages(path)] == [1, 2, 3]


def test_ros2_messages_without_the_profile_are_read(tmp_path: Path, messages: Any, mcap: Any) -> None:
    path = tmp_path / "scene.mcap"
    path.write_bytes(mcap("", "cdr", "std_msgs/msg/Empty", "ros2msg"))
    assert [(topic, data) for topic, _, data in messages(path)] == [("/cam_front/image", b"\0\1\0\0payload")]


@pytest.mark.parametrize("compression", ["", "STORAGE"])
@pytest.mark.parametrize("share", [0.3, 0.8])
@pytest.mark.parametrize("tail", [b"", bytes(70_000)])
def test_a_cut_mcap(
    noise: Path, tmp_path: Path, share: float, tail: bytes, compression: str, rewrite: Any, messages: Any
) -> None:
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


def test_damage_in_the_middle_of_an_mcap(drive: Path, tmp_path: Path, messages: Any) -> None:
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


def test_a_scan_reads_what_rosbags_reads(drive: Path, messages: Any) -> None:
    scan = McapScan(drive)
    assert scan.damage == []
    found = [(connection.topic, log_ns, data) for connection, log_ns, data in scan.messages(scan.connections)]
    assert sorted(found) == sorted(messages(drive))
    scan.close()


def test_the_ends_of_a_file_say_how_it_was_written(drive: Path, mcap: Any, tmp_path: Path) -> None:
    plain, cut = tmp_path / "plain.mcap", tmp_path / "cut.mcap"
    plain.write_bytes(mcap("mine", "cdr", "std_msgs/msg/Empty", "ros2msg"))
    cut.write_bytes(drive.read_bytes()[:2000])
    assert [profile(path) for path in (drive, plain, cut)] == ["ros2", "mine", "ros2"]
    assert [is_closed(path) for path in (drive, plain, cut)] == [True, True, False]
    assert [has_summary(path) for path in (drive, plain, cut)] == [True, False, False]


def test_channels_as_they_are_declared(drive: Path, mcap: Any, tmp_path: Path) -> None:
    with open_bag(drive) as bag:
        assert {channel.topic: channel.kind for channel in declared_channels(drive)} == bag.topics
    path = tmp_path / "foreign.mcap"
    path.write_bytes(mcap("", "json", "foxglove.PointCloud", "jsonschema"))
    (channel,) = declared_channels(path)
    assert channel == Channel("/cam_front/image", "json", "foxglove.PointCloud", "jsonschema", "")
    assert not channel.is_ros2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(share=st.floats(0.001, 0.999))
def test_wherever_a_file_is_cut_its_first_messages_are_read(noise: Path, tmp_path: Path, share: float) -> None:
    whole = McapScan(noise)
    sent = [(log_ns, data) for _, log_ns, data in whole.messages(whole.connections)]
    whole.close()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(noise.read_bytes()[: max(int(share * noise.stat().st_size), len(MAGIC))])
    scan = McapScan(cut)
    found = [(log_ns, data) for _, log_ns, data in scan.messages(scan.connections)]
    scan.close()
    assert found == sent[: len(found)]
    assert len(found) >= int(share * len(sent)) - 1 or not scan.connections
    assert (len(found) < len(sent)) <= len(scan.damage)
