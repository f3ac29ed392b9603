"""Memory over thousands of image sets: the node's worker, builder, predictor and output, without a ROS graph.

The sets of a bag go round and round through the node's own two threads; maps and markers are made into bytes and thrown
away. The resident memory of the process is read every hundred sets. It ends with exit code 1 if the second half of the
run grew by more than `--limit` MiB.

Run: python benchmarks/soak.py out/demo/drive.mcap [--sets 10000] [--plot docs/results/soak.png]
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from threading import Semaphore
from typing import Any

import numpy as np
import torch

from hdmap_core.inference import default_weights, load_predictor
from hdmap_ros.bag.layouts import load_layout
from hdmap_ros.bag.mcap import open_bag
from hdmap_ros.bag.sources import BagSources, ReplayConfig
from hdmap_ros.diagnostics import LatencyLog
from hdmap_ros.message_types import bag_types
from hdmap_ros.output.map_output import MapOutput
from hdmap_ros.pipeline import MapPipeline, PreparedSet
from hdmap_ros.problems import Problems
from hdmap_ros.session_parts import camera_pool, sync_config_of
from hdmap_ros.sync.synchronizer import CycleSynchronizer
from hdmap_ros.worker import Worker

EVERY = 100
KEPT = 40  # sets of the bag that go round


class Sink:
    """A publisher whose messages become bytes and nothing else."""

    def __init__(self, to_bytes: Callable[[Any], Any]) -> None:
        self._to_bytes = to_bytes

    def publish(self, message: Any) -> None:
        self._to_bytes(message)

    def get_subscription_count(self) -> int:
        return 1


def resident_mib() -> float:
    """What the process holds of the machine's memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def soak(bag: Path, count: int) -> list[tuple[int, float]]:
    """(sets mapped, MiB) every hundred sets."""
    torch.set_num_threads(1)
    types, store = bag_types()
    config = ReplayConfig(load_layout("hdmap"))
    with open_bag(bag) as reader:
        sources = BagSources(reader, config, Problems())
        builder = sources.builder()
        synchronizer = CycleSynchronizer(sync_config_of(config.node))
        sets = list(islice(sources.sets(synchronizer, builder, lambda done, total: None), KEPT))
    builder.pool = camera_pool(len(config.node.camera_names))
    pipeline = MapPipeline(builder, load_predictor(default_weights(), "cpu"))
    info = pipeline.predictor.info
    print(f"{info.model_id} in {info.engine}, {info.precision}; {len(sets)} sets go round", flush=True)
    kinds = ("hdmap_ros/msg/MapElementArray", "visualization_msgs/msg/MarkerArray")
    sinks = [Sink(lambda message, kind=kind: store.serialize_cdr(message, kind)) for kind in kinds]
    output, latencies = MapOutput(types, *sinks, builder.transforms), LatencyLog()
    room, errors = Semaphore(2), []

    def work(prepared: PreparedSet) -> None:
        result = pipeline.complete(prepared)
        output.publish(result, config.node, info)
        latencies.add(result.timings_ms)
        room.release()

    def failed(error: Exception, in_a_row: int) -> None:
        errors.append(error)
        room.release()

    worker = Worker(pipeline.prepare, work, failed, patience_s=1e9)
    samples, begin = [], time.monotonic()
    for number in range(count):
        room.acquire()
        worker.put(sets[number % len(sets)])
        if number % EVERY == EVERY - 1:
            worker.wait_idle(60)
            samples.append((number + 1, resident_mib()))
            if (number + 1) % 1000 == 0:
                minutes = (time.monotonic() - begin) / 60
                print(f"{number + 1} sets, {samples[-1][1]:.1f} MiB, {minutes:.1f} min", flush=True)
    worker.stop()
    if errors or output.published != count:
        sys.exit(f"{output.published} of {count} sets became maps: {errors[:1]}")
    return samples


def draw(samples: list[tuple[int, float]], path: Path) -> None:
    """The samples as a curve from zero."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    axes = figure.add_subplot(xlabel="image sets mapped", ylabel="resident memory, MiB")
    axes.plot(*zip(*samples, strict=True), color="#1f5f8b")
    axes.set_ylim(0, 1.2 * max(mib for _, mib in samples))
    axes.set_xlim(0, samples[-1][0])
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path, help="a recording such as make demo's drive.mcap")
    parser.add_argument("--sets", type=int, default=10_000)
    parser.add_argument("--limit", type=float, default=5.0, help="MiB that the second half may grow by")
    parser.add_argument("--plot", type=Path, help="a .png of memory over sets")
    arguments = parser.parse_args()
    samples = soak(arguments.bag, arguments.sets)
    if arguments.plot:
        draw(samples, arguments.plot)
    half = np.array(samples[len(samples) // 2 :])
    slope = np.polyfit(half[:, 0], half[:, 1], 1)[0] if len(half) > 1 else 0.0
    grown = float(slope * (half[-1, 0] - half[0, 0]))
    first, last = samples[0], samples[-1]
    print(f"{first[1]:.1f} MiB after {first[0]} sets, {last[1]:.1f} after {last[0]}; the second half {grown:+.2f}")
    sys.exit(int(grown > arguments.limit))


if __name__ == "__main__":
    main()
