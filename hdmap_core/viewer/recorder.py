"""Moments into a recording of rerun: images with pinholes, lines in space, the car's way, the fused map, plots.

    world/ego/<camera>             pose, pinhole and image of a camera
    world/ego/predicted/<label>    what a model said, and world/ego/truth/<label> what is true
    world/fused/<label>            what the drive has seen so far, fused
    world/way                      where the car was
    plots/latency/<stage>          milliseconds
    plots/elements/<label>         how many were predicted
    plots/f1                       prediction against truth, of each moment

Lines lie on the ground of their moment, z = 0 of the ego frame. The world's origin is where the drive begins: single
precision, which the viewer computes in, is centimetres off in a city's coordinates.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.fusion.drive import Drive
from hdmap_core.geometry import BEVGrid, polyline
from hdmap_core.geometry.camera_rig import CameraRig
from hdmap_core.metrics.breakdown import frame_f1
from hdmap_core.metrics.chamfer_ap import match_classes
from hdmap_core.observation.undistortion import without_lenses
from hdmap_core.viewer.footage import Moment
from hdmap_core.viz import COLOURS

if TYPE_CHECKING:
    import rerun

EGO = "world/ego"
TIME, FRAME = "time", "frame"
_LINE_M, _TRUTH_M, _FUSED_M = 0.10, 0.04, 0.08
_WHITE = (255, 255, 255)
_JPEG_QUALITY = 80
_FUSE_NS = 1_000_000_000  # between two drawings of the fused map, which cost more the longer the drive


class Recorder:
    """Logs one moment after the other.

    Args:
        stream: where to.
        grid: the region that the maps show, metres.
        min_score: predicted elements below it are left out.
        lidar: log the points.
    """

    def __init__(self, stream: "rerun.RecordingStream", grid: BEVGrid, min_score: float, lidar: bool) -> None:
        self._stream, self._grid, self._min_score, self._lidar = stream, grid, min_score, lidar
        self._drive = Drive(tuple(MapClass), grid, reach=np.inf)
        self._origin: np.ndarray | None = None
        self._way: list[np.ndarray] = []
        self._fused_ns: int | None = None
        self._shown: set[str] = set()
        self.count = 0
        _log_static(stream, grid)

    def add(self, moment: Moment) -> None:
        """Logs a moment: the next frame, and its time where that is known."""
        self._stream.set_time(FRAME, sequence=self.count)
        if moment.stamp_ns is not None:
            self._stream.set_time(TIME, timestamp=np.datetime64(moment.stamp_ns, "ns"))
        self.count += 1
        shown = [element for element in moment.predicted or () if element.score >= self._min_score]
        if moment.observation is not None:
            self._log_observation(moment)
        self._log_map("predicted", None if moment.predicted is None else shown, _LINE_M, 0.06)
        self._log_map("truth", moment.truth, _TRUTH_M, 0.03, _WHITE)
        if moment.predicted is not None:
            for label, elements in _by_label(shown).items():
                self._scalar(f"plots/elements/{label.value}", len(elements))
        if moment.predicted is not None and moment.truth is not None:
            matches = match_classes({"": moment.predicted}, {"": moment.truth}, "maptr")
            self._scalar("plots/f1", frame_f1(matches, self._min_score).get("", 1.0))
        for stage, milliseconds in moment.latency_ms.items():
            self._scalar(f"plots/latency/{stage}", milliseconds)

    def finish(self) -> None:
        """Logs what is known at the end only: the whole way of the car."""
        import rerun

        if len(self._way) > 1:
            way = rerun.LineStrips3D([self._way], radii=0.15, colors=(110, 115, 130))
            self._stream.log("world/way", way, static=True)

    def _log_observation(self, moment: Moment) -> None:
        import rerun

        assert moment.observation is not None
        observation = without_lenses(moment.observation.on_host())
        _log_cameras(self._stream, observation.rig, observation.images)
        if self._lidar and observation.points is not None:
            cloud = rerun.Points3D(observation.points[:, :3], radii=0.03, colors=(150, 155, 165))
            self._stream.log(f"{EGO}/lidar", cloud)
        if (pose := observation.map_from_ego) is None:
            return
        if self._origin is None:
            self._origin = pose[:3, 3].copy()
        place = pose[:3, 3] - self._origin
        self._stream.log(EGO, rerun.Transform3D(translation=place, mat3x3=pose[:3, :3]))
        self._way.append(place)
        if moment.predicted is not None:
            self._fuse(moment, pose, all(observation.camera_mask))

    def _fuse(self, moment: Moment, pose: np.ndarray, full: bool) -> None:
        import rerun

        stamp_ns = moment.stamp_ns or 0
        elements, _ = self._drive.number(moment.predicted or (), stamp_ns, pose, full)
        self._drive.fuse(elements, pose, full)
        local_map = self._drive.local_map
        if local_map is None or (self._fused_ns is not None and 0 <= stamp_ns - self._fused_ns < _FUSE_NS):
            return
        self._fused_ns = stamp_ns
        self._stream.log("world/fused", rerun.Transform3D(translation=local_map.fixed_from_map[:3, 3] - self._origin))
        self._log_lines("world/fused", local_map.elements(), _FUSED_M, 0.0)

    def _log_map(
        self,
        name: str,
        elements: Sequence[MapElement] | None,
        radius_m: float,
        height_m: float,
        colour: tuple[int, int, int] | None = None,
    ) -> None:
        """The viewer shows what it heard last, so that a moment without a map has to say so after one with it."""
        if elements is not None or name in self._shown:
            self._shown.add(name)
            self._log_lines(f"{EGO}/{name}", elements or (), radius_m, height_m, colour)

    def _log_lines(
        self,
        entity: str,
        elements: Sequence[MapElement],
        radius_m: float,
        height_m: float,
        colour: tuple[int, int, int] | None = None,
    ) -> None:
        """Each class is an entity of its own, so that it can be switched off; one without elements is emptied."""
        import rerun

        for label, some in _by_label(elements).items():
            lines = [_line(element, height_m) for element in some]
            colours = [colour or _faded(COLOURS[label], element.score) for element in some]
            names = [_name(element) for element in some]
            strips = rerun.LineStrips3D(lines, radii=radius_m, colors=colours, labels=names, show_labels=False)
            self._stream.log(f"{entity}/{label.value}", strips)

    def _scalar(self, entity: str, value: float) -> None:
        import rerun

        self._stream.log(entity, rerun.Scalars(float(value)))


def _log_static(stream: "rerun.RecordingStream", grid: BEVGrid) -> None:
    """What does not change: axes, the car, the edge of the region, names and colours of the plots' lines."""
    import rerun

    stream.log("world", rerun.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    car = rerun.Boxes3D(centers=[(1.35, 0.0, 0.75)], half_sizes=[(2.25, 0.9, 0.75)], colors=(235, 235, 240))
    stream.log(f"{EGO}/car", car, static=True)
    (x0, x1), (y0, y1) = grid.x_range, grid.y_range
    edge = [(x0, y0, 0.0), (x1, y0, 0.0), (x1, y1, 0.0), (x0, y1, 0.0), (x0, y0, 0.0)]
    stream.log(f"{EGO}/region", rerun.LineStrips3D([edge], radii=0.03, colors=(90, 95, 105)), static=True)
    for label in MapClass:
        line = rerun.SeriesLines(colors=COLOURS[label], names=label.value.replace("_", " "))
        stream.log(f"plots/elements/{label.value}", line, static=True)
    stream.log("plots/f1", rerun.SeriesLines(colors=(120, 130, 255), names="F1 of the frame"), static=True)


def _log_cameras(stream: "rerun.RecordingStream", rig: CameraRig, images: Iterable[np.ndarray | None]) -> None:
    import rerun

    poses, matrices = rig.ego_from_camera.numpy(), rig.intrinsics.numpy()
    for name, pose, matrix, image in zip(rig.names, poses, matrices, images, strict=True):
        entity = f"{EGO}/{name}"
        if image is None:
            stream.log(entity, rerun.Clear(recursive=False))
            continue
        height, width = image.shape[:2]
        stream.log(entity, rerun.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
        pinhole = rerun.Pinhole(
            image_from_camera=matrix,
            resolution=(width, height),
            camera_xyz=rerun.ViewCoordinates.RDF,
            image_plane_distance=1.5,
        )
        stream.log(entity, pinhole)
        jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(image), _JPEG_QUALITY)
        stream.log(entity, rerun.EncodedImage(contents=jpeg, media_type="image/jpeg"))


def _by_label(elements: Iterable[MapElement]) -> dict[MapClass, list[MapElement]]:
    groups: dict[MapClass, list[MapElement]] = {label: [] for label in MapClass}
    for element in elements:
        groups[element.label].append(element)
    return groups


def _line(element: MapElement, height_m: float) -> np.ndarray:
    """(P, 3) float32; points at most a metre apart, so that a line that runs out of an image ends at its edge."""
    length = polyline.length(element.points, element.closed)
    dense = polyline.resample(element.points, max(len(element.points), int(length) + 2), element.closed)
    if element.closed:
        dense = polyline.closed_ring(dense)
    return np.pad(dense.astype(np.float32), ((0, 0), (0, 1)), constant_values=height_m)


def _faded(colour: tuple[int, int, int], score: float) -> tuple[int, int, int]:
    """Weak elements are darker; the viewer draws lines without transparency."""
    red, green, blue = (round(part * (1 + 2 * score) / 3) for part in colour)
    return red, green, blue


def _name(element: MapElement) -> str:
    number = f" #{element.track_id}" if element.track_id else ""
    return f"{element.label.value.replace('_', ' ')} {element.score:.2f}{number}"
