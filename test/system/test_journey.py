"""The way of a user, each step a process of its own: train, evaluate, score, predict, bag, replay.

The world itself comes from `hdmap synth` (fixture `tiny_world`).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hdmap_core.datasets.nuscenes import CAMERAS, NuScenesDataset
from hdmap_core.elements import MapElement, read_elements
from hdmap_core.geometry import CameraRig, se3
from hdmap_core.images.decoding import decode_image
from hdmap_core.inference import load_predictor
from hdmap_core.observation import Observation
from hdmap_ros.bag.mcap import open_bag

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "config" / "recipes" / "tiny" / "ground.yaml"
ELEMENTS = "/online_map/output/map_elements"

pytestmark = pytest.mark.slow


def hdmap(*arguments: object) -> str:
    """Runs the command line as a process; returns what it printed."""
    command = [sys.executable, "-m", "hdmap_core", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def run(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of six steps of training that publishes nearly everything its vector head says."""
    folder = tmp_path_factory.mktemp("journey") / "run"
    overrides = ("optim.steps=6", "optim.batch_size=2", "save_every=3", "evaluate_every=6", "evaluate_frames=2")
    data = (f"data.root={tiny_world}", f"data.cache={folder.parent / 'cache'}", "log_every=2")
    decode = ("decode.head=vectors", "decode.score_threshold=0.001")
    hdmap("train", RECIPE, *overrides, *data, *decode, "-o", folder)
    return folder


@pytest.fixture(scope="module")
def evaluation(run: Path, tiny_world: Path) -> dict[str, Any]:
    return json.loads(hdmap("evaluate", run, tiny_world, "--json", "--device", "cpu", "-o", run / "val"))


@pytest.fixture(scope="module")
def drive(tiny_world: Path, scene: str, run: Path) -> Path:
    bag = run.parent / "drive.mcap"
    hdmap("bag", "write", tiny_world, "--scene", scene, "-o", bag)
    return bag


@pytest.fixture(scope="module")
def replayed(run: Path, drive: Path) -> Path:
    folder = run.parent / "replay"
    hdmap("bag", "replay", drive, "-o", folder, "--weights", run, "--device", "cpu")
    return folder


def test_training_leaves_a_run_folder(run: Path) -> None:
    found = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    expected = {"config.yaml", "metrics.jsonl", "environment.txt", "checkpoints/best.safetensors"}
    assert expected | {"checkpoints/last.safetensors", "checkpoints/state.safetensors"} <= found
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["phase"] == "train"]
    assert losses and all(np.isfinite(losses))
    assert [line["step"] for line in lines if line["phase"] == "val"] == [6]


def test_evaluation_is_sane(evaluation: dict[str, Any], tiny_world: Path) -> None:
    assert (evaluation["num_frames"], evaluation["split"], evaluation["protocol"]) == (3, "val", "maptr")
    assert set(evaluation["classes"]) == {"divider", "ped_crossing", "boundary"}
    means = [result["AP"] for result in evaluation["classes"].values()]
    assert evaluation["mAP"] == pytest.approx(np.mean(means)) and 0.0 <= evaluation["mAP"] < 0.5
    assert evaluation["classes"]["boundary"]["num_truth"] > 0
    assert sum(result["num_predictions"] for result in evaluation["classes"].values()) > 0
    for result in evaluation["classes"].values():
        by_distance = list(result["AP_by_threshold"].values())
        assert by_distance == sorted(by_distance)  # a wider threshold never matches less


def test_evaluating_again_gives_the_same(evaluation: dict[str, Any], run: Path, tiny_world: Path) -> None:
    again = run.parent / "again"
    output = hdmap("evaluate", run, tiny_world, "--json", "--device", "cpu", "-o", again)
    assert json.loads(output) == evaluation
    assert (again / "predictions.jsonl").read_bytes() == (run / "val" / "predictions.jsonl").read_bytes()


def test_scoring_the_written_files_gives_the_same(evaluation: dict[str, Any], run: Path) -> None:
    scored = json.loads(hdmap("score", run / "val" / "predictions.jsonl", run / "val" / "gt.jsonl", "--json"))
    assert scored["mAP"] == pytest.approx(evaluation["mAP"], abs=2e-3)  # the file holds millimetres
    for label, result in scored["classes"].items():
        assert result["num_truth"] == evaluation["classes"][label]["num_truth"]
        assert result["num_predictions"] == evaluation["classes"][label]["num_predictions"]


def test_a_picture_of_one_keyframe(run: Path, tiny_world: Path) -> None:
    token = NuScenesDataset(tiny_world).tokens[-1]
    picture = run.parent / "map.png"
    assert "elements" in hdmap("predict", run, tiny_world, "--sample", token, "-o", picture, "--device", "cpu")
    with Image.open(picture) as image:
        assert np.asarray(image).std() > 10


def test_replay_maps_every_cycle(replayed: Path, tiny_world: Path) -> None:
    report = json.loads((replayed / "report.json").read_text())
    cycles = 2 * 6 + 1  # two half seconds at 12 Hz, and the last keyframe
    assert (report["sets"], report["published"], report["dropped"]) == (cycles, cycles, {})
    frames = read_elements(replayed / "predictions.jsonl")
    with open_bag(replayed / "map.mcap") as bag:
        messages = {str(stamp): message for _, stamp, message in bag.messages(lambda topic: topic == ELEMENTS)}
    assert {stamp: len(message.elements) for stamp, message in messages.items()} == {
        stamp: len(elements) for stamp, elements in frames.items()
    }


def observed(dataset: NuScenesDataset, token: str) -> Observation:
    """A keyframe as the node sees it: in the car's frame at the exposure of CAM_FRONT."""
    frames = dataset.tables.keyframe(token)
    anchor, cameras = frames["CAM_FRONT"], [frames[name] for name in CAMERAS]
    ego_from_map = se3.inverse(anchor.map_from_ego)
    poses = [ego_from_map @ camera.map_from_ego @ camera.ego_from_sensor for camera in cameras]
    rig = CameraRig.from_arrays(CAMERAS, np.array([c.intrinsics for c in cameras]), poses, cameras[0].image_size)
    images = tuple(decode_image(camera.path.read_bytes(), str(camera.path)) for camera in cameras)
    return Observation(images=images, rig=rig, stamp_ns=anchor.stamp_ns, token=token)


def test_replay_finds_what_a_direct_prediction_finds(replayed: Path, run: Path, tiny_world: Path) -> None:
    predictor = load_predictor(run / "checkpoints" / "best.safetensors", "cpu")
    dataset = NuScenesDataset(tiny_world)
    frames = read_elements(replayed / "predictions.jsonl")
    scene = next(scene for scene in dataset.scenes if str(observed(dataset, scene.sample_tokens[0]).stamp_ns) in frames)
    compared = 0
    for token in scene.sample_tokens:
        observation = observed(dataset, token)
        through_bag = frames[str(observation.stamp_ns)]
        direct = predictor.predict(observation).elements
        assert len(through_bag) == len(direct) > 0
        for element in direct[:: max(1, len(direct) // 8)]:
            assert min(difference(element, other) for other in through_bag) < 0.02
            compared += 1
    assert compared >= 3


def difference(first: MapElement, second: MapElement) -> float:
    """Largest distance of corresponding points in metres, or of the scores."""
    if first.label != second.label or len(first.points) != len(second.points):
        return np.inf
    return max(float(np.abs(first.points - second.points).max()), abs(first.score - second.score))
