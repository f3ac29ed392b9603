"""Map elements as visualization_msgs/MarkerArray, for RViz and Foxglove.

One LINE_STRIP per element; its namespace is the label, its id a running number there. If wanted, a text in the middle
of each with label and score. Old ones are removed by DELETE of the ids that are not needed any more: a leading
DELETEALL would flicker.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from hdmap_core.elements import MapClass, MapElement
from hdmap_ros.message_types import MessageTypes, xyz
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.output.conversions import in_frame

_LINE_STRIP, _TEXT_VIEW_FACING = 4, 9
_ADD, _DELETE, _DELETEALL = 0, 2, 3
_TEXT_HEIGHT_M = 0.8

# Colour-blind safe (Okabe and Ito) and near what MapTR's drawings have made customary: orange, blue, green.
COLOURS: dict[MapClass, tuple[float, float, float]] = {
    MapClass.DIVIDER: (0.90, 0.62, 0.00),
    MapClass.PED_CROSSING: (0.34, 0.71, 0.91),
    MapClass.BOUNDARY: (0.00, 0.75, 0.48),
    MapClass.CENTERLINE: (0.80, 0.47, 0.65),
}


class MarkerBuilder:
    """Remembers how many markers of each namespace are shown."""

    def __init__(self, types: MessageTypes) -> None:
        self._types = types
        self._shown: Counter[str] = Counter()

    def build(
        self,
        elements: Sequence[MapElement],
        config: OnlineMapConfig,
        *,
        stamp_ns: int,
        frame_id: str,
        frame_from_ego: np.ndarray | None = None,
    ) -> Any:
        """A MarkerArray that shows these elements and removes what was shown before.

        Args:
            elements: metres, ego frame of `stamp_ns`.
            config: the parameters `markers.*`: how lines look, for how long, and whether they are labelled.
            stamp_ns: as in the MapElementArray.
            frame_id: as in the MapElementArray.
            frame_from_ego: (4, 4), as in the MapElementArray.
        """
        header = self._types.header(stamp_ns, frame_id)
        counts: Counter[str] = Counter()
        markers = []

        def show(namespace: str, **fields: Any) -> None:
            fields["lifetime"] = config.markers_lifetime
            markers.append(self._marker(header, namespace, counts[namespace], **fields))
            counts[namespace] += 1

        for element in elements:
            name, colour = element.label.value, COLOURS[element.label]
            faint = (*colour, config.markers_alpha * (1 + 2 * element.score) / 3)
            line = _line(element, frame_from_ego)
            show(name, line=line, colour=faint, line_width=config.markers_line_width)
            if config.markers_labels:
                text, place = f"{name} {element.score:.2f}", line[len(line) // 2]
                show(f"{name} text", text=text, place=place, colour=(*colour, 1.0))
        for name, shown in self._shown.items():
            markers += [self._marker(header, name, index, action=_DELETE) for index in range(counts[name], shown)]
        self._shown = counts
        return self._types.get("visualization_msgs/msg/MarkerArray")(markers=markers)

    def delete_all(self, stamp_ns: int, frame_id: str) -> Any:
        """A MarkerArray that removes every line: after a reset and at the end."""
        self._shown = Counter()  # anew: another thread may be at the old one in `build`
        marker = self._marker(self._types.header(stamp_ns, frame_id), "", 0, action=_DELETEALL)
        return self._types.get("visualization_msgs/msg/MarkerArray")(markers=[marker])

    def _marker(
        self,
        header: Any,
        namespace: str,
        index: int,
        *,
        action: int = _ADD,
        line: np.ndarray | None = None,
        colour: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0),
        line_width: float = 0.0,
        lifetime: float = 0.0,
        text: str = "",
        place: np.ndarray | None = None,
    ) -> Any:
        types = self._types
        point = types.get("geometry_msgs/msg/Point")
        sec = int(lifetime)
        duration = types.get("builtin_interfaces/msg/Duration")(sec=sec, nanosec=int((lifetime - sec) * 1e9))
        pose = types.get("geometry_msgs/msg/Pose")(
            position=point(**xyz((0.0, 0.0, 0.0) if place is None else place)),
            orientation=types.get("geometry_msgs/msg/Quaternion")(x=0.0, y=0.0, z=0.0, w=1.0),
        )
        return types.get("visualization_msgs/msg/Marker")(
            header=header,
            ns=namespace,
            id=index,
            type=_TEXT_VIEW_FACING if text else _LINE_STRIP,
            action=action,
            pose=pose,
            scale=types.get("geometry_msgs/msg/Vector3")(x=float(line_width), y=0.0, z=_TEXT_HEIGHT_M if text else 0.0),
            color=types.get("std_msgs/msg/ColorRGBA")(**dict(zip("rgba", map(float, colour), strict=True))),
            lifetime=duration,
            frame_locked=False,
            points=[] if line is None else [point(x=x, y=y, z=z) for x, y, z in line.tolist()],
            colors=[],
            texture_resource="",
            texture=types.get("sensor_msgs/msg/CompressedImage")(
                header=types.header(0, ""), format="", data=types.octets(b"")
            ),
            uv_coordinates=[],
            text=text,
            mesh_resource="",
            mesh_file=types.get("visualization_msgs/msg/MeshFile")(filename="", data=types.octets(b"")),
            mesh_use_embedded_materials=False,
        )


def _line(element: MapElement, frame_from_ego: np.ndarray | None) -> np.ndarray:
    """(P, 3) float64; a closed element's first point is repeated at the end."""
    return in_frame(element.path, frame_from_ego)
