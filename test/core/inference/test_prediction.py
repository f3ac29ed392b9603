"""A prediction draws and saves itself, without holding the images it was made of."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hdmap_core import MapClass, MapElement, Observation, Prediction, read_elements
from hdmap_core.datasets.nuscenes.cities import CITIES
from hdmap_core.errors import OutputError
from hdmap_core.geometry import BEVGrid, CameraRig, se3

GRID = BEVGrid((-6.0, 6.0), (-3.0, 3.0), 0.5)
SURE = MapElement(MapClass.DIVIDER, np.array([[-5.0, 1], [5, 1]]), score=0.9)
UNSURE = MapElement(MapClass.BOUNDARY, np.array([[-5.0, -2], [5, -2]]), score=0.1)
PREDICTION = Prediction(
    [SURE, UNSURE],
    {},
    token="a",
    map_from_ego=se3.se3(np.eye(3), [50.0, 60.0, 0.0]),
    map_origin=CITIES["singapore-onenorth"],
    grid=GRID,
)


def observation() -> Observation:
    pose = se3.se3(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), [-3.0, 0.0, 1.5])
    rig = CameraRig.from_arrays(["AHEAD"], [np.array([[60.0, 0, 49.5], [0, 60, 20], [0, 0, 1]])], [pose], (60, 100))
    return Observation((np.full((60, 100, 3), 90, np.uint8),), rig, stamp_ns=0, token="a")


def test_plot_leaves_out_what_is_unsure() -> None:
    above = PREDICTION.plot()
    assert above.dtype == np.uint8 and above.shape == (120, 240, 3)
    everything, nothing = PREDICTION.plot(min_score=0.0), PREDICTION.plot(min_score=1.0)
    assert (above != nothing).any() and (above != everything).any()
    whole = PREDICTION.plot(observation(), truth=[UNSURE])
    assert whole.shape[0] > 400 and whole.shape[1] > above.shape[1], "images above, ground below"


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG"])
def test_pictures(tmp_path: Path, suffix: str) -> None:
    PREDICTION.save(str(tmp_path / f"map.{suffix}"))
    with Image.open(tmp_path / f"map.{suffix}") as picture:
        assert picture.size == (240, 120)


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_elements_are_all_saved(tmp_path: Path, suffix: str) -> None:
    PREDICTION.save(tmp_path / f"map.{suffix}")
    (elements,) = read_elements(str(tmp_path / f"map.{suffix}")).values()
    assert [element.score for element in elements] == [0.9, 0.1]


def test_geojson_is_on_the_earth(tmp_path: Path) -> None:
    PREDICTION.save(tmp_path / "map.geojson")
    content = json.loads((tmp_path / "map.geojson").read_text())
    assert content == PREDICTION.to_geojson()
    start = np.array(content["features"][0]["geometry"]["coordinates"][0])
    np.testing.assert_allclose(CITIES["singapore-onenorth"].metres(start), [45, 61], atol=2e-3)


def test_refuses(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"map\.xyz: its name must end in one of \.png, .*\.geojson"):
        PREDICTION.save(tmp_path / "map.xyz")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"map\.png"):
        PREDICTION.save(tmp_path / "file" / "map.png")
