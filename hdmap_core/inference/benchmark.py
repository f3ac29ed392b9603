"""How fast a model maps on this machine, stage by stage, against PyTorch in the same run; needs no data."""

import os
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch

from hdmap_core.checkpoint import SUFFIX
from hdmap_core.errors import ConfigError
from hdmap_core.images.decoding import decode_image, enough_of, reduction_of
from hdmap_core.inference.device_path import DevicePath
from hdmap_core.inference.engine import Engine, output_tensors
from hdmap_core.inference.exported_file import Sample
from hdmap_core.inference.opening import EXPORTED, open_engine
from hdmap_core.inference.predictor import default_weights
from hdmap_core.inference.sample import sample_observation
from hdmap_core.model_io import ModelInput, ModelOutput
from hdmap_core.observation import Observation
from hdmap_core.postprocess.decode import decode
from hdmap_core.preprocess import enough_pixels, preprocess

SETS, SETS_AT_LEAST, BUDGET_S = 30, 3, 60.0
"""How many sets are measured if nobody says: as many as the budget has room for, within these bounds."""
STAGES = ("decode", "preprocess", "network", "postprocess")
_EAGER = "network in PyTorch"
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 90]
_Made = TypeVar("_Made")


@dataclass
class Clock:
    """Milliseconds of wall and of the process's CPU by stage."""

    samples_ms: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def time(self, stage: str, work: Callable[[], Any]) -> Any:
        """Runs `work` and remembers what it took."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        passed = (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3
        self.samples_ms.setdefault(stage, []).append(passed)
        return result

    def summary(self, stages: tuple[str, ...]) -> dict[str, float]:
        """p50, p95 and p99 of the wall time and p50 of the CPU time of stages that follow one another."""
        samples = np.sum([self.samples_ms[stage] for stage in stages], axis=0)
        p50, p95, p99 = np.percentile(samples[:, 0], [50, 95, 99])
        values = {"p50": p50, "p95": p95, "p99": p99, "mean": samples[:, 0].mean(), "cpu_p50": np.median(samples[:, 1])}
        return {name: round(float(value), 3) for name, value in values.items()}


def benchmark(
    path: Path,
    engine: str = "auto",
    device: str = "auto",
    precision: str | None = None,
    *,
    reference: Path | None = None,
    sets: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Maps the same set of six 1600 x 900 JPEGs again and again, one stage after the other.

    Args:
        path: a checkpoint or an exported file.
        engine: see `open_engine`.
        device: see `load_predictor`.
        precision: see `load_predictor`.
        reference: the checkpoint that an exported file is compared with; by default the one beside it, or the shipped
            student, if the file was made of it.
        sets: how many are measured, after up to three to warm up; None: 30, fewer if they would take over a minute.
        say: is told what is going on, a line each time.

    Returns:
        JSON values: `stages` and `total` (milliseconds), `sets_per_s`, `memory_mib` of the process's resident memory
        (`started`: with all libraries loaded, `mapping`: after the warm-up, what a process that maps holds; `peak`: the
        most so far, PyTorch for the comparison included) and of CUDA's (`cuda`), `agreement`, `ratio_to_eager` of
        the network's median wall and CPU time, both None where there is no checkpoint to compare with, and `busy`, the
        load of the machine in the minute before: processes that want to run, per core.

    Raises:
        HdmapError: see `load_predictor`.
    """
    busy = round(os.getloadavg()[0] / (os.cpu_count() or 1), 2)
    started = {"started": _resident_kib() / 1024}
    running = open_engine(path, device, precision, None, engine)
    config = running.source.config
    one_set, clock = _OneSet(running), Clock()
    say(f"{config.model.name} in {running.name}: warming up")
    began, warm_ups = time.perf_counter(), 0
    while warm_ups < 3 and time.perf_counter() - began < BUDGET_S / 6:
        one_set.through(Clock())
        warm_ups += 1
    one_s = (time.perf_counter() - began) / warm_ups
    memory = started | {"mapping": _resident_kib() / 1024}
    if running.device.startswith("cuda") and running.name == "eager":
        memory["cuda"] = torch.cuda.max_memory_allocated() / 2**20
    is_eager = running.name == "eager" and running.precision == "fp32"
    eager = None if is_eager else _eager(path, running, reference)
    if sets is None:
        sets = max(SETS_AT_LEAST, min(SETS, int(BUDGET_S / one_s)))
    say(f"{sets} sets, the first ones took {one_s:.2g} s each" + ("; and PyTorch beside them" if eager else ""))
    for number in range(sets):
        inputs, output = one_set.through(clock)
        if eager is not None:
            if number == 0:
                eager(inputs)  # warm
            eager_output = clock.time(_EAGER, partial(_finished, eager, inputs))
    memory["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    total, network = clock.summary(STAGES), clock.summary(("network",))
    agreement = ratio = plain = None
    if eager is not None or is_eager:
        apart = Sample.of(inputs, output_tensors(eager_output)).deviation(output_tensors(output)) if eager else 0.0
        agreement = {"largest_difference": apart, "of": "the largest value of each output"}
        plain = clock.summary((_EAGER,)) if eager else network
        ratio = {name: round(plain[key] / network[key], 3) for name, key in (("wall", "p50"), ("cpu", "cpu_p50"))}
    return {
        "model": config.model.name,
        "weights_sha256": running.source.sha256,
        "engine": running.name,
        "why": running.why,
        "device": running.device,
        "precision": running.precision,
        "threads": torch.get_num_threads(),
        "machine": _machine(),
        "busy": busy,
        "sets": sets,
        "stages": {stage: clock.summary((stage,)) for stage in STAGES},
        "total": total,
        "sets_per_s": float(f"{1e3 / total['mean']:.4g}"),
        "memory_mib": {name: round(value, 1) for name, value in memory.items()},
        "agreement": agreement,
        "eager_network": plain,
        "ratio_to_eager": ratio,
    }


class _OneSet:
    """The six JPEGs, and their way through the stages of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine, model = engine, engine.source.config.model
        cameras = model.image_backbone.cameras if model.image_backbone else ()
        observation = sample_observation(cameras, lidar=model.lidar_sweeps > 0)
        rig, enough = observation.rig, enough_pixels(model)
        self._files: dict[str, bytes] = {}
        for name, image in zip(rig.names, observation.images, strict=True):
            assert image is not None
            self._files[name] = cv2.imencode(".jpg", image[..., ::-1], _JPEG)[1].tobytes()
        self._wanted: dict[str, tuple[int, int]] = {}
        if enough is not None:
            for name, size, matrix in zip(rig.names, rig.image_sizes, rig.intrinsics, strict=True):
                self._wanted[name] = enough_of(enough, size, float(matrix[0, 0]))
        self._shares = dict.fromkeys(rig.names, 1)
        self._shares |= {name: reduction_of(self._files[name], size) for name, size in self._wanted.items()}
        sizes = zip(self._shares.values(), rig.image_sizes, strict=True)
        self._observation = replace(
            observation, rig=rig.resized([(height // share, width // share) for share, (height, width) in sizes])
        )
        self._on_device = DevicePath.checked(engine)

    def through(self, clock: Clock) -> tuple[ModelInput, ModelOutput]:
        """What the network is given, and what it makes of it; the clock is told what each stage took."""
        engine, config = self._engine, self._engine.source.config
        classes, grid = config.model.classes, config.model.grid
        seen = clock.time("decode", lambda: _waited_for(self._decoded(), engine))
        inputs = clock.time("preprocess", lambda: _waited_for(self._prepared(seen), engine))
        output = clock.time("network", lambda: _finished(engine, inputs))
        clock.time("postprocess", lambda: decode(output, config.decode, classes=classes, grid=grid))
        return inputs, output

    def _decoded(self) -> Observation:
        if self._on_device is not None:
            there = self._on_device.decode(self._files, self._wanted)
            pictures = tuple(there[name] for name in self._files)
            return replace(self._observation, images=(None,) * len(pictures), device_images=pictures)
        coarse = bool(self._wanted)
        images = (decode_image(data, "sample", self._shares[name], coarse=coarse) for name, data in self._files.items())
        return replace(self._observation, images=tuple(images))

    def _prepared(self, seen: Observation) -> ModelInput:
        model = self._engine.source.config.model
        return preprocess(seen, model) if self._on_device is None else self._on_device.inputs(seen)


def _eager(path: Path, running: Engine, reference: Path | None) -> Engine | None:
    """PyTorch in fp32 on the same kind of device, with the same weights and heads."""
    given = reference is not None
    candidates = [path]
    if reference is not None:
        candidates = [reference]
    elif path.suffix.lower() in EXPORTED:
        candidates = [path.with_suffix(SUFFIX), default_weights()]
    device = running.device if running.device.startswith("cuda") and torch.cuda.is_available() else "cpu"
    for candidate in candidates:
        if not candidate.is_file() and not given:
            continue
        found = open_engine(candidate, device, "fp32", None, "eager")
        if found.source.sha256 == running.source.sha256 and found.source.config == running.source.config:
            return found
        if given:
            raise ConfigError(f"{path} was not made of {candidate}; give the checkpoint that it was made of")
    return None


def _finished(engine: Engine, inputs: ModelInput) -> ModelOutput:
    return _waited_for(engine(inputs), engine)


def _waited_for(made: _Made, engine: Engine) -> _Made:
    """It, when the GPU of the engine has made it."""
    if engine.device.startswith("cuda") and torch.cuda.is_available():
        torch.cuda.synchronize(engine.device)
    return made


def _resident_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


def _machine() -> str:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    return next(
        (line.split(": ")[1] for line in text.splitlines() if line.startswith("model name")), platform.machine()
    )
