"""Loading for training: decoders, samples per second and core against plain Pillow, and 34 149 keyframes in one store.

CPU time, not wall time: what the processes used, workers included. The folder needs 900 x 1600 images, e.g. of
`hdmap synth data/big --towns 1 --scenes 1 --keyframes 6 --image-size 900x1600 --lidar none`.
Run: python benchmarks/data_loading.py data/big [--jpegs data/nuscenes/samples/CAM_FRONT]
"""

import argparse
import io
import json
import resource
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from measuring import cpu_s
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset
from torchvision.io import decode_jpeg

from hdmap_core.datasets.nuscenes import NuScenesDataset, SensorFrame
from hdmap_core.datasets.nuscenes.keyframe_index import write_index
from hdmap_core.datasets.opening import open_dataset
from hdmap_core.images.decoding import decode_image, reduction_for
from hdmap_core.models import ModelConfig
from hdmap_core.running.parallel import one_thread
from training.data.inspection import opened
from training.data.keyframes import load_keyframes
from training.data.preparation import Preparation, store_key
from training.data.vector_store import VectorStore

SIZES = ((480, 800), (448, 798), (450, 800))
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
TRAINVAL = 34149
SPLIT, SAMPLES = "train", 24
"""What is loaded: so many keyframes, some several times."""
Decoder = Callable[[bytes], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--jpegs", type=Path, help="a folder of other files for the decoders")
    options = parser.parse_args()
    one_thread()
    folder, pattern = (options.jpegs, "*.jpg") if options.jpegs else (options.root / "samples", "CAM_*/*.jpg")
    files = [path.read_bytes() for path in sorted(folder.glob(pattern))[:12]]
    with tempfile.TemporaryDirectory() as cache:
        for table in (
            decoders(files),
            differences(files),
            loading(options.root, Path(cache)),
            stores(options.root, Path(cache)),
        ):
            Console().print(table)


def decoders(files: Sequence[bytes]) -> Table:
    """CPU milliseconds per image, the best of five rounds taken in turn."""
    ways: dict[str, Decoder] = {
        "ours (simplejpeg, damage told), full": lambda data: decode_image(data, "x"),
        "ours (simplejpeg, damage told), half": lambda data: decode_image(data, "x", 2),
        "OpenCV, full": opencv,
        "OpenCV, half": lambda data: opencv(data, cv2.IMREAD_REDUCED_COLOR_2),
        "torchvision, full": lambda data: decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8)).numpy(),
        "Pillow, full": pillow,
        "Pillow, draft (half)": lambda data: pillow(data, draft=True),
    }
    best = dict.fromkeys(ways, np.inf)
    for _ in range(5):
        for name, decode in ways.items():
            best[name] = min(best[name], sum(cpu_s(partial(decode, data)) for data in files) / len(files))
    kilobytes = np.mean([len(data) for data in files]) / 1e3
    table = Table("decoder", "CPU ms", title=f"Decoding {len(files)} JPEGs of {kilobytes:.0f} kB on average")
    for name, seconds in best.items():
        table.add_row(name, f"{1e3 * seconds:.2f}")
    return table


def differences(files: Sequence[bytes]) -> Table:
    """Grey levels between what training sees (reduced decoding) and what the node sees."""
    table = Table(
        "model's images", "decoded at", "mean", "99 %", "largest", "mean signed", title="Grey levels to full decoding"
    )
    for size in SIZES:
        apart, reduction = [], 1
        for data in files:
            full = decode_image(data, "x")
            reduction = reduction_for(full.shape[:2], size)
            seen, wanted = (
                cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA).astype(np.int16)
                for image in (decode_image(data, "x", reduction), full)
            )
            apart.append(seen - wanted)
        off = np.stack(apart)
        numbers = np.abs(off).mean(), np.percentile(np.abs(off), 99), np.abs(off).max(), off.mean()
        table.add_row(f"{size[0]} x {size[1]}", f"1/{reduction}", *(f"{number:.2f}" for number in numbers))
    return table


def opencv(data: bytes, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    assert image is not None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


class PlainPillow(Dataset[torch.Tensor]):
    """What one would write first: open, resize, to float, normalise; images only, no ground truth."""

    def __init__(self, paths: Sequence[Sequence[Path]], size: tuple[int, int], normalised: bool) -> None:
        self.paths, self.size, self.normalised = paths, size, normalised

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        images = []
        for path in self.paths[index]:
            image = np.asarray(Image.open(path).convert("RGB").resize(self.size[::-1], Image.Resampling.BILINEAR))
            if self.normalised:
                image = (image.astype(np.float32) / 255 - MEAN) / STD
            images.append(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))))
        return torch.stack(images)


class Ours(Dataset[Any]):
    """Keyframes with images, elements and areas."""

    def __init__(self, keyframes: Any, order: Sequence[int]) -> None:
        self.keyframes, self.order = keyframes, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        frame = self.keyframes[self.order[index]]
        return frame.inputs, len(frame.elements), len(frame.areas)


def loading(root: Path, cache: Path) -> Table:
    """Samples of six 480 x 800 images per second of CPU time, each through a DataLoader with one worker."""
    size = SIZES[0]
    model = ModelConfig.model_validate(
        {
            "name": "x",
            "backbone": {"model": "resnet50.tv_in1k", "image_size": size},
            "view_transform": {"kind": "bevformer"},
        }
    )
    keyframes = {
        reduced: load_keyframes(root, SPLIT, model, keep_inputs=False, cache=cache, workers=1, reduced=reduced)
        for reduced in (True, False)
    }
    kept = load_keyframes(root, SPLIT, model, keep_inputs=True, cache=cache, workers=1)
    order = [index % len(kept) for index in range(SAMPLES)]
    tables = NuScenesDataset(root).tables
    paths = [
        [frame.path for frame in tables.keyframe(str(kept.tokens[index])).values() if frame.modality == "camera"]
        for index in order
    ]
    ways: dict[str, Dataset[Any]] = {
        "Pillow, resize, to float, normalise": PlainPillow(paths, size, normalised=True),
        "Pillow, resize, uint8": PlainPillow(paths, size, normalised=False),
        "ours, decoded in full": Ours(keyframes[False], order),
        "ours, decoded at half size": Ours(keyframes[True], order),
        "ours, inputs kept": Ours(kept, order),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3):
        for name, dataset in ways.items():
            loader = DataLoader(dataset, batch_size=None, num_workers=1)
            start = worker_cpu()
            spent = cpu_s(partial(deque, loader, maxlen=0)) + worker_cpu() - start
            rates[name].append(SAMPLES / spent)
    table = Table(
        "path", "samples/s per core", "ratio", title=f"{SAMPLES} samples of 6 images, 900 x 1600 to 480 x 800"
    )
    plain = max(rates["Pillow, resize, to float, normalise"])
    for name, values in rates.items():
        table.add_row(name, f"{max(values):.1f}", f"{max(values) / plain:.1f}")
    return table


class Repeated:
    """The tables of a small folder, with its first keyframe as often as v1.0-trainval has keyframes."""

    def __init__(self, source: Path, root: Path) -> None:
        self.small = NuScenesDataset(source).tables
        self.root, self.version = root, self.small.version
        self.folder = root / self.version
        self.folder.mkdir(parents=True)
        for path in self.small.folder.glob("*.json"):
            (self.folder / path.name).write_text(path.read_text())
        scene = self.small.scenes[0]
        tokens = [f"{number:032x}" for number in range(TRAINVAL)]
        self.scenes = [
            replace(scene, name=f"scene-{number:04d}", sample_tokens=tuple(tokens[number * 41 : (number + 1) * 41]))
            for number in range(-(-TRAINVAL // 41))
        ]
        names = {"train": [scene.name for scene in self.scenes]}
        (self.folder / "splits.json").write_text(json.dumps(names))
        frames = self.small.keyframe(scene.sample_tokens[0])
        self.frames = {name: replace(frame, path=root / frame.path.name) for name, frame in frames.items()}

    def keyframe(self, token: str) -> dict[str, SensorFrame]:
        """Always the same."""
        return {name: replace(frame, sample_token=token) for name, frame in self.frames.items()}

    def previous_sweeps(self, token: str) -> list[SensorFrame]:
        """None."""
        return []


def stores(root: Path, cache: Path) -> Table:
    """A store as large as v1.0-trainval, of one frame as rich as a published one, over and over."""
    source = load_keyframes(root, SPLIT, ModelConfig(name="x"), keep_inputs=False, cache=cache, workers=1)
    frames = [source[index] for index in range(len(source))]
    elements = [element for frame in frames for element in frame.elements][:25]
    areas = {
        layer: type(area)([polygon for frame in frames[:3] for polygon in frame.areas[layer].geoms])
        for layer, area in frames[0].areas.items()
    }
    tables = Repeated(source.root, cache / "large")
    index = write_index(tables, cache)  # type: ignore[arg-type]
    key = [scene.sample_tokens for scene in tables.scenes]
    wanted = Preparation(tables.root, cache, SPLIT, source.model, version=tables.version)
    dataset = open_dataset(tables.root, tables.version, split=SPLIT, cache=cache)
    folder = cache / f"{SPLIT}-{store_key(wanted, key, dataset)}"
    folder.mkdir()
    parts = [VectorStore.of([(token, elements, areas) for token in scene.sample_tokens]) for scene in tables.scenes]
    started = time.perf_counter()
    VectorStore.joined(parts).write(folder)
    joined = time.perf_counter() - started
    (folder / "complete").touch()
    opened.cache_clear()
    started = time.perf_counter()
    store = load_keyframes(tables.root, SPLIT, source.model, keep_inputs=False, cache=cache).truth
    took = time.perf_counter() - started
    picks = np.random.default_rng(0).integers(0, TRAINVAL, 500)
    started = time.perf_counter()
    for pick in picks.tolist():
        store.elements(pick), store.areas(pick)
    read = (time.perf_counter() - started) / len(picks)
    size = sum(path.stat().st_size for path in folder.iterdir())
    index_size = sum(path.stat().st_size for path in cache.glob("index-*/*"))
    started = time.perf_counter()
    index.keyframe(str(store.tokens[-1]))
    first_row = time.perf_counter() - started
    table = Table(show_header=False, title=f"A store of {TRAINVAL} keyframes")
    table.add_row("elements, points per keyframe", f"{len(elements)}, {len(store.points) // TRAINVAL}")
    table.add_row("size", f"{size / 1e9:.3f} GB")
    table.add_row("size of the index", f"{index_size / 1e9:.3f} GB")
    table.add_row("load_keyframes", f"{took:.2f} s")
    table.add_row("calibration of a first frame", f"{first_row:.2f} s")
    table.add_row("one frame's elements and areas", f"{1e3 * read:.2f} ms")
    table.add_row("joining the parts", f"{joined:.1f} s")
    return table


def pillow(data: bytes, draft: bool = False) -> np.ndarray:
    """(H, W, 3) uint8."""
    image = Image.open(io.BytesIO(data))
    if draft:
        image.draft("RGB", (image.width // 2, image.height // 2))
    return np.asarray(image.convert("RGB"))


def worker_cpu() -> float:
    """Seconds of CPU time of all workers that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
