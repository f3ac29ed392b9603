"""Streets of the second edition: what stands there is off the road, and nobody drives through anybody."""

import numpy as np
import pytest
import shapely

from hdmap_core.datasets.synthetic.formats.annotations import objects_at
from hdmap_core.datasets.synthetic.presets import PRESETS, plan_towns
from hdmap_core.datasets.synthetic.render_town import FIRST_TOWN_S, SceneWork, TownWork
from hdmap_core.datasets.synthetic.sensors.lidar_shapes import slabs_of
from hdmap_core.datasets.synthetic.things.scenery import box_outlines
from hdmap_core.datasets.synthetic.things.street_meshes import placements_of
from hdmap_core.datasets.synthetic.things.traffic import outlines_of
from hdmap_core.datasets.synthetic.town import Box

CONFIG = PRESETS["tiny"].model_copy(update={"edition": 2})
ON_THE_ROAD = ("cone", "water_barrier", "barrier", "gantry", "person", "car", "van", "truck", "bus", "motorcycle")


@pytest.fixture(scope="module", params=[0, 1])
def scene(request: pytest.FixtureRequest) -> SceneWork:
    return TownWork(CONFIG, plan_towns(CONFIG)[request.param]).scene(0)


def test_streets_are_furnished_beside_the_road(scene):
    boxes = [box for box in scene.town.boxes if box.kind not in ("building", "tree", "pole")]
    kinds = {box.kind for box in boxes}
    assert {"sign", "person"} < kinds and len(kinds & {"railing", "hedge", "wall", "bollard", "barrier"}) >= 2
    aside = [box for box in boxes if box.kind not in ON_THE_ROAD]
    assert not shapely.intersects(scene.town.drivable.buffer(-0.05), box_outlines(aside)).any()


def test_every_kind_has_a_shape_for_cameras_and_lidar(scene):
    size = {"gantry": (0.5, 12.0, 6.0), "bus_stop": (4.0, 1.5, 2.5)}
    for kind in ("water_barrier", "railing", "cone", "bollard", "hedge", "wall", "sign", "traffic_light", "gantry",
                 "bus_stop", "van", "motorcycle", "bicycle"):  # fmt: skip
        box = Box((5.0, 6.0), 0.3, size.get(kind, (2.0, 0.6, 1.6)), (0.3, 0.3, 0.3), kind)
        for seed in range(6):
            corners = np.concatenate([f.corners for m, _, _ in placements_of(box, seed) for f in m.faces])
            assert np.isfinite(corners).all() and corners[:, 2].min() > -0.05
            assert (np.abs(corners).max(axis=0) < np.array(box.size) / 2 + (1.5, 1.7, 4.0)).all()
        assert len(slabs_of([box]).spans)
    under_gantry = slabs_of([Box((0.0, 0.0), 0.0, (0.5, 12.0, 6.0), (0.3, 0.3, 0.3), "gantry")])
    wide = under_gantry.half_sizes[:, 1] > 3.0
    assert under_gantry.spans[wide, 0].min() > 4.5


def test_vehicles_never_meet_each_other_nor_the_ego(scene):
    times = np.arange(0.0, 1.6, 0.1) + FIRST_TOWN_S
    movers = scene.town.movers
    assert len(movers) >= 15 and len({m.kind for m in movers}) >= 3
    for t, when in enumerate(times[::5]):
        outlines = [outlines_of(m, np.array([when]))[0][0].buffer(-0.3) for m in movers]
        tree = shapely.STRtree(outlines)
        a, b = tree.query(outlines, predicate="intersects")
        assert (a == b).all(), (t, when)
        pose = scene.town_from_ego(float(when))
        corners = np.array([[3.5, 0.9], [-0.7, 0.9], [-0.7, -0.9], [3.5, -0.9]]) @ pose[:2, :2].T + pose[:2, 3]
        ego = shapely.Polygon(corners)
        assert not shapely.intersects(outlines, ego).any()
        solid = [box for box in scene.town.boxes if box.kind not in ("building", "gantry", "tree", "pole")]
        assert not shapely.intersects(box_outlines(solid), ego).any()


def test_traffic_comes_closer_than_in_the_first_edition():
    near = {}
    for edition in (1, 2):
        config = CONFIG.model_copy(update={"edition": edition, "towns": {"train": 2}})
        found = []
        for plan in plan_towns(config):
            scene = TownWork(config, plan).scene(0)
            objects = objects_at(scene.town, FIRST_TOWN_S)
            moving = np.array([a.startswith(("vehicle.moving", "vehicle.stopped")) for a in objects.attributes])
            eye = scene.town_from_ego(FIRST_TOWN_S)[:2, 3]
            found.append(int((np.hypot(*(objects.centres[moving] - eye).T) < 30.0).sum()))
        near[edition] = np.mean(found)
    assert near[2] > 2.0 * near[1] + 1.0


def test_lit_windows_after_dark_only():
    house = Box((0.0, 0.0), 0.0, (20.0, 12.0, 15.0), (0.4, 0.4, 0.4), "building")

    def glowing(after_dark: bool) -> int:
        return sum(face.glow > 0.1 for mesh, _, _ in placements_of(house, 4, after_dark) for face in mesh.faces)

    assert glowing(False) == 0 and glowing(True) > 3


def test_same_seed_same_street(scene):
    again = TownWork(CONFIG, next(p for p in plan_towns(CONFIG) if p.seed == scene.town.seed)).scene(0)
    assert again.town.boxes == scene.town.boxes and again.town.appearance == scene.town.appearance
    assert again.optics == scene.optics and again.own_car == scene.own_car
