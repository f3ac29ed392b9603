"""A rig of cameras that are killed, send broken data, odd stamps or bursts, and a network that fails.

For the tests of the node in a real graph and for `benchmarks/fault_soak.py`. Every map is held against the true rig:
`RigLines` draws one line along each camera's axis, so that a camera mixed up, misplaced or of another cycle shows.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from hdmap_ros.stamps import stamp_to_ns

PERIOD_NS = 83_333_333
HOUR_NS = 3_600_000_000_000
FULL_MASK = 0b111111
IN_A_ROW = 5
PATIENCE_S = 0.2
METRES_OFF = 0.25
"""A quarter of what the car moves between two cycles, with the error of a clock that is mended by arrivals."""


@dataclass
class Shot:
    """What one camera sends in one cycle; None is not sent."""

    camera: str
    stamp_ns: int
    tf: Any
    info: Any
    image: Any
    copies: int = 1


class FaultyPredictor:
    """A predictor around another: it raises `error` as often as `failures` says, and keeps no observation."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.info = inner, inner.info
        self.error: Exception = RuntimeError()
        self.failures = 0
        self.focals: set[float] = set()

    def prepare(self, observation: Any, pool: Any = None) -> Any:
        return self.inner.prepare(observation, pool)

    def complete(self, observation: Any) -> Any:
        if observation.token != "warm-up":
            self.focals.update(observation.rig.intrinsics[:, 0, 0].tolist())
            if self.failures > 0:
                self.failures -= 1
                raise self.error
        prediction = self.inner.complete(observation)
        self.inner.seen.clear()
        return prediction


class Traffic:
    """Cycles of the rig in a graph, and the maps and diagnostics that come back."""

    def __init__(self, graph: Any, rig: ModuleType, predictor: FaultyPredictor, pause_s: float = 0.03) -> None:
        graph.open_cameras()
        self.graph, self.rig, self.predictor, self.pause_s = graph, rig, predictor, pause_s
        self.maps, self.diagnostics = graph.listen_to_maps(), graph.listen_to_diagnostics()
        self.cycles = 0
        self.real_time = False
        self.since = (0, 0)
        self._others: dict[str, Any] = {}

    def cycle(self, faults: Sequence["Fault"] = ()) -> None:
        """Sends one cycle, altered by the faults; without faults, waits a little for its map."""
        rig, messages = self.rig, self.graph.rig
        tick_ns = rig.START_NS + self.cycles * PERIOD_NS
        self.cycles += 1
        for camera in sorted(rig.CAMERAS, key=rig.PHASES_NS.__getitem__):
            stamp_ns = tick_ns + rig.PHASES_NS[camera]
            info, image = messages.info(camera, stamp_ns), messages.image(camera, stamp_ns)
            shot = Shot(camera, stamp_ns, messages.tf(stamp_ns), info, image)
            for fault in faults:
                fault.alter(self, shot)
            if shot.tf is not None:
                self.graph._tf.publish(shot.tf)
            if camera in self.graph._images:
                to_image, to_info = self.graph._images[camera]
                if shot.info is not None:
                    to_info.publish(shot.info)
                for _ in range(shot.copies if shot.image is not None else 0):
                    to_image.publish(shot.image)
        if all(self.cycles % fault.at_once == 0 for fault in faults):
            self.graph.spin(self._rest_s())
            for _ in range(60):  # a busy machine comes to a few callbacks in that time
                self.graph.executor.spin_once(timeout_sec=0.0)
        if not faults and not self.real_time:  # or cycles would overtake a node that has no core to itself
            self.graph.until(lambda: self.maps and self._cycle_of(self.maps[-1]) >= self.cycles - 1, PATIENCE_S)

    def start_now(self) -> None:
        """From here on stamps are the time of day, and cycles come when they say."""
        self.cycles = (time.time_ns() - self.rig.START_NS) // PERIOD_NS
        self.real_time = True

    def _rest_s(self) -> float:
        if not self.real_time:
            return self.pause_s
        return max(0.0, (self.rig.START_NS + self.cycles * PERIOD_NS - time.time_ns()) * 1e-9)

    def until(self, condition: Callable[[], Any], faults: Sequence["Fault"] = (), most: int = 600) -> int | None:
        """Sends cycles until the condition holds; how many that took, or None if it never did."""
        for count in range(most):
            if condition():
                return count
            self.cycle(faults)
        return None

    def mark(self) -> None:
        """From here on maps and diagnostics count for `at_full_rate`, `named` and `healthy`."""
        self.since = (len(self.maps), len(self.diagnostics))

    def at_full_rate(self) -> bool:
        """Whether the latest maps since the mark are of cycles in a row, of all cameras, and not old."""
        latest = self.maps[self.since[0] :][-IN_A_ROW:]
        cycles = [self._cycle_of(entry) for entry in latest]
        in_a_row = cycles == list(range(cycles[0], cycles[0] + IN_A_ROW)) if cycles else False
        full = all(entry.camera_mask == FULL_MASK for entry in latest)
        return in_a_row and full and self.cycles - cycles[-1] <= IN_A_ROW

    def named(self, fault: "Fault") -> bool:
        """Whether the diagnostics since the mark name the fault's cause."""
        return any(fault.cause in said(entry[fault.task]) for entry in self.diagnostics[self.since[1] :])

    def healthy(self) -> bool:
        """Whether the newest diagnostics since the mark find nothing wrong with cameras and model."""
        newest = self.diagnostics[self.since[1] :][-1:]
        return any(entry["cameras"].level == entry["model"].level == b"\x00" for entry in newest)

    def kill(self, camera: str) -> None:
        """Takes a camera's publishers out of the graph."""
        for publisher in self.graph._images.pop(camera):
            self.graph.node.destroy_publisher(publisher)

    def revive(self, camera: str) -> None:
        """Makes them anew."""
        get, create = self.graph.rig.types.get, self.graph.node.create_publisher
        topic = camera.lower()
        self.graph._images[camera] = (
            create(get("sensor_msgs/msg/CompressedImage"), f"{topic}/image_raw/compressed", 10),
            create(get("sensor_msgs/msg/CameraInfo"), f"{topic}/camera_info", 10),
        )

    def add_publisher(self, camera: str) -> None:
        """A second publisher on a camera's topic."""
        kind = self.graph.rig.types.get("sensor_msgs/msg/CompressedImage")
        self._others[camera] = self.graph.node.create_publisher(kind, f"{camera.lower()}/image_raw/compressed", 10)

    def remove_publisher(self, camera: str) -> None:
        """Takes it out again."""
        self.graph.node.destroy_publisher(self._others.pop(camera))

    def wrong_maps(self, begin: int = 0) -> list[str]:
        """What is wrong with the maps that came, from this one on."""
        maps = self.maps[begin:]
        stamps = [stamp_to_ns(entry.header.stamp) for entry in maps]
        backwards = [f"map {i}: its stamp goes back" for i in range(1, len(maps)) if stamps[i] <= stamps[i - 1]]
        odd_focals = [f"the network was given a focal length of {focal}" for focal in self.predictor.focals - {120.0}]
        return backwards + odd_focals + [reason for entry in maps for reason in self._wrong(entry)]

    def _cycle_of(self, entry: Any) -> int:
        stamp_ns = stamp_to_ns(entry.header.stamp) - self.rig.PHASES_NS["CAM_FRONT"]
        return round((stamp_ns - self.rig.START_NS) / PERIOD_NS)

    def _wrong(self, entry: Any) -> list[str]:
        rig, stamp_ns = self.rig, stamp_to_ns(entry.header.stamp)
        tick_ns = rig.START_NS + self._cycle_of(entry) * PERIOD_NS
        found, reasons = [], []
        for element in entry.elements[:-1]:
            index = round((element.score * 255 - 20) / 40)
            camera = rig.CAMERAS[index]
            found.append(index)
            mount = rig.base_from_camera(camera)
            moved = rig.SPEED * (tick_ns + rig.PHASES_NS[camera] - stamp_ns) * 1e-9
            begin = mount[:2, 3] + [moved, 0.0]
            truth = np.stack([begin, begin + 10 * mount[:2, 2]])
            off = np.abs(np.array([[point.x, point.y] for point in element.points]) - truth).max()
            if not off < METRES_OFF:
                reasons.append(f"map {entry.sequence}: {camera} is {off:.2f} m off")
        if sorted(found) != [index for index in range(6) if entry.camera_mask >> index & 1]:
            reasons.append(f"map {entry.sequence}: cameras {sorted(found)} in it, its mask is {entry.camera_mask:06b}")
        return reasons


def said(status: Any) -> str:
    """A task's sentence and values in one text; of a value that says several things, each one with the key."""
    values = [(pair.key, part) for pair in status.values for part in (pair.value, *pair.value.split("; ")[1:])]
    return " ".join([status.message, *(f"{key}={part}" for key, part in values)])


def _nothing(traffic: Traffic) -> None:
    return None


def _unaltered(traffic: Traffic, shot: Shot) -> None:
    return None


@dataclass(frozen=True)
class Fault:
    """One fault: how it begins and ends, what it does to messages, and what the diagnostics must then say.

    Attributes:
        cause: a part of what `task` says; empty: nothing need be said.
        at_once: so many cycles come without a pause between them.
    """

    name: str
    task: str = "cameras"
    cause: str = ""
    alter: Callable[[Traffic, Shot], None] = _unaltered
    begin: Callable[[Traffic], None] = _nothing
    end: Callable[[Traffic], None] = _nothing
    at_once: int = 1

    def __str__(self) -> str:
        return self.name


def killed(camera: str) -> Fault:
    """A camera's process dies and comes again."""
    cause, name = f"{camera}=no_publisher", f"killed_{camera}"
    return Fault(name, "cameras", cause, begin=lambda traffic: traffic.kill(camera), end=lambda t: t.revive(camera))


def altered(name: str, cause: str, change: Callable[[Traffic, Shot], None], camera: str) -> Fault:
    """A fault of one camera's messages."""

    def alter(traffic: Traffic, shot: Shot) -> None:
        if shot.camera == camera and shot.image is not None:  # another fault may keep it back
            change(traffic, shot)

    return Fault(name, "cameras", f"{camera}={cause}" if cause else "", alter)


def failing(name: str, error: Exception) -> Fault:
    """The network fails twice in a row, which is not yet reason to give up."""

    def begin(traffic: Traffic) -> None:
        traffic.predictor.error, traffic.predictor.failures = error, 2

    def end(traffic: Traffic) -> None:
        traffic.predictor.failures = 0

    return Fault(name, "model", str(error), begin=begin, end=end)


def make_faults(rig: ModuleType, camera: str = "CAM_BACK") -> list[Fault]:
    """Every fault that a rig in motion may have: each camera killed, those of this camera, those of the rig."""
    from torch import OutOfMemoryError

    def focal(value: float) -> Callable[[Traffic, Shot], None]:
        def change(traffic: Traffic, shot: Shot) -> None:
            shot.info = traffic.graph.rig.info(shot.camera, shot.stamp_ns, value)

        return change

    def data(content: Callable[[bytes], bytes]) -> Callable[[Traffic, Shot], None]:
        def change(traffic: Traffic, shot: Shot) -> None:
            shot.image = traffic.graph.rig.image(shot.camera, shot.stamp_ns, content(bytes(shot.image.data)))

        return change

    def now_and_then(traffic: Traffic, shot: Shot) -> None:
        if traffic.cycles % 7 == 0:
            data(lambda jpeg: jpeg[: len(jpeg) // 2])(traffic, shot)

    def silent(traffic: Traffic, shot: Shot) -> None:
        shot.info = shot.image = None

    def without_tf(traffic: Traffic, shot: Shot) -> None:
        shot.tf = None

    def stamped(shift: Callable[[int], int]) -> Callable[[Traffic, Shot], None]:
        def change(traffic: Traffic, shot: Shot) -> None:
            shot.image = traffic.graph.rig.image(shot.camera, shift(shot.stamp_ns))

        return change

    def twice(traffic: Traffic, shot: Shot) -> None:
        shot.copies = 2

    def odd_shape(traffic: Traffic, shot: Shot) -> None:
        shot.info.height, shot.info.width = shot.info.width, shot.info.height
        shot.info.k[5], shot.info.k[2] = 79.5, 44.5

    ahead = altered("stamps_of_the_future", "", stamped(lambda stamp_ns: stamp_ns + HOUR_NS), camera)
    return [
        *map(killed, rig.CAMERAS),
        Fault("all_silent", "cameras", "CAM_FRONT=stale", silent),
        altered("silent", "stale", silent, camera),
        altered("jpeg_cut", "rejected_image", data(lambda jpeg: jpeg[:-20]), camera),
        altered("jpeg_cut_now_and_then", "rejected_image", now_and_then, camera),
        altered("jpeg_of_noise", "rejected_image", data(lambda jpeg: jpeg[:30] + bytes(range(256)) * 4), camera),
        altered("image_of_no_bytes", "rejected_image", data(lambda jpeg: b""), camera),
        altered("focal_nan", "bad_camera_info", focal(float("nan")), camera),
        altered("focal_zero", "bad_camera_info", focal(0.0), camera),
        altered("focal_negative", "bad_camera_info", focal(-120.0), camera),
        altered("focal_infinite", "bad_camera_info", focal(float("inf")), camera),
        altered("another_shape", "bad_calibration", odd_shape, camera),
        Fault("tf_gap", "cameras", "CAM_FRONT=no_transform", without_tf),
        replace(ahead, task="synchronisation", cause=f"stamps moved: {camera}"),
        altered("stamps_of_zero", "zero_stamp", stamped(lambda stamp_ns: 0), camera),
        altered("every_image_twice", "", twice, camera),
        Fault(
            "two_publishers",
            cause=f"{camera}=many_publishers",
            begin=lambda traffic: traffic.add_publisher(camera),
            end=lambda traffic: traffic.remove_publisher(camera),
        ),
        Fault("burst", at_once=10),
        failing("network_raises", ValueError("shapes do not match today")),
        failing("gpu_out_of_memory", OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")),
    ]
