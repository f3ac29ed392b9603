"""A small frames folder: two drives, cameras of two sizes and three models, every part that the format has."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

FORWARD = [[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]
Content = dict[str, Any]


def camera(name: str, token: str, size: tuple[int, int], **more: Any) -> Content:
    height, width = size
    return {
        "name": name,
        "image": f"images/{name}-{token}.png",
        "image_size": [height, width],
        "intrinsics": [0.7 * width, 0.7 * width, width / 2, height / 2],
        "translation": [1.5, 0.0, 1.6],
        "rotation": FORWARD,
        **more,
    }


def frame(token: str, number: int, **more: Any) -> Content:
    stamp_ns = 1_700_000_000_000_000_000 + number * 500_000_000
    fisheye = {"distortion_model": "equidistant", "distortion_coefficients": [0.01, 0, 0, 0]}
    return {
        "token": token,
        "scene": "monday",
        "stamp_ns": stamp_ns,
        "map_from_ego": {"translation": [100.0 + 5 * number, 200.0, 0.0], "rotation": [1, 0, 0, 0]},
        "cameras": [
            camera("front", token, (24, 32), distortion_model="plumb_bob", distortion_coefficients=[-0.1, 0, 0, 0, 0]),
            camera("left fisheye", token, (30, 30), stamp_ns=stamp_ns - 20_000_000, **fisheye),
        ],
        **more,
    }


def content() -> Content:
    road = [[50.0, 190.0], [160.0, 190.0], [160.0, 210.0], [50.0, 210.0], [50.0, 190.0]]
    crossing = [[110.0, 190.0], [114.0, 190.0], [114.0, 210.0], [110.0, 210.0], [110.0, 190.0]]
    shapes = [
        ("divider", "LineString", [[50.0, 200.0], [160.0, 200.0]]),
        ("boundary", "Polygon", [road]),
        ("ped_crossing", "Polygon", [crossing]),
        ("centerline", "LineString", [[50.0, 195.0], [160.0, 195.0]]),
    ]
    features = [
        {"type": "Feature", "properties": {"label": label}, "geometry": {"type": kind, "coordinates": points}}
        for label, kind, points in shapes
    ]
    lidar = {"file": "lidar/m1.bin", "columns": 4, "translation": [1.0, 0.0, 1.8], "rotation": [1, 0, 0, 0]}
    own = [{"label": "divider", "points": [[-50.0, 1.0], [50.0, 1.0]]}]
    pose = {"map_from_ego": None}
    return {
        "version": 1,
        "scenes": [
            {"name": "monday", "split": "train", "map": "maps/town.geojson", "sd_map": "maps/roads.geojson"},
            {"name": "tuesday", "split": "val", "description": "night, rain"},
        ],
        "frames": [
            frame("m0", 0),
            frame("m1", 1, lidar=lidar),
            frame("t0", 2, scene="tuesday", elements=own, sd_lines=[[[-60.0, 0.0], [60.0, 0.0]]], **pose),
        ],
        "map": {"type": "FeatureCollection", "crs": None, "features": features},
    }


def write(root: Path, what: Content, lines: bool = False) -> Path:
    """The folder of a content; its files are made as far as they can be."""
    for name in ("images", "maps", "lidar"):
        (root / name).mkdir(parents=True, exist_ok=True)
    about = {key: value for key, value in what.items() if key != "map"}
    if "map" in what:
        (root / "maps" / "town.geojson").write_text(json.dumps(what["map"]))
        (root / "maps" / "roads.geojson").write_text(json.dumps(what["map"]))
    if lines:
        records = [*about["scenes"], *about["frames"]]
        (root / "frames.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    else:
        (root / "frames.json").write_text(json.dumps(about))
    points = np.array([[10.0, 0.0, -1.8, 7.0], [0.5, 0.5, 0.0, 9.0]], "<f4")
    (root / "lidar" / "m1.bin").write_bytes(points.tobytes())
    for each in content()["frames"]:
        for camera_of_it in each["cameras"]:
            height, width = camera_of_it["image_size"]
            cv2.imwrite(str(root / camera_of_it["image"]), np.full((height, width, 3), 90, np.uint8))
    return root


@pytest.fixture
def frames_content() -> Content:
    """What stands in frames.json of the small folder, to be changed."""
    return content()


@pytest.fixture
def write_frames_folder() -> Callable[..., Path]:
    """Writes the folder of a content."""
    return write


@pytest.fixture
def frames_root(tmp_path: Path) -> Path:
    """The small folder."""
    return write(tmp_path / "own", content())
