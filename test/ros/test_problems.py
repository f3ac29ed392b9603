"""Problems are counted each time, told at the first and by reminders, and summed up in a line."""

from concurrent.futures import ThreadPoolExecutor

from hdmap_ros.problems import Problems, problem_lines


def test_each_pair_is_told_once_and_counted_always() -> None:
    told: list[str] = []
    problems = Problems(told.append)
    for number in range(3):
        problems.add("rejected_image", "CAM_BACK", f"camera CAM_BACK: cut {number}")
    problems.add("rejected_image", "CAM_FRONT", "camera CAM_FRONT: cut")
    problems.add("failed", "", "the network failed")
    assert told == ["camera CAM_BACK: cut 0", "camera CAM_FRONT: cut", "the network failed"]
    report = problems.report()
    cameras = {"CAM_BACK": 3, "CAM_FRONT": 1}
    assert report["rejected_image"] == {"count": 4, "cameras": cameras, "message": "camera CAM_BACK: cut 0"}
    assert report["failed"] == {"count": 1, "cameras": {}, "message": "the network failed"}
    assert problem_lines(report) == [
        "rejected_image: CAM_BACK (3 times), CAM_FRONT: camera CAM_BACK: cut 0",
        "failed: the network failed",
    ]


def test_reminders_and_lasting_problems() -> None:
    told: list[str] = []
    problems = Problems(told.append, remind_s=0.0)
    for _ in range(2):
        problems.add("no_transform", "CAM_BACK", "again")
        problems.add_once("distorted_lens", "CAM_BACK", "once")
    assert told == ["again", "once", "again"]
    assert problems.report()["distorted_lens"]["count"] == 1


def test_counts_from_several_threads_add_up() -> None:
    problems = Problems()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: problems.add("late", f"CAM_{number % 3}", "late"), range(3000)))
    assert problems.report()["late"]["cameras"] == {"CAM_0": 1000, "CAM_1": 1000, "CAM_2": 1000}


def test_news_are_told_once() -> None:
    problems = Problems()
    for number in range(2):
        problems.add("rejected_image", "CAM_BACK", f"cut {number}")
    problems.add("failed", "", "the network failed")
    assert problems.untold() == [("CAM_BACK", "rejected_image"), ("", "failed")]
    assert problems.news() == {("rejected_image", "CAM_BACK"): "cut 1", ("failed", ""): "the network failed"}
    assert problems.news() == {}
    assert problems.untold() == []
