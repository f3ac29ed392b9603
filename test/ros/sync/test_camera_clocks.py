"""Clocks that are wrong, told from images that come late."""

import pytest

from hdmap_ros.sync.camera_clocks import clock_lead, clock_step, keeps_pace, offsets_ns, playback_rate

MS = 1_000_000
STAMPS = [index * 100 * MS for index in range(12)]


def history(delay_ms: float = 20, ahead_ms: float = 0, rate: float = 1.0) -> tuple[list[int], list[int]]:
    arrivals = [round((stamp + delay_ms * MS) / rate) for stamp in STAMPS]
    return [stamp + round(ahead_ms * MS) for stamp in STAMPS], arrivals


@pytest.mark.parametrize("rate", [0.25, 0.9, 1.0, 1.06, 4.0])
@pytest.mark.parametrize("step_ms", [60, 300, -60, -300, -3000])
def test_a_clock_that_was_set(rate: float, step_ms: float) -> None:
    others = [history(20 + delay, rate=rate) for delay in range(5)]
    stamp, arrival = round((1200 + step_ms) * MS), round(1220 * MS / rate)
    assert clock_step(history(rate=rate), others, stamp, arrival, 48 * MS) == pytest.approx(step_ms * MS, abs=4 * MS)


@pytest.mark.parametrize(
    ("stamp_ms", "arrival_ms"),
    [(1200, 1220), (1200, 1520), (1600, 1620), (1200, 1140), (6200, 6220), (1200, 9000), (1700, 1121), (1300, 1121)],
    ids=[
        "usual",
        "late",
        "after losses",
        "early",
        "after a pause",
        "a player that was paused",
        "lost in a burst",
        "one",
    ],
)
def test_late_images_bursts_and_pauses_are_no_steps(stamp_ms: float, arrival_ms: float) -> None:
    others = [history(20 + delay) for delay in range(5)]
    assert clock_step(history(), others, stamp_ms * MS, arrival_ms * MS, 48 * MS) == 0


@pytest.mark.parametrize("rate", [0.5, 0.9, 1.0, 2.0])
def test_the_offset_needs_no_pace(rate: float) -> None:
    """Against the others' clocks at the moment of arrival, which lie between two of their stamps."""
    others = [history(20, rate=rate), history(30, rate=rate), history(40, rate=rate)]
    found = offsets_ns(history(35, 700, rate), others)
    assert found == pytest.approx([695 * MS] * 12, abs=MS)


def test_images_of_a_burst_keep_no_pace() -> None:
    stamps, arrivals = history()
    assert keeps_pace((stamps, arrivals), [history()])
    assert keeps_pace((stamps, [arrival_ns // 2 for arrival_ns in arrivals]), [history(rate=2.0)])
    burst = [*arrivals[:8], *(arrivals[8] + MS * number for number in range(4))]
    assert not keeps_pace((stamps, burst), [history()])


def test_nothing_is_told_where_arrivals_stand_still() -> None:
    still = (STAMPS, [0] * 12)
    assert playback_rate([still]) is None
    assert clock_step(still, [still, still], 1500 * MS, 0, 48 * MS) == 0
    assert offsets_ns(still, [still]) == []
    assert not keeps_pace(still, [still])
    assert clock_lead(still, [still, still]) is None


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0])
def test_the_lead_over_most_others(rate: float) -> None:
    others = [history(20, rate=rate), history(60, rate=rate), history(30, rate=rate), history(40, rate=rate)]
    assert clock_lead(history(20, 200, rate), others) == pytest.approx(200 * MS, abs=15 * MS)
    assert clock_lead(history(20, -3000, rate), others) == pytest.approx(-2970 * MS, abs=15 * MS)
    assert clock_lead(history(45, rate=rate), others) == pytest.approx(0, abs=10 * MS)
    # Half the rig late: nobody is ahead.
    assert clock_lead(history(20), [history(20), history(20), history(320), history(320), history(320)]) == 0
