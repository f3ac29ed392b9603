import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hdmap_core.errors import MissingDependencyError, OutputError
from hdmap_core.running.interruption import Interrupted
from hdmap_core.viz import film_file
from hdmap_core.viz.film_file import check_film, open_film

SIZE = (64, 96)
STEP_NS = 100_000_000


def picture(number: int) -> np.ndarray:
    """Red on the left, and a blue bar that goes to the right."""
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:, :48] = (200, 40, 40)
    image[:, 4 * number + 48 : 4 * number + 52] = (40, 40, 220)
    return image


def write(path: Path, count: int, step_ns: int = STEP_NS) -> film_file.Film:
    with open_film(path) as film:
        for number in range(count):
            film.add(picture(number % 12), 10**18 + number * step_ns)
    return film


def read(path: Path) -> tuple[Any, list[tuple[float, np.ndarray]]]:
    """The stream, and time and (H, W, 3) RGB of each picture."""
    av = pytest.importorskip("av", reason="films are read back by PyAV; run make setup")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        pictures = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
        context = stream.codec_context
        return (context.name, context.pix_fmt, (context.height, context.width)), pictures


def test_mp4_is_what_plays_everywhere(tmp_path: Path) -> None:
    film = write(tmp_path / "deep" / "drive.mp4", 12)
    facts, pictures = read(tmp_path / "deep" / "drive.mp4")
    assert facts == ("h264", "yuv420p", SIZE) and film.note == ""
    data = (tmp_path / "deep" / "drive.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat"), "the index stands at the front, so that browsers play at once"
    assert [round(time, 3) for time, _ in pictures] == [round(0.1 * number, 3) for number in range(12)]
    for number, (_, image) in enumerate(pictures):
        assert np.abs(image[8:56, 8:40].astype(int) - (200, 40, 40)).max() < 25, "colours are those of BT.709"
        assert image[30, 4 * number + 50, 2] > 120, "the bar is where it was drawn"
    assert list((tmp_path / "deep").iterdir()) == [tmp_path / "deep" / "drive.mp4"]


def test_slow_recordings_play_faster_and_pauses_are_cut(tmp_path: Path) -> None:
    film = write(tmp_path / "slow.mp4", 4, step_ns=500_000_000)
    assert film.speed == 2.0
    assert [round(time, 2) for time, _ in read(tmp_path / "slow.mp4")[1]] == [0, 0.25, 0.5, 0.75]
    with open_film(tmp_path / "pause.mp4") as paused:
        for number, second in enumerate((0.0, 0.1, 60.0, 60.0, 59.0)):  # stamps that stand still or jump back go on
            paused.add(picture(number), round(second * 1e9))
    times = [time for time, _ in read(tmp_path / "pause.mp4")[1]]
    assert times[2] == pytest.approx(2.1, abs=0.01) and all(a < b for a, b in pairwise(times))


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
@pytest.mark.parametrize("error", [Interrupted(), KeyboardInterrupt(), ValueError("bad frame")], ids=type)
def test_a_film_appears_whole_or_not_at_all(tmp_path: Path, suffix: str, error: BaseException) -> None:
    path = tmp_path / f"drive{suffix}"
    path.write_bytes(b"before")
    with pytest.raises(type(error)), open_film(path) as film:
        film.add(picture(0), 0)
        raise error
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_moving_pictures_need_no_encoder(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"drive{suffix}", 12)
    with Image.open(tmp_path / f"drive{suffix}") as image:
        assert (image.n_frames, image.size) == (12, SIZE[::-1])  # type: ignore[attr-defined]
        durations = []
        for number in range(12):
            image.seek(number)
            image.load()
            durations.append(image.info["duration"])
            pixels = np.asarray(image.convert("RGB")).astype(int)
            assert np.abs(pixels[30, 20] - (200, 40, 40)).max() < 40 and pixels[30, 4 * number + 50, 2] > 120
    assert durations[:-1] == [100] * 11


def test_of_many_pictures_a_gif_holds_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film_file, "_MOST_HELD", 4)
    film = write(tmp_path / "long.gif", 12)
    with Image.open(tmp_path / "long.gif") as image:
        assert image.n_frames == 3  # type: ignore[attr-defined]
        seconds = []
        for number in range(3):
            image.seek(number)
            seconds.append(image.info["duration"] / 1000)
    assert sum(seconds[:2]) == pytest.approx(0.8) and "every 4th picture" in film.note


def test_large_pictures_become_smaller_in_a_gif(tmp_path: Path) -> None:
    with open_film(tmp_path / "large.gif") as film:
        film.add(np.full((1080, 1920, 3), 90, np.uint8), 0)
    with Image.open(tmp_path / "large.gif") as image:
        assert image.size == (960, 540)


def test_without_pyav_one_line_says_so_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"av is not installed .*pip install 'av>=") as told:
        check_film(tmp_path / "drive.mp4")
    assert "\n" not in str(told.value)
    check_film(tmp_path / "drive.gif")
    with pytest.raises(MissingDependencyError), open_film(tmp_path / "drive.mp4"):
        pass
    assert not list(tmp_path.iterdir())


def test_without_an_h264_encoder_it_falls_back_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    av = pytest.importorskip("av")
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    film = write(tmp_path / "drive.mp4", 5)
    assert "no H.264 encoder" in film.note and "browsers do not" in film.note
    facts, pictures = read(tmp_path / "drive.mp4")
    assert facts[0] == "mpeg4" and len(pictures) == 5


def test_places_and_films_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"cannot write .* is not a folder"):
        check_film(tmp_path / "file" / "drive.mp4")
    with pytest.raises(OutputError, match=r"its name must end in .mp4 or .gif or .webp"):
        check_film(tmp_path / "drive.avi")
    for name in ("none.mp4", "none.gif"):
        with pytest.raises(OutputError, match="without a picture"), open_film(tmp_path / name):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
