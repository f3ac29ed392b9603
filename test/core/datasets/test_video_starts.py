import dataclasses
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hdmap_core.datasets.rig_file import RigCamera
from hdmap_core.datasets.video_sound import lag_of, sound_of, starts_by_sound
from hdmap_core.datasets.video_starts import Beginning, parse_beginning, starts_of
from hdmap_core.errors import ConfigError, DatasetError, ImageError

BLACK = [(n / 10, np.zeros((16, 16, 3), np.uint8)) for n in range(100)]
CAMERA = RigCamera(np.eye(3), (16, 16), None, np.eye(4), "front")
RIG = {"front": CAMERA, "left": CAMERA}
DAY = "2026-11-28T12:00:"


@pytest.fixture
def drive(recorded: ModuleType) -> np.ndarray:
    """What there was to hear of a drive: half a minute, two claps."""
    heard: np.ndarray = recorded.street_sound(30, [6.0, 7.5])
    return heard


def videos(recorded: ModuleType, folder: Path, **of_camera: dict) -> dict[str, Path]:
    """A video of ten seconds for each camera: `sound`, `created`, `suffix`."""
    return {
        name: recorded.write_recording(folder / f"{name}{more.pop('suffix', '.mkv')}", BLACK, **more)
        for name, more in of_camera.items()
    }


def part(drive: np.ndarray, recorded: ModuleType, begin_s: float, noise: float = 0.0, seed: int = 1) -> np.ndarray:
    """Ten seconds from a time on, with a microphone's own noise."""
    begin = round(begin_s * recorded.SOUND_HZ)
    sound = drive[begin : begin + 10 * recorded.SOUND_HZ]
    return np.asarray(sound + noise * np.random.default_rng(seed).normal(size=len(sound)))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.05])
def test_sound_tells_the_start_to_a_millisecond(
    tmp_path: Path, recorded: ModuleType, drive: np.ndarray, suffix: str, noise: float
) -> None:
    heard = {
        name: {"sound": part(drive, recorded, begin_s, noise, seed), "suffix": suffix}
        for seed, (name, begin_s) in enumerate({"front": 4.0, "left": 5.2503, "back": 3.1}.items(), start=100)
    }
    starts_ns, ratio = starts_by_sound(videos(recorded, tmp_path, **heard))
    assert list(starts_ns) == ["front", "left", "back"] and ratio > 3
    np.testing.assert_allclose([starts_ns[name] * 1e-9 for name in heard], [0.9, 2.1503, 0.0], atol=1e-3)


def test_another_rate_of_samples_and_a_sound_that_begins_late(
    tmp_path: Path, recorded: ModuleType, drive: np.ndarray
) -> None:
    sound = part(drive, recorded, 5.0)
    sound = np.interp(np.arange(441_000) / 44_100, np.arange(len(sound)) / recorded.SOUND_HZ, sound)
    slower = {"sound": sound, "sound_hz": 44_100, "suffix": ".mp4"}
    starts_ns, _ = starts_by_sound(videos(recorded, tmp_path, front={"sound": part(drive, recorded, 4.0)}, left=slower))
    assert starts_ns["left"] * 1e-9 == pytest.approx(1.0, abs=1e-3)
    late = recorded.write_recording(
        tmp_path / "late.mkv", [(t + 0.5, image) for t, image in BLACK], part(drive, recorded, 4.0)
    )
    samples = sound_of(late)  # of a video whose first picture comes half a second after the sound
    lag_s, _ = lag_of(samples, sound_of(tmp_path / "front.mkv"))
    assert lag_s == pytest.approx(0.5, abs=1e-3)


def test_sound_that_does_not_tell_is_refused(tmp_path: Path, recorded: ModuleType, drive: np.ndarray) -> None:
    here = {"sound": part(drive, recorded, 4.0)}
    elsewhere = {"sound": recorded.street_sound(10, [2.0], seed=7)}
    with pytest.raises(DatasetError, match=r"left\.mkv cannot be aligned with .*front\.mkv.*--start left=SECONDS"):
        starts_by_sound(videos(recorded, tmp_path / "a", front=here, left=elsewhere))
    ticks, rng = np.zeros(10 * recorded.SOUND_HZ), np.random.default_rng(3)
    ticks[:: recorded.SOUND_HZ // 2] = 1.0  # an indicator: each second fits the next
    front, left = (np.roll(ticks, by) + 0.02 * rng.normal(size=len(ticks)) for by in (0, 7000))
    with pytest.raises(DatasetError, match="fits at no moment distinctly"):
        starts_by_sound(videos(recorded, tmp_path / "b", front={"sound": front}, left={"sound": left}))
    with pytest.raises(DatasetError, match=r"left\.mkv has no sound to align it by; say by --start"):
        starts_by_sound(videos(recorded, tmp_path / "c", front=here, left={}))
    with pytest.raises(DatasetError, match=r"front\.mkv is silent"):
        starts_by_sound(videos(recorded, tmp_path / "d", front={"sound": np.zeros(48_000)}, left=here))


def test_what_two_tracks_without_anything_in_common_reach() -> None:
    """The bound of 1.5 is above it."""
    rng = np.random.default_rng(0)
    ratios = [lag_of(rng.normal(size=40_000), rng.normal(size=40_000))[1] for _ in range(30)]
    assert min(ratios) >= 1.0 and max(ratios) < 1.3


def test_who_says_when_videos_begin(tmp_path: Path, recorded: ModuleType, drive: np.ndarray) -> None:
    plain = videos(recorded, tmp_path, front={}, left={})
    together = starts_of(plain, RIG, Beginning())
    assert together.at_ns == {"front": 0, "left": 0} and "all at once; --align" in together.told
    one = starts_of({"front": plain["front"]}, RIG, Beginning())
    assert one.at_ns == {"front": 0} and not one.told
    rig = RIG | {"left": dataclasses.replace(CAMERA, start_ns=1_250_000_000)}
    of_rig = starts_of(plain, rig, Beginning())
    assert of_rig.at_ns == {"front": 0, "left": 1_250_000_000}
    assert of_rig.told == "as the rig file says: front 0 s, left 1.25 s"
    by_hand = starts_of(plain, rig, parse_beginning(["front=0.5"]))
    assert by_hand.at_ns == {"front": 500_000_000, "left": 1_250_000_000}
    assert by_hand.told == "as the rig file and --start say: front 0.5 s, left 1.25 s"
    shifted = starts_of(plain, rig, parse_beginning(["1700000000.123456789"]))
    assert shifted.at_ns == {"front": 1_700_000_000_123_456_789, "left": 1_700_000_001_373_456_789}


def test_the_times_in_files_are_taken_where_they_are_fine_enough(tmp_path: Path, recorded: ModuleType) -> None:
    def told(folder: str, front: str | None, left: str | None, suffix: str = ".mkv") -> tuple[dict[str, int], str]:
        given = {"front": {"created": front, "suffix": suffix}, "left": {"created": left, "suffix": suffix}}
        starts = starts_of(videos(recorded, tmp_path / folder, **given), RIG, Beginning())
        return starts.at_ns, starts.told

    zero = {"front": 0, "left": 0}
    at_ns, why = told("fine", f"{DAY}00.25Z", f"{DAY}01.5Z")
    assert at_ns["left"] - at_ns["front"] == 1_250_000_000 and at_ns["front"] == 1_795_867_200_250_000_000
    assert why.startswith("as the files say, to the fraction of a second: front 1795867200.25 s")
    for folder, front, left, suffix, expected in (
        ("coarse", f"{DAY}00.25Z", f"{DAY}01Z", ".mkv", "which is in whole seconds"),
        ("mp4", f"{DAY}00.25Z", f"{DAY}01.5Z", ".mp4", "which is in whole seconds"),
        ("apart", f"{DAY}00.25Z", f"{DAY}30.5Z", ".mkv", "which would leave no common instant"),
        ("one", f"{DAY}00.25Z", None, ".mkv", "all at once; --align"),
    ):
        at_ns, why = told(folder, front, left, suffix)
        assert at_ns == zero and expected in why, folder


@pytest.mark.parametrize(
    ("given", "align", "error", "message"),
    [
        (["soon"], False, ConfigError, "--start soon: expected seconds"),
        (["left="], False, ConfigError, "--start left=: expected seconds"),
        (["left=-1"], False, ConfigError, "0 or more"),
        (["nan"], False, ConfigError, "expected seconds"),
        (["1e10"], False, ConfigError, "expected seconds"),
        (["back=1"], False, ConfigError, "--start back=...: there is no video of this camera; there are front, left"),
        (["left=1"], True, ConfigError, "give one of the two"),
        (["front=3", "1"], False, ConfigError, "the video of left would begin 2 s before 0"),
        ([], True, DatasetError, "has no sound"),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, recorded: ModuleType, given: list[str], align: bool, error: type[Exception], message: str
) -> None:
    plain = videos(recorded, tmp_path, front={}, left={})
    with pytest.raises(error, match=message.replace("(", r"\(")) as told:
        starts_of(plain, RIG, parse_beginning(given), align)
    assert "\n" not in str(told.value)


def test_one_video_cannot_be_aligned_and_none_that_is_broken(tmp_path: Path, recorded: ModuleType) -> None:
    front = videos(recorded, tmp_path, front={"sound": recorded.street_sound(2)})
    with pytest.raises(ConfigError, match="give more than one"):
        starts_of(front, RIG, Beginning(), align=True)
    (tmp_path / "left.mp4").write_text("no video")
    with pytest.raises(ImageError, match=r"left\.mp4 cannot be read as a video"):
        starts_of(front | {"left": tmp_path / "left.mp4"}, RIG, Beginning(), align=True)
