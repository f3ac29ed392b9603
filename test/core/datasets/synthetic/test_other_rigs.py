"""Rigs other than nuScenes': what they are made of, what their lenses show, and the folder that they write."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.synthetic.cli import resolve
from hdmap_core.datasets.synthetic.presets import PRESETS, SynthConfig, plan_towns
from hdmap_core.datasets.synthetic.render_town import TownWork
from hdmap_core.datasets.synthetic.sensors.other_rigs import (
    CHANNELS,
    HEIGHT_M,
    HELD_BACK_M,
    LAYOUTS,
    MISCALIBRATED_DEG,
    Kind,
    other_rig,
)
from hdmap_core.datasets.synthetic.sensors.rig import Camera, Rig, nuscenes_rig
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.errors import CalibrationError, ConfigError
from hdmap_core.geometry.lens import Lens, lens_of

CONFIG = SynthConfig(
    version="v1.0-mini", towns={"train": 1, "val": 1}, keyframes=2, image_size=(90, 160), lidar="none", rigs="varied"
)
LENSES = {
    "polynomial": lens_of("plumb_bob", [-0.3, 0.08, 0.001, -0.001]),
    "fisheye": lens_of("equidistant", [0.02, -0.004]),
}


@cache
def rigs(kind: Kind, count: int = 40) -> list[Rig]:
    return [other_rig(kind, seed, 0) for seed in range(count)]


def height(rig: Rig) -> float:
    return float(np.mean([camera.ego_from_camera[2, 3] for camera in rig.cameras.values()]))


@pytest.mark.parametrize("kind", ["varied", "unseen"])
def test_a_rig_is_one_that_somebody_could_build(kind: Kind) -> None:
    for rig in rigs(kind):
        assert rig.cameras.keys() == LAYOUTS[len(rig.cameras)].keys() and set(rig.cameras) < set(CHANNELS)
        assert 4 <= len(rig.cameras) <= 8
        for name, camera in rig.cameras.items():
            assert HEIGHT_M[0] <= camera.ego_from_camera[2, 3] <= HEIGHT_M[1]
            assert np.cos(camera.yaw - rig.aims[name]) > np.cos(np.deg2rad(2.5))
            assert camera.image_size == (900, 1600)


@pytest.mark.parametrize("kind", ["varied", "unseen"])
def test_its_cameras_look_all_around(kind: Kind) -> None:
    for rig in rigs(kind, 20):
        seen = np.zeros(720, dtype=bool)
        for camera in rig.cameras.values():
            wide = camera.pinhole
            edges = np.linalg.inv(wide.intrinsics) @ np.array([[0, wide.image_size[1] - 1], [450, 450], [1, 1]])
            right, left = (camera.yaw - np.arctan(x) for x in sorted(edges[0], reverse=True))
            at = np.deg2rad(np.arange(0, 360, 0.5))
            seen |= (at - right) % (2 * np.pi) < left - right
        assert seen.mean() > 0.99


def test_what_is_kept_back_is_not_trained_on() -> None:
    trained, kept = rigs("varied"), rigs("unseen")
    margin = 0.041  # a single camera stands a little higher or lower than its rig

    def is_held_back(rig: Rig) -> bool:
        return any(low - margin <= height(rig) <= high + margin for low, high in HELD_BACK_M)

    assert all(is_held_back(rig) for rig in kept)
    inner = [(low + 0.035, high - 0.035) for low, high in HELD_BACK_M]
    assert not any(low <= height(rig) <= high for rig in trained for low, high in inner)
    assert {len(rig.cameras) for rig in trained} == {4, 5, 6, 8}
    assert {len(rig.cameras) for rig in kept} == {4, 5, 6, 7, 8}
    kinds = [{camera.lens.kind if camera.lens else None for camera in rig.cameras.values()} for rig in trained]
    assert {None, "polynomial", "fisheye"} == set().union(*kinds)


def test_a_rig_is_the_same_each_time() -> None:
    first, again, other = (other_rig("varied", seed, 1).cameras["CAM_FRONT"] for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.calibrated, again.calibrated)
    assert not np.allclose(first.ego_from_camera, other.ego_from_camera)


def test_the_calibration_is_off_by_up_to_half_a_degree() -> None:
    angles = []
    for rig in rigs("varied"):
        for camera in rig.cameras.values():
            turn = camera.calibrated[:3, :3].T @ camera.ego_from_camera[:3, :3]
            angles.append(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
            np.testing.assert_array_equal(camera.calibrated[:3, 3], camera.ego_from_camera[:3, 3])
    assert max(angles) <= MISCALIBRATED_DEG and max(angles) > 0.35


@pytest.mark.parametrize("lens", LENSES.values(), ids=LENSES)
@pytest.mark.parametrize("size", [(225, 400), (90, 161)])
def test_a_lens_shows_each_direction_where_it_should(lens: Lens, size: tuple[int, int]) -> None:
    matrix = np.array([[0.62 * size[1], 0, 0.51 * size[1]], [0, 0.61 * size[1], 0.48 * size[0]], [0, 0, 1.0]])
    camera = Camera(matrix, np.eye(4), size, lens)
    wide = camera.pinhole
    assert wide.lens is None
    # A picture whose colours are the tangents of its rays, in steps of 1/250.
    v, u = np.mgrid[0 : wide.image_size[0], 0 : wide.image_size[1]]
    ray = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(wide.intrinsics).T
    picture = np.clip(np.rint(128 + 80 * ray), 0, 255).astype(np.uint8)
    seen = camera.through_lens(picture)
    assert seen.shape == (*size, 3)
    directions = np.array([[x, y, 1.0] for x in (-0.6, -0.2, 0.0, 0.5) for y in (-0.3, 0.0, 0.2)])
    points, _ = lens.project(directions)
    pixels = np.rint(points @ matrix[:2, :2].T + matrix[:2, 2]).astype(int)
    found = (seen[pixels[:, 1], pixels[:, 0], :2].astype(float) - 128) / 80
    assert np.abs(found - directions[:, :2]).max() < 0.5 / matrix[0, 0] * 1.6 + 1 / 80
    assert np.abs(points - directions[:, :2]).max() > 0.02, "a lens that does nothing shows nothing"


def test_a_pinhole_is_drawn_as_it_is() -> None:
    camera = nuscenes_rig().cameras["CAM_BACK"]
    image = np.zeros((900, 1600, 3), np.uint8)
    assert (
        camera.pinhole is camera and camera.through_lens(image) is image and camera.calibrated is camera.ego_from_camera
    )


def test_a_lens_that_looks_too_far_aside_is_told() -> None:
    matrix = np.array([[200.0, 0, 400], [0, 200, 225], [0, 0, 1]])
    camera = Camera(matrix, np.eye(4), (450, 800), LENSES["fisheye"])
    with pytest.raises(CalibrationError, match="800 x 450 through this lens \\(equidistant\\)"):
        _ = camera.pinhole


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rigs") / "data"
    told: list[tuple[int, int]] = []
    write_dataset(folder, CONFIG, 1, lambda done, total: told.append((done, total)))
    written = len(list((folder / "samples").rglob("*.*")))
    assert told[-1] == (written, written)
    return folder


def test_the_reader_sees_the_rig_that_the_tables_tell(root: Path) -> None:
    dataset = NuScenesDataset(root, road_plane=False)
    for plan in plan_towns(CONFIG):
        rig = other_rig("varied", plan.seed, 0).resized(CONFIG.image_size)
        (scene,) = (scene for scene in dataset.scenes if scene.name == plan.scene_names[0])
        observation = dataset.observation(scene.sample_tokens[0])
        assert set(observation.rig.names) == set(rig.cameras)
        for i, name in enumerate(observation.rig.names):
            camera = rig.cameras[name]
            assert observation.rig.lenses[i] == camera.lens
            image = observation.images[i]
            assert image is not None and image.shape == (*CONFIG.image_size, 3)
            np.testing.assert_allclose(observation.rig.intrinsics[i], camera.intrinsics)
            frame = dataset.tables.keyframe(observation.token)[name]
            np.testing.assert_allclose(frame.ego_from_sensor, camera.calibrated, atol=1e-9)


def test_the_devkit_loads_the_folder(root: Path) -> None:
    nuscenes = pytest.importorskip("nuscenes.nuscenes", reason="nuscenes-devkit, the oracle, is not installed")
    nusc = nuscenes.NuScenes("v1.0-mini", str(root), verbose=False)
    assert {row["channel"] for row in nusc.sensor} == set(CHANNELS)
    for sample in nusc.sample:
        cameras = [channel for channel in sample["data"] if channel.startswith("CAM")]
        assert len(cameras) in LAYOUTS
        for channel in cameras:
            path, _, _ = nusc.get_sample_data(sample["data"][channel])
            assert Path(path).is_file()


def test_town_and_drive_are_those_of_nuscenes_rig(root: Path) -> None:
    plan = plan_towns(CONFIG)[0]
    ours = TownWork(CONFIG, plan).scene(0)
    theirs = TownWork(CONFIG.model_copy(update={"rigs": "nuscenes"}), plan).scene(0)
    assert len(theirs.shots.rig.cameras) == 6
    assert ours.shots.keyframe_us() == theirs.shots.keyframe_us()
    np.testing.assert_array_equal(ours.town_from_ego(1.3), theirs.town_from_ego(1.3))


def test_pictures_are_taken_by_the_true_poses_not_the_calibrated(root: Path) -> None:
    """Rendered anew from the true pose the file is met; from the pose in the tables it is not."""
    from hdmap_core.datasets.synthetic.sensors.cameras import TownRenderer

    plan = plan_towns(CONFIG)[0]
    scene = TownWork(CONFIG, plan).scene(0)
    dataset, renderer = NuScenesDataset(root, road_plane=False), TownRenderer(scene.town)
    firing = next(f for f in scene.shots.firings if f.channel == "CAM_FRONT")
    camera, at = scene.shots.rig.cameras["CAM_FRONT"], scene.town_s(firing)
    token = next(s.sample_tokens[0] for s in dataset.scenes if s.name == plan.scene_names[0])
    observation = dataset.observation(token)
    written = observation.images[observation.rig.names.index("CAM_FRONT")]

    def shown_by(pose: np.ndarray) -> np.ndarray:
        drawn = camera.pinhole
        return camera.through_lens(
            renderer.render(drawn.intrinsics, scene.town_from_ego(at) @ pose, drawn.image_size, at)
        )

    assert written is not None
    true = np.abs(shown_by(camera.ego_from_camera).astype(int) - written).mean()
    other = np.abs(shown_by(camera.calibrated).astype(int) - written).mean()
    assert true < 4.0 and true < other


def test_the_experiment_takes_the_true_poses_of_a_rig(root: Path, load_module: Callable[[Path], ModuleType]) -> None:
    experiment = load_module(Path(__file__).resolve().parents[4] / "experiments" / "unseen_rigs.py")
    plan = plan_towns(CONFIG)[0]
    rig = other_rig("varied", plan.seed, 0)
    dataset = NuScenesDataset(root, road_plane=False)
    token = next(scene.sample_tokens[0] for scene in dataset.scenes if scene.name == plan.scene_names[0])
    observation = dataset.observation(token, images=False)
    mended = experiment.truly_calibrated(observation, rig).rig
    turned = 0.0
    for i, name in enumerate(mended.names):
        frame = dataset.tables.keyframe(token)[name]
        seen_from = np.linalg.inv(dataset.map_from_ego(token)) @ frame.map_from_ego
        np.testing.assert_allclose(
            mended.ego_from_camera[i].numpy(), seen_from @ rig.cameras[name].ego_from_camera, atol=1e-6
        )
        turned += float((mended.ego_from_camera[i] - observation.rig.ego_from_camera[i]).abs().max())
    assert turned > 1e-3
    said = {(plan.scene_names[0], 0): dataset.elements(token)}
    assert experiment.row(said, said)[:2] == ["1", "1.000"]


def test_options_and_presets() -> None:
    assert resolve("tiny", rigs="unseen").rigs == "unseen"
    assert PRESETS["tiny"].rigs == "nuscenes"
    assert (PRESETS["v2-rigs"].rigs, PRESETS["unseen-rigs"].rigs) == ("varied", "unseen")
    assert set(PRESETS["unseen-rigs"].towns) == {"test"}
    with pytest.raises(ConfigError, match="rigs"):
        resolve("tiny", rigs="odd")


def test_tables_without_lenses_are_as_they_were(sensor_world: Path) -> None:
    rows = json.loads((sensor_world / "v1.0-mini" / "calibrated_sensor.json").read_text())
    assert {frozenset(row) for row in rows} == {
        frozenset(("token", "sensor_token", "translation", "rotation", "camera_intrinsic"))
    }
