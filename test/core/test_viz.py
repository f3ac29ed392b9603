from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import OutputError
from hdmap_core.geometry import BEVGrid, CameraRig, se3
from hdmap_core.observation import Observation
from hdmap_core.viz import COLOURS, draw_bev, draw_cameras, draw_map, write_picture

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


def test_missing_images_stay_dark() -> None:
    mosaic = draw_cameras(observation(missing=("CAM_FRONT",)), [RING])
    front = mosaic[:360, 640:1280]
    assert np.median(front) < 30 and not coloured(front, MapClass.PED_CROSSING).any()
    assert np.median(mosaic[:360, :640]) == 100


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_any_number_of_cameras(count: int) -> None:
    seen = observation(tuple(f"cam{index}" for index in range(count)))
    mosaic = draw_cameras(seen, [LINE, RING])
    assert mosaic.shape == (360 * -(-count // 3), 640 * min(count, 3), 3)
    assert draw_map(seen, [LINE], None, GRID).dtype == np.uint8


def test_six_and_one_more_camera_are_all_drawn() -> None:
    mosaic = draw_cameras(observation((*SIX, "CAM_EXTRA")), [])
    assert mosaic.shape[0] == 1080
    assert np.median(mosaic[720:, :640]) == 100


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
