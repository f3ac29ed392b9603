"""nuScenes to rosbag2: topics, stamps, frames, bytes; and what happens when something is wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_core.errors import DatasetError, ImageError, OutputError
from hdmap_ros.bag.layouts import load_layout
from hdmap_ros.bag.mcap import open_bag
from hdmap_ros.bag.write import write_bag
from hdmap_ros.observing.images import decode_image
from hdmap_ros.stamps import stamp_to_ns


def test_topics_types_and_counts(drive: Path, rig_module: Any) -> None:
    with open_bag(drive) as bag:
        layout = load_layout("hdmap")
        for camera, topics in layout.cameras.items():
            assert bag.topics[topics.image] == "sensor_msgs/msg/CompressedImage", camera
            assert bag.counts[topics.image] == bag.counts[topics.info] == 8
        assert bag.counts["/tf"] == bag.counts["/odom"] == 7 * 8
        assert bag.counts["/tf_static"] == 1
        assert bag.counts[layout.lidar[0]] == 8
        assert bag.offered_qos("/tf_static").durability.name == "TRANSIENT_LOCAL"
        assert bag.offered_qos("/tf").durability.name == "VOLATILE"


def test_every_message_keeps_its_own_time(drive: Path, rig_module: Any) -> None:
    with open_bag(drive) as bag:
        messages = list(bag.messages())
    assert [log_ns for _, log_ns, _ in messages] == sorted(log_ns for _, log_ns, _ in messages)
    stamped = [(log_ns, stamp_to_ns(m.header.stamp)) for _, log_ns, m in messages if hasattr(m, "header")]
    assert all(log_ns == stamp_ns for log_ns, stamp_ns in stamped)
    fronts = [log_ns for topic, log_ns, _ in messages if topic == "/cam_front/image_raw/compressed"]
    assert fronts == [tick + rig_module.PHASES_NS["CAM_FRONT"] for tick in rig_module.ticks(8)]


def test_content(drive: Path, rig_module: Any) -> None:
    newest: dict[str, Any] = {}
    with open_bag(drive) as bag:
        for topic, _, message in bag.messages():
            newest[topic] = message
    image = newest["/cam_back/image_raw/compressed"]
    assert image.data.tobytes() == rig_module.jpeg(140)  # the original bytes
    assert (image.format, image.header.frame_id) == ("jpeg", "cam_back")
    info = newest["/cam_back/camera_info"]
    assert (info.distortion_model, list(info.d), info.height, info.width) == ("plumb_bob", [0.0] * 5, 90, 160)
    np.testing.assert_array_equal(info.r.reshape(3, 3), np.eye(3))
    np.testing.assert_array_equal(info.p.reshape(3, 4), np.column_stack([info.k.reshape(3, 3), np.zeros(3)]))
    frames = {(t.header.frame_id, t.child_frame_id) for t in newest["/tf_static"].transforms}
    assert frames == {("map", "odom"), ("base_link", "lidar_top")} | {
        ("base_link", c.lower()) for c in rig_module.CAMERAS
    }
    assert newest["/odom"].twist.twist.linear.x == pytest.approx(rig_module.SPEED, abs=1e-6)
    cloud = newest["/lidar_top/points"]
    assert [(field.name, field.offset, field.datatype) for field in cloud.fields] == [
        ("x", 0, 7),
        ("y", 4, 7),
        ("z", 8, 7),
        ("intensity", 12, 7),
        ("ring", 16, 7),
    ]
    assert (cloud.width, cloud.point_step, len(cloud.data)) == (7, 20, 140)


def test_raw_images_keyframes_only_without_lidar(rig_nuscenes: Path, tmp_path: Path) -> None:
    counts = write_bag(rig_nuscenes, "scene-0001", tmp_path / "raw.mcap", raw=True, lidar=False, keyframes_only=True)
    assert counts["/cam_front/image_raw"] == 4
    assert "/lidar_top/points" not in counts
    with open_bag(tmp_path / "raw.mcap") as bag:
        _, _, message = next(bag.messages(lambda topic: topic == "/cam_back/image_raw"))
    assert decode_image(message).mean() == pytest.approx(140, abs=2)


def test_what_goes_wrong_is_named_and_leaves_no_file(rig_nuscenes: Path, tmp_path: Path, rig_module: Any) -> None:
    out = tmp_path / "out" / "drive.mcap"
    out.parent.mkdir()
    out.write_bytes(b"what was there")

    def fails(error: type[Exception], match: str, scene: str = "scene-0001", root: Path = rig_nuscenes) -> None:
        with pytest.raises(error, match=match):
            write_bag(root, scene, out)
        assert out.read_bytes() == b"what was there"
        assert [path.name for path in out.parent.iterdir()] == ["drive.mcap"]

    fails(DatasetError, "no scene 'scene-0002'; it has scene-0001", scene="scene-0002")
    fails(DatasetError, "holds no data set", root=tmp_path / "out")
    image = next((rig_nuscenes / "samples" / "CAM_BACK").iterdir())
    image.write_bytes(rig_module.jpeg(1)[:-10])
    fails(ImageError, f"{image}.*truncated")
    image.unlink()
    fails(DatasetError, f"cannot read {image}")
    (rig_nuscenes / "v1.0-mini" / "ego_pose.json").unlink()
    fails(DatasetError, r"lacks ego_pose\.json")


@pytest.mark.parametrize(("name", "reason"), [("drive.bag", r"ends in \.mcap"), ("folder.mcap", "is a folder")])
def test_unusable_outputs(rig_nuscenes: Path, tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder.mcap").mkdir()
    with pytest.raises(OutputError, match=reason):
        write_bag(rig_nuscenes, "scene-0001", tmp_path / name)


def test_a_file_where_a_folder_should_be(rig_nuscenes: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_bag(rig_nuscenes, "scene-0001", tmp_path / "file" / "drive.mcap")
