"""Videos of a rig's cameras as pictures in step, upright and with their times; PyAV (ffmpeg) decodes them."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hdmap_core.errors import ImageError
from hdmap_core.required_packages import missing_packages_named

SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts")
_ALMOST = 0.999  # of a period, which stamps of whole milliseconds may miss


@dataclass(frozen=True)
class VideoPicture:
    """One picture of a video.

    Attributes:
        image: (H, W, 3) uint8 RGB, turned as the file says that it is to be shown.
        stamp_ns: nanoseconds since the video's first picture.
    """

    image: np.ndarray
    stamp_ns: int


def read_video(path: str | Path) -> Generator[VideoPicture, None, None]:
    """The pictures of a video, in the order in which they are shown, decoded one by one.

    Raises:
        ImageError: if the file cannot be opened, holds no video, or is damaged.
        MissingDependencyError: without PyAV.
    """
    av = _av()
    start: float | None = None
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ImageError(f"{path} holds no video")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if frame.time is None:
                    raise ImageError(f"{path}: its pictures have no times; write it again: ffmpeg -i {path} new.mp4")
                start = frame.time if start is None else start
                image = np.rot90(frame.to_ndarray(format="rgb24"), _quarter_turns(frame))
                yield VideoPicture(np.ascontiguousarray(image), round((frame.time - start) * 1e9))
    except (av.error.FFmpegError, OSError) as error:
        raise ImageError(f"{path} cannot be read as a video: {error.strerror or error}") from None
    if start is None:
        raise ImageError(f"{path}: not one picture of this video can be decoded")


def pictures_in(path: str | Path) -> int:
    """How many pictures a video says it has; 0 where it does not say.

    Raises:
        ImageError, MissingDependencyError: as `read_video`.
    """
    av = _av()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ImageError(f"{path} holds no video")
            return int(container.streams.video[0].frames)
    except (av.error.FFmpegError, OSError) as error:
        raise ImageError(f"{path} cannot be read as a video: {error.strerror or error}") from None


def videos_in_step(
    videos: Mapping[str, Path], rate: float = 0.0
) -> Iterator[tuple[int, dict[str, VideoPicture | None]]]:
    """Pictures of several cameras whose videos begin at the same instant.

    Args:
        videos: camera -> file. The first gives the times; of the others comes the picture nearest in time.
        rate: at most so many sets per second; 0: one for each picture of the first.

    Yields:
        Nanoseconds since the beginning, and camera -> picture; None where its video has ended before.

    Raises:
        ImageError, MissingDependencyError: as `read_video`.
    """
    anchor, *others = videos
    readers = {name: _Nearest(read_video(videos[name])) for name in others}
    following = 0.0
    with closing(read_video(videos[anchor])) as pictures:
        for picture in pictures:
            if rate > 0 and picture.stamp_ns < following:
                continue
            following = picture.stamp_ns + _ALMOST * 1e9 / rate if rate > 0 else 0.0
            yield picture.stamp_ns, {anchor: picture, **{n: r.at(picture.stamp_ns) for n, r in readers.items()}}


class _Nearest:
    """Goes through a video and gives the picture that is nearest to rising times."""

    def __init__(self, pictures: Iterator[VideoPicture]) -> None:
        self._pictures = pictures
        self._now = next(pictures, None)
        self._next = next(pictures, None)
        self._period_ns = self._next.stamp_ns if self._next is not None else 0

    def at(self, stamp_ns: int) -> VideoPicture | None:
        while self._next is not None and abs(self._next.stamp_ns - stamp_ns) <= abs(self._stamp - stamp_ns):
            self._period_ns = max(self._period_ns, self._next.stamp_ns - self._stamp)
            self._now, self._next = self._next, next(self._pictures, None)
        has_ended = self._next is None and stamp_ns - self._stamp > self._period_ns
        return None if has_ended else self._now

    @property
    def _stamp(self) -> int:
        return 0 if self._now is None else self._now.stamp_ns


def _quarter_turns(frame: Any) -> int:
    """Counter-clockwise turns after which a picture is upright."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


def _av() -> Any:
    with missing_packages_named():
        import av
    return av
