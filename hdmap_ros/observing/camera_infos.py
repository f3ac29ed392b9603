"""What the cameras' CameraInfo say, and since when."""

from collections import deque
from collections.abc import Mapping
from threading import Lock
from typing import Any

import numpy as np

from hdmap_core.errors import CalibrationError
from hdmap_ros.observing.calibration import CameraCalibration, calibration_from_info, numbers_of
from hdmap_ros.problems import Problems
from hdmap_ros.stamps import stamp_to_ns

_REMEMBERED = 16
"""Calibrations of one camera: more than images can wait in line while every one of them comes with another."""


class CameraInfos:
    """Calibrations of every camera. `add` and the rest may be called in different threads.

    Args:
        projection: see `calibration_from_info`.
        projections: camera -> its own.
        image_topics: camera -> topic, whose name may say that its images are rectified.
        from_file: camera -> calibration for as long as no valid CameraInfo has come.
        problems: where a bad or changed CameraInfo, or one that contradicts itself, is told.
    """

    def __init__(
        self,
        projection: str,
        projections: Mapping[str, str],
        image_topics: Mapping[str, str],
        from_file: Mapping[str, CameraCalibration],
        problems: Problems,
    ) -> None:
        self._projection, self._projections, self._image_topics = projection, projections, image_topics
        self._from_file, self._problems = from_file, problems
        self._lock = Lock()
        self._known: dict[str, deque[tuple[int, CameraCalibration]]] = {}  # since which stamp, in order of arrival
        self._bad: dict[str, str] = {}
        self._seen: dict[str, bytes] = {}

    def add(self, camera: str, info: Any) -> str | None:
        """Takes a CameraInfo; a bad one is refused and the previous good one stays.

        Returns:
            What is wrong with it, or None.
        """
        names = f"{info.header.frame_id}\n{info.distortion_model}"
        key = _numbers(info).tobytes() + names.encode()
        if self._seen.get(camera) != key:
            self._seen[camera] = key
            projection = self._projections.get(camera) or self._projection
            try:
                calibration = calibration_from_info(camera, info, projection, self._image_topics.get(camera, ""))
            except CalibrationError as error:
                with self._lock:
                    self._bad[camera] = str(error)
            else:
                self._take(camera, stamp_to_ns(info.header.stamp), calibration)
        problem = self._bad.get(camera)
        if problem is not None:
            self._problems.add("bad_camera_info", camera, problem)
        return problem

    def _take(self, camera: str, stamp_ns: int, calibration: CameraCalibration) -> None:
        for kind, doubt in calibration.doubts.items():
            self._problems.add_once(kind, camera, doubt)
        with self._lock:
            known = self._known.setdefault(camera, deque(maxlen=_REMEMBERED))
            old = known[-1][1] if known else None
            known.append((stamp_ns, calibration))
            self._bad.pop(camera, None)
        if old is not None and _described(old) != _described(calibration):
            change = f"camera {camera}: its CameraInfo was {_described(old)} and is now {_described(calibration)}"
            self._problems.add("new_camera_info", camera, change)

    def at(self, camera: str, stamp_ns: int) -> tuple[CameraCalibration | None, str]:
        """The calibration of an image of this stamp, and what is wrong with the newest CameraInfo, if something is.

        That is the newest CameraInfo not later than the image, or where all are, as of another clock, the newest one.
        """
        with self._lock:
            known = self._known.get(camera)
            bad = self._bad.get(camera, "")
            if not known:
                return self._from_file.get(camera), bad
            for since_ns, calibration in reversed(known):
                if since_ns <= stamp_ns:
                    return calibration, bad
            return known[-1][1], bad

    @property
    def newest(self) -> dict[str, CameraCalibration]:
        """Camera -> its calibration now, of those that have one."""
        with self._lock:
            return {**self._from_file, **{camera: known[-1][1] for camera, known in self._known.items()}}


def _described(calibration: CameraCalibration) -> str:
    (fx, _, cx), (_, fy, cy), _ = calibration.intrinsics.tolist()
    height, width = calibration.image_size
    lens = ", ".join(f"{value:g}" for value in calibration.lens.coefficients) if calibration.lens else "none"
    return (
        f"fx {fx:.2f}, fy {fy:.2f}, cx {cx:.2f}, cy {cy:.2f}, {width} x {height} pixels, {calibration.reading} "
        f"(D {lens}), frame {calibration.frame_id}"
    )


def _numbers(info: Any) -> np.ndarray:
    """(n,) float64: every number of a CameraInfo that calibration depends on."""
    roi = info.roi
    extra = (info.height, info.width, info.binning_x, info.binning_y, roi.x_offset, roi.y_offset, roi.height, roi.width)
    return np.concatenate([*(numbers_of(info, name) for name in "kpdr"), extra])
