"""The pictures of a film: what stands where, and that the map grows."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid, CameraRig, se3
from hdmap_core.observation import Observation
from hdmap_core.viz import COLOURS
from hdmap_core.viz.drive_film import DriveFilm
from hdmap_core.viz.drive_panel import DrivePanel
from hdmap_core.viz.film_sheet import SIZE, FilmSheet

GRID = BEVGrid((-30.0, 30.0), (-15.0, 15.0), 0.3)
CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)
RIGHT = slice(1316, 1896)  # the column of the drive's map
KERB = MapElement(MapClass.BOUNDARY, np.array([[-30.0, 6.0], [30.0, 6.0]]))


def observation(metres: float | None, cameras: int = 6, number: int = 0) -> Observation:
    """A car on the map's x axis, whose images are grey."""
    axes = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    yaws = np.linspace(0, 2 * np.pi, cameras, endpoint=False)
    poses = [se3.se3(se3.rotation_from_euler(0, 0.1, yaw) @ axes, [0.0, 0.0, 1.6]) for yaw in yaws]
    intrinsics = np.array([[90.0, 0, 79.5], [0, 90, 44.5], [0, 0, 1]])
    rig = CameraRig.from_arrays([f"cam{n}" for n in range(cameras)], [intrinsics] * cameras, poses, (90, 160))
    images = tuple(np.full((90, 160, 3), 100, np.uint8) for _ in range(cameras))
    pose = None if metres is None else se3.se3(np.eye(3), [500.0 + metres, 80.0, 0.0])
    return Observation(images, rig, stamp_ns=number * 500_000_000, token=str(number), map_from_ego=pose)


def drawn(picture: np.ndarray, label: MapClass) -> np.ndarray:
    return (np.abs(picture.astype(int) - COLOURS[label]) <= 24).all(axis=-1)


def drive(
    places: Sequence[float | None], way: bool = True, true_map: list[MapElement] | None = None
) -> list[np.ndarray]:
    known = np.array([[500.0 + x, 80.0] for x in places if x is not None]) if way else None
    film = DriveFilm(FilmSheet("a drive", GRID, known, true_map), CLASSES, GRID, min_score=0.3)
    return [film.draw(observation(x, number=n), [KERB], clock=f"{n}") for n, x in enumerate(places)]


def test_the_map_grows_beside_the_car() -> None:
    pictures = drive([0.0, 10.0, 20.0, 30.0, 40.0])
    assert all(picture.shape == (*SIZE, 3) and picture.dtype == np.uint8 for picture in pictures)
    lengths = []
    for picture in pictures:
        columns = np.nonzero(drawn(picture[60:, RIGHT], MapClass.BOUNDARY).any(axis=0))[0]
        lengths.append(columns.max() - columns.min())
    assert all(later > earlier + 20 for earlier, later in pairwise(lengths)), lengths
    per_metre = (lengths[-1] - lengths[0]) / 40
    assert lengths[0] == pytest.approx(60 * per_metre, rel=0.1), "60 m of kerb, and 40 m more"
    cameras, around = pictures[0][60:530, :1290], pictures[0][545:1020, 24:990]
    assert drawn(cameras, MapClass.BOUNDARY).sum() > 200 and drawn(around, MapClass.BOUNDARY).sum() > 2000
    assert (pictures[0][60:530, 24:1290] == 100).all(axis=-1).mean() > 0.8, "the six images fill their place"


def test_the_true_map_stands_under_the_fused_one() -> None:
    lane = MapElement(MapClass.DIVIDER, np.array([[480.0, 80.0], [560.0, 80.0]]))
    (picture,) = drive([0.0], true_map=[lane])
    upper, lower = picture[60:550, RIGHT], picture[562:1050, RIGHT]
    assert drawn(lower, MapClass.DIVIDER).sum() > 200 and not drawn(upper, MapClass.DIVIDER).any()
    assert drawn(upper, MapClass.BOUNDARY).sum() > 100 and not drawn(lower, MapClass.BOUNDARY).any()


def test_ground_stays_where_the_car_drove() -> None:
    first, last = drive([0.0, 30.0, 60.0])[::2]
    seen = [(picture[60:, RIGHT].astype(int) == 60).all(axis=-1).sum() for picture in (first, last)]
    assert seen[1] > 1.6 * seen[0], "120 m of ground instead of 60 m"


def test_without_poses_there_is_no_map_of_the_drive() -> None:
    pictures = drive([None, None], way=False)
    assert pictures[0].shape == (*SIZE, 3)
    assert drawn(pictures[1][545:, :1600], MapClass.BOUNDARY).sum() > 2000
    columns = np.nonzero((pictures[0][60:530] == 100).all(axis=-1).any(axis=0))[0]
    assert abs((columns.min() + columns.max()) / 2 - SIZE[1] / 2) < 3, "the images stand in the middle"


def test_a_window_that_was_not_known_before_grows_with_the_drive() -> None:
    panel = DrivePanel((400, 600))
    spans = []
    for metres in (0.0, 10.0, 100.0, 200.0, 2000.0):
        pose = se3.se3(np.eye(3), [metres, 0.0, 0.0])
        panel.move(pose)
        window = panel.window
        assert window is not None and window.shape == (400, 600)
        assert window.x_range[0] < metres < window.x_range[1]
        spans.append(window.size[0])
    assert spans[0] == spans[1] < spans[2] < spans[3], "it does not move with every metre"
    assert spans[4] == pytest.approx(500.0), "of a long drive it shows what is around the car"


@pytest.mark.parametrize("cameras", [1, 2, 8])
def test_any_rig_and_region(cameras: int) -> None:
    for grid in (GRID, BEVGrid((-15.0, 15.0), (-30.0, 30.0), 0.3), BEVGrid((-50.0, 50.0), (-25.0, 25.0), 0.1)):
        picture = FilmSheet("any", grid).draw(observation(0.0, cameras), [KERB])
        assert picture.shape == (*SIZE, 3) and drawn(picture[545:, :1290], MapClass.BOUNDARY).sum() > 200
