"""Map elements as Lanelet2's OSM XML (lanelet2.readthedocs.io: OsmFileHandler, linestring and lanelet tagging).

Boundaries become ways of type `road_border`, dividers `line_thin`, centre lines `virtual`. A crossing is a lanelet of
the subtype `crosswalk` between its two long sides. No lanelets of lanes: a map of lines does not say what lies between
which. Each node has its place in the fixed frame too, as `local_x` and `local_y`, which Autoware reads; where the
frame's place on the earth is not known, only these count, and latitude and longitude are those of a frame at 0, 0; of
a map that would not lie on the earth then, of one with 0, 0 in its middle.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.elements.crossing_edges import long_sides
from hdmap_core.files import write_atomically
from hdmap_core.geometry import se3
from hdmap_core.geometry.map_origin import GeodeticOrigin, MapOrigin

NOWHERE = GeodeticOrigin(0.0, 0.0)
_FAR_M = 9_000_000.0  # from 0, 0 the pole is 9,950 km away by our plane, and UTM's northings reach to 10,000 km
_WAY_TAGS: dict[MapClass, dict[str, str]] = {
    MapClass.DIVIDER: {"type": "line_thin", "subtype": "solid"},
    MapClass.BOUNDARY: {"type": "road_border"},
    MapClass.CENTERLINE: {"type": "virtual"},
    MapClass.PED_CROSSING: {"type": "pedestrian_marking"},
}
_CROSSWALK = {
    "type": "lanelet",
    "subtype": "crosswalk",
    "location": "urban",
    "one_way": "no",
    "participant:pedestrian": "yes",
}


def to_osm(
    elements: Sequence[MapElement], fixed_from_map: np.ndarray, origin: MapOrigin | None = None
) -> ElementTree.Element:
    """The XML tree.

    Args:
        elements: metres, in a frame of their own.
        fixed_from_map: (4, 4) the frame that is written from theirs; its x is east and y north where `origin` is known.
        origin: where that frame lies on the earth.
    """
    return _Writer(fixed_from_map, origin).written(elements)


def write_osm(path: str | Path, tree: ElementTree.Element) -> None:
    """Writes what `to_osm` makes.

    Raises:
        OutputError: if the file cannot be written.
    """
    ElementTree.indent(tree)
    write_atomically(path, ElementTree.tostring(tree, encoding="utf-8", xml_declaration=True) + b"\n")


class _Writer:
    """Hands out identifiers, one sequence for all kinds as Lanelet2 wants, and collects what OSM sorts by kind."""

    def __init__(self, fixed_from_map: np.ndarray, origin: MapOrigin | None) -> None:
        self._fixed_from_map, self._origin = fixed_from_map, origin or NOWHERE
        self._is_anywhere = origin is None
        self._false_origin = np.zeros(2)
        self._last = 0
        self._nodes: list[ElementTree.Element] = []
        self._ways: list[ElementTree.Element] = []
        self._relations: list[ElementTree.Element] = []

    def written(self, elements: Sequence[MapElement]) -> ElementTree.Element:
        if self._is_anywhere and elements:
            places = np.concatenate([self._placed(element.points.astype(np.float64)) for element in elements])[:, :2]
            if np.abs(places).max() > _FAR_M:
                self._false_origin = places.mean(axis=0).round()
        for element in elements:
            about = {"score": f"{element.score:.3f}"} | (
                {"track_id": str(element.track_id)} if element.track_id else {}
            )
            points = element.points.astype(np.float64)
            if element.closed and element.label is MapClass.PED_CROSSING:
                self._crosswalk(points, about)
            else:
                self._way(points, element.closed, _WAY_TAGS[element.label] | about)
        root = ElementTree.Element("osm", version="0.6", generator="hdmap_ros")
        root.extend([*self._nodes, *self._ways, *self._relations])
        return root

    def _crosswalk(self, outline: np.ndarray, about: Mapping[str, str]) -> None:
        first, second = long_sides(outline)  # both in the outline's sense of rotation: they run against each other
        second = second[::-1]
        ahead, across = first[-1] - first[0], second[0] - first[0]
        is_left = ahead[0] * across[1] - ahead[1] * across[0] > 0
        left, right = (second, first) if is_left else (first, second)
        tags = _WAY_TAGS[MapClass.PED_CROSSING] | dict(about)
        relation = self._entity("relation", self._relations)
        for role, side in (("left", left), ("right", right)):
            ElementTree.SubElement(relation, "member", type="way", ref=self._way(side, False, tags), role=role)
        _add_tags(relation, _CROSSWALK | dict(about))

    def _way(self, points: np.ndarray, closed: bool, tags: Mapping[str, str]) -> str:
        way = self._entity("way", self._ways)
        nodes = [self._node(*point) for point in self._placed(points)]
        for node in [*nodes, nodes[0]] if closed else nodes:
            ElementTree.SubElement(way, "nd", ref=node)
        _add_tags(way, tags)
        return way.attrib["id"]

    def _node(self, x: float, y: float, z: float) -> str:
        longitude, latitude = self._origin.degrees(np.array([x, y]) - self._false_origin).tolist()
        node = self._entity("node", self._nodes, lat=f"{latitude:.10f}", lon=f"{longitude:.10f}")
        _add_tags(node, {"ele": f"{z:.3f}", "local_x": f"{x:.4f}", "local_y": f"{y:.4f}"})
        return node.attrib["id"]

    def _placed(self, points: np.ndarray) -> list[list[float]]:
        raised = np.concatenate([points, np.zeros((len(points), 1))], axis=1)
        return se3.transform_points(self._fixed_from_map, raised).tolist()

    def _entity(self, kind: str, to: list[ElementTree.Element], **attributes: str) -> ElementTree.Element:
        self._last += 1
        to.append(ElementTree.Element(kind, attributes | {"id": str(self._last), "version": "1", "visible": "true"}))
        return to[-1]


def _add_tags(entity: ElementTree.Element, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        ElementTree.SubElement(entity, "tag", k=key, v=value)
