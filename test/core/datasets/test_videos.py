from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hdmap_core.datasets.videos import VideosInStep, read_video, video_facts
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
    assert video_facts(path).pictures == 8
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


def shades(videos: VideosInStep) -> dict[int, dict[str, int | None]]:
    """Milliseconds -> camera -> shade of its picture."""
    return {
        stamp_ns // 1_000_000: {name: None if p is None else shade(p.image) for name, p in pictures.items()}
        for stamp_ns, pictures in videos
    }


def test_videos_of_other_rates_and_lengths_come_in_step(tmp_path: Path) -> None:
    videos = {"front": written(tmp_path / "a.mp4", 8, 10.0), "left": written(tmp_path / "b.mp4", 8, 20.0)}
    common = VideosInStep(videos)
    assert shades(common) == {100 * n: {"front": n, "left": 2 * n} for n in range(4)}, "left's last is of 0.35 s"
    assert common.left_out == 4 and common.missing == {"left": [n * 100_000_000 for n in range(4, 8)]}
    either = VideosInStep(videos, min_cameras=1)
    assert shades(either) == {100 * n: {"front": n, "left": 2 * n if n < 4 else None} for n in range(8)}
    assert either.left_out == 0 and either.missing == common.missing
    assert list(shades(VideosInStep(videos, 5.0, min_cameras=1))) == [0, 200, 400, 600]
    assert len(list(VideosInStep(videos, 100.0, min_cameras=1))) == 8


def test_videos_that_begin_at_other_instants(tmp_path: Path, recorded: ModuleType) -> None:
    """The drive's shade rises by one in 100 ms; left begins 300 ms after front."""
    pictures = [(n / 10, np.full((*SIZE, 3), 10 * n, np.uint8)) for n in range(20)]
    front = recorded.write_recording(tmp_path / "front.mkv", pictures[:12])
    left = recorded.write_recording(tmp_path / "left.mkv", [(t - 0.3, image) for t, image in pictures[3:15]])
    videos, starts_ns = {"front": front, "left": left}, {"front": 5_000_000_000, "left": 5_300_000_000}
    found = list(VideosInStep(videos, starts_ns=starts_ns))
    assert [stamp_ns for stamp_ns, _ in found] == [5_000_000_000 + n * 100_000_000 for n in range(3, 12)]
    for stamp_ns, sets in found:
        for picture in sets.values():
            assert picture is not None and picture.stamp_ns == stamp_ns
            assert shade(picture.image) == (stamp_ns - 5_000_000_000) // 100_000_000
    early = VideosInStep(videos, starts_ns=starts_ns, min_cameras=1)
    assert [s["left"] is None for _, s in early] == [True] * 3 + [False] * 9
    apart = VideosInStep(videos, starts_ns={"left": 9_000_000_000})
    assert list(apart) == [] and apart.left_out == 12


def test_a_dropped_picture_is_no_other_instants(tmp_path: Path, recorded: ModuleType) -> None:
    """Left loses three pictures of ten per second, front runs at thirty."""
    grey = [(n / 30, np.full((*SIZE, 3), 5 * n, np.uint8)) for n in range(44)]
    front = recorded.write_recording(tmp_path / "front.mkv", grey, rate=30)
    lossy = [(n / 10, np.full((*SIZE, 3), 10 * n, np.uint8)) for n in range(15) if n not in (5, 6, 7)]
    videos = {"front": front, "left": recorded.write_recording(tmp_path / "left.mkv", lossy)}
    found = VideosInStep(videos)
    for stamp_ns, sets in found:
        left = sets["left"]
        assert left is not None and abs(left.stamp_ns - stamp_ns) <= 51_000_000
        assert shade(left.image) == left.stamp_ns // 100_000_000
    assert found.missing["left"] == [s * 1_000_000 for s in (467, 500, 533, 567, 600, 633, 667, 700, 733)]
    assert found.left_out == 9
    at_five = [stamp_ns for stamp_ns, _ in VideosInStep(videos, rate=5.0)]
    assert at_five == [s * 1_000_000 for s in (0, 200, 400, 767, 967, 1167, 1367)]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("2026-11-28T12:00:00.250000Z", (1_795_867_200_250_000_000, True)),
        ("2026-11-28T13:00:00.25+0100", (1_795_867_200_250_000_000, True)),
        ("2026-11-28 12:00:00Z", (1_795_867_200_000_000_000, False)),
        ("2026-13-40T12:00:00.25Z", (None, False)),
        ("yesterday", (None, False)),
    ],
)
def test_when_a_file_says_that_it_began(
    tmp_path: Path, recorded: ModuleType, told: str, expected: tuple[int | None, bool]
) -> None:
    black = np.zeros((*SIZE, 3), np.uint8)
    facts = video_facts(
        recorded.write_recording(tmp_path / "a.mkv", [(0.0, black), (0.04, black)], created=told, rate=25)
    )
    assert (facts.created_ns, facts.created_finely) == expected
    assert facts.period_ns == 40_000_000


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
        list(VideosInStep({"front": written(tmp_path / "ok.mp4", 2), "left": tmp_path / "none.mp4"}))
