"""`hdmap predict` of a drive, by the shipped student on the tiny world."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.elements import read_elements
from hdmap_core.errors import DatasetError, HdmapError, OutputError
from hdmap_core.inference import default_weights, load_predictor
from hdmap_core.inference.outputs import check_outputs, predict_drive
from hdmap_core.inference.predictor import Predictor
from hdmap_core.recordings.opening import open_recording
from hdmap_core.recordings.recording import Recording, Wanted
from hdmap_core.running.interruption import Interrupted
from hdmap_core.viz import COLOURS, write_picture


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return load_predictor(device="cpu")


@pytest.fixture(scope="module")
def dataset(tiny_world: Path) -> NuScenesDataset:
    return NuScenesDataset(tiny_world)


def test_a_scene_becomes_film_elements_map_and_picture(
    predictor: Predictor, dataset: NuScenesDataset, tmp_path: Path
) -> None:
    av = pytest.importorskip("av", reason="films need PyAV; run make setup")
    scene = dataset.scenes[1]
    wanted = Wanted(whole_drive=True, scene=scene.name, grid=predictor.info.grid)
    recording = open_recording([str(dataset.root)], wanted)
    assert (recording.name, recording.count, recording.whole_drive) == (scene.name, 3, True)
    outputs = [tmp_path / name for name in ("drive.mp4", "all.jsonl", "map.geojson", "map.osm", "first.png")]
    done: list[tuple[int, int | None]] = []
    report = predict_drive(predictor, recording, outputs, 0.0, lambda *counts: done.append(counts))
    assert done == [(1, 3), (2, 3), (3, 3)] and (report.frames, report.seconds) == (3, pytest.approx(1.0, abs=0.02))
    frames = read_elements(tmp_path / "all.jsonl")
    assert tuple(frames) == scene.sample_tokens and report.elements == sum(map(len, frames.values())) > 0
    np.testing.assert_allclose(
        frames[scene.sample_tokens[0]][0].points,
        predictor.predict(next(iter(open_recording([str(dataset.root)], wanted).frames))).elements[0].points,
        atol=1e-3,
    )
    fused = json.loads((tmp_path / "map.geojson").read_text())
    assert fused["frame"].startswith("WGS84") and fused["token"] == "fused" and fused["features"]
    assert (tmp_path / "map.osm").read_text().startswith("<?xml") and (tmp_path / "first.png").stat().st_size > 1e5
    with av.open(str(tmp_path / "drive.mp4")) as film:
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(pictures) == 3 and pictures[0].shape == (1080, 1920, 3)
    for picture in pictures:
        assert picture[60:530, 30:1280].mean() > 60, "the images are there"
        for region in (picture[545:1020, 24:990], picture[562:1050, 1316:1896]):  # around the car, the true map
            near = [(np.abs(region.astype(int) - colour) < 40).all(axis=-1).sum() for colour in COLOURS.values()]
            assert sum(near) > 200, "lines are drawn"
    (note,) = report.notes
    assert 1.8 < float(note.split(" plays ")[1].split()[0]) < 2.3, "keyframes come twice a second"


@pytest.mark.parametrize("error", [Interrupted(), DatasetError("gone")], ids=["ctrl-c", "unreadable"])
def test_nothing_is_left_of_a_drive_that_does_not_end(
    predictor: Predictor, dataset: NuScenesDataset, tmp_path: Path, error: BaseException
) -> None:
    pytest.importorskip("av", reason="films need PyAV; run make setup")

    def frames():
        yield dataset[0]
        raise error

    outputs = [tmp_path / "drive.mp4", tmp_path / "all.jsonl"]
    with pytest.raises(type(error)):
        predict_drive(predictor, Recording("cut off", frames(), True), outputs, 0.3)
    assert not list(tmp_path.iterdir())


def test_maps_of_drives_need_poses(predictor: Predictor, dataset: NuScenesDataset, tmp_path: Path) -> None:
    from dataclasses import replace

    alone = Recording("own.mp4", [replace(dataset[0], map_from_ego=None)], True)
    with pytest.raises(OutputError, match=r"map\.geojson: the car's poses are not known"):
        predict_drive(predictor, alone, [tmp_path / "map.geojson"], 0.3)
    predict_drive(predictor, alone, [tmp_path / "all.jsonl"], 0.3)
    with pytest.raises(DatasetError, match="empty has no frames"):
        predict_drive(predictor, Recording("empty", [], True), [tmp_path / "all.jsonl"], 0.3)


def test_outputs_are_looked_at_before_the_work(tmp_path: Path) -> None:
    for path in (tmp_path / "map.tif", tmp_path, tmp_path / "map"):
        with pytest.raises(OutputError):
            check_outputs([tmp_path / "ok.png", path])


def test_own_images_by_the_command(hdmap, dataset: NuScenesDataset, tmp_path: Path) -> None:
    """The images of a keyframe and a rig file give what the keyframe gives, but for the cameras' own instants."""
    observation = dataset[0]
    cameras, inputs = {}, []
    for place, name in enumerate(observation.rig.names[:4]):
        image = observation.images[place]
        assert image is not None
        write_picture(tmp_path / f"{name}.png", image)
        inputs.append(tmp_path / f"{name}.png")
        pose = observation.rig.ego_from_camera[place].numpy()
        cameras[name] = {
            "image_size": list(image.shape[:2]),
            "intrinsics": observation.rig.intrinsics[place].tolist(),
            "translation": pose[:3, 3].tolist(),
            "rotation": pose[:3, :3].tolist(),
        }
    rig = tmp_path / "rig.yaml"
    rig.write_text(yaml.safe_dump({"cameras": cameras}))
    outputs = [word for name in ("a.jsonl", "a.geojson", "a.png") for word in ("-o", tmp_path / name)]
    ended = hdmap("predict", default_weights(), *inputs, "--rig", rig, *outputs, "--device", "cpu")
    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "a.geojson").read_text())["frame"].startswith("metres ahead of the car")
    (elements,) = read_elements(tmp_path / "a.jsonl").values()
    from dataclasses import replace

    same = replace(observation, images=observation.images[:4], rig=observation.rig.select(observation.rig.names[:4]))
    expected = load_predictor(device="cpu").predict(replace(same, points=None, point_age_s=None)).elements
    assert [e.label for e in elements] == [e.label for e in expected] and elements
    for ours, theirs in zip(elements, expected, strict=True):
        np.testing.assert_allclose(ours.points, theirs.points, atol=2e-3)
    refused = hdmap("predict", default_weights(), *inputs, "-o", tmp_path / "b.png")
    refused.assert_refused("--rig rig.yaml")
    assert not (tmp_path / "b.png").exists()


def test_errors_of_recordings_are_one_line(hdmap, tiny_world: Path, tmp_path: Path) -> None:
    for words in ((tmp_path / "none",), (tiny_world, "--scene", "scene-9999"), (tiny_world, "--sample", "none")):
        ended = hdmap("predict", default_weights(), *words, "-o", tmp_path / "map.jsonl", "--device", "cpu")
        ended.assert_refused(str(words[-1]))
    assert issubclass(DatasetError, HdmapError) and not list(tmp_path.iterdir())
