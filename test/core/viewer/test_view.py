"""`hdmap view`: the recording, read back with rerun's own API; in a browser; what it refuses."""

import json
import socket
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from hdmap_core.datasets.frames.writing import from_nuscenes
from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.opening import open_dataset
from hdmap_core.elements import MapElement, write_elements
from hdmap_core.errors import ConfigError, OutputError
from hdmap_core.inference import default_weights
from hdmap_core.viewer.footage import region_of
from hdmap_core.viewer.opening import latencies_of

rerun = pytest.importorskip("rerun", reason="rerun-sdk is not installed (Python 3.11 and newer)")

CAMERAS = ["CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"]


class Recording:
    """What is in a file: (entity, component) -> the value of each moment, by rerun's reader."""

    def __init__(self, path: Path) -> None:
        from rerun.chunk import RrdReader

        self._values: dict[tuple[str, str], list[Any]] = {}
        reader = RrdReader(path)
        self.blueprints = len(reader.blueprints())
        self.timelines: set[str] = set()
        for chunk in reader.stream().to_chunks():
            batch = chunk.to_record_batch()
            self.timelines |= set(chunk.timeline_names)
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                if ":" in name:
                    key = chunk.entity_path, name.rpartition(":")[2]
                    self._values.setdefault(key, []).extend(v for v in column.to_pylist() if v is not None)

    @property
    def entities(self) -> set[str]:
        return {entity for entity, _ in self._values}

    def __call__(self, entity: str, component: str) -> list[Any]:
        return self._values[f"/world/ego/{entity}" if not entity.startswith("/") else entity, component]


def lines(values: list[Any]) -> list[list[np.ndarray]]:
    return [[np.array(strip) for strip in moment] for moment in values]


@pytest.fixture(scope="module")
def truth(sensor_world: Path) -> dict[str, list[MapElement]]:
    dataset = open_dataset(sensor_world)
    return {token: dataset.elements(token) for token in dataset.tokens}


@pytest.fixture
def run_folder(sensor_world: Path, truth: dict[str, list[MapElement]], tmp_path: Path) -> Path:
    """As `hdmap evaluate` leaves it, of a model that says the truth of the first frame and nothing of the others."""
    folder = tmp_path / "run"
    first = next(iter(truth))
    said = {token: elements if token == first else [] for token, elements in truth.items()}
    faint = [MapElement(e.label, e.points, e.closed, 0.9 if n else 0.2) for n, e in enumerate(said[first])]
    write_elements(folder / "predictions.jsonl", {**said, first: faint})
    write_elements(folder / "gt.jsonl", truth)
    (folder / "report.json").write_text(json.dumps({"checkpoint": "some-model", "data": str(sensor_world)}))
    return folder


def test_a_data_set(
    hdmap: Callable[..., Any], sensor_world: Path, truth: dict[str, list[MapElement]], tmp_path: Path
) -> None:
    ended = hdmap("view", sensor_world, "--save", tmp_path / "x.rrd", "--lidar")
    assert ended.code == 0 and "rerun" in ended.out, ended.err
    found, dataset = Recording(tmp_path / "x.rrd"), open_dataset(sensor_world)
    tokens = dataset.scenes[0].sample_tokens
    observation = dataset.observation(tokens[0])
    assert found.blueprints == 1 and found.timelines >= {"frame", "time"}
    for index, name in enumerate(observation.rig.names):
        height, width = observation.images[index].shape[:2]
        jpegs = found(name, "blob")
        assert len(jpegs) == len(tokens)
        image = cv2.imdecode(np.array(jpegs[0][0], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert image.shape == (height, width, 3)
        assert np.abs(image.astype(float) - observation.images[index]).mean() < 12, "the image, but for JPEG"
        matrix = np.array(found(name, "image_from_camera")[0]).reshape(3, 3).T
        np.testing.assert_allclose(matrix, observation.rig.intrinsics[index], atol=1e-3)
        place = observation.rig.ego_from_camera[index, :3, 3]
        np.testing.assert_allclose(np.ravel(found(name, "translation")[0]), place, atol=1e-4)
    for label in ("divider", "boundary", "ped_crossing"):
        shown = lines(found(f"truth/{label}", "strips"))[0]
        wanted = [element for element in truth[tokens[0]] if element.label == label]
        assert len(shown) == len(wanted)
        for strip, element in zip(shown, wanted, strict=True):
            np.testing.assert_allclose(strip[0, :2], element.points[0], atol=1e-4)
            assert np.linalg.norm(np.diff(strip, axis=0), axis=1).max() < 1.01
            assert element.closed == bool((strip[0] == strip[-1]).all())
    places = [np.ravel(each) for each in found("/world/ego", "translation")]
    np.testing.assert_allclose(places[0], 0.0, err_msg="the world begins where the drive does")
    moved = dataset.map_from_ego(tokens[1]) - dataset.map_from_ego(tokens[0])
    np.testing.assert_allclose(places[1], moved[:3, 3], atol=1e-3)
    assert len(found("lidar", "positions")) == len(tokens)
    assert not {"/world/ego/predicted/divider", "/world/fused/divider"} & found.entities


def test_frames_of_ones_own(hdmap: Callable[..., Any], sensor_world: Path, tmp_path: Path) -> None:
    """By the folder, and by the file that describes them, which is no file of elements."""
    dataset = open_dataset(sensor_world)
    assert isinstance(dataset, NuScenesDataset)
    from_nuscenes(dataset, dataset.scenes[:1], tmp_path / "mine")
    for thing in (tmp_path / "mine", tmp_path / "mine" / "frames.json"):
        assert hdmap("view", thing, "--save", tmp_path / "x.rrd").code == 0
        found = Recording(tmp_path / "x.rrd")
        assert set(CAMERAS) <= {entity.rpartition("/")[2] for entity in found.entities}
        assert any(found("truth/boundary", "strips"))
    hdmap("view", sensor_world, "--version", "v1.0-test", "--save", tmp_path / "y.rrd").assert_refused("v1.0-test")


def test_a_run_of_evaluate_finds_its_images(hdmap: Callable[..., Any], run_folder: Path, tmp_path: Path) -> None:
    assert hdmap("view", run_folder, "--save", tmp_path / "x.rrd").code == 0
    found = Recording(tmp_path / "x.rrd")
    assert set(CAMERAS) <= {entity.rpartition("/")[2] for entity in found.entities}
    shown = sum(len(found(f"predicted/{label}", "strips")[0]) for label in ("divider", "boundary", "ped_crossing"))
    true = sum(len(found(f"truth/{label}", "strips")[0]) for label in ("divider", "boundary", "ped_crossing"))
    assert shown == true - 1, "one has a score of 0.2"
    first, *others = (value[0] for value in found("/plots/f1", "scalars")[-2:])
    assert first == pytest.approx(2 * shown / (shown + true)) and others == [0.0]
    names = [text for label in ("divider", "boundary") for text in found(f"predicted/{label}", "labels")[0]]
    assert names and all(text.endswith("0.90") for text in names)
    fused = lines(found("/world/fused/boundary", "strips"))
    assert fused and fused[0], "what was predicted is fused along the way"


def test_elements_alone(hdmap: Callable[..., Any], truth: dict[str, list[MapElement]], tmp_path: Path) -> None:
    far = {token: [MapElement(e.label, 2 * e.points, e.closed, 0.5) for e in some] for token, some in truth.items()}
    write_elements(tmp_path / "far.jsonl", far)
    assert hdmap("view", tmp_path / "far.jsonl", "--save", tmp_path / "x.rrd", "--every", 2).code == 0
    found = Recording(tmp_path / "x.rrd")
    assert len(found("predicted/divider", "strips")) == (len(truth) + 1) // 2
    assert not set(CAMERAS) & {entity.rpartition("/")[2] for entity in found.entities}
    edge = lines(found("region", "strips"))[0][0]
    assert np.abs(edge[:, 0]).max() == 60.0 and "time" not in found.timelines


def test_a_moment_without_a_map_shows_none(tmp_path: Path) -> None:
    """The viewer keeps what it was shown last: lines of an earlier moment must not stay."""
    from hdmap_core.geometry import BEVGrid
    from hdmap_core.viewer.footage import Moment
    from hdmap_core.viewer.showing import Screen, show

    line = [MapElement("divider", np.array([[0.0, 0.0], [5.0, 0.0]]))]
    moments = [Moment("a", 1), Moment("b", 2, predicted=line, truth=line), Moment("c", 3), Moment("d", 4, truth=line)]
    show(iter(moments), "x", Screen(save=tmp_path / "x.rrd"), region=BEVGrid())
    found = Recording(tmp_path / "x.rrd")
    assert [len(strips) for strips in found("predicted/divider", "strips")] == [1, 0, 0]
    assert [len(strips) for strips in found("truth/divider", "strips")] == [1, 0, 1]


def test_a_model_beside_the_truth(hdmap: Callable[..., Any], sensor_world: Path, tmp_path: Path) -> None:
    ended = hdmap("view", sensor_world, "--weights", default_weights(), "--save", tmp_path / "x.rrd")
    assert ended.code == 0, ended.err
    found = Recording(tmp_path / "x.rrd")
    assert all(value[0] > 0 for value in found("/plots/latency/network", "scalars"))


def test_the_ground_by_lidar(hdmap: Callable[..., Any], sensor_world: Path, tmp_path: Path) -> None:
    """The cameras stand over the road that the sweep shows if that is asked for, else over that of the poses."""
    view = ("view", sensor_world, "--weights", default_weights(), "--save")
    assert hdmap(*view, tmp_path / "plain.rrd").code == hdmap(*view, tmp_path / "x.rrd", "--lidar-ground").code == 0
    plain, found = Recording(tmp_path / "plain.rrd"), Recording(tmp_path / "x.rrd")
    dataset = open_dataset(sensor_world)
    first = dataset.scenes[0].sample_tokens[0]
    by_lidar = dataset.observation(first, images=False, points=False, lidar_ground=True).rig
    by_poses = dataset.observation(first, images=False, points=False).rig
    assert (by_lidar.ego_from_camera - by_poses.ego_from_camera)[:, :3, 3].abs().min(dim=0).values.max() > 1e-3
    for recording, rig in ((found, by_lidar), (plain, by_poses)):
        for index, name in enumerate(rig.names):
            place = rig.ego_from_camera[index, :3, 3]
            np.testing.assert_allclose(np.ravel(recording(name, "translation")[0]), place, atol=1e-4)
    assert isinstance(dataset, NuScenesDataset)
    from_nuscenes(dataset, dataset.scenes[:1], tmp_path / "bare")
    content = json.loads((tmp_path / "bare/frames.json").read_text())
    frames = [{name: value for name, value in frame.items() if name != "lidar"} for frame in content["frames"]]
    (tmp_path / "bare/frames.json").write_text(json.dumps({**content, "frames": frames}))
    ended = hdmap("view", tmp_path / "bare", "--lidar-ground", "--save", tmp_path / "y.rrd")
    ended.assert_refused("LiDAR is to show the ground", "missing")


def test_videos_that_begin_apart_and_a_folder_of_images(
    hdmap: Callable[..., Any], recorded: ModuleType, tmp_path: Path
) -> None:
    """Of 1000 x 1600 pixels half are shown; the second camera's video begins 0.2 s later."""
    shades = [np.full((1000, 1600, 3), 20 * n, np.uint8) for n in range(8)]
    camera = {"image_size": [1000, 1600], "intrinsics": [1200, 1200, 799.5, 499.5], "translation": [1.5, 0, 1.6]}
    rig = {name: {**camera, "yaw_pitch_roll_deg": [yaw, 0, 0]} for name, yaw in (("front", 0), ("left", 60))}
    rig["left"]["start"] = 0.2
    (tmp_path / "rig.yaml").write_text(json.dumps({"cameras": rig}))
    videos = [
        recorded.write_recording(tmp_path / "front.mkv", [(n / 10, shades[n]) for n in range(6)]),
        recorded.write_recording(tmp_path / "left.mkv", [(n / 10, shades[n + 2]) for n in range(6)]),
    ]
    out, weights = tmp_path / "x.rrd", ("--weights", default_weights())
    ended = hdmap("view", *videos, "--rig", tmp_path / "rig.yaml", "--rate", 0, "--save", out, *weights)
    assert ended.code == 0, ended.err
    assert "videos begin as the rig file says: front 0 s, left 0.2 s" in ended.err
    assert "left had no picture within half a period of 2 instants" in ended.out
    found = Recording(out)
    for name in rig:
        images = [cv2.imdecode(np.array(jpeg[0], np.uint8), cv2.IMREAD_COLOR) for jpeg in found(name, "blob")]
        assert [image.shape for image in images] == [(500, 800, 3)] * 4
        assert [round(float(image.mean()) / 20) for image in images] == [2, 3, 4, 5]
        matrix = np.array(found(name, "image_from_camera")[0]).reshape(3, 3).T
        np.testing.assert_allclose(matrix, [[600, 0, 399.5], [0, 600, 249.5], [0, 0, 1]], atol=0.3)
    assert len(found("/plots/latency/network", "scalars")) == 4
    for n in range(3):
        for name in rig:
            (tmp_path / "images" / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "images" / name / f"{n}.png"), shades[n + 3])
    ended = hdmap("view", tmp_path / "images", "--rig", tmp_path / "rig.yaml", "--save", tmp_path / "y.rrd")
    assert ended.code == 0 and len(Recording(tmp_path / "y.rrd")("left", "blob")) == 3, ended.err
    hdmap("view", *videos, "--save", out).assert_refused("give --rig rig.yaml")
    hdmap("view", *videos, "--rig", tmp_path / "rig.yaml", "--data", tmp_path).assert_refused("--data")
    hdmap("view", *videos, "--rig", tmp_path / "rig.yaml", "--lidar-ground").assert_refused("only cameras")
    hdmap("view", tmp_path / "x.rrd", tmp_path / "y.rrd").assert_refused("give one thing")


def test_what_it_refuses(
    hdmap: Callable[..., Any], run_folder: Path, sensor_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "x.rrd"
    hdmap("view", tmp_path / "nothing", "--save", out).assert_refused("no such file or folder")
    hdmap("view", tmp_path, "--save", out).assert_refused(str(tmp_path))
    hdmap("view", sensor_world, "--save", tmp_path / "x.mp4").assert_refused(".rrd")
    hdmap("view", sensor_world, "--save", out, "--web").assert_refused("--save", "--web")
    hdmap("view", sensor_world, "--save", out, "--scene", "no-such").assert_refused("no-such", "scene-")
    write_elements(tmp_path / "other.jsonl", {"x": []})
    apart = hdmap("view", tmp_path / "other.jsonl", "--data", sensor_world, "--save", out)
    apart.assert_refused("no frame in common", "'x'", "--data")
    hdmap("view", tmp_path / "other.jsonl", "--weights", run_folder).assert_refused("no checkpoint")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    hdmap("view", sensor_world).assert_refused("no display", "--web", "--save")
    assert not out.exists() and not list(tmp_path.glob("*.part"))


def test_the_last_port_has_none_after_it(hdmap: Callable[..., Any]) -> None:
    ended = hdmap("view", "drive.mcap", "--web", "--port", 65535)
    assert ended.code == 2 and "--port" in ended.err


def test_data_that_moved_is_told(hdmap: Callable[..., Any], run_folder: Path, tmp_path: Path) -> None:
    (run_folder / "report.json").write_text(json.dumps({"data": "/no/such/place"}))
    ended = hdmap("view", run_folder, "--save", tmp_path / "x.rrd")
    assert ended.code == 0 and "/no/such/place" in ended.err and "--data" in ended.err


def test_without_rerun(hdmap: Callable[..., Any], sensor_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    told = {"rerun": "rerun-sdk is not installed"}
    monkeypatch.setattr("hdmap_core.required_packages.complaint", lambda module: told.get(module, ""))
    ended = hdmap("view", sensor_world, "--save", "x.rrd")
    assert ended.code == 2 and "rerun-sdk is not installed" in ended.err and "pip install" in ended.err


def free_ports() -> int:
    """The first of two free ports, one after the other."""
    for port in range(21000, 29000, 2):
        with socket.socket() as one, socket.socket() as two:
            if one.connect_ex(("127.0.0.1", port)) and two.connect_ex(("127.0.0.1", port + 1)):
                return port
    raise AssertionError("no free ports")


def test_in_a_browser(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The page and its program are served, by this machine alone; a taken port is told."""
    from hdmap_core.geometry import BEVGrid
    from hdmap_core.viewer import showing
    from hdmap_core.viewer.blueprint import layout
    from hdmap_core.viewer.footage import Moment

    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    port, blueprint = free_ports(), layout(Moment("a"), BEVGrid())
    showing._serve(rerun.RecordingStream("test"), port, blueprint)
    address = capsys.readouterr().out.strip()
    assert address.startswith(f"http://localhost:{port}/?url=") and f"{port + 1}" in address
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        page = answer.read().decode()
    assert "re_viewer" in page or "rerun" in page.lower()
    with pytest.raises(OutputError, match=f"port {port} is taken"):
        showing._serve(rerun.RecordingStream("test"), port, blueprint)


def test_regions_and_latencies() -> None:
    near, far = np.array([[-30.4, 0.0], [30.9, 3.0]]), np.array([[-52.0, 0.0], [30.0, 16.5]])
    assert region_of([MapElement("divider", near)]).size == (60.0, 30.0), "a line may stray a little"
    assert region_of([MapElement("divider", near), MapElement("divider", far)]).size == (120.0, 60.0)
    assert region_of([MapElement("divider", 1e6 * far)]).size == (300.0, 300.0)
    report = {"latency_ms_by_map": {"network": [1.0, 2.0], "decode": [3.0, 4.0]}}
    assert latencies_of(report, ["a", "b", "c"]) == {
        "b": {"network": 1.0, "decode": 3.0},
        "c": {"network": 2.0, "decode": 4.0},
    }
    damaged = ({"latency_ms_by_map": stages} for stages in (3, {"a": 3}, {"a": [1.0], "b": []}))
    for odd in ({}, *damaged, report):
        assert latencies_of(odd, ["a"]) == {}


def test_scenes_are_by_name() -> None:
    from hdmap_core.viewer.footage import Footage

    footage = Footage("x", (), {"a": (), "b": ()}, lambda scene: iter(()))
    assert footage.scene(None) == "a" and footage.scene("b") == "b"
    with pytest.raises(ConfigError, match="no scene 'c'; it has a, b"):
        footage.scene("c")
