from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml

from hdmap_core.errors import CalibrationError, ConfigError, DatasetError, ImageError
from hdmap_core.recordings.opening import open_recording
from hdmap_core.recordings.recording import Wanted
from hdmap_core.viz import write_picture
from hdmap_core.viz.film_file import open_film

SIZE = (64, 96)
CAMERAS = ("CAM_FRONT", "CAM_FRONT_LEFT")


@pytest.fixture
def rig(tmp_path: Path) -> Path:
    entry = {
        "image_size": list(SIZE),
        "intrinsics": [60, 60, 48, 32],
        "translation": [1.5, 0, 1.5],
        "yaw_pitch_roll_deg": [0, 0, 0],
    }
    path = tmp_path / "rig.yaml"
    cameras = {CAMERAS[0]: entry, CAMERAS[1]: entry | {"yaw_pitch_roll_deg": [55, 0, 0]}}
    path.write_text(yaml.safe_dump({"cameras": cameras}))
    return path


def image(path: Path, shade: int, size: tuple[int, int] = SIZE) -> str:
    write_picture(path, np.full((*size, 3), shade, np.uint8))
    return str(path)


def video(path: Path, shades: list[int]) -> str:
    with open_film(path) as film:
        for number, shade in enumerate(shades):
            film.add(np.full((*SIZE, 3), shade, np.uint8), number * 100_000_000)
    return str(path)


def shades(inputs: list[str], wanted: Wanted) -> list[Mapping[str, int | None]]:
    """Camera -> grey of its image, of each frame."""
    return [
        {
            name: None if picture is None else round(float(picture.mean()))
            for name, picture in zip(frame.rig.names, frame.images, strict=True)
        }
        for frame in open_recording(inputs, wanted).frames
    ]


def test_images_are_those_of_the_cameras_they_are_called_after(tmp_path: Path, rig: Path) -> None:
    names = ("n015-2018__CAM_FRONT_LEFT__1532402927612460.png", "CAM_FRONT.png")
    inputs = [image(tmp_path / names[0], 20), image(tmp_path / names[1], 10)]
    recording = open_recording(inputs, Wanted(rig=rig))
    assert (recording.whole_drive, recording.count) == (False, 1)
    (frame,) = recording.frames
    assert frame.rig.names == CAMERAS and [p.mean() for p in frame.images if p is not None] == [10, 20]
    np.testing.assert_allclose(frame.rig.ego_from_camera[1, :3, 2], [np.cos(np.deg2rad(55)), np.sin(np.deg2rad(55)), 0])
    assert frame.map_from_ego is None


def test_a_file_may_say_its_camera_and_cameras_may_lack(tmp_path: Path, rig: Path) -> None:
    assert shades([f"CAM_FRONT_LEFT={image(tmp_path / 'a.png', 20)}"], Wanted(rig=rig)) == [{CAMERAS[1]: 20}]


def test_images_of_half_the_size_fit_the_rig(tmp_path: Path, rig: Path) -> None:
    (frame,) = open_recording([image(tmp_path / "cam_front.png", 10, (32, 48))], Wanted(rig=rig)).frames
    assert frame.rig.image_size == (32, 48) and float(frame.rig.intrinsics[0, 0, 0]) == 30.0


def test_a_folder_with_a_folder_for_each_camera(tmp_path: Path, rig: Path) -> None:
    data = tmp_path / "data"
    for number in range(3):
        image(data / "CAM_FRONT" / f"{number:06}.png", 10 + number)
        image(data / "CAM_FRONT_LEFT" / f"{number:06}.png", 20 + number)
    recording = open_recording([str(data)], Wanted(rig=rig, rate=5.0))
    assert (recording.whole_drive, recording.count) == (True, 3)
    assert shades([str(data)], Wanted(rig=rig)) == [{CAMERAS[0]: 10 + n, CAMERAS[1]: 20 + n} for n in range(3)]
    assert [frame.stamp_ns for frame in recording.frames] == [0, 200_000_000, 400_000_000]
    assert shades([str(data)], Wanted(rig=rig, sample="2", whole_drive=False)) == [{CAMERAS[0]: 12, CAMERAS[1]: 22}]
    with pytest.raises(DatasetError, match="there is no frame 3; they are numbered from 0 to 2"):
        shades([str(data)], Wanted(rig=rig, sample="3", whole_drive=False))


def test_frames_are_counted_and_scenes_kept_apart(tmp_path: Path, rig: Path) -> None:
    data = tmp_path / "data"
    for scene in ("a", "b"):
        for number in (2, 10):
            image(data / scene / "CAM_FRONT" / f"{number}.png", number + 100 * (scene == "b"))
    assert [frame["CAM_FRONT"] for frame in shades([str(data)], Wanted(rig=rig))] == [2, 10, 102, 110]


def test_a_folder_of_files_called_after_cameras_whose_stamps_differ(tmp_path: Path, rig: Path) -> None:
    data = tmp_path / "data"
    for number in range(2):
        image(data / f"{1000 + number}_CAM_FRONT.png", 10 + number)
        image(data / f"{1003 + number * 2}_CAM_FRONT_LEFT.png", 20 + number)
    assert shades([str(data)], Wanted(rig=rig)) == [{CAMERAS[0]: 10 + n, CAMERAS[1]: 20 + n} for n in range(2)]
    image(data / "1009_CAM_FRONT.png", 30)
    with pytest.raises(DatasetError, match=r"CAM_FRONT has 3 images, camera CAM_FRONT_LEFT has 2"):
        shades([str(data)], Wanted(rig=rig))


def test_videos(tmp_path: Path, rig: Path) -> None:
    pytest.importorskip("av", reason="videos need PyAV; run make setup")
    inputs = [video(tmp_path / "cam_front.mp4", [40, 60, 80, 90]), video(tmp_path / "cam_front_left.mp4", [100, 120])]
    found = shades(inputs, Wanted(rig=rig, rate=0, min_cameras=1))
    assert [frame["CAM_FRONT_LEFT"] is None for frame in found] == [False, False, True, True]
    for frame, expected in zip(found, (40, 60, 80, 90), strict=True):
        assert frame["CAM_FRONT"] == pytest.approx(expected, abs=3)
    assert len(shades(inputs, Wanted(rig=rig, rate=0))) == 2, "as long as all have pictures"
    ((only,),) = ([f["CAM_FRONT"] for f in shades(inputs, Wanted(rig=rig, rate=0, sample="1", whole_drive=False))],)
    assert only == pytest.approx(60, abs=3)
    with pytest.raises(DatasetError, match="there is no frame 7; the video has 2"):
        shades(inputs, Wanted(rig=rig, rate=0, sample="7", whole_drive=False))
    with pytest.raises(ConfigError, match="images and videos at once"):
        shades([inputs[0], image(tmp_path / "cam_front_left.png", 1)], Wanted(rig=rig))


@pytest.mark.parametrize(
    ("names", "wanted", "error", "message"),
    [
        (["CAM_FRONT.png"], {"rig": None}, ConfigError, "give --rig rig.yaml"),
        (["front.png"], {}, ConfigError, "front.png: which camera of the rig made it.* write CAMERA="),
        (["a_CAM_FRONT.png", "b_CAM_FRONT.png"], {}, ConfigError, "both belong to camera CAM_FRONT"),
        (["CAM_FRONT.png"], {"sweeps": 1}, ConfigError, "only cameras"),
        (["CAM_FRONT.png"], {"lidar_ground": True}, ConfigError, "--lidar-ground .* only cameras"),
        (["missing_CAM_FRONT.png"], {}, DatasetError, "missing_CAM_FRONT.png: no such file or folder"),
        (["broken_CAM_FRONT.png"], {}, ImageError, "broken_CAM_FRONT.png: neither JPEG nor PNG"),
        (["square_CAM_FRONT.png"], {}, CalibrationError, "CAM_FRONT: the image has 64 x 64 pixels"),
        (["folder"], {}, DatasetError, "holds no image that is called after a camera"),
        (["thing.txt"], {}, DatasetError, "thing.txt is nothing that can be predicted"),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, rig: Path, names: list[str], wanted: dict, error: type[Exception], message: str
) -> None:
    for name in ("CAM_FRONT.png", "front.png", "a_CAM_FRONT.png", "b_CAM_FRONT.png"):
        image(tmp_path / name, 10)
    image(tmp_path / "square_CAM_FRONT.png", 10, (64, 64))
    (tmp_path / "broken_CAM_FRONT.png").write_text("text")
    (tmp_path / "thing.txt").write_text("text")
    image(tmp_path / "folder" / "nobody.png", 10)
    with pytest.raises(error, match=message) as told:
        list(open_recording([str(tmp_path / name) for name in names], Wanted(**{"rig": rig} | wanted)).frames)
    assert "\n" not in str(told.value)
