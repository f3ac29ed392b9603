"""The map over time in node and replay: each map's pose by TF, its elements' numbers, the fused map."""

from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from typing import Any

import numpy as np

from hdmap_core.elements import MapElement
from hdmap_core.fusion.drive import Drive
from hdmap_core.geometry import BEVGrid
from hdmap_ros.observing.transforms import TransformBuffer, TransformError
from hdmap_ros.pipeline import MapResult


class MapMemory:
    """What is kept from map to map. `reset` may be called from another thread than the rest.

    Args:
        info: the predictor's.
        transforms: that know the car's pose in the fixed frame.
        base_frame: the car's.
        fixed_frame: in which it moves.
        reach: metres from the car beyond which the fused map forgets; infinity: nowhere; 0: there is none.
        warn: called with why a drive ended.

    Attributes:
        paused: why the last map has no numbers and is not in the fused map; empty if it is.
        frame: the fixed frame.
    """

    def __init__(
        self,
        info: Any,
        transforms: TransformBuffer,
        base_frame: str,
        fixed_frame: str,
        reach: float,
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.paused = ""
        self.frame = fixed_frame
        self.has_map = reach > 0
        self._drive = Drive(info.classes, info.grid, reach)
        self._transforms, self._base_frame, self._warn = transforms, base_frame, warn
        self._pose: np.ndarray | None = None
        self._numbered: MapResult | None = None
        self._lock = Lock()

    @property
    def breaks(self) -> int:
        """How often stamps or poses jumped so that a new drive began."""
        return self._drive.breaks

    @property
    def restarted(self) -> bool:
        """Whether the numbers of the last map have nothing to do with those before."""
        return bool(self.paused) or self._drive.restarted

    def reset(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._drive.reset()
            self._pose = self._numbered = None

    def number(self, result: MapResult) -> MapResult:
        """The map with numbers; without (0) where the car's pose at its stamp is not known, `paused` then says why."""
        with self._lock:
            try:
                self._pose = self._transforms.lookup(self.frame, self._base_frame, result.images.stamp_ns)
            except TransformError as error:
                self._pose, self.paused = None, str(error)
                return result
            self.paused = ""
            elements, broken = self._drive.number(
                result.elements, result.images.stamp_ns, self._pose, full=all(result.camera_mask)
            )
            self._numbered = result = replace(result, elements=elements)
        if broken:
            self._warn(f"{broken}: the map over time begins anew")
        return result

    def fuse(self, result: MapResult) -> bool:
        """Adds the map that was numbered last to the fused map; whether it could: not after a reset."""
        with self._lock:
            if self._pose is None or not self.has_map or result is not self._numbered:
                return False
            self._drive.fuse(result.elements, self._pose, full=all(result.camera_mask))
            return True

    def fused(self) -> tuple[list[MapElement], np.ndarray] | None:
        """Elements, and (4, 4) the fixed frame from theirs; None before the first map."""
        with self._lock:
            local_map = self._drive.local_map
            if local_map is None or local_map.anchor is None:
                return None
            return local_map.elements(), local_map.fixed_from_map

    def window(self) -> BEVGrid | None:
        """What was seen, in the frame of the fused map's elements; None before the first map.

        Raises:
            ConfigError: where nothing is ever forgotten, of more than 20 km.
        """
        with self._lock:
            return None if self._drive.local_map is None else self._drive.local_map.extent
