"""Every example runs as its own text says, on data that are made here."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hdmap_core import NuScenesDataset
from hdmap_core.inference import load_predictor

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
FEW_STEPS = (
    "optim.steps=4",
    "optim.batch_size=2",
    "save_every=2",
    "evaluate_every=4",
    "evaluate_frames=2",
    "log_every=2",
)

pytestmark = pytest.mark.slow


def run(name: str, *arguments: object) -> str:
    """What an example prints."""
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def is_picture(path: Path) -> bool:
    return min(Image.open(path).size) > 100


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_tested(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 60
    assert re.search(rf'"{path.name}"', Path(__file__).read_text()), "add a test that runs it"
    assert f"examples/{path.name}" in lines[2] + "".join(lines[:8]), "its text says how it is called"


def test_predict_frame(tiny_world: Path, tmp_path: Path) -> None:
    said = run("predict_frame.py", tiny_world, "-o", tmp_path / "frame.png", "--index", 1)
    wanted = load_predictor().predict(NuScenesDataset(tiny_world)[1]).elements
    assert is_picture(tmp_path / "frame.png") and f"{len(wanted)} elements in" in said
    assert said.count("points about") == len(wanted)


def test_own_rig(tmp_path: Path) -> None:
    for name, size in (("front", (180, 320)), ("left", (120, 160))):
        Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(tmp_path / f"{name}.jpg")
    said = run("own_rig.py", tmp_path / "front.jpg", tmp_path / "left.jpg", "-o", tmp_path / "own.png")
    assert is_picture(tmp_path / "own.png") and "elements →" in said


def test_write_world(tmp_path: Path) -> None:
    options = ("--towns", 2, "--keyframes", 2, "--image-size", 45, 80, "--seed", 3)
    said = run("write_world.py", tmp_path / "world", *options)
    dataset = NuScenesDataset(tmp_path / "world")
    assert len(dataset) == 4 and len(dataset.scenes) == 2 and "boundary" in said and "4 keyframes" in said


def test_train_tiny(tiny_world: Path, tmp_path: Path) -> None:
    changes = (f"data.cache={tmp_path / 'cache'}", *FEW_STEPS)
    said = run("train_tiny.py", tiny_world, "-o", tmp_path / "run", *changes)
    assert (tmp_path / "run" / "checkpoints" / "best.safetensors").is_file() and "mAP of 4 keyframes" in said


def test_distil_tiny(tiny_world: Path, tmp_path: Path) -> None:
    changes = (f"data.cache={tmp_path / 'cache'}", *FEW_STEPS)
    said = run("distil_tiny.py", tiny_world, "-o", tmp_path / "runs", *changes)
    assert [line.split()[0] for line in said.splitlines()[-3:]] == ["teacher", "alone", "taught"]
    metrics = (tmp_path / "runs" / "taught" / "metrics.jsonl").read_text()
    assert "msrd" in metrics and "bev_features" in metrics
    assert "msrd" not in (tmp_path / "runs" / "alone" / "metrics.jsonl").read_text()


def test_export_and_run(tiny_world: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra export")
    pytest.importorskip("onnxruntime", reason="needs the extra export")
    said = run("export_and_run.py", tiny_world, "-o", tmp_path / "student.onnx")
    found = [float(number) for number in re.findall(r"at most (\S+) off", said)]
    assert found and max(found) < 1e-3 and load_predictor(tmp_path / "student.onnx", "cpu").info.engine == "onnxruntime"


def test_import_released(oracle: Callable[[str], Any], tiny_world: Path, place: Path) -> None:
    reference, out = oracle("hdmapnet_camera"), place / "imported.safetensors"
    reference.write(place / "released.pth", reference.state())
    said = run("import_released.py", place / "released.pth", tiny_world, "--as", "hdmapnet-60x30", "-o", out)
    assert "12.0 M parameters" in said and is_picture(place / "imported.png") and load_predictor(out, "cpu")


@pytest.mark.ros
def test_map_listener(tmp_path: Path) -> None:
    """In a real graph: a map with one line on either side goes in, two distances come out."""
    import rclpy
    from geometry_msgs.msg import Point32, Vector3Stamped

    from hdmap_ros.msg import MapElement, MapElementArray

    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": str(120 + os.getpid() % 80),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=int(environment["ROS_DOMAIN_ID"]))
    node = rclpy.create_node("tester", context=context)
    heard: list[Vector3Stamped] = []
    node.create_subscription(Vector3Stamped, "/edge_distance/edges", heard.append, 1)
    publisher = node.create_publisher(MapElementArray, "/online_map/output/map_elements", 1)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def line(label: int, *points: tuple[float, float]) -> MapElement:
        return MapElement(label=label, score=0.9, points=[Point32(x=x, y=y) for x, y in points])

    message = MapElementArray(
        elements=[
            line(MapElement.BOUNDARY, (-5.0, 1.0), (5.0, 3.0)),
            line(MapElement.DIVIDER, (-5.0, -1.0), (5.0, -1.0)),
            line(MapElement.PED_CROSSING, (-5.0, 0.1), (5.0, 0.1)),
            line(MapElement.DIVIDER, (1.0, -0.2), (9.0, -0.2)),
        ]
    )
    command = [sys.executable, str(ROOT / "examples" / "map_listener.py"), "--ros-args", "-p", "warn_below:=1.5"]
    listener = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not heard and time.monotonic() < deadline:
            publisher.publish(message)
            executor.spin_once(timeout_sec=0.1)
        assert (heard[0].vector.x, heard[0].vector.y) == pytest.approx((2.0, 1.0))
    finally:
        listener.terminate()
        warned = listener.communicate(timeout=20)[1]
        node.destroy_node()
        context.try_shutdown()
    assert "1.00 m from the car's middle" in warned
