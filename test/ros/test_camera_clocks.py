"""Clocks that are wrong, told from images that come late."""

import pytest

from hdmap_ros.camera_clocks import clock_lead, clock_step, playback_rate

MS = 1_000_000
STAMPS = [index * 100 * MS for index in range(12)]


def history(delay_ms: float = 20, ahead_ms: float = 0, rate: float = 1.0) -> tuple[list[int], list[int]]:
    arrivals = [round((stamp + delay_ms * MS) / rate) for stamp in STAMPS]
    return [stamp + round(ahead_ms * MS) for stamp in STAMPS], arrivals


@pytest.mark.parametrize("rate", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("step_ms", [60, 300, -60, -300, -3000])
def test_a_clock_that_was_set(rate: float, step_ms: float) -> None:
    stamp, arrival = round((1200 + step_ms) * MS), round(1220 * MS / rate)
    assert clock_step(history(rate=rate), stamp, arrival, 48 * MS) == pytest.approx(step_ms * MS, abs=MS)


@pytest.mark.parametrize(
    ("stamp_ms", "arrival_ms"),
    [(1200, 1220), (1200, 1520), (1600, 1620), (1200, 1140), (6200, 6220), (1200, 9000)],
    ids=["usual", "late", "after losses", "early", "after a pause", "a player that was paused"],
)
def test_late_images_and_pauses_are_no_steps(stamp_ms: float, arrival_ms: float) -> None:
    assert clock_step(history(), stamp_ms * MS, arrival_ms * MS, 48 * MS) == 0


def test_nothing_is_told_where_arrivals_stand_still() -> None:
    still = (STAMPS, [0] * 12)
    assert playback_rate([still]) is None
    assert clock_step(still, 1500 * MS, 0, 48 * MS) == 0
    assert clock_lead(still, [still, still]) is None


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0])
def test_the_lead_over_most_others(rate: float) -> None:
    others = [history(20, rate=rate), history(60, rate=rate), history(30, rate=rate), history(40, rate=rate)]
    assert clock_lead(history(20, 200, rate), others) == pytest.approx(200 * MS, abs=15 * MS)
    assert clock_lead(history(20, -3000, rate), others) == pytest.approx(-2970 * MS, abs=15 * MS)
    assert clock_lead(history(45, rate=rate), others) == pytest.approx(0, abs=10 * MS)
    # Half the rig late: nobody is ahead.
    assert clock_lead(history(20), [history(20), history(20), history(320), history(320), history(320)]) == 0
