"""The fused map as messages: in the fixed frame, once in a while, kept for whoever comes later."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from hdmap_ros.message_types import MessageTypes
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.output.conversions import elements_to_message
from hdmap_ros.output.map_memory import MapMemory
from hdmap_ros.output.markers import MarkerBuilder
from hdmap_ros.pipeline import MapResult

_PATIENCE = 5
"""For so many times the CPU time of the last tracing no other one begins: a far reach costs a fifth of a core."""


class LocalMapOutput:
    """Numbers maps, fuses them and publishes what has grown.

    Args:
        types: message classes.
        memory: what was seen so far.
        elements: publisher of MapElementArray, latched.
        markers: publisher of MarkerArray, latched.
    """

    def __init__(self, types: MessageTypes, memory: MapMemory, elements: Any, markers: Any) -> None:
        self.memory = memory
        self.published = 0
        self._types, self._elements, self._markers = types, elements, markers
        self._builder = MarkerBuilder(types)
        self._last_ns: int | None = None
        self._rest_ns = 0
        self._breaks = memory.breaks
        self._drawn = False
        self._sent: Any = None

    def wanted(self) -> bool:
        """Whether anybody listens to the fused map."""
        return self.memory.has_map and any(
            publisher.get_subscription_count() > 0 for publisher in (self._elements, self._markers)
        )

    def take(
        self,
        result: MapResult,
        config: OnlineMapConfig,
        info: Any,
        turn: AbstractContextManager[bool] = nullcontext(True),  # noqa: B008 - has no state
    ) -> None:
        """Adds the map that was numbered last, and publishes if the last time is `local_map.period` ago, or longer.

        Args:
            result: the map.
            config: the parameters as they are now.
            info: the predictor's.
            turn: entered to publish; whether that is still wanted, as tracing may have taken long. `clear` must not be
                called meanwhile.
        """
        if not self.memory.fuse(result):
            return
        if self._breaks != self.memory.breaks:
            self._breaks, self._last_ns = self.memory.breaks, None
        stamp_ns = result.images.stamp_ns
        pause_ns = max(round(config.local_map_period * 1e9), self._rest_ns)
        if self._last_ns is not None and stamp_ns - self._last_ns < pause_ns:
            return
        begin_ns = time.thread_time_ns()
        window, fused = self.memory.window(), self.memory.fused()
        self._rest_ns = _PATIENCE * (time.thread_time_ns() - begin_ns)
        if window is None or fused is None:
            return
        elements, fixed_from_map = fused
        message = elements_to_message(
            self._types,
            elements,
            stamp_ns=stamp_ns,
            frame_id=self.memory.frame,
            grid=window,
            camera_mask=result.camera_mask,
            spread_ns=result.images.spread_ns,
            sequence=self.published,
            model_id=info.model_id,
            frame_from_ego=fixed_from_map,
            temporal_reset=self._last_ns is None,
        )
        with turn as wanted:
            if not wanted:
                return
            self._send(message)
            self._last_ns = stamp_ns
            if config.markers_enabled and self._markers.get_subscription_count():
                lasting = replace(config, markers_lifetime=0.0, markers_labels=False)
                frame = self.memory.frame
                drawn = self._builder.build(
                    elements, lasting, stamp_ns=stamp_ns, frame_id=frame, frame_from_ego=fixed_from_map
                )
                self._markers.publish(drawn)
                self._drawn = True

    def _send(self, message: Any) -> None:
        self._elements.publish(message)
        self._sent = message
        self.published += 1

    def clear(self, stamp_ns: int) -> None:
        """Forgets everything, and says so to who comes later: an empty map, nothing drawn."""
        self.memory.reset()
        self._last_ns = None
        if self._sent is not None:
            self._send(self._emptied(self._sent, stamp_ns))
            self._sent = None
        if self._drawn or self._markers.get_subscription_count():  # drawn: the latched ones wait for who comes later
            self._drawn = False
            self._markers.publish(self._builder.delete_all(stamp_ns, self.memory.frame))

    def _emptied(self, message: Any, stamp_ns: int) -> Any:
        """The array that takes a latched one's place: nothing has been seen, its box is a point."""
        nowhere = self._types.get("geometry_msgs/msg/Point32")(x=0.0, y=0.0, z=0.0)
        return type(message)(
            header=self._types.header(stamp_ns, self.memory.frame),
            elements=[],
            roi_min=nowhere,
            roi_max=nowhere,
            has_elevation=message.has_elevation,
            camera_mask=0,
            sync_spread=0.0,
            sequence=self.published % (1 << 32),
            temporal_reset=True,
            model_id=message.model_id,
        )
