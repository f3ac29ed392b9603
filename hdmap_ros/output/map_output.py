"""The outputs of one inference: elements always, markers when somebody listens."""

import time
from typing import Any

import numpy as np

from hdmap_core.elements import MapElement
from hdmap_ros.message_types import MessageTypes
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.observing.observation_builder import NotReadyError
from hdmap_ros.observing.transforms import TransformBuffer, TransformError
from hdmap_ros.output.conversions import elements_to_message
from hdmap_ros.output.markers import MarkerBuilder
from hdmap_ros.output.pictures import Pictures
from hdmap_ros.pipeline import MapResult


class MapOutput:
    """Publishes maps and counts them.

    Args:
        types: message classes.
        elements: publisher of MapElementArray.
        markers: publisher of MarkerArray.
        transforms: for output frames other than the base frame.
        pictures: what people look at besides.

    Attributes:
        published, published_elements: maps sent, and what was in them.
        published_since_start: maps sent since the last `start`.
    """

    def __init__(
        self,
        types: MessageTypes,
        elements: Any,
        markers: Any,
        transforms: TransformBuffer,
        pictures: Pictures,
    ) -> None:
        self.elements = elements
        self.markers = markers
        self.published = self.published_elements = 0
        self.start()
        self._restarts = True
        self._types = types
        self._transforms = transforms
        self._builder = MarkerBuilder(types)
        self._pictures = pictures

    def start(self) -> None:
        """Rate and age count from here on: the pause before is nobody's fault."""
        self.published_since_start = 0
        self._first_s = self._last_s = 0.0

    @property
    def rate_hz(self) -> float:
        """Maps per second from the first to the last one since the start."""
        seconds = self._last_s - self._first_s
        return (self.published_since_start - 1) / seconds if seconds > 0 else 0.0

    @property
    def age_s(self) -> float:
        """Seconds since the last map was sent; 0 before the first since the start."""
        return time.monotonic() - self._last_s if self.published_since_start else 0.0

    def wanted(self, config: OnlineMapConfig) -> bool:
        """Whether anybody listens."""
        return self.elements.get_subscription_count() > 0 or self._markers_wanted(config) or self._pictures.wanted()

    def _markers_wanted(self, config: OnlineMapConfig) -> bool:
        return config.markers_enabled and self.markers.get_subscription_count() > 0

    def publish(self, result: MapResult, config: OnlineMapConfig, info: Any, temporal_reset: bool = True) -> None:
        """Sends a map.

        Args:
            result: the map.
            config: the parameters as they are now.
            info: the predictor's.
            temporal_reset: see `elements_to_message`.

        Raises:
            NotReadyError: if the output frame cannot be reached.
        """
        images = result.images
        self._restarts |= temporal_reset  # also where this map cannot be sent: then the next one says it
        pose = self._frame_from_base(images.stamp_ns, config)
        kept = best_elements(result.elements, config.score_threshold, config.max_elements)
        message = elements_to_message(
            self._types,
            kept,
            stamp_ns=images.stamp_ns,
            frame_id=config.output_frame,
            grid=info.grid,
            camera_mask=result.camera_mask,
            spread_ns=images.spread_ns,
            sequence=self.published,
            model_id=info.model_id,
            frame_from_ego=pose,
            temporal_reset=self._restarts,
        )
        self.elements.publish(message)
        self._restarts = False
        self._last_s = time.monotonic()
        self._first_s = self._first_s or self._last_s
        self.published += 1
        self.published_since_start += 1
        self.published_elements += len(kept)
        drawn = [element for element in kept if element.score >= config.markers_min_score]
        if self._markers_wanted(config):
            frame = config.output_frame
            lines = self._builder.build(drawn, config, stamp_ns=images.stamp_ns, frame_id=frame, frame_from_ego=pose)
            self.markers.publish(lines)
        if self._pictures.wanted() and result.observation is not None:
            solid = [element for element in kept if element.label.value in config.mask_classes]
            self._pictures.publish(drawn, solid, result.observation, info.grid, images.stamp_ns, config.base_frame)

    def clear(self, stamp_ns: int, frame_id: str) -> None:
        """Removes what is drawn."""
        if self.markers.get_subscription_count():
            self.markers.publish(self._builder.delete_all(stamp_ns, frame_id))

    def _frame_from_base(self, stamp_ns: int, config: OnlineMapConfig) -> np.ndarray | None:
        if config.output_frame == config.base_frame:
            return None
        try:
            return self._transforms.lookup(config.output_frame, config.base_frame, stamp_ns, config.tf_timeout)
        except TransformError as error:
            raise NotReadyError("", "no_transform", f"output_frame: {error}") from None


def best_elements(elements: list[MapElement], threshold: float, number: int) -> list[MapElement]:
    """Those of at least this score, at most so many, best first."""
    return sorted((e for e in elements if e.score >= threshold), key=lambda e: -e.score)[:number]
