"""Map elements to messages and back. Works with rclpy's classes and with rosbags'."""

from collections.abc import Sequence
from typing import Any

import numpy as np

import hdmap_core
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import ElementError
from hdmap_core.geometry import BEVGrid
from hdmap_ros.message_types import MessageTypes, xyz

LABEL_VALUES = {MapClass.DIVIDER: 1, MapClass.PED_CROSSING: 2, MapClass.BOUNDARY: 3, MapClass.CENTERLINE: 4}
"""The public label constants of MapElement.msg; network indices are another matter."""

_CLASSES = {value: label for label, value in LABEL_VALUES.items()}


def elements_to_message(
    types: MessageTypes,
    elements: Sequence[MapElement],
    *,
    stamp_ns: int,
    frame_id: str,
    grid: BEVGrid,
    camera_mask: Sequence[bool],
    spread_ns: int,
    sequence: int,
    model_id: str,
    frame_from_ego: np.ndarray | None = None,
    temporal_reset: bool = True,
) -> Any:
    """A MapElementArray, sorted by label, then falling score.

    Args:
        types: message classes.
        elements: metres, ego frame of `stamp_ns`.
        stamp_ns: the time the geometry refers to.
        frame_id: output frame.
        grid: the box in which the model can see.
        camera_mask: which cameras contributed, in the order of the model's camera names.
        spread_ns: newest minus oldest stamp of the images.
        sequence: number of the array.
        model_id: as in MapModelInfo.
        frame_from_ego: (4, 4) output frame from the ego frame; None: they are the same.
        temporal_reset: whether the elements' numbers have nothing to do with those of the array before.
    """
    ordered = sorted(elements, key=lambda element: (LABEL_VALUES[element.label], -element.score))
    corners = np.array([[grid.x_range[0], grid.y_range[0], 0.0], [grid.x_range[1], grid.y_range[1], 0.0]])
    if frame_from_ego is not None:
        # The box of a turned frame: around all four corners of the grid.
        moved = in_frame(np.array([[x, y] for x in grid.x_range for y in grid.y_range]), frame_from_ego)
        corners = np.stack([moved.min(axis=0), moved.max(axis=0)])
    point = types.get("geometry_msgs/msg/Point32")
    return types.get("hdmap_ros/msg/MapElementArray")(
        header=types.header(stamp_ns, frame_id),
        elements=[_element_to_message(types, element, frame_from_ego) for element in ordered],
        roi_min=point(**xyz(corners[0])),
        roi_max=point(**xyz(corners[1])),
        has_elevation=frame_from_ego is not None,
        camera_mask=sum(1 << index for index, used in enumerate(camera_mask) if used),
        sync_spread=spread_ns * 1e-9,
        sequence=sequence % (1 << 32),
        temporal_reset=temporal_reset,
        model_id=model_id,
    )


def _element_to_message(types: MessageTypes, element: MapElement, frame_from_ego: np.ndarray | None) -> Any:
    points = in_frame(element.points, frame_from_ego)
    point = types.get("geometry_msgs/msg/Point32")
    return types.get("hdmap_ros/msg/MapElement")(
        label=LABEL_VALUES[element.label],
        score=float(element.score),
        track_id=element.track_id,
        closed=element.closed,
        points=[point(x=x, y=y, z=z) for x, y, z in points.astype(np.float32).tolist()],
        class_probabilities=types.floats(()),
        point_covariance=types.floats(()),
    )


def in_frame(points: np.ndarray, frame_from_ego: np.ndarray | None) -> np.ndarray:
    """(P, 3) float64 of (P, 2) points on the ground of the ego frame; None: they stay in it."""
    raised = np.concatenate([points, np.zeros((len(points), 1))], axis=1, dtype=np.float64)
    return raised if frame_from_ego is None else raised @ frame_from_ego[:3, :3].T + frame_from_ego[:3, 3]


def elements_from_message(message: Any) -> list[MapElement]:
    """The elements of a MapElementArray, z dropped.

    Raises:
        ElementError: for a label that MapElement.msg does not define, too few or non-finite points.
    """
    elements = []
    for index, element in enumerate(message.elements):
        if element.label not in _CLASSES:
            raise ElementError(f"element {index} of the array has label {element.label}; known are {sorted(_CLASSES)}")
        points = np.array([[point.x, point.y] for point in element.points], dtype=np.float32).reshape(-1, 2)
        score = min(max(float(element.score), 0.0), 1.0)
        elements.append(MapElement(_CLASSES[element.label], points, bool(element.closed), score, int(element.track_id)))
    return elements


def model_info_to_message(
    types: MessageTypes,
    info: Any,
    *,
    camera_names: Sequence[str],
    stamp_ns: int,
    frame_id: str,
    score_threshold: float,
) -> Any:
    """A MapModelInfo from a predictor's `info`.

    Args:
        types: message classes.
        info: the predictor's.
        camera_names: in the order of the camera mask.
        stamp_ns: of the header.
        frame_id: the car's frame, in which the model works.
        score_threshold: the node's own; the model's counts where it is higher.
    """
    threshold = max(info.score_threshold, score_threshold)
    point = types.get("geometry_msgs/msg/Point32")
    height, width = info.image_size or (0, 0)
    grid: BEVGrid = info.grid
    return types.get("hdmap_ros/msg/MapModelInfo")(
        header=types.header(stamp_ns, frame_id),
        model_name=info.model_name,
        model_id=info.model_id,
        weights_sha256=info.weights_sha256,
        dataset=info.dataset,
        labels=types.octets(bytes(LABEL_VALUES[label] for label in info.classes)),
        label_names=[label.value for label in info.classes],
        score_thresholds=types.floats([threshold] * len(info.classes)),
        camera_names=list(camera_names),
        image_height=int(height),
        image_width=int(width),
        points_per_element=int(info.points_per_element),
        roi_min=point(x=float(grid.x_range[0]), y=float(grid.y_range[0]), z=0.0),
        roi_max=point(x=float(grid.x_range[1]), y=float(grid.y_range[1]), z=0.0),
        precision=info.precision,
        software_version=hdmap_core.__version__,
    )
