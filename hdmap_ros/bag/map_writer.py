"""Elements, markers and model info into a bag, as the node publishes them, all in the time of the maps."""

from typing import Any

from hdmap_ros.bag.mcap import BagWriter
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.output.conversions import elements_to_message, model_info_to_message
from hdmap_ros.output.markers import MarkerBuilder
from hdmap_ros.pipeline import MapResult

ELEMENTS_TOPIC, MARKERS_TOPIC = "/online_map/output/map_elements", "/online_map/output/markers"
INFO_TOPIC = "/online_map/output/model_info"


class MapWriter:
    """Writes a map after the other in the car's frame, drawn as the node does; before the first the model's info."""

    def __init__(self, bag: BagWriter, info: Any, config: OnlineMapConfig) -> None:
        self._bag = bag
        self._info = info
        self._config = config
        self._markers = MarkerBuilder(bag.types)
        self._sequence = 0
        bag.declare(INFO_TOPIC, "hdmap_ros/msg/MapModelInfo", latched=True, depth=1)
        bag.declare(ELEMENTS_TOPIC, "hdmap_ros/msg/MapElementArray")
        bag.declare(MARKERS_TOPIC, "visualization_msgs/msg/MarkerArray")

    def _write_info(self, stamp_ns: int) -> None:
        message = model_info_to_message(
            self._bag.types,
            self._info,
            camera_names=self._config.camera_names,
            stamp_ns=stamp_ns,
            frame_id=self._config.base_frame,
            score_threshold=self._info.score_threshold,
        )
        self._bag.write(INFO_TOPIC, stamp_ns, message)

    def write(self, result: MapResult, temporal_reset: bool = True) -> None:
        """Appends a map at its stamp."""
        images = result.images
        if self._sequence == 0:  # at the first map's stamp: a bag's log times may be of another clock
            self._write_info(images.stamp_ns)
        message = elements_to_message(
            self._bag.types,
            result.elements,
            stamp_ns=images.stamp_ns,
            frame_id=self._config.base_frame,
            grid=self._info.grid,
            camera_mask=result.camera_mask,
            spread_ns=images.spread_ns,
            sequence=self._sequence,
            model_id=self._info.model_id,
            temporal_reset=temporal_reset,
        )
        self._sequence += 1
        self._bag.write(ELEMENTS_TOPIC, images.stamp_ns, message)
        config = self._config
        drawn = [element for element in result.elements if element.score >= config.markers_min_score]
        markers = self._markers.build(drawn, config, stamp_ns=images.stamp_ns, frame_id=config.base_frame)
        self._bag.write(MARKERS_TOPIC, images.stamp_ns, markers)
