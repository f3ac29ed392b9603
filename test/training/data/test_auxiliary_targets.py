import numpy as np
import pytest
import shapely
import torch
from shapely import MultiPolygon

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.models.heads.auxiliary import AuxiliaryConfig, DepthConfig
from training.data.auxiliary_targets import AuxiliaryTargets, build_auxiliary_targets, surface_masks
from training.data.camera_targets import line_mask

GRID = BEVGrid((-6.0, 6.0), (-3.0, 3.0), 0.5)  # (12, 24) cells
DIVIDER = MapElement(MapClass.DIVIDER, np.array([[-6.0, 0.25], [6.0, 0.25]]))
CROSSING = MapElement(MapClass.PED_CROSSING, np.array([[2.0, -2], [5, -2], [5, 2], [2, 2]]), closed=True)
ROAD = MultiPolygon([shapely.box(-6, -2, 6, 2) - shapely.box(-1, -1, 1, 1)])
NOTHING = MultiPolygon()
SURFACE = AuxiliaryConfig(surface=("ped_crossing", "drivable_area"), bev_lines=False, image_lines=False)
# Cameras that look ahead and back from 1.5 m; pixels of (90, 160).
K = np.array([[100.0, 0, 79.5], [0, 100.0, 44.5], [0, 0, 1]])
AHEAD = K @ np.array([[0.0, -1, 0, 0], [0, 0, -1, 1.5], [1, 0, 0, 0]])
BACK = K @ np.array([[0.0, 1, 0, 0], [0, 0, -1, 1.5], [-1, 0, 0, 0]])
PROJECTION = torch.from_numpy(np.stack([AHEAD, BACK])).float().expand(2, -1, -1, -1)
CAMERAS = {"projection": PROJECTION, "image_size": (90, 160), "feature_size": (9, 16)}
BOTH = torch.tensor([[True, True], [True, False]])
POINTS = np.array([[10.0, 0, 1.5, 0, 0], [-5.0, 0, 1.5, 0, 0]], dtype=np.float32)


def test_surfaces_keep_their_holes_and_their_order() -> None:
    areas = [{"drivable_area": ROAD, "ped_crossing": NOTHING}, {"drivable_area": NOTHING, "ped_crossing": ROAD}]
    surface = build_auxiliary_targets(SURFACE, grid=GRID, elements=[[], []], areas=areas).surface
    assert surface is not None and surface.shape == (2, 2, 12, 24) and surface.dtype == torch.uint8
    assert not surface[0, 0].any() and not surface[1, 1].any()
    assert torch.equal(surface[0, 1], surface[1, 0])
    road = surface[0, 1].numpy()
    assert road.sum() == 24 * 8 - 4 * 4
    assert not road[4:8, 10:14].any() and not road[:2].any() and not road[10:].any()


def test_a_hole_does_not_erase_what_another_polygon_of_the_layer_covers() -> None:
    bridge = shapely.box(-0.5, -3, 0.5, 3)
    both = shapely.GeometryCollection([ROAD, bridge])  # not united beforehand
    for area in (MultiPolygon([*ROAD.geoms, bridge]), MultiPolygon([bridge, *ROAD.geoms])):
        mask = surface_masks({"drivable_area": area}, ["drivable_area"], GRID)[0]
        united = surface_masks({"drivable_area": shapely.union_all(both)}, ["drivable_area"], GRID)[0]
        np.testing.assert_array_equal(mask, united)
        assert mask[4:8, 10:14].tolist() == [[0, 1, 1, 0]] * 4


def test_bev_lines_are_three_cells_wide_and_of_all_classes() -> None:
    config = AuxiliaryConfig(image_lines=False)
    lines = build_auxiliary_targets(config, grid=GRID, elements=[[DIVIDER], [CROSSING], []]).bev_lines
    assert lines is not None and lines.shape == (3, 1, 12, 24)
    assert lines[0, 0].sum(dim=1).tolist() == [0] * 5 + [24] * 3 + [0] * 4  # y = 0.25 is the centre of row 6
    ring = lines[1, 0].numpy()
    assert ring[6, 15:18].all() and ring[6, 21:24].all(), "both sides: the ring is closed"
    assert ring[1:3, 19].all() and ring[9:11, 19].all() and not ring[5:8, 19].any(), "drawn, not filled"
    assert not lines[2].any()


def test_image_lines_per_frame_and_camera() -> None:
    config = AuxiliaryConfig(bev_lines=False)
    ahead = MapElement(MapClass.BOUNDARY, np.array([[4.0, 1], [12, 1]]))
    built = build_auxiliary_targets(config, grid=GRID, elements=[[ahead], [DIVIDER]], camera_mask=BOTH, **CAMERAS)
    lines = built.image_lines
    assert lines is not None and lines.shape == (2, 2, 1, 9, 16) and lines.dtype == torch.uint8
    flat = np.array([[4.0, 1, 0], [12, 1, 0]])
    np.testing.assert_array_equal(lines[0, 0, 0], line_mask([flat], AHEAD, (90, 160), (9, 16)))
    assert lines[0, 0].any() and not lines[0, 1].any(), "nothing behind"
    assert lines[1, 0].any() and not lines[1, 1].any(), "the camera behind is missing"


def test_rings_are_closed_in_images() -> None:
    config = AuxiliaryConfig(bev_lines=False)
    far = MapElement(MapClass.PED_CROSSING, np.array([[6.0, -3], [6, 3], [12, 3], [12, -3]]), closed=True)
    lines = build_auxiliary_targets(config, grid=GRID, elements=[[far], []], camera_mask=BOTH, **CAMERAS).image_lines
    corners = np.array([[*point, 0] for point in [*far.points, far.points[0]]])
    assert lines is not None
    np.testing.assert_array_equal(lines[0, 0, 0], line_mask([corners], AHEAD, (90, 160), (9, 16)))
    assert (lines[0, 0, 0].numpy() > line_mask([corners[:-1]], AHEAD, (90, 160), (9, 16))).any()


def test_depth_per_frame_and_camera() -> None:
    config = AuxiliaryConfig(bev_lines=False, image_lines=False, depth=DepthConfig())
    built = build_auxiliary_targets(
        config, grid=GRID, elements=[[], []], camera_mask=BOTH, points=[POINTS, POINTS], **CAMERAS
    )
    depth = built.depth
    assert depth is not None and depth.shape == (2, 2, 9, 16) and depth.dtype == torch.float32
    known = {tuple(index): depth[tuple(index)].item() for index in (~depth.isnan()).nonzero().tolist()}
    assert known == pytest.approx({(0, 0, 4, 8): 10.0, (0, 1, 4, 8): 5.0, (1, 0, 4, 8): 10.0})
    without = build_auxiliary_targets(
        config, grid=GRID, elements=[[], []], camera_mask=BOTH, points=[None, POINTS], **CAMERAS
    ).depth
    assert without is not None and without[0].isnan().all() and not without[1].isnan().all()


def test_only_what_is_asked_for_is_built_and_moved() -> None:
    targets = build_auxiliary_targets(AuxiliaryConfig(image_lines=False), grid=GRID, elements=[[DIVIDER]])
    assert (targets.surface, targets.image_lines, targets.depth) == (None, None, None)
    moved = targets.to("meta")
    assert isinstance(moved, AuxiliaryTargets) and moved.bev_lines is not None and moved.bev_lines.is_meta
    assert moved.surface is None and targets.bev_lines is not None and not targets.bev_lines.is_meta


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="'surface' needs areas"):
        build_auxiliary_targets(SURFACE, grid=GRID, elements=[[]])
    with pytest.raises(ValueError, match="needs the layer 'ped_crossing'; got drivable_area"):
        build_auxiliary_targets(SURFACE, grid=GRID, elements=[[]], areas=[{"drivable_area": ROAD}])
    with pytest.raises(ValueError, match="'image_lines' needs projection"):
        build_auxiliary_targets(AuxiliaryConfig(), grid=GRID, elements=[[]])
    config = AuxiliaryConfig(image_lines=False, depth=DepthConfig())
    with pytest.raises(ValueError, match="'depth' needs points"):
        build_auxiliary_targets(config, grid=GRID, elements=[[], []], camera_mask=BOTH, **CAMERAS)
