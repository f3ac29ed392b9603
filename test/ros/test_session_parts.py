"""How the node shares out the cores, and which camera a map is stamped by."""

import os
import threading

import cv2
import pytest

from hdmap_ros.session_parts import camera_pool, choose_anchor, network_threads


@pytest.mark.parametrize(("cores", "preferred", "threads"), [(1, 1, 1), (2, 2, 1), (8, 8, 7), (16, 8, 8), (2, 1, 1)])
def test_a_core_is_left_to_prepare_the_next_set(
    cores: int, preferred: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    assert network_threads(preferred) == threads


def test_one_thread_per_core_shares_the_cameras_and_opencv_starts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cv2.getNumThreads()
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    try:
        with camera_pool(6) as pool:
            meeting = threading.Barrier(2)
            assert len(set(pool.map(lambda camera: (meeting.wait(10), threading.get_ident())[1], range(6)))) == 2
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


def test_the_anchor() -> None:
    assert choose_anchor("BACK", ("CAM_FRONT", "BACK")) == "BACK"
    assert choose_anchor("", ("BACK", "CAM_FRONT")) == "CAM_FRONT"
    assert choose_anchor("", ("BACK", "TOP")) == "BACK"
