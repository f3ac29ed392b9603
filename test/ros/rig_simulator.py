"""Rigs of cameras that fire, drift, jitter, lose images and have their clocks set; every image knows its true cycle."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hdmap_ros.sync.image_sets import ImageSet
from hdmap_ros.sync.policies import Synchronizer

MS = 1_000_000
START_NS = 1_532_402_927_604_844_000
NUSCENES_PHASES_MS = (0.0, 7.6, 15.5, 23.1, 32.7, 42.6)


class Truth(NamedTuple):
    """What an image knows: the number of its camera's exposure, and when that really was."""

    cycle: int
    exposure_ns: int


class Image(NamedTuple):
    camera: str
    stamp_ns: int
    arrival_ns: int
    truth: Truth


@dataclass(frozen=True)
class Rig:
    """Times in milliseconds, moments in seconds since the start, cameras by their number; -1 is all of them.

    Attributes:
        phases: when each camera fires within the cycle.
        period: of the cycles; 0: nuScenes' 12 of 20 ticks of 50 ms.
        rates: camera -> how much faster than the others it runs (0.001: 1000 ppm). Stamps and arrivals follow.
        jitter: standard deviation of the stamps.
        loss: share of lost images.
        delays: camera -> arrival after exposure; the others 20.
        delay_jitter: standard deviation of the arrivals, one-sided.
        clocks: camera -> how far its stamps are ahead from the beginning.
        steps: (camera, moment, by how much its stamps are moved from then on).
        pauses: (camera, begin, end): no images.
        loops: how often the recording is played.
        seed: of all that is random.
    """

    phases: tuple[float, ...] = NUSCENES_PHASES_MS
    period: float = 0.0
    seconds: float = 20.0
    rates: Mapping[int, float] = field(default_factory=dict)
    jitter: float = 0.25
    loss: float = 0.0
    delays: Mapping[int, float] = field(default_factory=dict)
    delay_jitter: float = 3.0
    clocks: Mapping[int, float] = field(default_factory=dict)
    steps: tuple[tuple[int, float, float], ...] = ()
    pauses: tuple[tuple[int, float, float], ...] = ()
    loops: int = 1
    playback: float = 1.0
    seed: int = 0

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(f"C{index}" for index in range(len(self.phases)))

    @property
    def mean_period(self) -> float:
        return self.period or 1000.0 / 12.0

    def images(self) -> list[Image]:
        """In order of arrival; a message of a later round of the recording has later cycles."""
        chance = random.Random(self.seed)
        number = int(self.seconds * 1000 / self.mean_period)
        once = []
        for index in range(len(self.phases)):
            newest_ns = 0
            for cycle in range(round(number / (1 - self.rates.get(index, 0.0)))):
                for image in self._image(index, cycle, chance):
                    newest_ns = max(newest_ns + 1, image.arrival_ns)  # a camera's images keep their order
                    once.append(image._replace(arrival_ns=newest_ns))
        once.sort(key=lambda image: image.arrival_ns)
        played = []
        for round_ in range(self.loops):
            shift_ns = round(round_ * (self.seconds + 0.1) * 1e9)
            for camera, stamp_ns, arrival_ns, truth in once:
                arrival_ns = round((arrival_ns + shift_ns - START_NS) / self.playback) + START_NS
                played.append(
                    Image(camera, stamp_ns, arrival_ns, Truth(truth.cycle + round_ * number, truth[1] + shift_ns))
                )
        return played

    def _image(self, index: int, cycle: int, chance: random.Random) -> Iterable[Image]:
        tick = cycle * self.period if self.period else (cycle * 5 // 3) * 50.0
        moment = (tick + self.phases[index]) * (1 - self.rates.get(index, 0.0))
        seconds = moment / 1000
        wobble, lost, late = (
            chance.gauss(0, self.jitter),
            chance.random() < self.loss,
            abs(chance.gauss(0, self.delay_jitter)),
        )
        if lost or any(who in (index, -1) and begin <= seconds < end for who, begin, end in self.pauses):
            return
        clock = self.clocks.get(index, 0.0)
        clock += sum(shift for who, since, shift in self.steps if who in (index, -1) and seconds >= since)
        exposure_ns = START_NS + round(moment * MS)
        stamp_ns = exposure_ns + round((wobble + clock) * MS)
        arrival_ns = exposure_ns + round((self.delays.get(index, 20.0) + late) * MS)
        yield Image(f"C{index}", stamp_ns, arrival_ns, Truth(cycle, exposure_ns))


def stamped_on_arrival(images: Iterable[Image], camera: int, begin: float, end: float, epoch_ns: int) -> list[Image]:
    """Between two moments one camera has no stamps, and a clock of another epoch gives it those of its arrival."""
    name = f"C{camera}"
    return [
        image._replace(stamp_ns=image.arrival_ns + epoch_ns)
        if image.camera == name and begin <= moment_of(image) < end
        else image
        for image in images
    ]


def in_bursts(
    images: Iterable[Image], begin: float, end: float, cycles: int, early: bool, loss: float, disorder: int, seed: int
) -> list[Image]:
    """Between two moments so many cycles come at once, when the first or the last is due.

    A camera loses a run of up to seven images of a burst with the chance `loss`; `disorder`: by how many images the
    cameras overtake each other.
    """
    chance = random.Random(seed)
    bursts: dict[int, list[Image]] = {}
    arrived = []
    for image in images:
        if begin <= moment_of(image) < end:
            bursts.setdefault(image.truth.cycle // cycles, []).append(image)
        else:
            arrived.append(image)
    for burst in bursts.values():
        moment_ns = (min if early else max)(image.arrival_ns for image in burst)
        places: list[tuple[float, Image]] = []
        for camera in sorted({image.camera for image in burst}):
            own = sorted((image for image in burst if image.camera == camera), key=lambda image: image.stamp_ns)
            if chance.random() < loss:
                run = chance.randint(1, min(7, len(own)))
                first = chance.randint(0, len(own) - run)
                own = own[:first] + own[first + run :]
            hurry = chance.uniform(0, disorder)
            places += [(image.truth.cycle + hurry, image) for image in own]
        places.sort(key=lambda entry: (entry[0], entry[1].truth.exposure_ns))
        arrived += [image._replace(arrival_ns=moment_ns + 200_000 * index) for index, (_, image) in enumerate(places)]
    return sorted(arrived, key=lambda image: image.arrival_ns)


def starved(images: Iterable[Image], least_ms: float, most_ms: float, seed: int) -> list[Image]:
    """A node that now and then gets no core for so long: what came meanwhile arrives at once."""
    chance, now_ns, arrived = random.Random(seed), START_NS, []
    for image in sorted(images, key=lambda entry: entry.arrival_ns):
        if image.arrival_ns > now_ns and chance.random() < 0.5:
            now_ns = image.arrival_ns + round(chance.uniform(least_ms, most_ms) * MS)
        now_ns = max(now_ns + 300_000, image.arrival_ns)
        arrived.append(image._replace(arrival_ns=now_ns))
    return arrived


def moment_of(image: Image) -> float:
    """When it was taken, by the true clock, in seconds since the start."""
    return (image.truth.exposure_ns - START_NS) * 1e-9


def play(synchronizer: Synchronizer, images: Iterable[Image]) -> list[ImageSet]:
    """Everything through `poll` and `add` by the arrivals; the messages are the truths."""
    ready: list[ImageSet] = []
    for image in images:
        ready += synchronizer.poll(image.arrival_ns)
        ready += synchronizer.add(image.camera, image.stamp_ns, image.truth, image.arrival_ns)
    return ready + synchronizer.flush()


def seconds_of(image_set: ImageSet) -> float:
    """When the first image was taken, by the true clock, since the start."""
    return (min(truth.exposure_ns for truth in image_set.messages.values()) - START_NS) * 1e-9


def mixed(image_set: ImageSet) -> bool:
    """Whether the images are of several cycles of a triggered rig."""
    return len({truth.cycle for truth in image_set.messages.values()}) > 1


def possible(images: Iterable[Image], min_cameras: int) -> dict[int, int]:
    """The cycles with images enough, and how many."""
    count = Counter(image.truth.cycle for image in images)
    return {cycle: number for cycle, number in count.items() if number >= min_cameras}


def excess_ns(images: Iterable[Image], image_set: ImageSet, anchor: str) -> int:
    """How much further from the anchor's image the set's images are than the nearest ones, at most."""
    target_ns = image_set.messages[anchor].exposure_ns
    nearest: dict[str, int] = {}
    for image in images:
        away_ns = abs(image.truth.exposure_ns - target_ns)
        nearest[image.camera] = min(away_ns, nearest.get(image.camera, away_ns))
    return max(abs(truth.exposure_ns - target_ns) - nearest[name] for name, truth in image_set.messages.items())
