"""Every stage from six JPEGs to map elements on a CUDA device, beside its floor: bytes over bandwidth, FLOPs over rate.

The shipped student, MapQR ResNet-50 and MapFM DINOv2-B (random weights, which change no time) in every engine that is
there. The floors are of this device, measured in the same run: what copies and a large matrix product reach. Takes less
than five minutes; what the time is not enough for is said.

Run: python benchmarks/gpu.py [-o gpu.md] [--seconds 280]
Without a device: python benchmarks/gpu.py --dry   (a tiny model on the CPU, to see that it runs; figures mean nothing)
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.io import ImageReadMode, decode_jpeg

from hdmap_core.checkpoint import Checkpoint, CheckpointConfig, load_checkpoint
from hdmap_core.config import load_config
from hdmap_core.errors import HdmapError
from hdmap_core.geometry import BEVGrid
from hdmap_core.image_decoding import decode_image
from hdmap_core.inference import default_weights
from hdmap_core.inference.benchmark import Clock
from hdmap_core.inference.compiled_engine import CompiledEngine, CudaGraphEngine
from hdmap_core.inference.engine import EagerEngine, Engine, input_tensors, output_tensors
from hdmap_core.inference.sample import sample_observation
from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.models.bev_encoder import BEVEncoderConfig
from hdmap_core.observation import Observation
from hdmap_core.postprocess import DecodeConfig
from hdmap_core.postprocess.decode import decode
from hdmap_core.preprocess import preprocess
from training.config import TrainConfig

RECIPES = Path(__file__).resolve().parents[1] / "config" / "recipes"
MODELS = {"student": None, "MapQR ResNet-50": "mapqr/resnet50", "MapFM DINOv2-B": "mapfm/dinov2_base"}
GOALS_MS = {"student": 10.0, "MapQR ResNet-50": 1e3 / 17.9, "MapFM DINOv2-B": 40.0}
"""End to end at p99, or the published frames per second (docs/engines.md)."""
ENGINES: dict[str, Callable[[EagerEngine, ModelInput], Engine]] = {
    "eager": lambda eager, _: eager,
    "cuda-graph": CudaGraphEngine,
    "compile": CompiledEngine,
}
COMPILED = ("student", "tiny student")  # of the others it would take longer than there is
_WARM_UPS = 3


@dataclass
class Device:
    """A device and what it reaches: bytes per second of copies, FLOPs per second of a matrix product."""

    place: torch.device
    precision: str
    rates: dict[str, float] = field(default_factory=dict)

    def wait(self) -> None:
        """Until it is done."""
        if self.place.type == "cuda":
            torch.cuda.synchronize(self.place)

    def timed(self, clock: Clock, stage: str, work: Callable[[], Any]) -> Any:
        """Runs `work` to its end on the device."""

        def to_the_end() -> Any:
            found = work()
            self.wait()
            return found

        return clock.time(stage, to_the_end)

    def measure(self, size: int) -> None:
        """Fills `rates`; `size` is that of a square matrix."""
        half = torch.float16 if self.precision == "fp16" else torch.float32
        square = torch.randn(size, size, device=self.place, dtype=half)
        host = torch.empty(4 * size * size, dtype=torch.uint8, pin_memory=self.place.type == "cuda")
        there = host.to(self.place)
        works: dict[str, tuple[float, Callable[[], Any]]] = {
            "FLOP/s": (2.0 * size**3, lambda: square @ square),
            "memory": (2.0 * there.numel(), there.clone),
            "in": (float(host.numel()), lambda: host.to(self.place, copy=True)),
            "out": (float(host.numel()), lambda: there.to("cpu", copy=True)),
        }
        for name, (amount, work) in works.items():
            clock = Clock()
            for number in range(10 + _WARM_UPS):
                self.timed(clock if number >= _WARM_UPS else Clock(), name, work)
            self.rates[name] = amount / (min(wall for wall, _ in clock.samples_ms[name]) / 1e3)


def checkpoint_of(name: str, dry: bool) -> Checkpoint:
    """The shipped student, or a model of a recipe with random weights."""
    if dry:
        config = ModelConfig(
            name="tiny",
            grid=BEVGrid((-6.0, 6.0), (-3.0, 3.0), 0.5),
            bev_encoder=BEVEncoderConfig(channels=(8, 8), blocks=(1, 1), out_channels=8),
            vectors=None,
        )
        return Checkpoint(
            build_model(config).eval(), CheckpointConfig(model=config, decode=DecodeConfig(head="masks")), {}, ""
        )
    recipe = MODELS[name]
    if recipe is None:
        return load_checkpoint(default_weights())
    found = load_config(TrainConfig, RECIPES / f"{recipe}.yaml", [])
    torch.manual_seed(0)
    return Checkpoint(build_model(found.model).eval(), CheckpointConfig(model=found.model, decode=found.decode), {}, "")


def jpegs_of(observation: Observation) -> list[bytes]:
    """As cameras send them."""
    return [cv2.imencode(".jpg", image[..., ::-1])[1].tobytes() for image in observation.images if image is not None]


def size_in_bytes(tensors: dict[str, torch.Tensor]) -> float:
    """Of all of them."""
    return float(sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()))


def stages(name: str, device: Device, dry: bool, until: float, sets: int) -> Iterator[tuple[str, ...]]:
    """Rows of the table of one model: stage, p50, p99 and floor in milliseconds, and how far above it the p50 is."""
    checkpoint = checkpoint_of(name, dry)
    eager = EagerEngine(checkpoint, device.place, device.precision)
    model, decoding = checkpoint.config.model, checkpoint.config.decode
    observation = sample_observation(size=(90, 160) if dry else (900, 1600))
    jpegs = jpegs_of(observation)
    encoded = [torch.frombuffer(bytearray(each), dtype=torch.uint8) for each in jpegs]
    inputs = preprocess(observation, model)
    if device.place.type == "cuda":
        inputs = ModelInput(**{key: value.pin_memory() for key, value in input_tensors(inputs).items()})
    there = inputs.to(device.place)
    output = eager(there)
    with FlopCounterMode(display=False) as counted:
        eager(there)
    pixels = float(sum(image.nbytes for image in observation.images if image is not None))
    weights = size_in_bytes(dict(eager.model.named_parameters()))
    rates, size = device.rates, model.image_backbone.image_size if model.image_backbone else None
    network_s = max(counted.get_total_flops() / rates["FLOP/s"], weights / rates["memory"])
    clock = Clock()

    def on_the_device() -> list[torch.Tensor]:
        return list(decode_jpeg(encoded, mode=ImageReadMode.RGB, device=str(device.place)))

    def resized(images: list[torch.Tensor]) -> torch.Tensor:
        return F.interpolate(torch.stack(images).float(), size=size, mode="area").round().to(torch.uint8)

    def whole_set() -> Any:
        images = tuple(decode_image(each, "sample") for each in jpegs)
        found = eager(preprocess(replace(observation, images=images), model))
        return decode(found, decoding, classes=model.classes, grid=model.grid)

    works: dict[str, tuple[Callable[[], Any], float | None]] = {
        "decode, CPU": (lambda: [decode_image(each, "sample") for each in jpegs], None),
        "decode, device": (on_the_device, pixels / rates["memory"]),
        "preprocess, CPU": (lambda: preprocess(observation, model), None),
        "copy in": (
            lambda: inputs.to(device.place, non_blocking=True),
            size_in_bytes(input_tensors(inputs)) / rates["in"],
        ),
        "copy out": (
            lambda: {key: value.cpu() for key, value in output_tensors(output).items()},
            size_in_bytes(output_tensors(output)) / rates["out"],
        ),
        "postprocess": (lambda: decode(output, decoding, classes=model.classes, grid=model.grid), None),
        "end to end, eager": (whole_set, None),
    }
    if size is not None:
        images = on_the_device()
        works["resize, device"] = (lambda: resized(images), pixels / rates["memory"])
    for engine_name, make in ENGINES.items():
        if engine_name == "compile" and (name not in COMPILED or dry):
            yield f"network, {engine_name}", "left out: compiling takes longer than there is", "", "", ""
            continue
        try:
            running = make(eager, inputs)
        except HdmapError as error:
            yield f"network, {engine_name}", str(error), "", "", ""
            continue
        works[f"network, {engine_name}"] = (lambda running=running: running(there), network_s)
    for stage, (work, floor_s) in works.items():
        for number in range(_WARM_UPS + sets):
            if number > _WARM_UPS + 1 and time.monotonic() > until:
                break
            device.timed(clock if number >= _WARM_UPS else Clock(), stage, work)
        row = clock.summary((stage,))
        floor = ("", "") if floor_s is None else (f"{1e3 * floor_s:.3f}", f"{row['p50'] / (1e3 * floor_s):.1f}")
        yield stage, f"{row['p50']:.2f}", f"{row['p99']:.2f}", *floor


def report(device: Device, dry: bool, seconds: float, sets: int) -> Iterator[str]:
    """Lines of Markdown, as they are found."""
    began = time.monotonic()
    cuda = device.place.type == "cuda"
    where = torch.cuda.get_device_name(device.place) if cuda else "CPU, a dry run: these figures mean nothing"
    yield f"{where}; PyTorch {torch.__version__}, {device.precision}, batch 1, {sets} sets at most."
    device.measure(128 if dry else 8192)
    yield "Reached: " + ", ".join(f"{name} {rate:.3g}" for name, rate in device.rates.items()) + " (bytes/s, FLOP/s)."
    names = ["tiny student"] if dry else list(MODELS)
    for index, name in enumerate(names):
        goal = f", goal {GOALS_MS[name]:.1f} ms" if name in GOALS_MS else ""
        yield f"\n## {name}{goal}\n\n| stage | p50, ms | p99, ms | floor, ms | p50 / floor |\n|---|---:|---:|---:|---:|"
        until = began + seconds * (index + 1) / len(names)
        for row in stages(name, device, dry, until, sets):
            yield f"| {' | '.join(row)} |"
    yield f"\n{time.monotonic() - began:.0f} s in all."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, help="a Markdown file; by default printed alone")
    parser.add_argument("--dry", action="store_true", help="a tiny model on the CPU")
    parser.add_argument("--seconds", type=float, default=280.0, help="after which each stage is measured twice at most")
    parser.add_argument("--sets", type=int, default=200, help="how often each stage is measured, at most")
    arguments = parser.parse_args()
    if not arguments.dry and not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py needs a CUDA device, and there is none; --dry runs it in small on the CPU")
    device = Device(torch.device("cpu" if arguments.dry else "cuda"), "fp32" if arguments.dry else "fp16")
    lines = []
    for line in report(device, arguments.dry, arguments.seconds, 2 if arguments.dry else arguments.sets):
        print(line, flush=True)
        lines.append(line)
    if arguments.out is not None:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
