"""The written folder, held against nuscenes-devkit as oracle; resuming, refusing, determinism."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely

pytest.importorskip("nuscenes", reason="nuscenes-devkit, the oracle, is not installed; make setup brings it")
from nuscenes.map_expansion import arcline_path_utils
from nuscenes.map_expansion.map_api import NuScenesMap
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import LidarPointCloud
from nuscenes.utils.splits import get_scenes_of_split
from pyquaternion import Quaternion

from hdmap_core.datasets.synthetic import render_town, writer
from hdmap_core.datasets.synthetic.cli import resolve
from hdmap_core.datasets.synthetic.curve import left_normals, resample
from hdmap_core.datasets.synthetic.formats.map_expansion import arcline_path
from hdmap_core.datasets.synthetic.presets import CITY_SIZES, PRESETS, SynthConfig, plan_towns, tile_places, with_towns
from hdmap_core.datasets.synthetic.render_town import TownWork
from hdmap_core.datasets.synthetic.sensors.rig import CHANNELS
from hdmap_core.datasets.synthetic.writer import files_per_scene, write_dataset
from hdmap_core.errors import ConfigError, DatasetError, OutputError

CONFIG = PRESETS["tiny"].model_copy(update={"keyframes": 2, "sweeps": True, "image_size": (180, 320)})
SMALL = SynthConfig(version="v1.0-mini", towns={"val": 1}, keyframes=1, image_size=(45, 80), lidar="none")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "data"
    calls: list[tuple[int, int]] = []
    scenes = write_dataset(str(folder), CONFIG, 1, lambda done, total: calls.append((done, total)))
    assert scenes == {"train": ["scene-0061"], "val": ["scene-0103"]}
    total = 2 * files_per_scene(CONFIG)
    assert calls == [(done, total) for done in range(total + 1)], "one worker tells of every file"
    assert sum(len(list((folder / part).rglob("*.*"))) for part in ("samples", "sweeps")) == total
    return folder


@pytest.fixture(scope="module")
def nusc(root: Path) -> NuScenes:
    return NuScenes("v1.0-mini", str(root), verbose=False)


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_devkit_walks_the_tables(nusc: NuScenes) -> None:
    assert len(nusc.scene) == 2
    assert "scene-0103" in get_scenes_of_split("mini_val", nusc)
    assert json.loads((Path(nusc.dataroot) / "v1.0-mini" / "splits.json").read_text())["train"] == ["scene-0061"]
    for scene in nusc.scene:
        sample = nusc.get("sample", scene["first_sample_token"])
        count = 1
        while sample["next"]:
            sample = nusc.get("sample", sample["next"])
            count += 1
        assert count == scene["nbr_samples"] == CONFIG.keyframes
        assert sample["token"] == scene["last_sample_token"]
        assert set(sample["data"]) == set(CHANNELS)
        assert nusc.get("sample_data", sample["data"]["LIDAR_TOP"])["timestamp"] == sample["timestamp"]
        row = nusc.get("sample_data", sample["data"]["CAM_FRONT"])
        chain = [row]
        while chain[-1]["prev"]:
            chain.append(nusc.get("sample_data", chain[-1]["prev"]))
        assert [r["is_key_frame"] for r in chain] == [True, *[False] * 5, True]
        # Frames between keyframes belong to the following sample.
        assert [r["sample_token"] == sample["token"] for r in chain] == [*[True] * 6, False]
    for row in nusc.sample_data:
        assert (Path(nusc.dataroot) / row["filename"]).is_file()
        pose = nusc.get("ego_pose", row["ego_pose_token"])
        assert pose["token"] == row["token"]
        assert pose["timestamp"] == row["timestamp"]
        assert pose["translation"][2] == 0.0


def test_images_and_lidar_can_be_read(nusc: NuScenes) -> None:
    sample = nusc.sample[0]
    path, boxes, intrinsics = nusc.get_sample_data(sample["data"]["CAM_FRONT"])
    assert cv2.imread(str(path)).shape == (180, 320, 3)
    assert 0.15 * 1600 < intrinsics[0, 0] < 0.17 * 1600
    points = LidarPointCloud.from_file(nusc.get_sample_data_path(sample["data"]["LIDAR_TOP"]))
    assert points.nbr_points() == 34_688
    assert isinstance(boxes, list)


def test_annotated_points_lie_in_their_boxes(nusc: NuScenes) -> None:
    assert len(nusc.instance) > 5
    checked = 0
    for sample in nusc.sample:
        path, boxes, _ = nusc.get_sample_data(sample["data"]["LIDAR_TOP"])
        points = LidarPointCloud.from_file(path).points[:3]
        for box in boxes:
            row = nusc.get("sample_annotation", box.token)
            if row["num_lidar_pts"] < 20:
                continue
            box.wlh = box.wlh * 1.1
            local = box.rotation_matrix.T @ (points - box.center[:, None])
            inside = np.all(np.abs(local) <= (box.wlh[[1, 0, 2]] / 2)[:, None], axis=0)
            assert inside.sum() >= 0.5 * row["num_lidar_pts"]
            checked += 1
    assert checked > 3
    for instance in nusc.instance:
        tokens = [instance["first_annotation_token"]]
        while nxt := nusc.get("sample_annotation", tokens[-1])["next"]:
            tokens.append(nxt)
        assert len(tokens) == instance["nbr_annotations"]
        assert tokens[-1] == instance["last_annotation_token"]


@pytest.mark.parametrize("city", CITY_SIZES)
def test_devkit_loads_the_map_of_every_city(root: Path, city: str) -> None:
    city_map = NuScenesMap(str(root), city)
    assert tuple(city_map.canvas_edge) == CITY_SIZES[city]
    for plan in plan_towns(CONFIG):
        if plan.city != city:
            continue
        town = TownWork(CONFIG, plan).town
        middle = np.array(plan.origin) + 160
        patch = (*middle.tolist(), 400.0, 400.0)
        geometry = dict(
            city_map.get_map_geom(patch, 0, ["drivable_area", "road_divider", "lane_divider", "ped_crossing"])
        )
        area = shapely.union_all([part for part in geometry["drivable_area"] if not part.is_empty])
        assert area.area == pytest.approx(town.drivable.area, rel=1e-6)
        kinds = [marking.kind for marking in town.markings]
        for kind in ("road_divider", "lane_divider"):
            assert len(geometry[kind]) == kinds.count(kind)
        assert len(geometry["ped_crossing"]) == len(town.crossings)


def test_map_lines_are_the_towns_paint(root: Path) -> None:
    plan = plan_towns(CONFIG)[0]
    city_map = NuScenesMap(str(root), plan.city)
    town = TownWork(CONFIG, plan).town
    ours = shapely.union_all([shapely.LineString(m.line + np.array(plan.origin)) for m in town.markings])
    lines = [city_map.extract_line(r["line_token"]) for r in (*city_map.road_divider, *city_map.lane_divider)]
    assert shapely.hausdorff_distance(shapely.union_all(lines), ours) < 0.01
    assert all(len(r["node_tokens"]) >= 2 for r in city_map.line)


def test_devkit_follows_lanes(root: Path) -> None:
    plan = plan_towns(CONFIG)[0]
    city_map = NuScenesMap(str(root), plan.city)
    town = TownWork(CONFIG, plan).town
    tokens = [r["token"] for r in city_map.lane] + [r["token"] for r in city_map.lane_connector]
    assert len(tokens) == len(town.lanes)
    for token in tokens:
        points = np.array(arcline_path_utils.discretize_lane(city_map.get_arcline_path(token), 0.5))
        for after in city_map.get_outgoing_lane_ids(token):
            start = arcline_path_utils.discretize_lane(city_map.get_arcline_path(after), 0.5)[0]
            assert np.hypot(*(points[-1, :2] - np.array(start)[:2])) < 0.05
            assert token in city_map.get_incoming_lane_ids(after)
    lane = town.lanes[0]
    spot = lane.centerline[len(lane.centerline) // 2] + np.array(plan.origin)
    closest = city_map.get_closest_lane(*spot.tolist(), radius=2)
    assert closest in tokens


@pytest.mark.parametrize("radius", [8.0, 25.0, -12.0])
def test_arcline_paths_follow_curves(radius: float) -> None:
    angle = np.linspace(0, 1.5, 40)
    curve = np.stack([abs(radius) * np.sin(angle), radius * (1 - np.cos(angle))], axis=-1) + 700.0
    path = arcline_path(curve)
    points = np.array(arcline_path_utils.discretize_lane(path, 0.25))[:, :2]
    assert shapely.hausdorff_distance(shapely.LineString(points), shapely.LineString(curve)) < 0.3
    for before, after in pairwise(path):
        assert before["end_pose"] == after["start_pose"]


def test_paint_is_drawn_where_the_map_has_it(nusc: NuScenes, root: Path) -> None:
    """Project the map's dividers as the devkit would: it is brighter there than on the asphalt beside them."""
    contrasts = []
    for sample in nusc.sample:
        plan = next(p for p in plan_towns(CONFIG) if nusc.get("scene", sample["scene_token"])["name"] in p.scene_names)
        markings = TownWork(CONFIG, plan).town.markings
        for channel in sorted(set(CHANNELS) - {"LIDAR_TOP"}):
            row = nusc.get("sample_data", sample["data"][channel])
            image = cv2.imread(str(root / row["filename"]), cv2.IMREAD_GRAYSCALE).astype(float)
            for marking in markings:
                line = resample(marking.line, 0.5) + np.array(plan.origin)
                if np.min(np.hypot(*(line - nusc.get("ego_pose", row["token"])["translation"][:2]).T)) > 10:
                    continue
                for middle, normal in zip(line, left_normals(line), strict=True):
                    near = [_brightness(nusc, row, image, middle + s * normal) for s in (-0.1, 0.0, 0.1)]
                    far = [_brightness(nusc, row, image, middle + s * normal) for s in (-0.7, 0.7)]
                    if None not in near + far:
                        contrasts.append(max(near) - np.mean(far))
    assert len(contrasts) > 40
    # Dashed lines have gaps, and cars stand in the way.
    assert np.percentile(contrasts, 80) > 20
    assert np.mean(contrasts) > 5


def _brightness(nusc: NuScenes, row: dict, image: np.ndarray, place: np.ndarray) -> float | None:
    pose, sensor = nusc.get("ego_pose", row["token"]), nusc.get("calibrated_sensor", row["calibrated_sensor_token"])
    point = np.array([*place, 0.0]) - np.array(pose["translation"])
    if np.hypot(*point[:2]) > 10:
        return None
    point = Quaternion(pose["rotation"]).rotation_matrix.T @ point - np.array(sensor["translation"])
    point = Quaternion(sensor["rotation"]).rotation_matrix.T @ point
    if point[2] < 2:
        return None
    column, line = np.rint((np.array(sensor["camera_intrinsic"]) @ point / point[2])[:2]).astype(int)
    if not (0 <= line < image.shape[0] and 0 <= column < image.shape[1]):
        return None
    return float(image[line, column])


def test_sd_map_lies_beside(root: Path) -> None:
    plan = plan_towns(CONFIG)[0]
    collection = json.loads((root / "maps" / "sd" / f"{plan.city}.geojson").read_text())
    streets = TownWork(CONFIG, plan).town.streets
    assert len(collection["features"]) == len(streets)
    first = collection["features"][0]
    assert first["properties"] == {"lanes": streets[0].num_lanes, "one_way": streets[0].is_one_way}
    assert np.allclose(first["geometry"]["coordinates"], streets[0].line + np.array(plan.origin), atol=1e-3)


@pytest.mark.parametrize("edition", [1, 2])
def test_bytes_do_not_depend_on_workers(tmp_path: Path, edition: int) -> None:
    # Enough files that one town is split between the workers.
    changes = {"towns": {"train": 1}, "image_size": (45, 80), "lidar": "none", "edition": edition}
    config = CONFIG.model_copy(update=changes)
    assert files_per_scene(config) >= 40
    write_dataset(tmp_path / "one", config, 1)
    write_dataset(tmp_path / "two", config, 3)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_an_interrupted_run_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SMALL.model_copy(update={"towns": {"train": 1, "val": 1}})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write_dataset(whole, config)
    recorded = []

    def record_until(config, plan, root, chunk, chunks, tick):
        recorded.append(plan.key)
        if len(recorded) == 2:
            raise KeyboardInterrupt
        return render_town.record(config, plan, root, chunk, chunks, tick)

    monkeypatch.setattr(writer, "record", record_until)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(broken, config)
    assert not (broken / config.version).exists()
    recorded.append("resumed")
    write_dataset(broken, config)
    assert recorded == ["train-0000", "val-0000", "resumed", "val-0000"]
    assert contents(broken) == contents(whole)
    # A complete folder is left alone.
    write_dataset(broken, config)
    assert recorded[-1] == "val-0000"
    assert len(recorded) == 4


def test_another_weather_changes_pictures_and_what_is_said_of_them(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"edition": 2})
    found = []
    for weather in ("clear", "fog"):
        write_dataset(tmp_path / weather, config.model_copy(update={"weather": weather}))
        found.append(contents(tmp_path / weather))
    clear, fog = found
    pictures = {name for name in clear if name.startswith("samples/CAM")}
    assert len(pictures) == 6 and clear.keys() == fog.keys()
    assert {name for name in clear if clear[name] != fog[name]} == {*pictures, "synth.json", "v1.0-mini/scene.json"}


def test_foreign_folders_are_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match=r"notes\.txt"):
        write_dataset(tmp_path, SMALL)
    assert list(contents(tmp_path)) == ["notes.txt"]


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, SMALL)
    before = contents(tmp_path)
    with pytest.raises(DatasetError, match="seed = 0, now it is 4"):
        write_dataset(tmp_path, SMALL.model_copy(update={"seed": 4}))
    assert contents(tmp_path) == before
    # A folder that is older than options has their defaults.
    manifest = json.loads((tmp_path / "synth.json").read_text())
    del manifest["config"]["edition"], manifest["config"]["weather"]
    (tmp_path / "synth.json").write_text(json.dumps(manifest))
    write_dataset(tmp_path, SMALL)
    with pytest.raises(DatasetError, match="edition = 1, now it is 2"):
        write_dataset(tmp_path, SMALL.model_copy(update={"edition": 2}))
    with pytest.raises(DatasetError, match="weather = changing, now it is fog"):
        write_dataset(tmp_path, SMALL.model_copy(update={"weather": "fog"}))
    (tmp_path / "synth.json").write_text("{")
    with pytest.raises(DatasetError, match="damaged"):
        write_dataset(tmp_path, SMALL)


def test_places_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="is a file"):
        write_dataset(tmp_path / "file", SMALL)
    with pytest.raises(OutputError, match="cannot"):
        write_dataset(tmp_path / "file" / "below", SMALL)

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        write_dataset(tmp_path / "new", SMALL)


def test_splits_share_no_town_and_no_place() -> None:
    plans = plan_towns(PRESETS["v1"])
    assert {split: sum(p.split == split for p in plans) for split in ("train", "val", "test")} == {
        "train": 100, "val": 12, "test": 12,
    }  # fmt: skip
    for field in ("seed", "slot", "scene_names"):
        assert len({getattr(plan, field) for plan in plans}) == len(plans)
    assert len({(plan.city, plan.origin) for plan in plans}) == len(plans)
    demo = plan_towns(PRESETS["demo"])[0]
    assert demo.seed not in {plan.seed for plan in plans}
    for city, (x, y) in tile_places():
        width, height = CITY_SIZES[city]
        assert 50 <= x <= width - 325
        assert 50 <= y <= height - 325


def test_a_smaller_set_is_a_part_of_the_bigger() -> None:
    assert set(plan_towns(PRESETS["v1"])) <= set(plan_towns(PRESETS["v1-large"]))
    smaller = PRESETS["v1"].model_copy(update={"towns": with_towns(PRESETS["v1"], 20)})
    assert sum(smaller.towns.values()) == 20
    assert min(smaller.towns.values()) >= 1
    assert set(plan_towns(smaller)) <= set(plan_towns(PRESETS["v1"]))


def test_splits_that_are_asked_for_are_the_presets_own() -> None:
    whole = set(plan_towns(PRESETS["v2"]))
    some = resolve("v2", split=["test", "val"])
    assert some.towns == {"val": 12, "test": 12}
    assert set(plan_towns(some)) == {plan for plan in whole if plan.split != "train"}
    fewer = resolve("v2", split=["val", "test"], towns=4)
    assert fewer.towns == {"val": 2, "test": 2} and set(plan_towns(fewer)) < whole
    assert resolve("v2", split=[], towns=None) == PRESETS["v2"]


@pytest.mark.parametrize(
    ("preset", "options", "message"),
    [
        ("v9", {}, "tiny"),
        ("tiny", {"image_size": "900"}, "450x800"),
        ("tiny", {"lidar": "some"}, "lidar"),
        ("tiny", {"keyframes": 0}, "keyframes"),
        ("tiny", {"towns": 0}, "at least one"),
        ("v1", {"towns": 1000}, "towns"),
        ("v2", {"split": ["val"], "towns": 13}, "towns.val"),
        ("tiny", {"split": ["val", "test"]}, "--split test: .* train, val only"),
        ("tiny", {"weather": "fog"}, "weather fog: the first edition"),
        ("tiny-v2", {"weather": "hail"}, "'rain-at-night' or 'fog'"),
    ],
)
def test_wrong_options_are_explained(preset: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(preset, **options)


def test_devkit_reads_the_second_edition(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"edition": 2})
    write_dataset(tmp_path, config)
    nusc = NuScenes("v1.0-mini", str(tmp_path), verbose=False)
    plan = plan_towns(config)[0]
    town, origin = TownWork(config, plan).town, np.array(plan.origin)
    city = NuScenesMap(str(tmp_path), nusc.get("log", nusc.scene[0]["log_token"])["location"])
    assert len(city.ped_crossing) == len(town.crossings)
    assert len(city.lane_divider) + len(city.road_divider) == len(town.markings)
    middle = origin + np.array(town.size) / 2
    patch = (*middle, town.size[1], town.size[0])
    (_, areas), (_, segments) = city.get_map_geom(patch, 0.0, ["drivable_area", "road_segment"])
    shift = shapely.affinity.translate(town.drivable, *(-np.array(town.size) / 2))
    for read in (areas, segments):
        assert shapely.union_all(read).symmetric_difference(shift).area < 0.05
