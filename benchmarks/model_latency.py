"""Seconds and memory of each stage of one forward pass at batch 1: the models of the recipes against the student.

A keyframe of six cameras from a synthetic town; random weights, which do not change the time; with the heads that the
recipe publishes, as `hdmap predict` runs it. Every model runs in a process of its own. On a CPU, time is the process's
CPU time on one thread (other work on the machine does not count) and memory is how far resident memory rose above what
it was before the stage (Linux); on CUDA, it is the time until the device is done and the allocator's peak.

Code that is not ours runs in the same turns by `--beside MODULE:CALLABLE` (Python must find the module). The callable
gets the observation and returns two things: a function without arguments that runs one frame, and its stages, a dict
from the names of ours (`backbone`, `view_transform`, ...) to the torch modules that are these.

Run: python benchmarks/model_latency.py [--device cuda [--half]] [--repeats 1] [--only student dinov2_small]
     python benchmarks/model_latency.py --only resnet50 --beside published:mapqr --turns 2
"""

import argparse
import ctypes
import importlib
import multiprocessing
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from measuring import figures, town
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from hdmap_core.checkpoint import Checkpoint, CheckpointConfig
from hdmap_core.config import load_config
from hdmap_core.inference.engine import published
from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.models.backbones.image_backbone import ImageBackbone
from hdmap_core.models.view_transforms.bevformer import BEVFormerConfig
from hdmap_core.models.view_transforms.pillar_projection import anchor_heights, project_pillars
from hdmap_core.observation import Observation
from hdmap_core.postprocess import DecodeConfig
from hdmap_core.preprocess import preprocess
from hdmap_core.released.dense_models import DenseModel, dense_config
from hdmap_core.released.vector_models import VectorModel, vector_config
from training.config import TrainConfig

RECIPES = Path(__file__).resolve().parents[1] / "config" / "recipes"
STUDENT = "student"
SLOTS = [
    *("backbone", "view_transform", "lidar", "sd_prior", "bottleneck", "bev_encoder", "vector_head"),
    *("segmentation_head", "dense_heads", "hd_refiner"),
]
OTHER = "other"
POINTS = 100_000
# name: recipe, overrides. What is after a comma changes nothing in the backbone, whose cost is taken from the model of
# the name before the comma, where that one is measured.
MODELS: dict[str, tuple[str, list[str]]] = {
    STUDENT: ("student/ground", []),
    "resnet50": ("mapqr/resnet50", []),
    "swin_tiny": ("mapfm/swin_tiny", []),
    "dinov2_small": ("mapfm/dinov2_small", []),
    "dinov2_small, lean": ("mapfm/dinov2_small_lean", []),
    "dinov2_small, max_views 2": ("mapfm/dinov2_small", ["model.view_transform.max_views=2"]),
    "dinov2_small, kernel": ("mapfm/dinov2_small", ["model.view_transform.cross_attention=kernel"]),
    "dinov2_base": ("mapfm/dinov2_base", []),
    "hdmapnet": ("hdmapnet/camera", []),
    "mapkd teacher": ("mapkd/1_teacher", []),
}
IMPORTED: dict[str, VectorModel | DenseModel] = {
    "imported mapqr": VectorModel("mapqr", "height_kernel", (200, 100), 700, 3, bev_lines=True, image_lines=True),
    "imported maptr": VectorModel("maptr", "nearest_kernel", (200, 100), 50, 1, bev_lines=False, image_lines=False),
    "imported maptrv2": VectorModel("maptrv2", "depth", (200, 100), 350, 0, bev_lines=True, image_lines=True),
    "imported hdmapnet": DenseModel(None, sd_map=False, refiner=False, alone=False, student=False, cells=80_000),
    "imported mapkd student": DenseModel(None, sd_map=False, refiner=False, alone=False, student=True, cells=80_000),
    "imported mapkd coach": DenseModel(
        "simulated", sd_map=True, refiner=True, alone=False, student=False, cells=80_000
    ),
}
"""What `hdmap import` makes of the published files: their sizes, 60 x 30 m, and the behaviour as published."""


@dataclass(frozen=True)
class Cost:
    """Of one stage: seconds, and MiB that it needed above what was there before it."""

    seconds: float
    mebibytes: float


class Meter:
    """Time and peak memory of a device from `start` to `stop`."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.began, self.before = 0.0, 0.0

    def start(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        else:
            ctypes.CDLL("libc.so.6").malloc_trim(0)  # or a stage would live on what the one before has freed
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
        self.before = self.memory()
        self.began = self.now()

    def stop(self) -> Cost:
        if self.cuda:
            torch.cuda.synchronize()
        seconds = self.now() - self.began
        peak = torch.cuda.max_memory_allocated() / 2**20 if self.cuda else resident("VmHWM")
        return Cost(seconds, max(peak - self.before, 0.0))

    def now(self) -> float:
        return time.perf_counter() if self.cuda else time.process_time()

    def memory(self) -> float:
        return torch.cuda.memory_allocated() / 2**20 if self.cuda else resident("VmRSS")


def resident(field: str) -> float:
    """MiB of this process; VmRSS now, VmHWM at its peak (Linux)."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def keyframe(folder: Path) -> Observation:
    """Six cameras of a synthetic town, 900 x 1600."""
    dataset = town(folder, keyframes=1, image_size=(900, 1600))
    return dataset.observation(dataset.tokens[0], points=False)


def with_lidar_and_roads(inputs: ModelInput, config: ModelConfig) -> ModelInput:
    """Points and a road, made up, for a model that looks at them: where they lie changes no cost."""
    if config.lidar is not None:
        inputs.points = torch.randn(1, POINTS, 5) * torch.tensor([15.0, 10.0, 1.0, 50.0, 0.1])
        inputs.point_count = torch.tensor([POINTS])
    if config.sd_prior is not None:
        inputs.sd_raster = -torch.ones(1, 1, *config.grid.shape)
        inputs.sd_raster[..., :10, :] = 1
    return inputs


class RandomFeatures(nn.Module):
    """Stands in for a backbone: its output's shape, at no cost."""

    def __init__(self, backbone: ImageBackbone) -> None:
        super().__init__()
        self.shape = backbone.out_channels, *backbone.feature_size

    def forward(self, images: Tensor) -> Tensor:
        return torch.randn(*images.shape[:2], *self.shape, device=images.device)


Runner = tuple[Callable[[], object], Mapping[str, nn.Module]]
"""What runs one frame, and its stages."""


def content_of(name: str) -> CheckpointConfig:
    """Of a model of `MODELS` or `IMPORTED`."""
    match IMPORTED.get(name):
        case VectorModel() as released:
            return CheckpointConfig(model=vector_config(released), decode=DecodeConfig(head="vectors"))
        case DenseModel() as released:
            return CheckpointConfig(model=dense_config(released, (60.0, 30.0)), decode=DecodeConfig(head="dense"))
    recipe, overrides = MODELS[name]
    settings = load_config(TrainConfig, RECIPES / f"{recipe}.yaml", overrides)
    return CheckpointConfig(model=settings.model, decode=settings.decode)


def own_runner(name: str, observation: Observation, device: torch.device) -> Runner:
    """A model of `MODELS` or `IMPORTED`."""
    content = content_of(name)
    config = content.model
    model = published(Checkpoint(build_model(config).eval(), content, {}, "")).to(device)
    inputs = with_lidar_and_roads(preprocess(observation, config), config).to(device)
    slots = SLOTS
    if "," in name and model.backbone is not None:
        model.backbone, slots = RandomFeatures(model.backbone), SLOTS[1:]  # type: ignore[assignment]
    stages = {slot: getattr(model, slot) for slot in slots if getattr(model, slot) is not None}
    return lambda: model(inputs), stages


def beside_runner(name: str, observation: Observation) -> Runner:
    """Somebody else's code, by MODULE:CALLABLE."""
    module, _, function = name.partition(":")
    runner: Runner = getattr(importlib.import_module(module), function)(observation)
    return runner


def measure(
    name: str, observation: Observation, device_name: str, half: bool, warm_up: int, repeats: int
) -> dict[str, Cost]:
    """Cost of each stage, and of what is outside of all; of several passes the least seconds and the most memory."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device(device_name)
    ours = name in MODELS or name in IMPORTED
    run, stages = own_runner(name, observation, device) if ours else beside_runner(name, observation)
    meter, whole = Meter(device), Meter(device)
    costs: dict[str, list[Cost]] = {stage: [] for stage in stages}
    for stage, module in stages.items():
        found = costs[stage]
        module.register_forward_pre_hook(lambda *_: meter.start())
        module.register_forward_hook(lambda *_, found=found: found.append(meter.stop()))
    others = []
    with torch.inference_mode(), torch.autocast(device.type, torch.float16, enabled=half):
        for _ in range(warm_up + repeats):
            whole.start()
            run()
            seconds = whole.stop().seconds
            others.append(Cost(max(seconds - sum(found[-1].seconds for found in costs.values()), 0.0), 0.0))
    return {
        stage: Cost(min(cost.seconds for cost in found[warm_up:]), max(cost.mebibytes for cost in found))
        for stage, found in [*costs.items(), (OTHER, others)]
    }


def cameras_per_cell(observation: Observation) -> dict[str, list[int]]:
    """How many cells are seen by 0, 1, 2 ... cameras: at the encoder's anchors, and wherever learning can move them."""
    config = ModelConfig(name="views")
    encoder = BEVFormerConfig()
    rig = observation.rig
    projection = rig.projection().float()[None]
    low, high = encoder.z_range
    assert encoder.height_bound is not None
    ranges = {
        "anchors where they start": (low, high),
        "anchors anywhere within their bound": (low - encoder.height_bound, high + encoder.height_bound),
    }
    found = {}
    for name, z_range in ranges.items():
        heights = anchor_heights(z_range, 8 if z_range == (low, high) else 64, ends=True)[None, None]
        centres = config.grid.cell_centres().flatten(0, 1)
        _, visible = project_pillars(centres, heights, projection, rig.image_sizes[0])
        found[name] = torch.bincount(visible.any(dim=-1).sum(dim=1).flatten()).tolist()
    return found


def total(stages: Mapping[str, Cost]) -> float:
    """Seconds of all stages."""
    return sum(cost.seconds for cost in stages.values())


def table(title: str, costs: dict[str, dict[str, Cost]]) -> Table:
    """Seconds and MiB per stage, and the ratio of all seconds to the student's."""
    columns = ("model", "backbone", "view transform", "BEV and heads", "sum, s", "student = 1", "MiB per stage")
    result = figures(title, *columns)
    student = total(costs[STUDENT]) if STUDENT in costs else None
    for name, stages in costs.items():
        heads = [cost for slot, cost in stages.items() if slot not in ("backbone", "view_transform")]
        groups = [[stages[slot]] if slot in stages else [] for slot in ("backbone", "view_transform")] + [heads]
        seconds = [f"{sum(c.seconds for c in group):.3f}" if group else "-" for group in groups]
        memory = [f"{max(c.mebibytes for c in group):.0f}" if group else "-" for group in groups]
        ratio = f"{total(stages) / student:.0f}" if student else ""
        result.add_row(name, *seconds, f"{total(stages):.3f}", ratio, " / ".join(memory))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--half", action="store_true", help="fp16 autocast")
    parser.add_argument("--repeats", type=int, default=1, help="passes that count")
    parser.add_argument("--warm-up", type=int, default=1, help="passes before them; memory counts from the first")
    parser.add_argument("--only", nargs="*", default=list(MODELS), choices=[*MODELS, *IMPORTED], help="these models")
    parser.add_argument("--beside", nargs="*", default=[], metavar="MODULE:CALLABLE", help="code that is not ours")
    parser.add_argument("--turns", type=int, default=1, help="so many processes of each, one model after the other")
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        observation = keyframe(Path(folder))
    for name, cells in cameras_per_cell(observation).items():
        seen = ", ".join(f"{count} by {cameras}" for cameras, count in enumerate(cells))
        console.print(f"cells seen by so many cameras, {name}: {seen}")
    turns: dict[str, list[dict[str, Cost]]] = defaultdict(list)
    for name in [*arguments.only, *arguments.beside] * arguments.turns:
        # A process each: what an earlier model left in the allocator would hide what the next one needs.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            work = (name, observation, arguments.device, arguments.half, arguments.warm_up, arguments.repeats)
            found = pool.apply(measure, work)
        whole = name.partition(",")[0]
        if whole != name and whole in turns:
            found = {"backbone": turns[whole][-1]["backbone"], **found}
        turns[name].append(found)
        seconds = {stage: f"{cost.seconds:.2f} s, {cost.mebibytes:.0f} MiB" for stage, cost in found.items()}
        console.print(name, seconds)
    costs = {name: min(found, key=total) for name, found in turns.items()}
    console.print(table(f"batch 1, {arguments.device}, {'fp16' if arguments.half else 'fp32'}", costs))


if __name__ == "__main__":
    main()
