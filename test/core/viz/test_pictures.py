from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import OutputError
from hdmap_core.geometry import BEVGrid, CameraRig, se3
from hdmap_core.geometry.ground_relief import GroundRelief
from hdmap_core.observation import Observation
from hdmap_core.viz import COLOURS, draw_bev, draw_cameras, draw_map, write_picture
from hdmap_core.viz.camera_mosaic import camera_rows
from hdmap_core.viz.strokes import BACKGROUND
from hdmap_core.viz.top_view import GroundMemory, pixel_grid

GRID = BEVGrid((-30.0, 30.0), (-15.0, 15.0), 0.3)
SIZE = (90, 160)
SIX = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
LINE = MapElement(MapClass.DIVIDER, np.array([[-20.0, 5.0], [25.0, 5.0]]), score=0.9)
RING = MapElement(MapClass.PED_CROSSING, np.array([[8.0, -4], [11, -4], [11, 4], [8, 4]]), closed=True, score=0.8)


def observation(names: tuple[str, ...] = SIX, missing: tuple[str, ...] = ()) -> Observation:
    yaws = np.linspace(0, 2 * np.pi, len(names), endpoint=False)
    axes = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    poses = [se3.se3(se3.rotation_from_euler(0, 0.1, yaw) @ axes, [0.0, 0.0, 1.6]) for yaw in yaws]
    intrinsics = np.array([[90.0, 0, 79.5], [0, 90, 44.5], [0, 0, 1]])
    rig = CameraRig.from_arrays(names, [intrinsics] * len(names), poses, SIZE)
    images = tuple(None if name in missing else np.full((*SIZE, 3), 100, np.uint8) for name in names)
    return Observation(images, rig, stamp_ns=0, token="frame-7")


def coloured(picture: np.ndarray, label: MapClass, tolerance: int = 20) -> np.ndarray:
    return (np.abs(picture.astype(int) - COLOURS[label]) <= tolerance).all(axis=-1)


def test_bev_draws_elements_where_they_are() -> None:
    picture = draw_bev(None, [LINE], None, GRID, pixels_per_metre=20)
    assert picture.shape == (600, 1200, 3) and picture.dtype == np.uint8
    rows, columns = np.nonzero(coloured(picture, MapClass.DIVIDER))
    assert rows.mean() == pytest.approx((15 - 5) * 20, abs=2), "y = 5 m, left of the car, lies above the middle"
    assert (columns.min(), columns.max()) == pytest.approx((10 * 20, 55 * 20), abs=8)


def test_bev_draws_truth_under_the_prediction() -> None:
    shifted = MapElement(MapClass.DIVIDER, LINE.points + np.float32(2))
    picture = draw_bev(observation(), [LINE], [LINE, shifted], GRID, pixels_per_metre=10)
    assert coloured(picture, MapClass.DIVIDER).sum() > 1000
    assert (picture[80, 200:400] > 240).all(axis=-1).sum() > 150, "the truth at y = 7 m is white"


def test_bev_of_a_grid_whose_cells_are_no_whole_number_of_pixels() -> None:
    grid = BEVGrid((-30.72, 30.72), (-15.36, 15.36), 0.16)
    picture = draw_bev(observation(), [LINE], None, grid, pixels_per_metre=20)
    assert picture.shape == (576, 1152, 3)


def test_elements_are_projected_into_the_right_images() -> None:
    mosaic = draw_cameras(observation(), [RING])
    assert mosaic.shape == (720, 1920, 3)
    front, back = mosaic[:360, 640:1280], mosaic[360:, 640:1280]
    assert coloured(front, MapClass.PED_CROSSING).sum() > 200
    assert not coloured(back, MapClass.PED_CROSSING).any()


def test_elements_are_drawn_on_the_ground_as_high_as_it_is() -> None:
    frame, half_metre = observation(), torch.eye(4, dtype=torch.float64)
    half_metre[2, 3] = -0.5
    lower = replace(frame, rig=frame.rig.changed_poses(lambda poses: half_metre @ poses))
    raised = replace(frame, relief=GroundRelief(np.full((13, 25), 0.5, np.float32)))
    flat, below, above = (draw_cameras(each, [RING], [RING]) for each in (frame, lower, raised))
    assert (above == below).all() and (above != flat).any()


def test_missing_images_stay_dark() -> None:
    mosaic = draw_cameras(observation(missing=("CAM_FRONT",)), [RING])
    front = mosaic[:360, 640:1280]
    assert np.median(front) < 30 and not coloured(front, MapClass.PED_CROSSING).any()
    assert np.median(mosaic[:360, :640]) == 100


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (4, 2, 3), (7, 2, 4), (8, 3, 3)])
def test_any_number_of_cameras(count: int, rows: int, columns: int) -> None:
    seen = observation(tuple(f"cam{index}" for index in range(count)))
    mosaic = draw_cameras(seen, [LINE, RING])
    assert mosaic.shape == (360 * rows, 640 * columns, 3)
    assert (mosaic == 100).all(axis=-1).sum() > 0.9 * count * 360 * 640, "all of them are drawn"
    assert draw_map(seen, [LINE], None, GRID).dtype == np.uint8


def test_cameras_stand_as_they_look_whatever_they_are_called() -> None:
    names = ("a", "b", "c", "d", "e", "f")  # ahead, ahead to the left, back to the left, back, ...
    assert camera_rows(observation(names).rig) == [["b", "a", "f"], ["c", "d", "e"]]


def test_a_tall_image_keeps_its_shape() -> None:
    seen = observation(("tall",))
    rig = CameraRig.from_arrays(["tall"], seen.rig.intrinsics.numpy(), seen.rig.ego_from_camera.numpy(), (160, 90))
    tall = replace(seen, images=(np.full((160, 90, 3), 100, np.uint8),), rig=rig)
    rows, columns = np.nonzero((draw_cameras(tall, []) == 100).all(axis=-1))
    assert (rows.min(), rows.max()) == (0, 359)
    assert columns.max() - columns.min() + 1 == pytest.approx(360 * 90 / 160, abs=2)


def test_truth_is_drawn_in_the_images_too() -> None:
    plain, told = draw_cameras(observation(), []), draw_cameras(observation(), [], [LINE])
    brighter = (told.astype(int) - plain > 100).all(axis=-1)
    assert brighter[:360, 640:1280].sum() > 50, "the line is 5 m to the left of the front camera"


def test_ground_under_the_car_is_filled_from_around_it() -> None:
    """No camera sees it; a rig whose cameras look ahead alone has no hole but an unseen half, which stays dark."""
    around = draw_bev(observation(), [], None, GRID, pixels_per_metre=10)
    beside_the_car = around[150 - 15, 304:340]  # 1.5 m to its left
    assert (np.abs(beside_the_car.astype(int) - 70) < 8).all(), "the images are 100, dimmed to 70"
    ahead = draw_bev(observation(("front",)), [], None, GRID, pixels_per_metre=10)
    assert np.median(ahead[150 - 15, 100:290], axis=0) == pytest.approx(BACKGROUND, abs=1)


def test_ground_under_the_car_is_what_was_seen_there_before() -> None:
    grid = pixel_grid(GRID, 10)
    memory = GroundMemory(grid)
    first, later = np.eye(4), np.eye(4)
    later[0, 3] = 8.0
    bright = replace(observation(), images=tuple(np.full((*SIZE, 3), 200, np.uint8) for _ in SIX), map_from_ego=first)
    memory.update(bright)
    seen = memory.update(replace(observation(), map_from_ego=later))
    column, row = np.round(grid.to_cells(np.array([1.4, 0.0]))).astype(int)
    assert seen[row, column].tolist() == [200, 200, 200, 255], "8 m earlier this place lay before the car"
    alone = memory.update(observation())
    assert int(alone[row, column, 0]) == pytest.approx(100, abs=5), "without a pose nothing is carried along"


def test_metres_are_written_at_the_border() -> None:
    picture = draw_bev(None, [], None, GRID, pixels_per_metre=20)
    for metres in (-20, -10, 0, 10, 20):
        x = (metres + 30) * 20
        assert (picture[-24:, x - 30 : x + 30] > 180).all(axis=-1).sum() > 15, metres
    assert (picture[80:120, :50] > 180).all(axis=-1).sum() > 15, "10 m to the left"


def test_map_leaves_out_what_is_below_the_score() -> None:
    faint = MapElement(MapClass.BOUNDARY, LINE.points - np.float32(8), score=0.1)
    clear = draw_map(observation(), [LINE, faint], None, GRID)
    legend_only = coloured(clear, MapClass.BOUNDARY).sum()
    assert coloured(draw_map(observation(), [LINE, faint], None, GRID, min_score=0.0), MapClass.BOUNDARY).sum() > (
        legend_only + 1000
    )


def test_map_with_facts_and_truth_is_larger_text_only() -> None:
    plain = draw_map(observation(), [LINE], None, GRID)
    told = draw_map(observation(), [LINE], [LINE], GRID, title="title", facts=["12 ms", "", "mAP 0.5"])
    assert plain.shape == told.shape
    assert (plain != told).any()


def test_centerlines_are_in_the_legend_where_there_are_some() -> None:
    lane = MapElement(MapClass.CENTERLINE, LINE.points)
    legends = [draw_map(observation(), [*some], None, GRID)[-640:, 1260:] for some in ([LINE], [LINE, lane])]
    swatches = [[bool(coloured(legend, label).sum() > 150) for label in MapClass] for legend in legends]
    assert swatches == [[True, True, True, False], [True, True, True, True]]


def test_images_are_left_as_they_were() -> None:
    seen = observation()
    draw_map(seen, [LINE, RING], [LINE], GRID)
    assert all((image == 100).all() for image in seen.images if image is not None)


def test_points_far_outside_do_no_harm() -> None:
    far = MapElement(MapClass.BOUNDARY, np.array([[-1e5, 3.0], [1e5, 3.0], [0.0, 1e5]]))
    draw_map(observation(), [far], [far], GRID)


@pytest.mark.parametrize("name", ["map.png", "map.jpg"])
def test_write(tmp_path: Path, name: str) -> None:
    picture = np.zeros((8, 12, 3), np.uint8)
    picture[..., 0] = 250
    write_picture(tmp_path / "deep" / name, picture)
    back = np.asarray(Image.open(tmp_path / "deep" / name))
    assert back.shape == (8, 12, 3) and back[..., 0].min() > 240 and back[..., 1:].max() < 10


@pytest.mark.parametrize("name", ["map.nonsense", "map"])
def test_unknown_picture_format(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=f"cannot write the picture .*{name}"):
        write_picture(tmp_path / name, np.zeros((8, 8, 3), np.uint8))


def test_picture_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write the picture"):
        write_picture(tmp_path / "file" / "map.png", np.zeros((8, 8, 3), np.uint8))
