"""The shipped student, exported: verbs that take a checkpoint take the file; so does the node in a real graph."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hdmap_core.elements import MapElement, read_elements
from hdmap_core.inference import default_weights, load_predictor

pytest.importorskip("onnxscript", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs the extra export")

Hdmap = Callable[..., Any]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """student.onnx, no checkpoint beside it."""
    from hdmap_core.export.onnx_file import export_onnx
    from hdmap_core.export.reference import reference

    path = tmp_path_factory.mktemp("exported") / "student.onnx"
    export_onnx(reference(default_weights()), path)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped checkpoint with nothing beside it: it runs in PyTorch."""
    return Path(shutil.copy(default_weights(), tmp_path_factory.mktemp("plain")))


def assert_same(left: list[MapElement], right: list[MapElement]) -> None:
    """Traced lines may differ where a cell lies at the threshold; on these images none does."""
    assert len(left) == len(right) > 0
    for one, other in zip(left, right, strict=True):
        assert one.label is other.label and one.score == pytest.approx(other.score, abs=1e-4)
        np.testing.assert_allclose(one.points, other.points, atol=0.05)


def test_predict_evaluate_and_info(exported: Path, plain: Path, tiny_world: Path, tmp_path: Path, hdmap: Hdmap) -> None:
    found = {}
    for name, path in (("eager", plain), ("exported", exported)):
        out = tmp_path / f"{name}.jsonl"
        assert hdmap("predict", path, tiny_world, "-o", out).code == 0
        (found[name],) = read_elements(out).values()
        ended = hdmap("evaluate", path, tiny_world, "--split", "val", "-o", tmp_path / name, "--gallery", 0, "--json")
        assert ended.code == 0, ended.err
    assert_same(found["exported"], found["eager"])
    scored = [read_elements(tmp_path / name / "predictions.jsonl") for name in ("exported", "eager")]
    assert scored[0].keys() == scored[1].keys()
    for token in scored[0]:
        assert_same(scored[0][token], scored[1][token])
    told = json.loads(hdmap("info", exported, "--json").out)
    assert told["kind"] == "a network that hdmap export made"
    checkpoint = json.loads(hdmap("info", plain, "--json").out)
    assert {**told["facts"], "model": ""} == {**checkpoint["facts"], "model": ""}
    assert f"hdmap benchmark {exported}" in told["next"]


def test_benchmark(exported: Path, tmp_path: Path, hdmap: Hdmap) -> None:
    """Compared with the shipped student, which the file was made of; of another model's file there is nothing."""
    found = json.loads(hdmap("benchmark", exported, "--threads", 1, "--sets", 3, "--json").out)
    assert (found["engine"], found["threads"], found["sets"]) == ("onnxruntime", 1, 3)
    assert list(found["stages"]) == ["decode", "preprocess", "network", "postprocess"]
    for row in (*found["stages"].values(), found["total"]):
        assert 0 < row["p50"] <= row["p95"] <= row["p99"] and row["cpu_p50"] >= 0
    assert min(found["memory_mib"].values()) > 10 and found["memory_mib"]["mapping"] <= found["memory_mib"]["peak"]
    assert list(found["memory_mib"]) == ["started", "mapping", "peak"] and found["sets_per_s"] > 0
    assert 0 <= found["agreement"]["largest_difference"] < 1e-4
    assert found["ratio_to_eager"]["cpu"] == pytest.approx(
        found["eager_network"]["cpu_p50"] / found["stages"]["network"]["cpu_p50"], rel=0.01
    )
    said = hdmap("benchmark", exported, "--sets", 2).out
    assert "onnxruntime (the file's suffix), fp32 on cpu" in said and "outputs differ by" in said
    hdmap("benchmark", exported, "--engine", "eager").assert_refused("engine 'eager' does not run student.onnx")
    hdmap("benchmark", tmp_path / "none.onnx").assert_refused("none.onnx", "does not exist")


def test_benchmark_of_a_checkpoint_takes_the_file_beside_it(exported: Path, tmp_path: Path, hdmap: Hdmap) -> None:
    path = Path(shutil.copy(default_weights(), tmp_path))
    shutil.copy(exported, tmp_path)
    found = json.loads(hdmap("benchmark", path, "--sets", 2, "--json").out)
    assert (found["engine"], found["why"]) == ("onnxruntime", "student.onnx lies beside the checkpoint")
    found = json.loads(hdmap("benchmark", path, "--engine", "eager", "--sets", 2, "--json").out)
    assert (found["engine"], found["agreement"]["largest_difference"]) == ("eager", 0.0)


@pytest.mark.ros
def test_the_node_and_replay_run_it(
    exported: Path, plain: Path, demo: ModuleType, tiny_world: Path, scene: str, tmp_path: Path
) -> None:
    """Bag, player, DDS, node with `weights` set to the exported file, recorder; against replay with the checkpoint."""
    pytest.importorskip("rclpy", reason="the ROS graph needs rclpy; run make setup")
    from hdmap_ros.bag.layouts import load_layout
    from hdmap_ros.bag.replay import ReplayConfig, replay_bag
    from hdmap_ros.bag.write import write_bag

    bag, config = tmp_path / "drive.mcap", ReplayConfig(load_layout("hdmap"))
    write_bag(tiny_world, scene, bag)
    report = demo.drive_through_node(bag, tmp_path / "map.mcap", tmp_path, exported, 0.5)
    assert (report["engine"], report["engine_why"]) == ("onnxruntime", "the file's suffix")
    published = demo.read_published(tmp_path / "map.mcap")
    assert len(published) == report["published"] > 0
    maps = {}
    for name, path in (("eager", plain), ("exported", exported)):
        replay_bag(bag, load_predictor(path, "cpu", engine="auto"), tmp_path / name, config)
        maps[name] = read_elements(tmp_path / name / "predictions.jsonl")
    assert maps["eager"].keys() == maps["exported"].keys()
    for token in maps["eager"]:
        assert_same(maps["exported"][token], maps["eager"][token])
