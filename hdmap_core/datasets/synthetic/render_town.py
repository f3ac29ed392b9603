"""One town's share of a data set: sensor files, table rows, map layers."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from hdmap_core.datasets.sd_map import road_feature
from hdmap_core.datasets.synthetic.drive import STIFF, Drive, draw_springs, plan_drive
from hdmap_core.datasets.synthetic.formats.annotations import annotate, objects_at, points_in_boxes
from hdmap_core.datasets.synthetic.formats.map_expansion import town_layers
from hdmap_core.datasets.synthetic.formats.tables import SceneShots, TownRows, logfile_of, scene_start_us, token_of
from hdmap_core.datasets.synthetic.light.weather import draw_optics, look_of_scene
from hdmap_core.datasets.synthetic.presets import SynthConfig, TownPlan
from hdmap_core.datasets.synthetic.sensors.cameras import TownRenderer
from hdmap_core.datasets.synthetic.sensors.lidar import TownLidar
from hdmap_core.datasets.synthetic.sensors.optics import Developer, Optics, developer_of
from hdmap_core.datasets.synthetic.sensors.other_rigs import other_rig
from hdmap_core.datasets.synthetic.sensors.own_car import OwnCar, draw_own_car
from hdmap_core.datasets.synthetic.sensors.rig import CLOCK_US, Firing, firings, varied_rig
from hdmap_core.datasets.synthetic.things.traffic import around_ego
from hdmap_core.datasets.synthetic.town import Town
from hdmap_core.datasets.synthetic.world import generate_town, movers_clear_of
from hdmap_core.datasets.synthetic.world_folder import write_file
from hdmap_core.geometry.se3 import transform_points

FIRST_TOWN_S = 1.0
"""Town time at which every scene begins; movers keep to their routes from 0 to 24 s."""

Hits = dict[str, dict[str, list[int]]]
"""LiDAR points in each object: scene number → keyframe → counts (string keys, for JSON)."""


@dataclass(frozen=True)
class SceneWork:
    """A drive through a town, ready to be recorded."""

    town: Town
    drive: Drive
    shots: SceneShots
    optics: dict[str, Optics] = field(default_factory=dict)
    """Of each camera; one that is not named is perfect."""
    own_car: OwnCar | None = None

    def developers(self) -> dict[str, Developer]:
        """What develops the pictures of each camera that is not perfect."""
        cameras, look = self.shots.rig.cameras, self.town.appearance
        return {
            name: developer_of(optics, cameras[name].pinhole, self.own_car, look)
            for name, optics in self.optics.items()
        }

    def town_from_ego(self, town_s: float) -> np.ndarray:
        """(4, 4) ego pose at a town time in seconds."""
        return self.drive.town_from_ego(town_s - FIRST_TOWN_S)

    def town_s(self, firing: Firing) -> float:
        """Town time of an exposure, in seconds."""
        return FIRST_TOWN_S + firing.stamp_us * 1e-6


@lru_cache(maxsize=1)
def _last_town(seed: int, drives_left: bool, edition: int) -> Town:
    """A town is recorded and then described, perhaps in several pieces: it is drawn once."""
    return generate_town(seed, drives_left=drives_left, edition=edition)


class TownWork:
    """Everything about a town that follows from the configuration alone."""

    def __init__(self, config: SynthConfig, plan: TownPlan) -> None:
        self.config, self.plan = config, plan

    @cached_property
    def town(self) -> Town:
        """The town with all of its movers."""
        return _last_town(self.plan.seed, self.plan.drives_left, self.config.edition)

    def sd_roads(self) -> list[dict[str, object]]:
        """The town's share of its city's SD map."""
        return [
            road_feature(street.line + self.plan.origin, {"lanes": street.num_lanes, "one_way": street.is_one_way})
            for street in self.town.streets
        ]

    def scene(self, number: int) -> SceneWork:
        """The `number`-th drive: its route, rig, stamps, and the town without movers that would hit the ego."""
        config, plan = self.config, self.plan
        rng = np.random.default_rng([plan.seed, 7, number])
        rig = varied_rig(rng)  # drawn in any case, so that town and drive are the same through every rig
        if config.rigs != "nuscenes":
            rig = other_rig(config.rigs, plan.seed, number)
        rig = rig.resized(config.image_size)
        route = self.town.routes[number % len(self.town.routes)]
        duration = (config.keyframes - 1) * 0.5
        springs = draw_springs(np.random.default_rng([plan.seed, number, 22])) if config.edition > 1 else STIFF
        drive = plan_drive(rng, route, duration, relief=self.town.relief, springs=springs)
        events = firings(rng, rig, config.keyframes, config.sweeps, config.lidar)
        shots = SceneShots(plan.scene_names[number], rig, tuple(events), scene_start_us(plan, number), logfile_of(plan))
        times = np.arange(-0.2, duration + 0.2, 0.1)
        if config.edition == 1:
            town = movers_clear_of(self.town, drive.positions(times), times + FIRST_TOWN_S)
            return SceneWork(town, drive, shots)
        company, along = np.random.default_rng([plan.seed, number, 35]), np.interp(times, drive.times, drive.distance)
        town = around_ego(self.town, company, route, along, times + FIRST_TOWN_S)
        place = plan.index * config.scenes + number
        condition = None if config.weather == "changing" else config.weather
        look = look_of_scene(town.appearance, plan.seed - plan.index, place, condition)
        own_car = draw_own_car(np.random.default_rng([plan.seed, number, 33]), rig)
        optics = draw_optics(np.random.default_rng([plan.seed, number, 34]), look, list(rig.cameras))
        shots = replace(shots, weather=look.weather)
        return SceneWork(replace(town, appearance=look), drive, shots, optics, own_car)


class Recorder:
    """The sensors of a scene, with all that is the same in every picture and turn."""

    def __init__(self, config: SynthConfig, scene: SceneWork, seed: int) -> None:
        """`seed`: of the LiDAR's noise; the town's."""
        self.config, self.scene, self.seed = config, scene, seed
        self.renderer = TownRenderer(scene.town)
        self.developers = scene.developers()

    @cached_property
    def lidar(self) -> TownLidar:
        """Made when it first turns."""
        return TownLidar(self.scene.town)

    def photograph(self, firing: Firing) -> bytes:
        """An exposure of a camera as a JPEG file."""
        scene, channel = self.scene, firing.channel
        camera, at = scene.shots.rig.cameras[channel], scene.town_s(firing)
        drawn, pose = camera.pinhole, scene.town_from_ego(at) @ camera.ego_from_camera
        speed = scene.drive.speed(firing.stamp_us * 1e-6)
        developer = self.developers.get(channel)
        image = self.renderer.render(drawn.intrinsics, pose, drawn.image_size, at, developer, speed)
        image = cv2.cvtColor(camera.through_lens(image), cv2.COLOR_RGB2BGR)
        quality = min(self.config.jpeg_quality, scene.optics.get(channel, Optics()).jpeg_quality)
        return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()

    def sweep(self, firing: Firing) -> tuple[bytes, list[int] | None]:
        """A turn of the LiDAR as file content, and at a keyframe how many points lie in each object.

        Without LiDAR the keyframes still need their rows (the frame's instant and pose stand there), so the file is
        there, with no point in it.
        """
        if self.config.lidar == "none":
            return b"", None
        scene, at = self.scene, self.scene.town_s(firing)
        ego_from_lidar = scene.shots.rig.ego_from_lidar
        seed = self.seed * 1000 + firing.stamp_us // CLOCK_US
        points = self.lidar.cast_sweep(scene.town_from_ego, ego_from_lidar, at, seed)
        hits = None
        if firing.is_keyframe:
            in_town = transform_points(scene.town_from_ego(at) @ ego_from_lidar, points[:, :3].astype(np.float64))
            in_town[:, 2] -= scene.town.relief.height(in_town[:, :2])
            hits = points_in_boxes(objects_at(scene.town, at), in_town).tolist()
        return points.astype("<f4").tobytes(), hits


class Recorded(NamedTuple):
    """How many files were written, and how many LiDAR points lie in each object."""

    files: int
    hits: Hits


def record(
    config: SynthConfig, plan: TownPlan, root: Path, chunk: int, chunks: int, tick: Callable[[], None]
) -> Recorded:
    """Write the sensor files of every `chunks`-th stretch of a town's scenes; `tick` is called after each.

    Raises:
        OutputError: a file cannot be written.
    """
    cv2.setNumThreads(1)
    work = TownWork(config, plan)
    counts: Hits = {}
    files = 0
    for number in range(config.scenes):
        scene = work.scene(number)
        recorder = Recorder(config, scene, plan.seed)
        events = scene.shots.firings
        for firing in events[len(events) * chunk // chunks : len(events) * (chunk + 1) // chunks]:
            if firing.channel == "LIDAR_TOP":
                content, hits = recorder.sweep(firing)
                if hits is not None:
                    counts.setdefault(str(number), {})[str(firing.keyframe)] = hits
            else:
                content = recorder.photograph(firing)
            write_file(root / scene.shots.filename(firing), content)
            files += 1
            tick()
    return Recorded(files, counts)


def describe(config: SynthConfig, plan: TownPlan, counts: Hits) -> dict[str, Any]:
    """A town's rows, map layers and SD map: what goes into its part file."""
    work, origin = TownWork(config, plan), np.array(plan.origin)
    rows = TownRows(plan)
    for number in range(config.scenes):
        scene = work.scene(number)
        shots = scene.shots
        poses = []
        for firing in shots.firings:
            pose = scene.town_from_ego(scene.town_s(firing))
            pose[:2, 3] += origin
            poses.append(pose)
        samples = rows.add_scene(shots, poses)
        times = [(stamp - shots.start_us) * 1e-6 for stamp in shots.keyframe_us()]
        annotate(
            rows.rows, scene.town, origin, token_of(plan.key, shots.name), samples,
            [FIRST_TOWN_S + t for t in times], scene.drive.positions(np.array(times)),
            {int(k): hits for k, hits in counts.get(str(number), {}).items()},
        )  # fmt: skip
    layers = town_layers(work.town, f"{config.seed}/{plan.key}", plan.origin)
    return {"city": plan.city, "tables": rows.rows, "map": layers, "sd": work.sd_roads()}
