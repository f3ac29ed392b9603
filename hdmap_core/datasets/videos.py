"""Videos of a rig's cameras as pictures in step, upright and with their times; PyAV (ffmpeg) decodes them."""

import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from hdmap_core.datasets.nearest import NearestInTime
from hdmap_core.errors import ImageError
from hdmap_core.required_packages import missing_packages_named

SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts")
_FASTEST = 500  # pictures per second; what is above is the clock of a file that does not know its rate
_ALMOST = 0.999  # of a period, which stamps of whole milliseconds may miss
_CREATED = ("com.apple.quicktime.creationdate", "creation_time")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)")


@dataclass(frozen=True)
class VideoPicture:
    """One picture of a video.

    Attributes:
        image: (H, W, 3) uint8 RGB, turned as the file says that it is to be shown.
        stamp_ns: nanoseconds since the video's first picture; of videos in step, on the clock that they share.
    """

    image: np.ndarray
    stamp_ns: int


@dataclass(frozen=True)
class VideoFacts:
    """What a video's file says of itself.

    Attributes:
        pictures: how many it has; 0 where it does not say.
        period_ns: from one picture to the next, on average; 0 where it does not say.
        length_ns: how long it lasts; 0 where it does not say.
        created_ns: nanoseconds since 1970 at which it began; None where it does not say.
        created_finely: whether that is finer than whole seconds.
    """

    pictures: int
    period_ns: int
    length_ns: int
    created_ns: int | None
    created_finely: bool


@contextmanager
def opened_video(path: str | Path) -> Iterator[tuple[Any, Any]]:
    """PyAV's container of a file, and its video stream; what FFmpeg raises inside the block is told as ours.

    Raises:
        ImageError: if the file cannot be opened, holds no video, or is damaged.
        MissingDependencyError: without PyAV.
    """
    with missing_packages_named():
        import av
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ImageError(f"{path} holds no video")
            yield container, container.streams.video[0]
    except (av.error.FFmpegError, OSError) as error:
        raise ImageError(f"{path} cannot be read as a video: {error.strerror or error}") from None


def read_video(path: str | Path) -> Generator[VideoPicture, None, None]:
    """The pictures of a video, in the order in which they are shown, decoded one by one.

    Raises:
        ImageError, MissingDependencyError: as `opened_video`.
    """
    start: float | None = None
    with opened_video(path) as (container, stream):
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            if frame.time is None:
                raise ImageError(f"{path}: its pictures have no times; write it again: ffmpeg -i {path} new.mp4")
            start = frame.time if start is None else start
            turns = round(getattr(frame, "rotation", 0) / 90)  # counter-clockwise, after which it is upright
            image = np.rot90(frame.to_ndarray(format="rgb24"), turns)
            yield VideoPicture(np.ascontiguousarray(image), round((frame.time - start) * 1e9))
    if start is None:
        raise ImageError(f"{path}: not one picture of this video can be decoded")


def video_facts(path: str | Path) -> VideoFacts:
    """What a video's file says of itself, without decoding it.

    Raises:
        ImageError, MissingDependencyError: as `opened_video`.
    """
    with opened_video(path) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate
        told = {**stream.metadata, **container.metadata}
        created = [time for key in _CREATED if (time := _since_1970(told.get(key, ""))) is not None]
        finest = max(created, key=lambda time: time[1], default=(None, False))
        return VideoFacts(
            int(stream.frames),
            round(1e9 / rate) if rate and rate <= _FASTEST else 0,
            1000 * int(container.duration or 0),
            *finest,
        )


class VideosInStep:
    """Goes through the videos of several cameras: the pictures of the first give the instants, of the others comes the
    one nearest in time, if it is within half of its own period.

    Args:
        videos: camera -> file.
        rate: at most so many sets per second; 0: one for each picture of the first.
        starts_ns: camera -> when its video begins, on the clock that they share; those that are not named at 0.
        min_cameras: instants with pictures of fewer are left out; 0: all cameras.

    Attributes:
        left_out: instants that were, so far.
        missing: camera -> instants at which it had no picture, so far, those that were left out among them.

    Raises:
        ImageError, MissingDependencyError: when reading, as `opened_video`.
    """

    def __init__(
        self,
        videos: Mapping[str, Path],
        rate: float = 0.0,
        starts_ns: Mapping[str, int] | None = None,
        min_cameras: int = 0,
    ) -> None:
        self._videos, self._rate, self._starts_ns = videos, rate, starts_ns or {}
        self._least = min_cameras or len(videos)
        self.left_out = 0
        self.missing: dict[str, list[int]] = {}

    def __iter__(self) -> Iterator[tuple[int, dict[str, VideoPicture | None]]]:
        """The instant, nanoseconds on the shared clock, and camera -> picture; None where it has none then."""
        anchor, *others = self._videos
        following = float("-inf")
        with ExitStack() as stack:
            of = {name: stack.enter_context(closing(self._pictures(name))) for name in self._videos}
            readers = {name: NearestInTime(of[name], video_facts(self._videos[name]).period_ns) for name in others}
            for stamp_ns, picture in of[anchor]:
                if stamp_ns < following:
                    continue
                nearest = {name: reader.at(stamp_ns) for name, reader in readers.items()}
                found = {anchor: picture, **{name: near and near[1] for name, near in nearest.items()}}
                for name in (name for name, seen in found.items() if seen is None):
                    self.missing.setdefault(name, []).append(stamp_ns)
                if sum(seen is not None for seen in found.values()) < self._least:
                    self.left_out += 1
                    continue
                following = stamp_ns + _ALMOST * 1e9 / self._rate if self._rate > 0 else following
                yield stamp_ns, found

    def _pictures(self, name: str) -> Generator[tuple[int, VideoPicture], None, None]:
        start_ns = self._starts_ns.get(name, 0)
        for picture in read_video(self._videos[name]):
            stamp_ns = start_ns + picture.stamp_ns
            yield stamp_ns, VideoPicture(picture.image, stamp_ns)


def _since_1970(text: str) -> tuple[int, bool] | None:
    """Nanoseconds of a time with its zone, and whether it is finer than whole seconds; MP4's own never is."""
    told = _TIME.fullmatch(text.strip())
    if told is None:
        return None
    day, clock, fraction, zone = told.groups()
    zone = "+00:00" if zone == "Z" else f"{zone[:3]}:{zone[-2:]}"
    try:
        seconds = int(datetime.fromisoformat(f"{day}T{clock}{zone}").timestamp())
    except ValueError:
        return None
    fraction_ns = int((fraction or "0").ljust(9, "0"))
    return seconds * 1_000_000_000 + fraction_ns, fraction_ns > 0
