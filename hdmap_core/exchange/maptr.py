"""MapTR's files: `nuscmap_results.json` (predictions) and `nuscenes_map_anns_val.json` (ground truth).

As MapTR, MapTRv2, MapQR, MapFM and others of that code write them (https://github.com/hustvl/MapTR, its nuScenes map
data set): {"meta", "results": [{"sample_token", "vectors": [{"pts", "pts_num", "cls_name", "type",
"confidence_level"}]}]}, and {"GTs": [the same without "confidence_level"]}. Metres from the LiDAR, x right, y forward.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import ElementError
from hdmap_core.exchange.lines import check_metres, element_of, from_lidar

KEYS = ("results", "GTs")
NUMBERS = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY, MapClass.CENTERLINE)
"""What the field `type` means in MapTR's own configurations; it counts where there is no `cls_name`."""


def frames_of(content: Mapping[str, Any], numbers: Sequence[MapClass] = NUMBERS) -> dict[str, list[MapElement]]:
    """Sample token -> elements in the ego frame.

    Args:
        content: the JSON object.
        numbers: the classes by number, for lines without a name.

    Raises:
        ElementError: naming frame and line of the first that is malformed.
    """
    samples = content.get("results", content.get("GTs"))
    if not isinstance(samples, list):
        raise ElementError('expected a list of samples under "results" or "GTs"')
    frames: dict[str, list[MapElement]] = {}
    for sample in samples:
        token = sample.get("sample_token") if isinstance(sample, Mapping) else None
        vectors = sample.get("vectors") if isinstance(sample, Mapping) else None
        if not isinstance(token, str) or not isinstance(vectors, list):
            raise ElementError('each sample must have a "sample_token" and a list of "vectors"')
        if token in frames:
            raise ElementError(f"frame {token!r} occurs twice")
        elements = []
        for index, vector in enumerate(vectors):
            try:
                elements.append(_element(vector, numbers))
            except ElementError as error:
                raise ElementError(f"frame {token!r}, line {index}: {error}") from None
        frames[token] = [element for element in elements if element is not None]
    check_metres(frames, from_lidar)
    return frames


def _element(vector: Any, numbers: Sequence[MapClass]) -> MapElement | None:
    if not isinstance(vector, Mapping) or "pts" not in vector:
        raise ElementError('a line must be an object with "pts"')
    points = vector["pts"]
    if isinstance(points, list) and isinstance(vector.get("pts_num"), int):
        points = points[: vector["pts_num"]]  # behind them may be padding
    return element_of(_label(vector, numbers), points, vector.get("confidence_level", 1.0), from_lidar)


def _label(vector: Mapping[str, Any], numbers: Sequence[MapClass]) -> MapClass:
    name, number = vector.get("cls_name"), vector.get("type")
    known = [label.value for label in MapClass]
    if name is not None:
        if name not in known:
            raise ElementError(f"unknown cls_name {name!r}; known are {', '.join(known)}")
        return MapClass(name)
    return numbered(number, numbers)


def numbered(number: Any, numbers: Sequence[MapClass]) -> MapClass:
    """The class of a number.

    Raises:
        ElementError: listing the numbers that there are.
    """
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(numbers):
        known = ", ".join(f"{index} {label}" for index, label in enumerate(numbers))
        raise ElementError(f"unknown class number {number!r}; known are {known}; --label-order names others")
    return numbers[number]
