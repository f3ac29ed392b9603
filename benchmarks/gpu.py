"""Every stage from six JPEGs to map elements on a CUDA device, beside its floor: bytes over bandwidth, FLOPs over rate.

The shipped student in fp16, MapQR ResNet-50 in fp16 and MapFM DINOv2-B in bf16 (random weights, which change no time),
by the code that the node runs: `Predictor` with its `DevicePath`, in every engine that is there. The floors are of this
device, measured in the same run: what copies and a large matrix product reach. Takes less than five minutes; what the
time is not enough for is said.

Run: python benchmarks/gpu.py [-o gpu.md] [--seconds 280]
Without a device: python benchmarks/gpu.py --device cpu   (tiny models, to see that it runs; figures mean nothing)
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch
from torch.utils.flop_counter import FlopCounterMode

from hdmap_core.checkpoint import Checkpoint, CheckpointConfig, load_checkpoint
from hdmap_core.config import load_config
from hdmap_core.errors import HdmapError
from hdmap_core.geometry import BEVGrid
from hdmap_core.images.decoding import decode_image, is_sound_jpeg
from hdmap_core.inference import default_weights
from hdmap_core.inference.benchmark import Clock
from hdmap_core.inference.compiled_engine import CompiledEngine, CudaGraphEngine
from hdmap_core.inference.device_path import DevicePath, read
from hdmap_core.inference.engine import EagerEngine, Engine, input_tensors
from hdmap_core.inference.predictor import Predictor
from hdmap_core.inference.sample import sample_observation
from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.models.backbones.image_backbone import ImageBackboneConfig
from hdmap_core.models.bev_encoder import BEVEncoderConfig
from hdmap_core.models.heads.mapqr_decoder import MapQRDecoderConfig
from hdmap_core.models.view_transforms.bevformer import BEVFormerConfig
from hdmap_core.observation import Observation
from hdmap_core.postprocess import DecodeConfig, Head
from hdmap_core.postprocess.decode import elements_of, reduced
from hdmap_core.preprocess import preprocess
from training.config import TrainConfig

RECIPES = Path(__file__).resolve().parents[1] / "config" / "recipes"
_TINY_GRID = BEVGrid((-6.0, 6.0), (-3.0, 3.0), 0.5)


@dataclass(frozen=True)
class Subject:
    """A model that is measured.

    Attributes:
        recipe: None: the shipped student; a config: as it is, for a run on a CPU.
        precision: on a GPU.
        goal_ms: end to end at p99, or of the published frames per second (docs/engines.md).
    """

    recipe: str | ModelConfig | None
    precision: str
    goal_ms: float


SUBJECTS = {
    "student": Subject(None, "fp16", 10.0),
    "MapQR ResNet-50": Subject("mapqr/resnet50", "fp16", 1e3 / 17.9),
    "MapFM DINOv2-B": Subject("mapfm/dinov2_base", "bf16", 40.0),
}
_ENCODER = BEVEncoderConfig(channels=(8, 8), blocks=(1, 1), out_channels=8)
TINY = {
    "tiny student": Subject(
        ModelConfig(name="tiny", grid=_TINY_GRID, bev_encoder=_ENCODER, vectors=None), "fp32", float("inf")
    ),
    "tiny MapQR": Subject(
        ModelConfig(
            name="tiny-mapqr",
            grid=_TINY_GRID,
            backbone=ImageBackboneConfig(
                model="resnet18.tv_in1k",
                image_size=(32, 64),
                out_channels=8,
                arguments={"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 8]},
            ),
            view_transform=BEVFormerConfig(channels=8, layers=1, heads=2, feedforward=16),
            bev_encoder=None,
            segmentation=None,
            vectors=MapQRDecoderConfig(
                num_queries=9, num_points=4, channels=8, layers=1, attention_heads=2, feedforward=16, one_to_many=1
            ),
        ),
        "fp32",
        float("inf"),
    ),
}
"""What a run on a CPU measures."""
ENGINES: dict[str, Callable[[EagerEngine, ModelInput], Engine]] = {
    "eager": lambda eager, _: eager,
    "cuda-graph": CudaGraphEngine,
    "compile": CompiledEngine,
}
COMPILED = ("student",)  # of the others it would take longer than there is
_WARM_UPS = 3
_CAMERAS = ThreadPoolExecutor(6)


@dataclass
class Device:
    """A device and what it reaches: bytes per second of copies, FLOPs per second of a matrix product."""

    place: torch.device
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
        half = torch.float16 if self.place.type == "cuda" else torch.float32
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


def checkpoint_of(subject: Subject) -> Checkpoint:
    """The shipped student, or a model of a recipe with random weights."""
    if subject.recipe is None:
        return load_checkpoint(default_weights())
    if isinstance(subject.recipe, ModelConfig):
        head: Head = "masks" if subject.recipe.vectors is None else "vectors"
        config = CheckpointConfig(model=subject.recipe, decode=DecodeConfig(head=head))
    else:
        found = load_config(TrainConfig, RECIPES / f"{subject.recipe}.yaml", [])
        config = CheckpointConfig(model=found.model, decode=found.decode)
    torch.manual_seed(0)
    return Checkpoint(build_model(config.model).eval(), config, {}, "0" * 64)


def jpegs_of(observation: Observation) -> list[bytes]:
    """As cameras send them."""
    return [cv2.imencode(".jpg", image[..., ::-1])[1].tobytes() for image in observation.images if image is not None]


def size_in_bytes(tensors: dict[str, torch.Tensor]) -> float:
    """Of all of them."""
    return float(sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()))


def stages(name: str, subject: Subject, device: Device, until: float, sets: int) -> Iterator[tuple[str, ...]]:
    """Rows of one model: stage, p50, p95, p99 and floor in milliseconds, and how far above it the p50 is."""
    checkpoint, cuda = checkpoint_of(subject), device.place.type == "cuda"
    eager = EagerEngine(checkpoint, device.place, subject.precision)
    eager.model.requires_grad_(False)  # else the counter of FLOPs asks for gradients
    model, decoding = checkpoint.config.model, checkpoint.config.decode
    backbone, classes, grid = model.image_backbone, model.classes, model.grid
    seen = sample_observation(backbone.cameras if backbone else (), size=(900, 1600) if cuda else (90, 160))
    files = dict(zip(seen.rig.names, jpegs_of(seen), strict=True))
    path = DevicePath(device.place, model)
    if problem := path.problem():
        yield "inputs on the device", f"not as on the CPU: {problem}", "", "", "", ""

    def decoded() -> Observation:
        there = tuple(path.decode(files, pool=_CAMERAS).values())
        return replace(seen, images=(None,) * len(there), device_images=there)

    def mapped(engine: Engine) -> Callable[[], Any]:
        predictor = Predictor(engine, path)
        return lambda: predictor.predict(decoded())

    pictures = decoded()
    inputs = path.inputs(pictures)
    there = inputs.to(device.place)
    output = eager(there)
    left = reduced(output, decoding, classes=classes, grid=grid)
    found = read(left)
    with FlopCounterMode(display=False) as counted:
        eager(there)
    rates, pixels = device.rates, float(sum(image.nbytes for image in seen.images if image is not None))
    weights = size_in_bytes(dict(eager.model.named_parameters()))
    network_s = max(counted.get_total_flops() / rates["FLOP/s"], weights / rates["memory"])
    made = size_in_bytes(input_tensors(inputs))
    works: dict[str, tuple[Callable[[], Any], float | None]] = {
        "decode, CPU": (lambda: [decode_image(each, "sample") for each in files.values()], None),
        "look for damage, CPU, a thread per camera": (lambda: list(_CAMERAS.map(is_sound_jpeg, files.values())), None),
        "decode, device, damage looked for": (decoded, pixels / rates["memory"]),
        "preprocess, CPU": (lambda: preprocess(seen, model), None),
        "preprocess, device": (lambda: path.inputs(pictures), (pixels + made) / rates["memory"]),
        "pixels in, if the CPU decodes": (
            lambda: [torch.from_numpy(image).to(device.place) for image in seen.images if image is not None],
            pixels / rates["in"],
        ),
        "reduce, device": (lambda: reduced(output, decoding, classes=classes, grid=grid), None),
        "copy out": (lambda: read(left), size_in_bytes(left) / rates["out"]),
        "trace, CPU": (lambda: elements_of(found, decoding, classes=classes, grid=grid), None),
    }
    for engine_name, make in ENGINES.items():
        if engine_name == "compile" and name not in COMPILED:
            yield f"network, {engine_name}", "left out: compiling takes longer than there is", "", "", "", ""
            continue
        try:
            running = make(eager, preprocess(seen, model))
        except HdmapError as error:
            yield f"network, {engine_name}", str(error), "", "", "", ""
            continue
        works[f"network, {engine_name}"] = (partial(running, there), network_s)
        works[f"end to end, {engine_name}"] = (mapped(running), None)
    clock = Clock()
    for stage, (work, floor_s) in works.items():
        for number in range(_WARM_UPS + sets):
            if number > _WARM_UPS + 1 and time.monotonic() > until:
                break
            device.timed(clock if number >= _WARM_UPS else Clock(), stage, work)
        row = clock.summary((stage,))
        floor = ("", "") if floor_s is None else (f"{1e3 * floor_s:.3f}", f"{row['p50'] / (1e3 * floor_s):.1f}")
        yield stage, *(f"{row[p]:.2f}" for p in ("p50", "p95", "p99")), *floor
    ends = {stage: clock.summary((stage,)) for stage in works if stage.startswith("end to end")}
    best = min(ends, key=lambda stage: ends[stage]["p99"])
    reached = "reached" if ends[best]["p99"] <= subject.goal_ms else "missed"
    fps = f"{1e3 / ends[best]['mean']:.1f} sets/s, one after the other"
    yield f"goal: {subject.goal_ms:.1f} ms", f"{reached} by {best}", "", f"{ends[best]['p99']:.2f}", "", fps


def report(device: Device, seconds: float, sets: int) -> Iterator[str]:
    """Lines of Markdown, as they are found."""
    began = time.monotonic()
    cuda = device.place.type == "cuda"
    where = torch.cuda.get_device_name(device.place) if cuda else "CPU, tiny models: these figures mean nothing"
    yield f"{where}; PyTorch {torch.__version__}, batch 1, {sets} sets at most."
    device.measure(8192 if cuda else 128)
    yield "Reached: " + ", ".join(f"{name} {rate:.3g}" for name, rate in device.rates.items()) + " (bytes/s, FLOP/s)."
    subjects = SUBJECTS if cuda else TINY
    for index, (name, subject) in enumerate(subjects.items()):
        yield f"\n## {name}, {subject.precision}\n"
        yield "| stage | p50, ms | p95, ms | p99, ms | floor, ms | p50 / floor |\n|---|---:|---:|---:|---:|---:|"
        until = began + seconds * (index + 1) / len(subjects)
        for row in stages(name, subject, device, until, sets):
            yield f"| {' | '.join(row)} |"
    yield f"\n{time.monotonic() - began:.0f} s in all."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, help="a Markdown file; by default printed alone")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu: tiny models")
    parser.add_argument("--seconds", type=float, default=280.0, help="after which each stage is measured twice at most")
    parser.add_argument("--sets", type=int, default=200, help="how often each stage is measured, at most")
    arguments = parser.parse_args()
    place = torch.device(arguments.device)
    if place.type == "cuda" and not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py needs a CUDA device, and there is none; --device cpu runs it in small")
    if arguments.device == "cuda":
        place = torch.device("cuda", torch.cuda.current_device())
    lines = []
    for line in report(Device(place), arguments.seconds, 2 if place.type == "cpu" else arguments.sets):
        print(line, flush=True)
        lines.append(line)
    if arguments.out is not None:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
