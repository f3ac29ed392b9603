"""What people and planners get beside the map: pictures over the cameras, cells."""

from typing import Any

import cv2
import numpy as np
import pytest

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid, CameraRig
from hdmap_core.observation import Observation
from hdmap_ros.message_types import bag_types
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.observing.transforms import TransformBuffer
from hdmap_ros.output.map_output import MapOutput
from hdmap_ros.output.pictures import Pictures, occupied
from hdmap_ros.pipeline import MapResult
from hdmap_ros.sync.image_sets import ImageSet

TYPES, STORE = bag_types()
GRID = BEVGrid((-12.0, 12.0), (-3.0, 3.0), 0.5)
STAMP_NS = 1_700_000_000_000_000_000
SQUARE = np.array([[7, -1], [9, -1], [9, 1], [7, 1]], np.float32)
CROSSING = MapElement(MapClass.PED_CROSSING, SQUARE, closed=True, score=0.5)
BOUNDARY = MapElement(MapClass.BOUNDARY, np.array([[-11.8, 2.2], [11.8, 2.2]], np.float32), score=0.8)


def test_lines_are_one_cell_wide_and_crossings_filled() -> None:
    cells = occupied([BOUNDARY, CROSSING], GRID)
    row, column = GRID.to_cells(np.array([[0.25, 2.2]])).round().astype(int)[0][::-1]
    assert (cells[row] == 80).all() and cells[row - 1, column] == 0
    assert cells[tuple(GRID.to_cells(np.array([[8.0, 0.0]])).astype(int)[0][::-1])] == 50
    assert set(np.unique(cells)) == {0, 50, 80}


def test_the_better_element_has_the_cell() -> None:
    over = MapElement(MapClass.BOUNDARY, np.array([[-9, 0], [9, 0]], np.float32), score=0.9)
    assert (occupied([over, CROSSING], GRID) == occupied([CROSSING, over], GRID)).all()
    assert occupied([over, CROSSING], GRID).max() == 90


def test_a_weak_element_is_not_a_free_cell() -> None:
    assert occupied([MapElement(MapClass.DIVIDER, BOUNDARY.points, score=0.001)], GRID).max() == 1


@pytest.mark.parametrize("heard", range(4))
def test_only_what_is_listened_to_is_made(heard: int, topic: Any, rig_module: Any) -> None:
    topics = [topic(int(index == heard)) for index in range(3)]
    pictures = Pictures(TYPES, *topics)
    assert pictures.wanted() is (heard < 3)
    pictures.publish([BOUNDARY, CROSSING], [BOUNDARY], observation(rig_module), GRID, STAMP_NS, "base_link")
    assert [len(entry.sent) for entry in topics] == [int(index == heard) for index in range(3)]
    for message in (entry.sent[0] for entry in topics if entry.sent):
        STORE.serialize_cdr(message, message.__msgtype__)  # every field is there, of its type
        assert message.header.frame_id == "base_link"
        if heard == 0:
            picture = np.asarray(message.data).reshape(message.height, message.width, 3)
            assert (message.encoding, message.step) == ("rgb8", 3 * message.width)
            assert_lines_are_drawn(picture)
        if heard == 1:
            decoded = cv2.imdecode(np.asarray(message.data), cv2.IMREAD_COLOR)
            assert_lines_are_drawn(decoded[..., ::-1])
        if heard == 2:
            assert (message.info.width, message.info.height, message.info.resolution) == (48, 12, 0.5)
            assert (message.info.origin.position.x, message.info.origin.position.y) == (-12.0, -3.0)
            assert set(np.asarray(message.data).tolist()) == {0, 80}


def test_the_mask_holds_what_is_published_of_its_classes_drawn_or_not(topic: Any, rig_module: Any) -> None:
    mask = topic(1)
    output = MapOutput(TYPES, topic(0), topic(0), TransformBuffer(), Pictures(TYPES, topic(0), topic(0), mask))
    images, seen = ImageSet(STAMP_NS, {}, {"CAM_FRONT": STAMP_NS}, (), 0), observation(rig_module)
    result = MapResult([BOUNDARY, CROSSING], images, (True,), {}, seen)
    config = OnlineMapConfig(markers_min_score=0.9, mask_classes=("ped_crossing",))
    output.publish(result, config, rig_module.RigInfo())
    assert set(np.asarray(mask.sent[0].data).tolist()) == {0, 50}


def observation(rig_module: Any) -> Observation:
    """Six grey images."""
    names, size = rig_module.CAMERAS, (rig_module.HEIGHT, rig_module.WIDTH)
    matrix = np.array([[120.0, 0, 80], [0, 120.0, 45], [0, 0, 1]])
    rig = CameraRig.from_arrays(names, [matrix] * len(names), list(map(rig_module.base_from_camera, names)), size)
    return Observation((np.full((*size, 3), 90, np.uint8),) * len(names), rig, STAMP_NS, "grey")


def assert_lines_are_drawn(picture: np.ndarray) -> None:
    """Green lines and blue ones, on grey."""
    red, green, blue = (picture[..., index].astype(int) for index in range(3))
    assert ((green - red > 80) & (green > 150)).sum() > 50
    assert ((blue - red > 80) & (blue > 150)).sum() > 50
