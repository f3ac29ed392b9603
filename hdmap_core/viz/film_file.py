"""Films as files: MP4 that plays everywhere, or a GIF or WebP that moves. They appear whole or not at all.

MP4 is H.264 in yuv420p with its index at the front, as browsers and phones want it; PyAV brings the encoder. GIF and
WebP need nothing else, are small, and hold at most `_MOST_HELD` pictures: of a longer drive every second, fourth ...
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from PIL import Image

from hdmap_core.errors import OutputError
from hdmap_core.files import check_file, whole_or_nothing
from hdmap_core.required_packages import missing_packages_named

FILMS = (".mp4", ".gif", ".webp")
_ENCODERS = (
    ("libx264", {"crf": "23", "preset": "veryfast"}),
    ("libopenh264", {"b": "6000000"}),
    ("mpeg4", {"q:v": "4", "qmin": "2", "qmax": "6"}),
)
_H264 = ("libx264", "libopenh264")
_LONGEST_STEP_S = 2.0  # a longer pause of the recording is cut out of the film
_SLOWEST_RATE = 4.0  # pictures per second; slower recordings are played faster
_BT709 = 1
_MOST_HELD = 240
_HELD_WIDTH = 960


class Film(Protocol):
    """A film that is being written."""

    @property
    def speed(self) -> float:
        """Times real time at which it plays; known after the second picture."""

    @property
    def note(self) -> str:
        """What about it its user should know; empty: nothing."""

    def add(self, picture: np.ndarray, stamp_ns: int) -> None:
        """The next picture, (H, W, 3) uint8 RGB with even sides, and its time."""


@contextmanager
def open_film(path: str | Path) -> Iterator[Film]:
    """A film to add pictures to; it stands at `path` when the block ends well, and nothing does when it does not.

    Raises:
        MissingDependencyError: if the file's kind needs a package that is not there.
        OutputError: if it cannot be written; what stood there before is left as it was.
    """
    path = Path(path)
    check_file(path, FILMS)
    with whole_or_nothing(path) as part:
        film: _Mp4 | _Held = _Mp4(part) if path.suffix.lower() == ".mp4" else _Held(part, path.suffix.lower())
        try:
            yield film
            film.finish()
        finally:
            film.close()


def check_film(path: str | Path) -> None:
    """Whether `open_film` could write such a file here, asked before long work.

    Raises:
        MissingDependencyError, OutputError: as `open_film`.
    """
    check_file(path, FILMS)
    if Path(path).suffix.lower() == ".mp4":
        _av()


def _av() -> Any:
    with missing_packages_named():
        import av
    return av


class _Pace:
    """Times of pictures in a film, of their stamps."""

    def __init__(self) -> None:
        self.speed = 1.0
        self._last: int | None = None
        self._time_s = 0.0
        self._is_second = True

    def at(self, stamp_ns: int) -> float:
        """Seconds from the film's start."""
        if self._last is not None:
            step = (stamp_ns - self._last) * 1e-9
            if self._is_second:
                self.speed = max(1.0, min(step, _LONGEST_STEP_S) * _SLOWEST_RATE)
                self._is_second = False
            self._time_s += min(max(step / self.speed, 0.001), _LONGEST_STEP_S / self.speed)
        self._last = stamp_ns
        return self._time_s


class _Mp4:
    """PyAV's writer."""

    def __init__(self, part: Path) -> None:
        self._av, self._pace, self.note = _av(), _Pace(), ""
        self._container = self._av.open(str(part), "w", format="mp4", options={"movflags": "faststart"})
        self._stream: Any = None
        self._last_pts = -1

    @property
    def speed(self) -> float:
        return self._pace.speed

    def add(self, picture: np.ndarray, stamp_ns: int) -> None:
        if self._stream is None:
            self._stream = self._opened(picture.shape[:2])
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.time_base = Fraction(1, 1000)
        frame.pts = self._last_pts = max(round(1000 * self._pace.at(stamp_ns)), self._last_pts + 1)
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        if self._stream is None:
            raise OutputError("a film without a picture cannot be written")
        self._container.mux(self._stream.encode(None))

    def close(self) -> None:
        self._container.close()

    def _opened(self, size: tuple[int, int]) -> Any:
        codecs = self._av.codecs_available
        name, options = next((name, options) for name, options in _ENCODERS if name in codecs)
        if name not in _H264:
            self.note = (
                "this PyAV has no H.264 encoder: MPEG-4 was written, which VLC and mpv play, and browsers do not; "
                "`pip install --force-reinstall av` brings one that has"
            )
        stream = self._container.add_stream(name, rate=30, options=options)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, 1000)
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        return stream


class _Held:
    """GIF and WebP: the pictures are held until the end, smaller, and fewer where there are many."""

    def __init__(self, part: Path, suffix: str) -> None:
        self._part, self._kind, self._pace = part, suffix.removeprefix("."), _Pace()
        self._held: list[tuple[Image.Image, float]] = []
        self._every = self._seen = 0
        self._end_s = 0.0

    @property
    def speed(self) -> float:
        return self._pace.speed

    @property
    def note(self) -> str:
        return "" if self._every <= 1 else f"every {self._every}th picture is in it; an .mp4 has all"

    def add(self, picture: np.ndarray, stamp_ns: int) -> None:
        self._every = self._every or 1
        self._end_s = self._pace.at(stamp_ns)
        self._seen += 1
        if (self._seen - 1) % self._every:
            return
        height, width = picture.shape[:2]
        if width > _HELD_WIDTH:
            size = _HELD_WIDTH, round(height * _HELD_WIDTH / width)
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        image = Image.fromarray(picture)
        self._held.append(
            (image.quantize(128, dither=Image.Dither.NONE) if self._kind == "gif" else image, self._end_s)
        )
        if len(self._held) > _MOST_HELD:
            self._held, self._every = self._held[::2], 2 * self._every

    def finish(self) -> None:
        if not self._held:
            raise OutputError("a film without a picture cannot be written")
        images, times = zip(*self._held, strict=True)
        ends = [*times[1:], self._end_s + 0.5]
        durations = [max(20, round(1000 * (end - start))) for start, end in zip(times, ends, strict=True)]
        options: dict[str, Any] = {"quality": 70, "method": 2} if self._kind == "webp" else {"optimize": False}
        with self._part.open("wb") as stream:
            images[0].save(
                stream, self._kind, save_all=True, append_images=images[1:], duration=durations, loop=0, **options
            )

    def close(self) -> None:
        self._held = []
