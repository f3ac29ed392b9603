"""Videos and poses become a frames folder: times, rates, rotation, calibration, motion."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_core.datasets.frames.trajectory import Trajectory
from hdmap_core.datasets.opening import open_dataset
from hdmap_core.errors import DatasetError

RIG = """
cameras:
  front: {image_size: [48, 64], intrinsics: [50, 50, 31.5, 23.5], translation: [1.5, 0, 1.6],
          yaw_pitch_roll_deg: [0, 0, 0]}
  upright: {image_size: [64, 48], intrinsics: [50, 50, 23.5, 31.5], translation: [1.0, 0.5, 1.4],
            yaw_pitch_roll_deg: [90, 0, 0], distortion_model: equidistant, distortion_coefficients: [0.01]}
"""


def write_video(path: Path, grey: list[int], rate: int, rotation: int = 0) -> None:
    """Frames of one grey each, the upper half brighter by 60."""
    av = pytest.importorskip("av", reason="the extra video is not installed")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for value in grey:
            image = np.full((48, 64, 3), value, np.uint8)
            image[:24] += 60
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Two videos of two seconds at 10 and 5 Hz, a rig file, poses of a car at 10 m/s."""
    write_video(tmp_path / "front.mp4", list(range(20, 180, 8)), rate=10)
    write_video(tmp_path / "upright.mp4", list(range(20, 180, 16)), rate=5)
    (tmp_path / "rig.yaml").write_text(
        RIG.replace("[64, 48], intrinsics: [50, 50, 23.5, 31.5]", "[48, 64], intrinsics: [50, 50, 31.5, 23.5]")
    )
    lines = [f"{number / 2} {5 * number} 0 0 0 0 0 1" for number in range(6)]
    (tmp_path / "poses.txt").write_text("# time x y z qx qy qz qw\n" + "\n".join(lines))
    return tmp_path


def written(hdmap: Callable[..., Any], drive: Path, *options: object) -> Any:
    videos = (drive / "front.mp4", drive / "upright.mp4")
    ended = hdmap("frames", "from-video", *videos, "--calibration", drive / "rig.yaml", "-o", drive / "out", *options)
    assert ended.code == 0, ended.err
    return open_dataset(drive / "out")


def test_times_rates_and_calibration(drive: Path, hdmap: Callable[..., Any]) -> None:
    dataset = written(hdmap, drive, "--rate", 5, "--start", 100, "--scene", "monday", "--split", "val")
    assert len(dataset.tokens) == 10 and list(dataset.splits) == ["all", "val"]
    assert [scene.name for scene in dataset.scenes] == ["monday"]
    stamps = [dataset.observation(token, images=False).stamp_ns for token in dataset.tokens]
    np.testing.assert_allclose(np.array(stamps) * 1e-9, 100 + 0.2 * np.arange(10), atol=1e-6)
    third = dataset.observation(dataset.tokens[3])
    front, upright = third.images
    assert front is not None and upright is not None
    assert abs(float(front[40, 10, 0]) - (20 + 6 * 8)) < 6 and abs(float(upright[40, 10, 0]) - (20 + 3 * 16)) < 6
    assert third.rig.names == ("front", "upright") and third.map_from_ego is None
    lens = third.rig.lens_of_each[1]
    assert lens is not None and lens.kind == "fisheye" and lens.coefficients[0] == 0.01
    np.testing.assert_allclose(third.rig.ego_from_camera[1, :3, 3], [1.0, 0.5, 1.4])


def test_poses_place_frames_and_carry_cameras(drive: Path, hdmap: Callable[..., Any]) -> None:
    dataset = written(hdmap, drive, "--rate", 0, "--poses", drive / "poses.txt")
    assert len(dataset.tokens) == 20
    second = dataset.observation(dataset.tokens[1], images=False)  # at 0.1 s; the slower camera fired at 0 or 0.2 s
    assert second.map_from_ego is not None and second.map_from_ego[0, 3] == pytest.approx(1.0)
    late = (second.camera_stamps_ns[1] - second.stamp_ns) * 1e-9
    assert abs(late) == pytest.approx(0.1)
    assert float(second.rig.ego_from_camera[1, 0, 3]) == pytest.approx(1.0 + 10 * late)


def test_a_video_that_says_it_lies_on_its_side(drive: Path, hdmap: Callable[..., Any]) -> None:
    av = pytest.importorskip("av")
    if not hasattr(av.VideoFrame, "rotation"):
        pytest.skip("this PyAV does not tell rotations")
    side = drive / "side.mp4"
    write_video(side, [40] * 10, rate=5)
    data = bytearray(side.read_bytes())
    place = data.index(b"tkhd") + 4 + 4 + 36  # the matrix of the track header, version 0
    turned = [0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30]  # 90 degrees clockwise
    data[place : place + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in turned)
    side.write_bytes(bytes(data))
    (drive / "rig.yaml").write_text(RIG)
    ended = hdmap(
        *("frames", "from-video", drive / "front.mp4", f"upright={side}"),
        *("--calibration", drive / "rig.yaml", "-o", drive / "out", "--rate", 5),
    )
    assert ended.code == 0, ended.err
    image = open_dataset(drive / "out").observation(open_dataset(drive / "out").tokens[0]).images[1]
    assert image is not None and image.shape[:2] == (64, 48)
    assert image[30, 40].mean() > image[30, 5].mean() + 30, "what was above is now at the right"


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda d: (d / "poses.txt").write_text("0 0 0 0 0 0 0 1\n"), ("poses.txt", "1 poses; expected at least two")),
        (lambda d: (d / "poses.txt").write_text("0 0 0\n"), ("poses.txt, line 1", "expected `time x y z")),
        (lambda d: (d / "poses.txt").write_text("0 0 0 0 0 0 0 0\n"), ("poses.txt, line 1",)),
        (lambda d: (d / "poses.txt").write_text("0 0 0 0 0 0 0 1\n0 1 0 0 0 0 0 1"), ("does not come after",)),
        (lambda d: (d / "poses.txt").write_text("5 0 0 0 0 0 0 1\n6 1 0 0 0 0 0 1"), ("has no pose at 0.000 s",)),
        (lambda d: (d / "poses.txt").unlink(), ("cannot read", "poses.txt")),
        (lambda d: (d / "front.mp4").write_bytes(b"no video"), ("front.mp4",)),
        (lambda d: (d / "rig.yaml").write_text("cameras: {}"), ("rig.yaml",)),
        (lambda d: (d / "rig.yaml").write_text(RIG.replace("upright:", "back:")), ("upright.mp4",)),
        (lambda d: (d / "out").mkdir() or (d / "out" / "frames.json").write_text("{}"), ("holds frames already",)),
        (lambda d: (d / "out").write_text(""), ("is not a folder",)),
    ],
)
def test_what_cannot_become_frames_is_one_line(
    drive: Path, hdmap: Callable[..., Any], change: Callable[[Path], object], parts: tuple[str, ...]
) -> None:
    change(drive)
    videos = (drive / "front.mp4", drive / "upright.mp4")
    options = ("--calibration", drive / "rig.yaml", "-o", drive / "out", "--poses", drive / "poses.txt")
    hdmap("frames", "from-video", *videos, *options).assert_refused(*parts)


def test_a_car_that_turns(tmp_path: Path) -> None:
    (tmp_path / "poses.csv").write_text("0,0,0,0,0,0,0,1\n1,10,0,0,0,0,0.7071068,0.7071068\n9,0,0,0,0,0,0,1\n")
    trajectory = Trajectory(tmp_path / "poses.csv")
    half = trajectory.at(0.5)
    assert np.rad2deg(np.arctan2(half[1, 0], half[0, 0])) == pytest.approx(45) and half[0, 3] == 5
    with pytest.raises(DatasetError, match=r"no pose within a second of 5\.000 s"):
        trajectory.at(5.0)
    for seconds in (9.0, 9.0 + 1e-7, 1.0):
        assert trajectory.at(seconds)[0, 3] == pytest.approx(10.0 if seconds == 1.0 else 0.0), (
            "what the file itself says"
        )
