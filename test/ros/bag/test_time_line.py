"""Recordings have one clock, whatever their messages are stamped with."""

from hdmap_ros.bag.time_line import TimeLine

S = 1_000_000_000
NOW = 1_800_000_000 * S
BAG = 1_700_000_000 * S


def placed(line: TimeLine, *messages: tuple[str, int, int, bool]) -> dict[str, int]:
    """Name -> log time of messages (name, stamp, arrival, latched), all of them."""
    found = [entry for name, stamp, now, latched in messages for entry in line.add(name, 100, stamp, now, latched)]
    found += line.rest()
    times = {name: log_ns for log_ns, name in found}
    assert len(times) == len(found) == len(messages)
    return times


def test_everything_is_in_the_time_of_the_data_that_are_played() -> None:
    times = placed(
        TimeLine(),
        ("model_info", NOW - 90 * S, NOW, True),  # latched long ago, by the time of day
        ("tf", 0, NOW, False),
        ("diagnostics", NOW, NOW + 1, False),
        ("map 1", BAG, NOW + S, False),
        ("diagnostics 2", NOW + S, NOW + S, False),
        ("map 2", BAG + S, NOW + 2 * S, False),
        ("parameter event", 0, NOW + 2 * S, False),
        ("late latched", BAG - 99 * S, NOW + 2 * S, True),
    )
    before = {name: times[name] for name in ("model_info", "tf", "diagnostics", "map 1", "diagnostics 2")}
    assert set(before.values()) == {BAG}
    assert {times[name] for name in ("map 2", "parameter event", "late latched")} == {BAG + S}


def test_live_messages_keep_their_stamps() -> None:
    times = placed(
        TimeLine(),
        ("model_info", NOW - 3600 * S, NOW, True),  # a node that has been running for an hour
        ("map 1", NOW - S // 5, NOW, False),
        ("tf", 0, NOW + S, False),
        ("map 2", NOW + S, NOW + S, False),
    )
    assert times == {"model_info": NOW, "map 1": NOW - S // 5, "tf": NOW + S, "map 2": NOW + S}


def test_what_is_held_back_is_bounded() -> None:
    line = TimeLine(hold_bytes=1000)
    written = [len(list(line.add(number, 400, NOW + number, NOW + number, False))) for number in range(5)]
    assert written == [0, 0, 3, 1, 1]
    assert list(line.rest()) == []


def test_a_recording_that_begins_anew_goes_back() -> None:
    line = TimeLine()
    times = placed(line, ("end", BAG + 60 * S, NOW, False), ("start", BAG, NOW, False), ("tf", 0, NOW, False))
    assert times == {"end": BAG + 60 * S, "start": BAG, "tf": BAG}
