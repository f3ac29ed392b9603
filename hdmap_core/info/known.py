"""What the core knows: checkpoints, nuScenes folders, map elements and results in files."""

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdmap_core.datasets.frames.reading import NAMES as FRAMES_FILES
from hdmap_core.elements import read_elements
from hdmap_core.errors import DatasetError, ElementError
from hdmap_core.info import What

if TYPE_CHECKING:
    from hdmap_core.checkpoint import Checkpoint
    from hdmap_core.inference.engine import Source
    from hdmap_core.models import ModelConfig


def describe(path: Path) -> What | None:
    """What a file or folder is, if it is one of the core's."""
    if path.is_dir():
        return _folder(path)
    match path.suffix.lower():
        case ".safetensors" | ".pth" | ".pt" | ".ckpt":
            return _checkpoint(path)
        case ".onnx" | ".xml":
            return _exported(path)
        case ".pt2" | ".engine":
            return _sealed(path)
        case ".geojson":
            return _geojson(path)
        case ".json" | ".jsonl":
            return _frames(path) or _elements(path)
    return None


def _checkpoint(path: Path) -> What:
    from hdmap_core.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    size = f"{sum(p.numel() for p in checkpoint.model.parameters()) / 1e6:.2f} M parameters"
    facts = _model_facts(checkpoint, size)
    if checkpoint.config.model.is_refiner:
        return What("an HD-map refiner by itself", facts, (f"hdmap train RECIPE start.hd_refiner={path}",))
    return What("a checkpoint of hdmap_ros", facts, (*_uses(path, facts), f"hdmap export {path}"))


def _exported(path: Path) -> What:
    """Loading checks the file against its sample, so what is damaged is told."""
    from hdmap_core.inference import load_predictor

    is_openvino = path.suffix.lower() == ".xml"
    predictor = load_predictor(path, "cpu", engine="openvino" if is_openvino else "onnxruntime")
    facts = _model_facts(predictor.engine.source, f"exported for {'OpenVINO' if is_openvino else 'ONNX Runtime'}")
    return What("a network that hdmap export made", facts, (*_uses(path, facts), f"hdmap benchmark {path}"))


def _sealed(path: Path) -> What:
    """By its header alone: what is in it is native code, which asking what it is must not run."""
    from hdmap_core.inference.exported_file import read_header
    from hdmap_core.inference.sealed_file import read_seal

    seal = read_seal(path)
    source, _ = read_header(seal.text, path)
    name = "TensorRT" if path.suffix.lower() == ".engine" else "AOTInductor"
    facts = _model_facts(source, f"native code by {name}")
    facts |= {f"made for {key}": value for key, value in seal.made_for.items() if key != "cpu"}
    return What("a network that hdmap export made", facts, (*_uses(path, facts), f"hdmap benchmark {path}"))


def _model_facts(source: "Checkpoint | Source", size: str) -> dict[str, str]:
    model, came = source.config.model, source.provenance
    heads = source.config.decode.heads_of(model.classes)
    facts = {
        "model": f"{model.name}, {size}",
        "weights": f"SHA-256 {source.sha256[:8]}…",
        "classes": ", ".join(label.value for label in model.classes) + f" (from {', '.join(heads)})",
        "region": f"{model.grid.size[0]:g} x {model.grid.size[1]:g} m, cells of {model.grid.resolution:g} m",
        "looks at": _senses(model),
        "rig": _rig(model, came),
    }
    facts |= {name: str(came[key]) for name, key in (("trained on", "dataset"), ("steps", "step")) if came.get(key)}
    if imported := came.get("imported"):
        facts["imported"] = f"{imported['kind']}, of {imported['file']}, SHA-256 {imported['sha256'][:8]}…"
        facts["licence"] = str(came.get("licence"))
    if metrics := came.get("metrics") or {}:
        facts["validation"] = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
    return facts


def _rig(model: "ModelConfig", came: dict[str, Any]) -> str:
    """What cameras a model needs, and through which it was trained."""
    from hdmap_core.inference.known_rigs import trained_through

    if model.is_refiner:
        return "none is looked at"
    needs = "any cameras, of any names"
    if names := _cameras(model):
        needs = f"cameras called {', '.join(names)}; one that is missing is masked"
    rigs = trained_through(came)
    if not rigs:
        return f"needs {needs}; trained, as far as it says, through nuScenes' six pinholes"
    counts = sorted({len(rig) for rig in rigs})
    heights = sorted({f"{camera['height_m']:g}" for rig in rigs for camera in rig}, key=float)
    lenses = sorted({str(camera["lens"]) for rig in rigs for camera in rig})
    cameras = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return (
        f"needs {needs}; trained through {len(rigs)} rig{'s' * (len(rigs) > 1)} of {cameras} cameras "
        f"({', '.join(lenses)}), {' to '.join(dict.fromkeys((heights[0], heights[-1])))} m high; others: "
        "docs/results/unseen_rigs.md"
    )


def _uses(path: Path, facts: dict[str, str]) -> list[str]:
    commands = [f"hdmap predict {path} DATAROOT -o map.png", f"hdmap evaluate {path} DATAROOT --split val"]
    if facts["looks at"].startswith("cameras only"):
        commands.append(f"hdmap bag replay DRIVE.mcap -o out/ --weights {path}")
    return commands


def _senses(model: "ModelConfig") -> str:
    others = [name for name, is_read in (("LiDAR", model.lidar_sweeps), ("an SD map", model.sd_prior)) if is_read]
    names = _cameras(model)
    cameras = f" ({', '.join(names)})" if names else ""
    return f"cameras{cameras}, {' and '.join(others)}" if others else f"cameras only{cameras}"


def _cameras(model: "ModelConfig") -> tuple[str, ...]:
    """The names that a model asks for; empty: it takes any."""
    return model.image_backbone.cameras if model.image_backbone else ()


def _elements(path: Path) -> What | None:
    try:
        frames = read_elements(path)
    except ElementError:
        if path.suffix.lower() == ".jsonl":
            raise
        return None
    elements = [element for found in frames.values() for element in found]
    labels = Counter(element.label.value for element in elements)
    scores = [element.score for element in elements]
    facts = {
        "frames": f"{len(frames)}" + (f", first {next(iter(frames))}" if frames else ""),
        "elements": ", ".join(f"{count} {label}" for label, count in labels.most_common()) or "none",
    }
    if scores:
        facts["scores"] = f"{min(scores):.3f} to {max(scores):.3f}"
    if scores and min(scores) == 1.0:
        return What("map elements, all of score 1 as ground truth has it", facts, (f"hdmap score PRED.jsonl {path}",))
    return What("map elements, predicted", facts, (f"hdmap score {path} GT.jsonl",))


def _geojson(path: Path) -> What:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        features = content["features"]
        labels = Counter((feature.get("properties") or {}).get("label", "other") for feature in features)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ElementError(f"{path}: not a GeoJSON FeatureCollection ({error!r})") from None
    facts = {"features": ", ".join(f"{count} {label}" for label, count in labels.most_common()) or "none"}
    facts["coordinates"] = str(content.get("frame", "longitude and latitude, as GeoJSON has them"))
    return What("GeoJSON", facts)


def _folder(path: Path) -> What | None:
    from hdmap_core.datasets.nuscenes.tables import VERSIONS

    manifest = path / "synth.json"
    if manifest.is_file():
        return _synthetic(path, manifest)
    if any((path / version).is_dir() for version in VERSIONS):
        return _nuscenes(path, "a nuScenes folder")
    if any((path / name).is_file() for name in FRAMES_FILES):
        return _frames(path)
    if (path / "predictions.jsonl").is_file():
        return _results(path)
    return None


def _frames(path: Path) -> What | None:
    """A frames folder or its file; another JSON file is none."""
    from hdmap_core.datasets.opening import open_dataset

    if path.is_file() and not _speaks_of_frames(path):
        return None
    dataset = open_dataset(path)
    tokens = dataset.tokens
    rigs = Counter(dataset.observation(scene.sample_tokens[0], False, False).rig.names for scene in dataset.scenes)
    facts = {
        "frames": f"{len(tokens)} of {len(dataset.scenes)} scenes",
        "splits": ", ".join(f"{name} {len(scenes)}" for name, scenes in dataset.splits.items()),
        "rigs": "; ".join(f"{', '.join(names)} ({count} scenes)" for names, count in rigs.items()),
        "poses": f"of {sum(dataset.map_from_ego(token) is not None for token in tokens)} frames",
        "true maps": f"of {sum(map(dataset.has_vector_map, tokens))} frames",
    }
    commands = f"hdmap prepare {path} --check", f"hdmap predict CHECKPOINT {path} -o map.png"
    return What("frames of one's own (docs/your_own_data.md)", facts, commands)


def _speaks_of_frames(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8-sig") as stream:
            return '"cameras"' in stream.read(100_000)
    except (OSError, UnicodeDecodeError):
        return False


def _synthetic(path: Path, manifest: Path) -> What:
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        config, is_complete = content["config"], content["complete"]
        towns = ", ".join(f"{split} {count}" for split, count in config["towns"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DatasetError(f"{manifest} is damaged; remove the folder {path} and write it again") from None
    if is_complete:
        return _nuscenes(path, "a synthetic world, which is a nuScenes folder")
    facts = {"towns": towns, "finished": f"{len(list((path / 'parts').glob('*.json')))} towns"}
    return What("a synthetic world that is not finished", facts, ("the same `hdmap synth` command finishes it",))


def _nuscenes(path: Path, kind: str) -> What:
    from hdmap_core.datasets.nuscenes import NuScenesTables
    from hdmap_core.datasets.nuscenes.splits import splits_of
    from hdmap_core.datasets.nuscenes.tables import VERSIONS

    facts, versions = {}, [version for version in VERSIONS if (path / version).is_dir()]
    usable: list[str] = []
    for version in versions:
        tables = NuScenesTables(path, version)
        keyframes = {scene.name: len(scene.sample_tokens) for scene in tables.scenes}
        facts[version] = f"{len(keyframes)} scenes, {sum(keyframes.values())} keyframes"
        here = {name: keyframes.keys() & set(scenes) for name, scenes in splits_of(tables).items()}
        usable = [name for name, scenes in here.items() if scenes]
        facts[f"{version} splits"] = ", ".join(f"{name} {len(here[name])}" for name in usable) or "none"
        cities = Counter(scene.location for scene in tables.scenes)
        facts[f"{version} cities"] = ", ".join(f"{city} {count}" for city, count in cities.most_common())
    for name, pattern in (("map expansion", "maps/expansion/*.json"), ("SD maps", "maps/sd/*.geojson")):
        facts[name] = ", ".join(sorted(file.stem for file in path.glob(pattern))) or "none"
    option = f" --version {versions[-1]}" if len(versions) > 1 else ""
    split = next((name for name in ("val", "mini_val", *usable) if name in usable), "val")
    commands = (
        f"hdmap predict CHECKPOINT {path} -o map.png{option}",
        f"hdmap evaluate CHECKPOINT {path} --split {split}{option}",
        f"hdmap show {path}{option}",
        f"hdmap prepare {path} --check{option}",
    )
    return What(kind, facts, commands)


def _results(path: Path) -> What:
    """What `hdmap evaluate` or `hdmap bag replay` left."""
    from hdmap_core.viewer.opening import read_report

    facts, report = {"files": ", ".join(sorted(file.name for file in path.iterdir()))}, read_report(path)
    for key in ("checkpoint", "split", "mAP", "sets", "published"):
        if key in report:
            facts[key] = f"{report[key]:.3f}" if isinstance(report[key], float) else str(report[key])
    commands = [f"hdmap view {path}", f"hdmap info {path / 'predictions.jsonl'}"]
    if (path / "gt.jsonl").is_file():
        commands.append(f"hdmap score {path / 'predictions.jsonl'} {path / 'gt.jsonl'}")
    return What("results of a model", facts, tuple(commands))
