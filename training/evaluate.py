"""Runs a checkpoint over keyframes, scores the elements it publishes, and shows where it is good and bad."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track

from hdmap_core.checkpoint import find_checkpoint
from hdmap_core.datasets.opening import open_dataset
from hdmap_core.datasets.protocol import MapDataset, scenes_of_split
from hdmap_core.datasets.sensor_check import check_sensors
from hdmap_core.elements import read_elements, write_elements
from hdmap_core.errors import ConfigError, DatasetError
from hdmap_core.files import make_folder, write_atomically
from hdmap_core.geometry import BEVGrid
from hdmap_core.inference import ModelInfo, load_predictor
from hdmap_core.metrics.breakdown import Breakdown, Frames, breakdown, distance_bands
from hdmap_core.metrics.breakdown_report import breakdown_json, group_table
from hdmap_core.metrics.chamfer_ap import PROTOCOLS, chamfer_ap
from hdmap_core.metrics.raster_ap import RASTER_PROTOCOLS, RasterScore, raster_ap
from hdmap_core.metrics.report import raster_json, score_json, score_table
from hdmap_core.running.parallel import ray_has_gpus
from training.corruptions import SEVERITIES, Corruption
from training.evaluation import gallery
from training.evaluation.gallery import Run
from training.evaluation.gallery_page import gallery_page
from training.evaluation.groups import frame_groups
from training.evaluation.overlays import MIN_SCORE
from training.evaluation.predictions import Predicted, Source, Wanted, predict_frames
from training.evaluation.raster_overlap import iou_json, iou_table, total_iou
from training.evaluation.robustness import Robustness, robustness_table


@dataclass(frozen=True)
class EvaluateOptions:
    """What `hdmap evaluate` is asked for; see the command's help.

    Attributes:
        limit: at most so many keyframes, evenly spread; 0 means all.
        gallery: so many best and so many worst frames are drawn.
        corruptions: kinds of corruption; none by default.
        baseline: a checkpoint that the corruption error is relative to.
        beside: the folder of an earlier evaluation of the same frames, shown beside this one in the gallery.
        version: which data set of the folder; by default the one that the split tells.
    """

    out: str | Path | None = None
    protocol: str = "maptr"
    head: str | None = None
    device: str = "auto"
    limit: int = 0
    gallery: int = 6
    corruptions: tuple[str, ...] = ()
    baseline: str | Path | None = None
    beside: str | Path | None = None
    workers: int = 1
    ray: str | None = None
    as_json: bool = False
    version: str | None = None


def evaluate(checkpoint: str | Path, dataroot: str | Path, split: str, options: EvaluateOptions) -> None:
    """Writes `predictions.jsonl`, `gt.jsonl`, `report.json` and `gallery/` to `options.out`, and prints the scores.

    Raises:
        HdmapError: of the class that fits what is wrong; before the long part wherever that can be known.
    """
    corruptions = _checked(options)
    dataroot, out = Path(dataroot), None if options.out is None else Path(options.out)
    path = find_checkpoint(checkpoint)
    predictor = load_predictor(path, "cpu" if options.ray else options.device, head=options.head)
    info = predictor.info
    heads = {label.value: predictor.config.decode.head_of(label) for label in info.classes}
    dataset = open_dataset(dataroot, options.version, split=split)
    scenes = _limited([scene.sample_tokens for scene in scenes_of_split(dataset, split)], options.limit)
    tokens = [token for scene in scenes for token in scene]
    if not tokens:
        raise DatasetError(f"split {split!r} of {dataroot} has no keyframes")
    check_sensors(dataset, tokens, lidar=info.lidar_sweeps > 0, sd_map=info.sd_map)
    dense, crossings = predictor.config.model.dense is not None, predictor.config.model.crossings
    wanted_truth = info.grid.x_range, info.grid.y_range, info.classes, crossings
    truth = {token: dataset.elements(token, *wanted_truth) for token in tokens}
    groups = frame_groups(dataset, tokens)
    device, gpus = _device(options, info)
    version, digest = dataset.version, dataset.digest()
    source = Source(path, info.weights_sha256, dataroot, version, digest, options.head, device, dense)
    wanted = _wanted(source, (None, *corruptions), out)
    baseline_name = None
    if options.baseline is not None:
        baseline, theirs = _baseline(options.baseline, source, info)
        baseline_name = theirs.model_id
        check_sensors(dataset, tokens, lidar=theirs.lidar_sweeps > 0, sd_map=theirs.sd_map)
        wanted += _wanted(baseline, corruptions, out and out / "baseline")
    other = None if options.beside is None else _other(Path(options.beside), tokens)
    if out is not None:
        make_folder(out)  # a place that cannot be written is told before the long part
    frames = _predict(wanted, scenes, f"evaluating {split}", options, gpus)
    predicted = [{token: frame.elements for token, frame in found.items()} for found in frames]

    bands = distance_bands(info.grid.x_range, info.grid.y_range)

    def run_of(name: str, said: Frames) -> Run:
        scored = breakdown(said, truth, groups, bands, options.protocol, info.classes, MIN_SCORE)
        return Run(name, said, scored)

    runs = [run_of(info.model_id, predicted[0])]
    if other is not None:
        name, said = other
        runs.append(run_of(f"{name}, {options.beside}" if name == info.model_id else name, said))
    parts = runs[0].parts
    robustness = None
    if corruptions:
        scores = [chamfer_ap(found, truth, options.protocol, info.classes).mean_ap for found in predicted[1:]]
        ours, others = (
            _by_kind(some, corruptions) for some in (scores[: len(corruptions)], scores[len(corruptions) :])
        )
        robustness = Robustness(parts.overall.mean_ap, ours, baseline_name, others or None)
    report: dict[str, Any] = {"checkpoint": info.model_id, "data": str(dataroot.resolve()), "data_version": version}
    report |= {"split": split, "heads": heads}
    report |= {**score_json(parts.overall), "breakdown": breakdown_json(parts)}
    iou, rasters = None, []
    if dense:
        overlaps = [frame.overlap for frame in frames[0].values() if frame.overlap is not None]
        iou = total_iou(overlaps, info.classes)
        rasters = [raster_ap(predicted[0], truth, name, info.classes, info.grid) for name in RASTER_PROTOCOLS]
        published = {score.protocol: raster_json(score, parts.overall) for score in rasters}
        report |= {"iou": iou_json(iou), "raster_ap": published}
    report["robustness"] = None if robustness is None else robustness.to_json()
    if out is not None:
        write_elements(out / "gt.jsonl", truth)
        ranked = sorted(parts.frame_f1.items(), key=lambda item: -item[1])
        listed = [{"token": token, "scene": dataset.scene_of(token).name, "F1": f1} for token, f1 in ranked]
        write_atomically(out / "report.json", _json({**report, "frames": listed}).encode())
        if options.gallery:
            facts = [
                f"{dataroot.name}, split {split}, {len(tokens):,} keyframes of {len(scenes)} scenes",
                f"protocol {options.protocol}; heads: "
                + ", ".join(f"{label.replace('_', ' ')} from {head}" for label, head in heads.items()),
            ]
            _draw(out / "gallery", options.gallery, dataset, runs, truth, info.grid, robustness, corruptions, facts)
    if options.as_json:
        print(_json(report))
    else:
        _print(parts, robustness)
        if iou is not None:
            _print_rasters(iou, rasters)
        if out is not None:
            page = out / "gallery" / "index.html" if options.gallery else out / "report.json"
            Console().print(f"→ {page}", soft_wrap=True, highlight=False)


def _checked(options: EvaluateOptions) -> list[Corruption]:
    """The corruptions that are asked for, once the options are known to make sense."""
    if options.protocol not in PROTOCOLS:
        raise ConfigError(f"protocol {options.protocol!r}: use one of {', '.join(PROTOCOLS)}")
    if options.baseline is not None and not options.corruptions:
        raise ConfigError("--baseline is for the corruption error; add --corruptions, or leave it out")
    if options.beside is not None and (options.out is None or not options.gallery):
        raise ConfigError("--beside is shown in the gallery; add -o, and leave out --gallery 0")
    if options.ray is not None and options.device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device {options.device!r} with --ray: use auto, cpu or cuda; Ray chooses which GPU")
    return [Corruption(kind, severity) for kind in options.corruptions for severity in SEVERITIES]


def _limited(scenes: Sequence[Sequence[str]], limit: int) -> list[tuple[str, ...]]:
    """At most `limit` tokens, evenly spread over all of them; scenes that lose all of theirs are left out."""
    tokens = [token for scene in scenes for token in scene]
    if not limit or limit >= len(tokens):
        return [tuple(scene) for scene in scenes]
    kept = {tokens[index * len(tokens) // limit] for index in range(limit)}
    return [some for scene in scenes if (some := tuple(token for token in scene if token in kept))]


def _device(options: EvaluateOptions, info: ModelInfo) -> tuple[str, float]:
    """Where workers compute, and the GPUs that each takes on Ray."""
    if options.ray is None:
        return info.device, 0.0
    has_gpus = options.device != "cpu" and ray_has_gpus(options.ray, options.workers)
    if options.device == "cuda" and not has_gpus:
        raise ConfigError(f"device 'cuda' asked for, but the Ray cluster at {options.ray!r} has no GPU")
    return ("cuda", 1.0) if has_gpus else ("cpu", 0.0)


def _wanted(source: Source, corruptions: Sequence[Corruption | None], folder: Path | None) -> list[Wanted]:
    """Each corruption's predictions go to a folder of their own; the clean ones (None) to `folder` itself."""
    wanted = []
    for corruption in corruptions:
        place = folder if folder is None or corruption is None else folder / "corruptions" / corruption.label
        wanted.append(Wanted(replace(source, corruption=corruption), place))
    return wanted


def _baseline(checkpoint: str | Path, source: Source, info: ModelInfo) -> tuple[Source, ModelInfo]:
    """The baseline as a source, and what it is."""
    path = find_checkpoint(checkpoint)
    predictor = load_predictor(path, "cpu")
    theirs, dense = predictor.info, predictor.config.model.dense is not None
    if (theirs.classes, theirs.grid) != (info.classes, info.grid):
        raise ConfigError(
            f"the baseline {path} has other classes or another grid than {source.checkpoint}, so they have no ground "
            "truth in common; choose a baseline of the same region and classes"
        )
    if dense != source.dense:
        raise ConfigError(
            f"the baseline {path} and {source.checkpoint} have not both dense heads, which know crossings by their "
            "long edges only, so they have no ground truth in common; choose a baseline with the same heads"
        )
    return replace(source, checkpoint=path, sha256=theirs.weights_sha256, head=None, dense=dense), theirs


def _predict(
    wanted: Sequence[Wanted],
    scenes: Sequence[Sequence[str]],
    title: str,
    options: EvaluateOptions,
    gpus: float,
) -> list[dict[str, Predicted]]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=len(wanted) * sum(map(len, scenes)))
        return predict_frames(
            wanted,
            scenes,
            workers=options.workers,
            ray=options.ray,
            gpus=gpus,
            progress=lambda frames: progress.advance(task, frames),
        )


def _by_kind(scores: Sequence[float], corruptions: Sequence[Corruption]) -> dict[str, tuple[float, ...]]:
    """Kind -> mAP at each severity; empty without scores."""
    result: dict[str, tuple[float, ...]] = {}
    for corruption, score in zip(corruptions, scores, strict=False):
        result[corruption.name] = (*result.get(corruption.name, ()), score)
    return result


def _draw(
    folder: Path,
    number: int,
    dataset: MapDataset,
    runs: Sequence[Run],
    truth: Frames,
    grid: BEVGrid,
    robustness: Robustness | None,
    corruptions: Sequence[Corruption],
    facts: Sequence[str],
) -> None:
    gallery.clear(folder)
    ranked = gallery.extremes(runs[0].parts.frame_f1, number)
    shown = track(ranked, "drawing the gallery", console=Console(stderr=True))
    cards = gallery.draw_frames(folder, dataset, shown, runs, truth, grid)
    strip = {}
    if corruptions and ranked:
        token = ranked[0][1]
        strip = gallery.draw_corruptions(folder, dataset, token, truth[token], corruptions)
    page = gallery_page(runs[0].name, facts, runs, cards, robustness, strip)
    write_atomically(folder / "index.html", page.encode())


def _other(folder: Path, tokens: Sequence[str]) -> tuple[str, Frames]:
    """Name and predictions of an earlier evaluation of these frames.

    Raises:
        ConfigError: if it is none, or of other frames.
    """
    path = folder / "predictions.jsonl"
    if not path.is_file():
        raise ConfigError(f"--beside {folder} is no folder of hdmap evaluate: it has no predictions.jsonl")
    said = read_elements(path)
    missing = [token for token in tokens if token not in said]
    if missing:
        raise ConfigError(
            f"--beside {folder} is of other frames: it lacks {len(missing)} of {len(tokens)}, such as {missing[0]}; "
            "evaluate that model on the same split and with the same --limit"
        )
    try:
        name = json.loads((folder / "report.json").read_text(encoding="utf-8"))["checkpoint"]
    except (OSError, ValueError, KeyError, TypeError):
        name = folder.name
    return str(name), {token: said[token] for token in tokens}


def _print(parts: Breakdown, robustness: Robustness | None) -> None:
    console = Console()
    console.print(score_table(parts.overall))
    for kind, groups in parts.groups.items():
        if len(groups) > 1:
            console.print(group_table(kind, groups))
    if robustness is not None:
        console.print(robustness_table(robustness))


def _print_rasters(iou: Mapping[str, float], rasters: Sequence[RasterScore]) -> None:
    console = Console()
    console.print(iou_table(iou))
    for score in rasters:
        console.print(score_table(score))
    console.print(
        "Chamfer AP is the honest figure; AP as published is only for comparison with the papers' tables. Crossings "
        "count by their two long edges in all of them."
    )


def _json(report: dict[str, Any]) -> str:
    return json.dumps(report, indent=2)
