"""One map, three ways to run it: the same result, lost workers' items done again, errors as they were raised."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from hdmap_core.errors import ConfigError, DatasetError
from hdmap_core.running.parallel import WorkerLostError, map_scenes

FUNCTIONS = """
import os, signal, time
from pathlib import Path

from hdmap_core.errors import DatasetError

def square(item):
    return item * item

def threads(item):
    import torch
    return os.getpid(), torch.get_num_threads()

def refuse_three(item):
    if item == 3:
        raise DatasetError("scene 3 is broken")
    return item

def die_once(item):
    number, folder = item
    mark = Path(folder) / "died"
    if number == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number

def die_always(item):
    if item == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return item

def tell_and_wait(folder):
    (Path(folder) / f"{os.getpid()}.pid").touch()
    time.sleep(600)

def run_two(folder):
    from hdmap_core.running.parallel import map_scenes
    map_scenes(tell_and_wait, [folder, folder], workers=2)
"""


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """A module that worker processes can import."""
    folder = tmp_path_factory.mktemp("functions")
    (folder / "mapped_functions.py").write_text(FUNCTIONS)
    sys.path.insert(0, str(folder))
    yield importlib.import_module("mapped_functions")
    sys.path.remove(str(folder))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_result_does_not_depend_on_the_workers(functions: ModuleType, workers: int) -> None:
    told: dict[int, int] = {}
    assert map_scenes(functions.square, range(4), workers, done=told.__setitem__) == [0, 1, 4, 9]
    assert told == {0: 0, 1: 1, 2: 4, 3: 9}


def test_several_workers_have_one_thread_each(functions: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    results = map_scenes(functions.threads, range(4), 2)
    assert {count for _, count in results} == {1} and os.getpid() not in {pid for pid, _ in results}


def test_nothing_to_do() -> None:
    assert map_scenes(str, [], 4) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_reaches_the_caller_as_it_was_raised(functions: ModuleType, workers: int) -> None:
    with pytest.raises(DatasetError, match=r"^scene 3 is broken$"):
        map_scenes(functions.refuse_three, range(5), workers)


def test_a_killed_worker_has_its_items_done_again(functions: ModuleType, tmp_path: Path) -> None:
    items = [(number, str(tmp_path)) for number in range(5)]
    told: list[int] = []
    results = map_scenes(functions.die_once, items, 2, done=lambda index, _: told.append(index))
    assert results == [0, 1, 4, 9, 16] and (tmp_path / "died").exists()
    assert sorted(told) == [0, 1, 2, 3, 4], "each is told once"


def test_what_always_kills_its_worker_is_given_up(functions: ModuleType) -> None:
    told: list[int] = []
    with pytest.raises(WorkerLostError, match="fewer --workers"):
        map_scenes(functions.die_always, range(3), 2, done=lambda index, _: told.append(index))
    assert 2 not in told and len(told) == len(set(told))


def test_ray_that_is_not_there() -> None:
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match=r"no Ray cluster answers at .127\.0\.0\.1:9."):
        map_scenes(str, [1], ray="127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"'somewhere'.*host:port"):
        map_scenes(str, [1], ray="somewhere")


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (the extra `ray`)")
@pytest.mark.slow
def test_two_workers_of_a_local_ray(tmp_path: Path) -> None:
    """The same results; a worker that is killed once has its item done again; an error comes through."""
    mark = tmp_path / "died"

    def work(item: int) -> tuple[int, int]:
        import torch

        if item == 2 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if item < 0:
            raise DatasetError(f"scene {item} is broken")
        return item * item, torch.get_num_threads()

    def mapped(items: list[int]) -> list[tuple[int, int]]:
        function: Callable[[int], tuple[int, int]] = work
        return map_scenes(function, items, 2, ray="local")

    assert mapped([0, 1, 2, 3, 4]) == [(0, 1), (1, 1), (4, 1), (9, 1), (16, 1)] and mark.exists()
    with pytest.raises(DatasetError, match=r"^scene -1 is broken$"):
        mapped([1, -1])


def test_workers_end_with_the_process_that_started_them(functions: ModuleType, tmp_path: Path) -> None:
    assert functions.__file__ is not None
    code = f"import mapped_functions; mapped_functions.run_two({str(tmp_path)!r})"
    paths = os.pathsep.join([str(Path(functions.__file__).parent), str(Path(__file__).parents[3])])
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths})
    try:
        assert _within(200, lambda: len(list(tmp_path.glob("*.pid"))) == 2)
        workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
    finally:
        parent.kill()
        parent.wait()
    assert _within(60, lambda: not any(_is_running(worker) for worker in workers))


def test_ctrl_c_is_the_callers_alone(functions: ModuleType, tmp_path: Path) -> None:
    """A terminal sends it to all; the workers, at work for ten minutes, end at once and say nothing."""
    assert functions.__file__ is not None
    code = (
        "from hdmap_core.running.interruption import raise_on_ctrl_c; raise_on_ctrl_c()\n"
        f"import mapped_functions; mapped_functions.run_two({str(tmp_path)!r})"
    )
    paths = os.pathsep.join([str(Path(functions.__file__).parent), str(Path(__file__).parents[3])])
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert _within(200, lambda: len(list(tmp_path.glob("*.pid"))) == 2)
        workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
        os.killpg(parent.pid, signal.SIGINT)
        _, said = parent.communicate(timeout=60)
    finally:
        parent.kill()
        parent.wait()
    assert (parent.returncode, said) == (130, "")
    assert _within(60, lambda: not any(_is_running(worker) for worker in workers))


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def _is_running(process: int) -> bool:
    """Whether it exists and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
