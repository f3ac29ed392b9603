"""What is wrong with a frames folder is told in one line: the file, the frame, the camera, the field."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hdmap_core.datasets.opening import open_dataset
from hdmap_core.errors import DatasetError, HdmapError, ImageError

Writer = Callable[..., Path]
FRONT = "frame 'm1', camera 'front'"


def front(content: Any) -> Any:
    return content["frames"][1]["cameras"][0]


def first(content: Any) -> Any:
    return content["frames"][1]


CHANGES: dict[str, tuple[Callable[[Any], object], str]] = {
    "a pose that is not a number": (
        lambda c: first(c)["map_from_ego"].update(translation=[float("nan"), 0, 0]),
        r"frame 'm1': 'map_from_ego.translation' must be \[x, y, z\], finite numbers, metres; got \[NaN",
    ),
    "an infinite intrinsic": (lambda c: front(c).update(intrinsics=[float("inf"), 1, 1, 1]), f"{FRONT}: 'intrinsics'"),
    "a focal length of zero": (
        lambda c: front(c).update(intrinsics=[0, 700, 16, 12]),
        f"{FRONT}: focal lengths must be positive",
    ),
    "intrinsics of two rows": (
        lambda c: front(c).update(intrinsics=[[1, 0, 0], [0, 1, 0]]),
        rf"{FRONT}: 'intrinsics' must be \[fx, fy, cx, cy\], or a 3 x 3 matrix",
    ),
    "a lens that nobody knows": (
        lambda c: front(c).update(distortion_model="panorama"),
        f"{FRONT}: a lens of the model 'panorama' is not known; known are plumb_bob",
    ),
    "too many coefficients": (
        lambda c: front(c).update(distortion_model="equidistant", distortion_coefficients=[0.1] * 5),
        f"{FRONT}: a lens of the model 'equidistant' has at most 4 coefficients, got 5",
    ),
    "coefficients as text": (
        lambda c: front(c).update(distortion_coefficients="0.1"),
        f"{FRONT}: 'distortion_coefficients' must be a list of finite numbers",
    ),
    "a quaternion of zero": (lambda c: front(c).update(rotation=[0, 0, 0, 0]), f"{FRONT}: not a rotation quaternion"),
    "a matrix that does not turn": (
        lambda c: front(c).update(rotation=[[1, 0, 0], [0, 1, 0], [0, 0, 2]]),
        f"{FRONT}: the extrinsics' rotation is not a rotation",
    ),
    "no rotation": (lambda c: front(c).pop("rotation"), f"{FRONT}: the field 'rotation' is missing"),
    "two rotations": (
        lambda c: front(c).update(yaw_pitch_roll_deg=[0, 0, 0]),
        f"{FRONT}: give 'rotation' or 'yaw_pitch_roll_deg', not both",
    ),
    "no translation": (
        lambda c: front(c).pop("translation"),
        rf"{FRONT}: the field 'translation' is missing: \[x, y, z\] of the camera",
    ),
    "no image": (lambda c: front(c).pop("image"), f"{FRONT}: the field 'image' is missing: a JPEG or PNG file"),
    "an absolute path": (
        lambda c: front(c).update(image="/etc/passwd"),
        f"{FRONT}: 'image' must be a JPEG or PNG file: a path inside the folder",
    ),
    "a path that leads out": (lambda c: front(c).update(image="images/../../x.png"), r"without \.\.; got \"images/"),
    "a path of another system": (lambda c: front(c).update(image="images\\m1.png"), f"{FRONT}: 'image' must be"),
    "an empty path": (lambda c: front(c).update(image=""), f"{FRONT}: 'image' must be"),
    "a map that lies outside": (
        lambda c: c["scenes"][0].update(map="../town.geojson"),
        r"scene 'monday': 'map' must be the true map as GeoJSON",
    ),
    "a LiDAR file that lies outside": (
        lambda c: first(c)["lidar"].update(file="/points.bin"),
        "frame 'm1': 'lidar.file' must be little-endian float32",
    ),
    "two columns of points": (lambda c: first(c)["lidar"].update(columns=2), "frame 'm1': 'lidar.columns' must be"),
    "a size of three": (
        lambda c: front(c).update(image_size=[24, 32, 3]),
        rf"{FRONT}: 'image_size' must be \[height, width\]",
    ),
    "a size of nothing": (lambda c: front(c).update(image_size=[0, 32]), f"{FRONT}: 'image_size' must be"),
    "a size as text": (lambda c: front(c).update(image_size=["24", "32"]), f"{FRONT}: 'image_size' must be"),
    "an unknown field": (
        lambda c: front(c).update(colour="RGB"),
        f"{FRONT}: the field 'colour' is not known; known are name, image",
    ),
    "a misspelt field of a frame": (lambda c: first(c).update(stamp=1), "frame 'm1': the field 'stamp' is not known"),
    "a camera twice": (
        lambda c: first(c)["cameras"].append(front(c)),
        "frame 'm1': camera 'front' occurs twice; give every camera its own name",
    ),
    "a camera without a name": (lambda c: front(c).pop("name"), "camera number 1: the field 'name' is missing"),
    "no cameras": (lambda c: first(c).update(cameras=[]), "frame 'm1': 'cameras' must be a list of at least one"),
    "cameras as an object": (lambda c: first(c).update(cameras={"front": {}}), "frame 'm1': 'cameras' must be a list"),
    "a camera that is text": (lambda c: first(c).update(cameras=["front"]), "camera number 1: expected an object"),
    "a token twice": (lambda c: first(c).update(token="m0"), "frame 'm0' occurs twice; give each its own name"),
    "a token that is a number": (lambda c: first(c).update(token=7), "frame number 2: 'token' must be a name"),
    "a frame without a token": (lambda c: first(c).pop("token"), "frame number 2: the field 'token' is missing"),
    "a scene twice": (lambda c: c["scenes"].append(c["scenes"][0]), "scene 'monday' occurs twice"),
    "an instant twice": (
        lambda c: first(c).update(stamp_ns=c["frames"][0]["stamp_ns"]),
        "frame 'm1': 'stamp_ns' 1700000000000000000 is that of frame 'm0', too",
    ),
    "seconds in place of nanoseconds": (
        lambda c: first(c).update(stamp_ns=1.7e9 + 0.5),
        "frame 'm1': 'stamp_ns' must be a whole number of nanoseconds",
    ),
    "a time before all times": (lambda c: first(c).update(stamp_ns=-1), "frame 'm1': 'stamp_ns' must be"),
    "a time beyond all times": (lambda c: first(c).update(stamp_ns=2**70), "frame 'm1': 'stamp_ns' must be"),
    "a pose of the exposure alone": (
        lambda c: c["frames"][2]["cameras"][0].update(map_from_ego=first(c)["map_from_ego"]),
        "frame 't0', camera 'front': 'map_from_ego' is given, but the frame has none",
    ),
    "an element of no class": (
        lambda c: c["frames"][2]["elements"][0].update(label="kerb"),
        "frame 't0', element number 1: 'label' must be divider, ped_crossing",
    ),
    "an element of one point": (
        lambda c: c["frames"][2]["elements"][0].update(points=[[0, 0]]),
        "frame 't0', element number 1: 'points' must be a list of at least two",
    ),
    "a closed element of two points": (
        lambda c: c["frames"][2]["elements"][0].update(closed=True),
        "frame 't0': a divider needs at least 3 points when closed",
    ),
    "an empty list of frames": (lambda c: c.update(frames=[]), "'frames' must be a list of at least one frame"),
    "no frames at all": (lambda c: c.pop("frames"), "the field 'frames' is missing"),
    "another version": (lambda c: c.update(version=2), "'version' must be 1; got 2"),
    "a latitude that is none": (
        lambda c: c["scenes"][0].update(map_origin={"latitude": 103.8, "longitude": 1.3}),
        "scene 'monday': 'map_origin.latitude' must be degrees, -90 to 90; got 103.8",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_cannot_be(tmp_path: Path, frames_content: Any, write_frames_folder: Writer, name: str) -> None:
    change, message = CHANGES[name]
    root = write_frames_folder(tmp_path / "own", frames_content)
    change(frames_content)
    (root / "frames.json").write_text(json.dumps({k: v for k, v in frames_content.items() if k != "map"}))
    with pytest.raises(DatasetError, match=r"frames\.json: .*" + message) as caught:
        open_dataset(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"broken or truncated JSON at line 1, column 1"),
        (b'{"version": 1, "frames": [{"token": "a", ', r"broken or truncated JSON at line 1"),
        (b"[]", r"expected an object, got \[\]"),
        (b"null", r"expected an object, got null"),
        (b'"frames"', r"expected an object"),
        (b"[" * 100_000, r"JSON that is not read|broken or truncated JSON|expected an object"),
        ('{"version": 1}'.encode("utf-16"), r"not UTF-8"),
        (b'{"frames": [], "\xff": 1}', r"not UTF-8|frames"),
        (b"version: 1\nframes: []\n", r"broken or truncated JSON"),
        (b'{"version": 1, "frames": {"a": 1}}', r"'frames' must be a list"),
        (b'{"version": 1, "frames": [1]}', r"frame number 1: expected an object, got 1"),
    ],
)
def test_what_is_no_frames_file(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "frames.json").write_bytes(data)
    with pytest.raises(DatasetError, match=message) as caught:
        open_dataset(tmp_path)
    assert "frames.json" in str(caught.value) and "\n" not in str(caught.value)


def test_lines_are_named(tmp_path: Path, frames_content: Any, write_frames_folder: Writer) -> None:
    root = write_frames_folder(tmp_path / "own", frames_content, lines=True)
    path = root / "frames.jsonl"
    good = path.read_text().splitlines()
    path.write_text("\n".join([*good[:3], good[3][:-30], *good[4:]]))
    with pytest.raises(DatasetError, match=r"frames\.jsonl, line 4: broken or truncated JSON"):
        open_dataset(root)
    path.write_text("\n".join([*good[:3], good[3].replace("1.6", '"high"', 1), *good[4:]]))
    with pytest.raises(DatasetError, match=r"frames\.jsonl, line 4: frame 'm1', camera 'front': 'translation' must be"):
        open_dataset(root)
    path.write_text("\n\n")
    with pytest.raises(DatasetError, match="there is no frame in it"):
        open_dataset(root)


def test_a_byte_order_mark_does_no_harm(frames_root: Path) -> None:
    path = frames_root / "frames.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(open_dataset(frames_root).tokens) == 3


def test_files_that_are_missing_or_damaged(frames_root: Path) -> None:
    dataset, image = open_dataset(frames_root), frames_root / "images" / "front-m1.png"
    cv2.imwrite(str(image), np.zeros((24, 31, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"front-m1\.png has 31 x 24 pixels, frames\.json says 32 x 24"):
        dataset.observation("m1")
    image.write_bytes(b"GIF89a")
    with pytest.raises(ImageError, match=r"front-m1\.png: neither JPEG nor PNG"):
        dataset.observation("m1")
    image.unlink()
    with pytest.raises(DatasetError, match=r"cannot read .*front-m1\.png, which frames\.json names: No such file"):
        dataset.observation("m1")
    image.mkdir()
    with pytest.raises(DatasetError, match=r"cannot read .*front-m1\.png"):
        dataset.observation("m1")
    points = frames_root / "lidar" / "m1.bin"
    points.write_bytes(points.read_bytes()[:-3])
    with pytest.raises(DatasetError, match=r"m1\.bin has 29 bytes, which is no whole number of points of 4 float32"):
        dataset.observation("m1", images=False)


def geometry(kind: str, points: Any, label: Any = "divider") -> Any:
    return {"type": "Feature", "properties": {"label": label}, "geometry": {"type": kind, "coordinates": points}}


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (geometry("LineString", [[0, 0], [9, 9]], "kerb"), "feature 1 has the label 'kerb'; known are divider"),
        (geometry("LineString", [[0, 0], [9, 9]], None), "feature 1 has the label None"),
        (geometry("Point", [0, 0]), "feature 1, a divider, is a Point; expected LineString"),
        (geometry("LineString", [[0, 0], [9, 9]], "ped_crossing"), "a ped_crossing, is a LineString; expected Polygon"),
        (
            geometry("Polygon", [[[0, 0], [9, 9], [9, 0], [0, 9], [0, 0]]], "boundary"),
            "feature 1, a boundary, is no valid",
        ),
        (geometry("LineString", [[0, 0], ["a", 9]]), "not a GeoJSON FeatureCollection|not GeoJSON"),
        (geometry("LineString", [[0, 0]]), "not a GeoJSON FeatureCollection|not GeoJSON"),
        (geometry("Circle", [0, 0]), "not a GeoJSON FeatureCollection|not GeoJSON"),
        (geometry("LineString", [[0, 0], [float("nan"), 9]]), "feature 1 has a coordinate that is not finite|valid"),
        ("a feature", "not a GeoJSON FeatureCollection"),
    ],
)
def test_maps_that_are_none(frames_root: Path, feature: Any, message: str) -> None:
    path = frames_root / "maps" / "town.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    with pytest.raises(HdmapError, match=r"town\.geojson: .*(" + message + ")"):
        open_dataset(frames_root).elements("m1")
    path.write_text('{"type": "FeatureCollection", "feat')
    with pytest.raises(DatasetError, match=r"town\.geojson: not a GeoJSON"):
        open_dataset(frames_root).elements("m1")
    path.unlink()
    with pytest.raises(DatasetError, match=r"cannot read the map .*town\.geojson: No such file"):
        open_dataset(frames_root).elements("m1")
    assert not open_dataset(frames_root).has_vector_map("m1")
