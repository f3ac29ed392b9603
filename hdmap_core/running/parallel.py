"""One map function over independent pieces of work (scenes): here, in processes of this machine, or on a Ray cluster.

The result never depends on where or in how many workers it was computed: it comes in the order of the items, and a
worker that dies (out of memory, a lost machine) has its items done again by another. An exception of the function
itself is not repeated; it stops the whole map and reaches the caller as it was raised. So does Ctrl-C, which is the
caller's alone: workers never hear of it and are ended.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any, TypeVar

from hdmap_core.errors import ConfigError, HdmapError
from hdmap_core.required_packages import missing_packages_named

Item = TypeVar("Item")
Result = TypeVar("Result")
Done = Callable[[int, Result], None]
"""Called in the caller's process as each item is finished, in any order: (index of the item, its result)."""

LOSSES = 3
"""So often a worker may die in a row without one item being finished, before the map gives up."""


class WorkerLostError(HdmapError):
    """Workers die again and again on the same work."""


def map_scenes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int = 1,
    ray: str | None = None,
    done: Done[Result] | None = None,
    gpus: float = 0.0,
) -> list[Result]:
    """`[function(item) for item in items]`, in parallel.

    Args:
        function: of one item; importable (no lambda) unless `workers` is 1 or it runs on Ray. It and its argument
            and result are pickled. What is costly to set up belongs in a cache of its module: workers live on.
        items: usually scenes, or parts of them.
        workers: processes on this machine; 1 means this process. Each of several computes with one thread.
        ray: address of a Ray cluster (`host:port`, `ray://host:port`, `auto`), or `local` for one on this machine with
            `workers` workers. All its machines must see the files under the same paths.
        done: see `Done`; what it raises stops the map.
        gpus: share of a GPU that each task takes on Ray.

    Returns:
        The results in the order of the items.

    Raises:
        WorkerLostError: if workers keep dying.
        MissingDependencyError: if `ray` is asked for and not installed.
        ConfigError: if the Ray cluster cannot be reached.
    """
    report = done or (lambda index, result: None)
    if ray is not None:
        return _on_ray(function, items, workers, ray, report, gpus)
    if workers <= 1 or len(items) <= 1:
        results = []
        for index, item in enumerate(items):
            results.append(function(item))
            report(index, results[-1])
        return results
    return _in_processes(function, items, min(workers, len(items)), report)


def ray_has_gpus(address: str, workers: int) -> bool:
    """Whether a Ray cluster has GPUs; connects to it (`workers`: of a local one) until the next map is done."""
    return bool(_connected(address, workers).cluster_resources().get("GPU", 0))


def one_thread() -> None:
    """Makes this process compute with one thread, so that workers do not fight for cores."""
    import cv2

    os.environ["OMP_NUM_THREADS"] = "1"  # torch reads it when it is imported: not every function needs torch
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    cv2.setNumThreads(1)


def _in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, report: Done[Result]
) -> list[Result]:
    results: dict[int, Result] = {}
    losses = 0
    while len(results) < len(items):
        finished = len(results)
        try:
            _one_pool(function, items, workers, report, results)
        except BrokenProcessPool:
            losses = losses + 1 if len(results) == finished else 0
            if losses >= LOSSES:
                raise _lost(len(items) - len(results)) from None
    return [results[index] for index in range(len(items))]


def _one_pool(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    report: Done[Result],
    results: dict[int, Result],
) -> None:
    """Works through the items that have no result yet, until all have or a worker dies."""
    context = multiprocessing.get_context("spawn")  # threads of torch and OpenCV do not survive a fork
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker) as pool:
        jobs: dict[Future[Result], int] = {}
        try:
            with _children_without_ctrl_c():
                for index, item in enumerate(items):
                    if index not in results:
                        jobs[pool.submit(function, item)] = index
            waiting = set(jobs)
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                # What was finished before a worker died is kept.
                for job in sorted(finished, key=lambda job: isinstance(job.exception(), BrokenProcessPool)):
                    result = job.result()
                    results[jobs[job]] = result
                    report(jobs[job], result)
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if not isinstance(error, Exception):  # Ctrl-C waits for nobody's work
                for worker in set(multiprocessing.active_children()) - others:
                    worker.terminate()
            raise


@contextmanager
def _children_without_ctrl_c() -> Iterator[None]:
    """Processes that are started inside never get the SIGINT that a terminal sends to all: not even while they start.

    They inherit that it is blocked. One that comes meanwhile is delivered here at the end: half a start would make a
    traceback in the child.
    """
    if threading.current_thread() is not threading.main_thread():  # only there Python handles signals
        yield
        return
    came: list[int] = []
    resource_tracker.ensure_running()  # it would lift the block when it starts
    handler = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))  # another thread may be given it
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def _begin_worker() -> None:
    """One thread, and an end with the process that started it: a killed parent cannot tell its workers to stop."""
    one_thread()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _connected(address: str, workers: int) -> Any:
    """The module `ray`, connected to a cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # half a minute is too short on a busy machine
    with missing_packages_named():
        import ray
    if ray.is_initialized():
        return ray
    local: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False} if address == "local" else {}
    try:
        _knock(address)
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except Exception as error:  # what a starting node raises has no class of its own
        reason = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"no Ray cluster answers at {address!r} ({reason}); start one with `ray start --head`, or use --ray local"
        ) from None
    return ray


def _knock(address: str) -> None:
    """Raises OSError if nothing listens at an address with a port: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()
    elif address not in ("auto", "local"):
        raise ValueError("expected host:port, ray://host:port, auto or local")


def _on_ray(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    address: str,
    report: Done[Result],
    gpus: float,
) -> list[Result]:
    ray = _connected(address, workers)

    def work(item: Item) -> Result:
        one_thread()
        return function(item)

    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=LOSSES)(work)
    results: dict[int, Result] = {}
    try:
        jobs = {task.remote(item): index for index, item in enumerate(items)}
        waiting = list(jobs)
        while waiting:
            finished, waiting = ray.wait(waiting)
            for job in finished:
                results[jobs[job]] = ray.get(job)
                report(jobs[job], results[jobs[job]])
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else error) from None
    except ray.exceptions.RaySystemError as error:
        raise ConfigError(f"the Ray cluster at {address!r} failed: {str(error).strip()}") from None
    except ray.exceptions.RayError as error:  # workers or machines were lost more than `max_retries` times
        raise _lost(len(items) - len(results), str(error).strip().split("\n")[0]) from None
    finally:
        ray.shutdown()
    return [results[index] for index in range(len(items))]


def _lost(left: int, reason: str = "") -> WorkerLostError:
    why = f" ({reason})" if reason else ""
    return WorkerLostError(
        f"workers were killed {LOSSES} times on the same work{why}, {left} pieces are left; the machine may be short "
        "of memory: use fewer --workers. What is finished is kept, run the same command again"
    )
