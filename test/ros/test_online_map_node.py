"""The node in a real ROS graph."""

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.ros

ELEMENTS = ("hdmap_ros/msg/MapElementArray", "/online_map/output/map_elements")


def test_six_cameras_in_map_out(graph: Any, start_node: Any, predictor: Any, rig_module: Any) -> None:
    graph.open_cameras()
    maps = graph.listen(*ELEMENTS)
    start_node()
    ticks = rig_module.ticks(8)
    graph.drive(ticks)
    assert graph.until(lambda: len(maps) >= 1)
    message = maps[-1]
    stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
    assert stamp_ns in [tick + rig_module.PHASES_NS["CAM_FRONT"] for tick in ticks]
    assert message.header.frame_id == "base_link"
    assert [element.label for element in message.elements] == [1] * 6 + [2]
    assert message.camera_mask == 0b111111
    assert message.sync_spread == pytest.approx(0.0426, abs=1e-6)
    assert message.model_id == "rig_lines-00000000"
    scores = [element.score for element in message.elements[:6]]
    assert scores == sorted(scores, reverse=True)
