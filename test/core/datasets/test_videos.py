from pathlib import Path

import numpy as np
import pytest

from hdmap_core.datasets.videos import pictures_in, read_video, videos_in_step
from hdmap_core.errors import ImageError
from hdmap_core.viz.film_file import open_film

pytest.importorskip("av", reason="videos need PyAV; run make setup")
SIZE = (64, 96)


def written(path: Path, count: int, rate: float = 10.0) -> Path:
    """Picture n is grey of shade 10 n, with a white square in its upper left."""
    with open_film(path) as film:
        for number in range(count):
            image = np.full((*SIZE, 3), 10 * number, np.uint8)
            image[:20, :20] = 255
            film.add(image, round(number * 1e9 / rate))
    return path


def shade(image: np.ndarray) -> int:
    return round(float(image[40:, 40:56].mean()) / 10)


def turned(path: Path, matrix: tuple[int, ...]) -> Path:
    """The file with the display matrix that phones write: 16.16 fixed point a b u c d v x y w in the track's header."""
    data = bytearray(path.read_bytes())
    start = data.find(b"tkhd") + 4 + 40  # version and flags, times, id, reserved, layer, volume
    assert data[start : start + 4] == b"\0\1\0\0", "the identity stands there"
    for index, value in enumerate(matrix):
        data[start + 4 * index : start + 4 * index + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path


def test_pictures_and_their_times(tmp_path: Path) -> None:
    path = written(tmp_path / "front.mp4", 8)
    pictures = list(read_video(path))
    assert pictures_in(path) == 8
    assert [picture.stamp_ns for picture in pictures] == [100_000_000 * number for number in range(8)]
    assert [shade(picture.image) for picture in pictures] == list(range(8))
    assert all(p.image.shape == (*SIZE, 3) and p.image.dtype == np.uint8 for p in pictures)


@pytest.mark.parametrize(
    ("degrees", "matrix", "corner"),
    [
        (90, (0, 1 << 16, 0, -(1 << 16), 0, 0, SIZE[0] << 16, 0, 1 << 30), "upper right"),
        (180, (-(1 << 16), 0, 0, 0, -(1 << 16), 0, SIZE[1] << 16, SIZE[0] << 16, 1 << 30), "lower right"),
        (270, (0, -(1 << 16), 0, 1 << 16, 0, 0, 0, SIZE[1] << 16, 1 << 30), "lower left"),
    ],
)
def test_a_phone_that_was_held_otherwise(tmp_path: Path, degrees: int, matrix: tuple[int, ...], corner: str) -> None:
    """The picture is shown turned clockwise by so many degrees."""
    (picture,) = read_video(turned(written(tmp_path / "front.mp4", 1), matrix))
    assert picture.image.shape[:2] == (SIZE if degrees == 180 else SIZE[::-1])
    rows = slice(None, 12) if "upper" in corner else slice(-12, None)
    columns = slice(None, 12) if "left" in corner else slice(-12, None)
    assert picture.image[rows, columns].min() > 230 and picture.image.mean() < 60


def test_videos_of_other_rates_and_lengths_come_in_step(tmp_path: Path) -> None:
    videos = {"front": written(tmp_path / "a.mp4", 8, 10.0), "left": written(tmp_path / "b.mp4", 8, 20.0)}
    sets = list(videos_in_step(videos))
    assert [stamp for stamp, _ in sets] == [100_000_000 * number for number in range(8)]
    assert [shade(s["front"].image) for _, s in sets if s["front"]] == list(range(8))
    left = [None if s["left"] is None else shade(s["left"].image) for _, s in sets]
    assert left == [0, 2, 4, 6, 7, None, None, None], "its last picture is of 0.35 s"
    assert [stamp for stamp, _ in videos_in_step(videos, rate=5.0)] == [0, 200_000_000, 400_000_000, 600_000_000]
    assert len(list(videos_in_step(videos, rate=100.0))) == 8


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    cut = written(tmp_path / "cut.mp4", 8)
    cut.write_bytes(cut.read_bytes()[:600])
    for path, reason in ((text, "Invalid data"), (tmp_path / "none.mp4", "No such file"), (cut, "")):
        with pytest.raises(ImageError, match=f"{path.name}.*{reason}") as told:
            list(read_video(path))
        assert "\n" not in str(told.value)
    with pytest.raises(ImageError, match=r"none\.mp4 cannot be read as a video"):
        list(videos_in_step({"front": written(tmp_path / "ok.mp4", 2), "left": tmp_path / "none.mp4"}))
