"""What the node does while it is active, without rclpy: images to the synchroniser, sets to the worker, maps out.

The methods under "the executor's thread" store and return; `_prepare` and `_work` run in the worker's two threads.
"""

import functools
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

from hdmap_ros.diagnostics import Status, node_statuses, over_time_status, policy_problem
from hdmap_ros.latency_log import LatencyLog
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.node_report import node_report
from hdmap_ros.observing.camera_inputs import CameraInputs
from hdmap_ros.observing.image_times import ImageTimes
from hdmap_ros.observing.observation_builder import NotReadyError
from hdmap_ros.output.local_map_output import LocalMapOutput
from hdmap_ros.output.map_output import MapOutput
from hdmap_ros.pipeline import InferenceError, MapPipeline, PreparedSet
from hdmap_ros.problems import REMINDER_S, Problems
from hdmap_ros.stamps import stamp_to_ns
from hdmap_ros.sync.image_sets import ImageSet, Move
from hdmap_ros.sync.policies import Synchronizer
from hdmap_ros.sync.stamp_order import StampOrder
from hdmap_ros.worker import Worker, WorkerStatistics

_PATIENCE_S = 0.5  # for sets that wait in line, where their age is not limited
_FUTURE_S = 1.0
_SAID_NS = 2_000_000_000
_SILENT = ("no_publisher", "no_data", "incompatible_qos")


class Host(Protocol):
    """What a session needs of its node."""

    config: OnlineMapConfig

    def now_ns(self) -> int:
        """The node's clock."""

    def log(self, level: str, message: str) -> None:
        """Writes to the log; level info, warning or error."""


@dataclass(frozen=True)
class _Job:
    images: ImageSet
    closed_ns: int


class MapSession:
    """From configure to cleanup; `start` and `stop` are activation and deactivation.

    Attributes:
        inputs: the camera subscriptions; set by the node before `start`.
        counts: why sets did not become maps, besides what synchroniser and worker count.
        enabled: false: sets are dropped.
    """

    inputs: CameraInputs

    def __init__(
        self,
        host: Host,
        pipeline: MapPipeline,
        synchronizer: Synchronizer,
        output: MapOutput,
        local_map: LocalMapOutput,
    ) -> None:
        self.pipeline = pipeline
        self.output = output
        self.local_map = local_map
        self.counts: Counter[str] = Counter()
        self._counting, self._sending = Lock(), Lock()
        self.enabled = True
        self.worker: Worker | None = None
        self._host = host
        self._synchronizer = synchronizer
        self._latencies = LatencyLog()
        self._reminders = Problems(functools.partial(host.log, "warning"), REMINDER_S)
        self._resets = 0
        self._last_job_ns = 0
        self._newest_ns: dict[str, int] = {}
        self._said_ns: dict[tuple[str, str], int] = {}  # camera and what is wrong: when diagnostics last said so
        self._said_move: Move | None = None
        self._order = StampOrder()
        self._times = self._new_times()
        self._worked = WorkerStatistics()
        self._active_ns = 0  # before the last start
        self._started_ns = self._valid_from_ns = 0  # sets closed before the last reset are of another drive

    @property
    def broken(self) -> bool:
        """Whether too many sets have failed in a row."""
        return self.worker is not None and self.worker.broken

    def start(self) -> None:
        """Starts the worker and opens the inputs."""
        config = self._host.config
        patience_s = config.max_set_age or _PATIENCE_S
        self.worker = Worker(
            self._prepare, self._work, self._on_failure, config.max_failures, InferenceError, patience_s, self._worked
        )
        self.output.start()
        self._times = self._new_times()
        self._started_ns = self._valid_from_ns = time.monotonic_ns()
        self.inputs.open()

    def stop(self, patience_s: float = 2.0) -> dict[str, Any]:
        """Closes the inputs, ends the worker, clears the screen.

        Args:
            patience_s: how long to wait for the map that the worker is at; a later one is not published.

        Returns:
            The last report.
        """
        assert self.worker is not None
        self.inputs.close()
        if not self.worker.stop(patience_s):
            self._host.log("warning", "the worker is still busy; its last map is lost")
        report = self.report()
        self._active_ns += time.monotonic_ns() - self._started_ns
        with self._sending:
            self.worker = None
            self._clear_screen()
        return report

    # The executor's thread: store, nothing else

    def on_image(self, camera: str, message: Any) -> None:
        """Takes an image."""
        now_ns = time.monotonic_ns()
        self.inputs.arrived(camera, now_ns)
        clock_ns = self._host.now_ns()
        stamp_ns = self._times.taken_ns(camera, stamp_to_ns(message.header.stamp), now_ns, clock_ns)
        if stamp_ns is None:
            return
        ahead_s = (stamp_ns - clock_ns) * 1e-9
        if ahead_s > _FUTURE_S and clock_ns:  # 0: the first /clock has not come
            problem = f"camera {camera}: its stamps lie {ahead_s:.1f} s in the future of the node's clock"
            self.pipeline.builder.problems.add("future_stamp", camera, problem)
        if apart_ns := self._order.apart_ns(camera, stamp_ns):
            problem = f"camera {camera}: its stamps go back and forth by {apart_ns * 1e-9:.3f} s, as of two publishers"
            self.pipeline.builder.problems.add("stamps_interleaved", camera, problem)
        self._newest_ns[camera] = stamp_ns
        self._take(self._synchronizer.add(camera, stamp_ns, message, now_ns))
        resets = self._synchronizer.statistics.resets
        if resets != self._resets:
            self._resets = resets
            self._forget("image stamps went back in time")

    def on_info(self, camera: str, message: Any) -> None:
        """Takes a CameraInfo."""
        self.pipeline.builder.add_camera_info(camera, message)

    def poll(self) -> None:
        """Closes sets that have waited long enough."""
        now_ns = time.monotonic_ns()
        self._times.looked(now_ns)
        self._take(self._synchronizer.poll(now_ns))

    def reset(self, reason: str) -> None:
        """Forgets images and phases."""
        if self.worker is not None:
            self._synchronizer.reset()
            self._times = self._new_times()
            self._forget(reason)

    def _take(self, ready: list[ImageSet]) -> None:
        for images in ready:
            now_ns = time.monotonic_ns()
            config = self._host.config
            if self.worker is None or not self.enabled:
                self.counts["disabled"] += 1
            elif config.lazy and not self._is_wanted():
                self.counts["nobody_listens"] += 1
            elif config.max_rate and now_ns - self._last_job_ns < 0.9e9 / config.max_rate:  # 10 % for jitter
                self.counts["rate_limited"] += 1
            else:
                self._last_job_ns = now_ns
                self.worker.put(_Job(images, now_ns))

    def _new_times(self) -> ImageTimes:
        times = ImageTimes(len(self._host.config.camera_names), self.pipeline.builder.problems, "their time of arrival")
        times.looked(time.monotonic_ns())
        return times

    def _is_wanted(self) -> bool:
        return self.output.wanted(self._host.config) or self.local_map.wanted()

    def _forget(self, reason: str) -> None:
        self.counts["resets"] += 1
        with self._sending:
            self._valid_from_ns = time.monotonic_ns()
            if self.worker is not None:
                self.worker.clear()
            self._clear_screen()
        self._host.log("info", f"reset: {reason}")

    def _clear_screen(self) -> None:
        self.output.clear(self._host.now_ns(), self._host.config.output_frame)
        self.local_map.clear(self._host.now_ns())

    # The worker's first thread

    def _prepare(self, job: _Job) -> tuple[_Job, PreparedSet] | None:
        if self._is_stale(job):
            return None
        try:
            return job, self.pipeline.prepare(job.images)
        except NotReadyError as error:
            self._drop(error)
            return None

    # The worker's second thread

    def _work(self, prepared: tuple[_Job, PreparedSet]) -> None:
        job, prepared_set = prepared
        if self._is_stale(job):
            return
        try:
            result = self.pipeline.complete(prepared_set)
            config, info = self._host.config, self.pipeline.predictor.info
            with self._turn(job) as wanted:
                if not wanted:
                    self._count("forgotten")
                    return
                begin = time.perf_counter()
                result = self.local_map.memory.number(result)
                numbered = time.perf_counter()
                self.output.publish(result, config, info, self.local_map.memory.restarted)
        except NotReadyError as error:
            self._drop(error)
            return
        ended = time.perf_counter()
        stages_ms = {**result.timings_ms, "number": (numbered - begin) * 1e3, "publish": (ended - numbered) * 1e3}
        since_ms = (time.monotonic_ns() - job.closed_ns) * 1e-6
        wait_ms = stages_ms["wait"]
        stages_ms["queue"] = since_ms - (sum(stages_ms.values()) - wait_ms)
        since_last_ms = since_ms + job.images.held_ns * 1e-6
        self._latencies.add({**stages_ms, "since_last_image": since_last_ms, "total": since_ms + wait_ms})
        self.local_map.take(result, config, info, self._turn(job))
        self._latencies.add({"fuse": (time.perf_counter() - ended) * 1e3})

    @contextmanager
    def _turn(self, job: _Job) -> Iterator[bool]:
        """Whether the map of a job may be sent; not when all was stopped, as the publishers may be gone, nor after a
        reset. Neither comes in between.
        """
        with self._sending:
            yield self.worker is not None and job.closed_ns >= self._valid_from_ns

    def _on_failure(self, error: Exception, in_a_row: int) -> None:
        self._count("failed")
        self.pipeline.builder.problems.add("failed", "", str(error))
        trace = "".join(traceback.format_exception(error))
        self._host.log("error", f"a set failed ({in_a_row} in a row): {trace}")
        if "out of memory" in str(error) and "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()

    # Either of the worker's threads

    def _is_stale(self, job: _Job) -> bool:
        max_age_s = self._host.config.max_set_age
        stale = bool(max_age_s) and time.monotonic_ns() - job.closed_ns > max_age_s * 1e9
        if stale:
            self._count("stale")
        return stale

    def _drop(self, error: NotReadyError) -> None:
        self._count(error.state)
        error.tell(self.pipeline.builder.problems)

    def _count(self, reason: str) -> None:
        with self._counting:
            self.counts[reason] += 1

    # Reporting

    def report(self) -> dict[str, Any]:
        """Counts and latencies since the node was configured."""
        assert self.worker is not None
        return node_report(
            self.pipeline.predictor.info,
            self._synchronizer.statistics,
            self.worker.statistics,
            self.counts,
            self.output,
            self._latencies.summary(),
            self.inputs.received,
            (self._active_ns + time.monotonic_ns() - self._started_ns) * 1e-9,
            self.pipeline.builder.problems.report(),
            self.pipeline.builder.readings,
        )

    def statuses(self) -> list[Status]:
        """The tasks on /diagnostics; cameras that are silent are named in the log as well."""
        config, builder = self._host.config, self.pipeline.builder
        now_ns, states = time.monotonic_ns(), self._states()
        topics = self.inputs.topics()
        silent = [f"{topics[camera]} ({state})" for camera, state in states.items() if state in _SILENT]
        if silent:
            self._remind("silent", "waiting for images: " + ", ".join(silent))
        complete = self._synchronizer.statistics.complete
        problem = policy_problem(
            config.sync_policy, complete, self.inputs.received, self._newest_ns, config.sync_max_spread
        )
        if problem:
            self._remind("policy", problem)
        details, news = self.inputs.rivals() | builder.camera_faults, builder.problems.news()
        for (kind, camera), message in news.items():  # also what lasted for one image
            if states.get(camera) == "ok":
                states[camera], details[camera] = kind, message
            elif states.get(camera, kind) != kind:
                details[camera] = "; ".join(filter(None, (details.get(camera), f"{kind}: {message}")))
        self._said_ns |= dict.fromkeys([*states.items(), *((camera, kind) for kind, camera in news)], now_ns)
        self._said_move = self._synchronizer.statistics.last_move
        rig_news = {kind: message for (kind, camera), message in news.items() if not camera}
        expected = self.enabled and self._is_wanted()
        report, moving = self.report(), builder.motion_compensated
        statuses = node_statuses(report, states, details, moving, self.broken, config, problem, expected, rig_news)
        return [*statuses, over_time_status(self.local_map)]

    def recheck(self) -> bool:
        """Looks at the publishers; whether the diagnostics must not wait for their period: something is wrong of which
        they have not spoken for two seconds, so that they do not follow what comes and goes.
        """
        self.inputs.recheck()
        since_ns = time.monotonic_ns() - _SAID_NS
        wrong = [entry for entry in self._states().items() if entry[1] != "ok"]
        wrong += self.pipeline.builder.problems.untold()
        moved = self._synchronizer.statistics.last_move is not self._said_move
        return moved or any(self._said_ns.get(entry, since_ns) <= since_ns for entry in wrong)

    def _states(self) -> dict[str, str]:
        stale_after_ns = round(self._host.config.stale_after * 1e9)
        return self.inputs.states(time.monotonic_ns(), stale_after_ns, self.pipeline.builder.camera_states)

    def _remind(self, subject: str, message: str) -> None:
        """Logs a warning, at most every five seconds per subject."""
        self._reminders.add(subject, "", message)
