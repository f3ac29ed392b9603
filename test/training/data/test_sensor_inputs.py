"""LiDAR points and roads of the SD map: the same as `preprocess` makes them, and augmented with the ground truth."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.nuscenes.keyframe_index import open_tables
from hdmap_core.datasets.sensor_check import check_sensors
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import ConfigError, DatasetError
from hdmap_core.geometry import BEVGrid, se3
from hdmap_core.geometry.sd_raster import sd_raster
from hdmap_core.model_io import ModelInput
from hdmap_core.preprocess import preprocess
from training.config import AugmentConfig, TrainConfig
from training.data.augment import augment
from training.data.keyframes import Keyframe, complete, load_keyframes, sweeps_for

Load = Callable[..., TrainConfig]
GRID = BEVGrid((-15.0, 15.0), (-7.5, 7.5), 0.3)
NONE = AugmentConfig(mirror=0, turn=0, blind=0, colour=0)
LINE = np.array([[-9.0, -2.0], [1.0, 1.5], [10.0, 2.5]], np.float32)


def known(line: np.ndarray = LINE) -> Keyframe:
    """A line that is a divider, a road of the SD map and a row of LiDAR points at once."""
    share = np.linspace(0, 1, 40, dtype=np.float32)[:, None]
    on_line = np.concatenate([a + share * (b - a) for a, b in pairwise(line)])
    points = np.concatenate([on_line, np.full((len(on_line), 3), (0.3, 77, 0.05), np.float32)], axis=1)

    def cut(ego_from_moved: np.ndarray) -> tuple[list[MapElement], dict]:
        ends = np.pad(line.astype(np.float64), ((0, 0), (0, 1)))
        there = se3.transform_points(se3.inverse(ego_from_moved), ends)[:, :2]
        return [MapElement(MapClass.DIVIDER, there)], {}

    return Keyframe("a", ModelInput(), [MapElement(MapClass.DIVIDER, line)], {}, points, (line,), cut)


def off_line(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """(P,) metres from points to a polyline."""
    nearest = []
    for a, b in pairwise(line):
        along = np.clip(((points - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)[:, None]
        nearest.append(np.linalg.norm(points - a - along * (b - a), axis=1))
    return np.min(nearest, axis=0)


@settings(max_examples=40, deadline=None)
@given(
    mirror=st.integers(0, 1),
    turn=st.integers(0, 1),
    rotate=st.floats(0, 180),
    shift=st.floats(0, 5),
    seed=st.integers(0, 2**31),
)
def test_points_and_roads_stay_on_the_line(mirror: int, turn: int, rotate: float, shift: float, seed: int) -> None:
    before = known()
    config = NONE.model_copy(update={"mirror": mirror, "turn": turn, "rotate": rotate, "shift": shift})
    after = augment(before, config, np.random.default_rng(seed), GRID)
    assert after.points is not None and after.sd_lines is not None and before.points is not None
    line = after.elements[0].points
    assert off_line(after.points[:, :2], line).max() < 1e-3
    np.testing.assert_allclose(after.sd_lines[0], line, atol=1e-4)
    np.testing.assert_allclose(after.points[:, 2:], before.points[:, 2:], atol=1e-6)
    assert (after.points.dtype, after.sd_lines[0].dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(before.points, known().points)
    np.testing.assert_array_equal(before.sd_lines[0], LINE)


@pytest.mark.parametrize(("change", "axes"), [("mirror", (1,)), ("turn", (1, 2))])
def test_the_raster_of_a_mirrored_frame_is_the_mirrored_raster(change: str, axes: tuple[int, ...]) -> None:
    after = augment(known(), NONE.model_copy(update={change: 1.0}), np.random.default_rng(0), GRID)
    straight, changed = sd_raster((LINE,), GRID), sd_raster(after.sd_lines, GRID)
    assert (straight != np.flip(straight, axes)).any()
    one, other = changed[0] == 1, np.flip(straight, axes)[0] == 1
    assert not (one & ~near(other)).any() and not (other & ~near(one)).any(), "but for rounding to whole cells"


def near(road: np.ndarray) -> np.ndarray:
    """(Y, X) bool: on a road, or beside it."""
    return cv2.dilate(road.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


@pytest.mark.parametrize(
    ("row", "overrides"),
    [
        ("pmapnet/lidar_sd", ()),
        ("pmapnet/simulated_sd", ()),
        ("pmapnet/simulated_sd", ("model.backbone=null", "model.view_transform={kind: ground_pixels, channels: 8}")),
        ("pmapnet/camera_sd", ()),
    ],
    ids=["lidar", "simulated", "simulated-ground", "camera"],
)
@pytest.mark.parametrize("keep", [True, False])
def test_a_keyframe_is_what_preprocess_makes(
    dense_config: Load, tmp_path: Path, row: str, overrides: tuple[str, ...], keep: bool
) -> None:
    config = dense_config(row, *overrides)
    model, root = config.model, config.data.root
    dataset, sweeps = NuScenesDataset(root), sweeps_for(model)
    frames = load_keyframes(
        root, "train", model, keep_inputs=keep, sweeps=sweeps, cache=tmp_path, workers=1, reduced=False
    )
    of_cameras = {"images", "projection", "camera_mask"} | ({"ground"} if model.sees_ground else set())
    assert set(frames.inputs) == (of_cameras if keep else set())
    for index in range(2):
        found = complete(frames[index], model)
        observation = dataset.observation(frames[index].token, points=sweeps > 0, sweeps=max(1, sweeps))
        expected = preprocess(observation, model)
        for name, value in vars(expected).items():
            ours = getattr(found, name)
            assert (ours is None) == (value is None), name
            assert value is None or torch.equal(ours, value), name
        assert (found.points is not None) == (row == "pmapnet/lidar_sd")
        assert found.sd_raster is not None and found.sd_raster.shape == (1, 1, *model.grid.shape)


def test_augmentation_reaches_the_inputs_of_the_model(dense_config: Load) -> None:
    config = dense_config("pmapnet/lidar_sd")
    frames = load_keyframes(config.data.root, "train", config.model, keep_inputs=False, sweeps=3, workers=1)
    plain = complete(frames[1], config.model)
    mirrored = complete(
        augment(frames[1], NONE.model_copy(update={"mirror": 1.0}), np.random.default_rng(0), config.model.grid),
        config.model,
    )
    assert torch.equal(mirrored.points * torch.tensor([1.0, -1, 1, 1, 1]), plain.points)
    assert torch.equal(mirrored.point_count, plain.point_count)
    flipped, found = plain.sd_raster[0, 0].flip(0).numpy() == 1, mirrored.sd_raster[0, 0].numpy() == 1
    assert found.any() and not (found & ~near(flipped)).any()
    turned = augment(frames[1], NONE.model_copy(update={"rotate": 40.0}), np.random.default_rng(0), config.model.grid)
    moved = complete(turned, config.model)
    assert (moved.sd_raster != plain.sd_raster).any() and not torch.equal(moved.points, plain.points)


def links(root: Path, target: Path) -> Path:
    """The folder again, with links to the files, so that one can be taken away."""
    for path in sorted(root.rglob("*")):
        place = target / path.relative_to(root)
        if "cache" in path.relative_to(root).parts:
            continue
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.symlink_to(path)
    return target


def test_a_missing_earlier_sweep_is_found_by_prepare(
    sensor_world: Path, dense_config: Load, tmp_path: Path, hdmap: Callable[..., Any]
) -> None:
    root = links(sensor_world, tmp_path / "town")
    dense_config("pmapnet/lidar_sd")
    recipe = sensor_world.parent / "pmapnet-lidar_sd-resnet.yaml"
    command = ("prepare", root, "--recipe", recipe, "--split", "train", "--check", "--workers", 1)
    ended = hdmap(*command)
    assert ended.code == 0, ended.err
    tables = open_tables(root, root / "cache")
    second = next(scene for scene in tables.scenes if scene.name == "scene-0061").sample_tokens[1]
    lost = tables.previous_sweeps(second)[1].path
    assert lost.parent.parent.name == "sweeps", "not the keyframe's own"
    lost.unlink()
    hdmap(*command).assert_refused("with a missing sweep", f"no file {lost}", second)
    dense_config("pmapnet/camera_sd")
    camera = sensor_world.parent / "pmapnet-camera_sd-resnet.yaml"
    assert hdmap(*command[:2], "--recipe", camera, *command[4:]).code == 0, "who looks at no LiDAR does not miss it"


def test_a_folder_without_sd_maps_is_refused(sensor_world: Path, without_sd_maps: Path) -> None:
    whole, without = NuScenesDataset(sensor_world), NuScenesDataset(without_sd_maps)
    check_sensors(whole, whole.tokens, lidar=True, sd_map=True)
    check_sensors(without, without.tokens, lidar=True, sd_map=False)
    with pytest.raises(DatasetError, match=r"maps/sd/\S+\.geojson is missing; `hdmap sdmap OSM_FOLDER .*without-sd`"):
        check_sensors(without, without.tokens, lidar=False, sd_map=True)


def test_a_folder_with_empty_sweeps_is_refused(synthetic_root: Path) -> None:
    dataset = NuScenesDataset(synthetic_root)  # made without LiDAR
    check_sensors(dataset, dataset.tokens, lidar=False, sd_map=True)
    with pytest.raises(DatasetError, match=r"sweep of sample \S+ of \S+ is empty; .* --lidar keyframes"):
        check_sensors(dataset, dataset.tokens, lidar=True, sd_map=False)


def test_turning_the_car_under_its_pillars_is_refused(dense_config: Load) -> None:
    with pytest.raises(ConfigError, match="the car's own LiDAR returns"):
        dense_config("pmapnet/lidar_sd", "augment.turn=0.5")
    assert dense_config("pmapnet/lidar_sd", "augment.mirror=0.5").augment.mirror == 0.5


def test_nothing_known_is_an_empty_sweep_and_no_road(dense_config: Load) -> None:
    model = dense_config("pmapnet/lidar_sd").model
    found = complete(replace(known(), points=None, sd_lines=None), model)
    assert found.points is not None and found.points.shape == (1, 0, 5) and found.point_count.tolist() == [0]
    assert (found.sd_raster == -1).all()
