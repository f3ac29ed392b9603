"""CPU milliseconds per image set, from JPEG bytes to polylines: the student's path here against another checkout's.

Each way runs in a process of its own on one thread and takes its turn of five sets, so that whatever else the machine
does hits all of them. What is timed is `MapPipeline.process`, as `hdmap bag replay` calls it; in these processes the
stages' clocks count CPU instead of wall time. The checkout is the one that docs/results/student_path.md compares with:

    git worktree add /some/where 8861843
    python benchmarks/fast_path.py out/demo/drive.mcap --old /some/where

Run: python benchmarks/fast_path.py BAG [--old CHECKOUT] [--sets 60]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

HERE = Path(__file__).resolve().parents[1]
TURN = 5
STAGES = ("decode", "preprocess", "network", "postprocess")


def serve(bag: Path, engine: str) -> None:
    """A way's process: for each line of stdin one turn, of which a line of JSON comes back."""
    time.perf_counter = time.process_time  # before anybody takes it
    import cv2
    import torch

    import hdmap_ros
    from hdmap_core.inference import default_weights, load_predictor
    from hdmap_ros.bag.layouts import load_layout
    from hdmap_ros.bag.mcap import open_bag
    from hdmap_ros.bag.sources import BagSources, ReplayConfig
    from hdmap_ros.pipeline import MapPipeline
    from hdmap_ros.problems import Problems

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    options: dict[str, Any] = {"engine": engine} if engine else {}
    predictor = load_predictor(default_weights(), "cpu", **options)
    config = ReplayConfig(load_layout("hdmap"))
    with open_bag(bag) as reader:
        sources: Any = BagSources(reader, config, Problems())
        if callable(sources.builder):  # 8861843
            from hdmap_ros.map_session import sync_config_of  # type: ignore[attr-defined]
            from hdmap_ros.synchronizer import CycleSynchronizer

            builder = sources.builder()
            sets = sources.sets(CycleSynchronizer(sync_config_of(config.node)), builder, lambda done, total: None)
        else:
            builder, sets = sources.builder, sources.sets()
        pipeline = MapPipeline(builder, predictor)
        ran = f"{getattr(predictor.info, 'engine', 'eager')}, {predictor.info.precision}"
        print(json.dumps({"ran": ran, "at": str(Path(hdmap_ros.__file__).parent)}), flush=True)
        for _ in sys.stdin:
            turn = []
            for images in islice(sets, TURN):
                begin = time.process_time()
                result = pipeline.process(images)
                whole = 1e3 * (time.process_time() - begin)
                turn.append({"whole": whole, **{stage: result.timings_ms[stage] for stage in STAGES}})
            print(json.dumps(turn), flush=True)


class Way:
    """A process that serves."""

    def __init__(self, checkout: Path, bag: Path, engine: str) -> None:
        command = [sys.executable, __file__, str(bag), "--serve", "--engine", engine]
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, cwd=checkout, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin and self.process.stdout
        self._in, self._out = self.process.stdin, self.process.stdout
        self.ran = json.loads(self._out.readline())["ran"]
        self.samples_ms: list[dict[str, float]] = []
        self.turn()  # warms up
        self.samples_ms.clear()

    def turn(self) -> None:
        """The next five sets."""
        self._in.write("go\n")
        self._in.flush()
        self.samples_ms += json.loads(self._out.readline())

    def median_ms(self, stage: str) -> float:
        """Of all turns."""
        return float(np.median([sample[stage] for sample in self.samples_ms]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path, help="a recording such as make demo's drive.mcap")
    parser.add_argument("--old", type=Path, help="another checkout to compare with")
    parser.add_argument("--sets", type=int, default=60)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--engine", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    bag = arguments.bag.resolve()
    if arguments.serve:
        serve(bag, arguments.engine)
        return
    from measuring import figures  # which imports too much for a process that serves

    ways = {} if arguments.old is None else {"before": Way(arguments.old.resolve(), bag, "")}
    ways |= {"now, PyTorch": Way(HERE, bag, "eager"), "now, as it comes": Way(HERE, bag, "")}
    for _ in range(arguments.sets // TURN):
        for way in ways.values():
            way.turn()
    words = ("way", "network in")
    title = f"CPU ms per set, median of {arguments.sets}, one thread"
    table = figures(title, *words, *STAGES, "whole", "ratio", words=words)
    first = next(iter(ways.values())).median_ms("whole")
    for name, way in ways.items():
        numbers = [way.median_ms(stage) for stage in (*STAGES, "whole")]
        table.add_row(name, way.ran, *(f"{number:.1f}" for number in numbers), f"{first / numbers[-1]:.2f}")
        way.process.terminate()
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
