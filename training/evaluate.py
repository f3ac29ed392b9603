"""Runs a checkpoint over keyframes, scores the elements it publishes, and shows where it is good and bad."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hdmap_core.checkpoint import find_checkpoint
from hdmap_core.datasets.sensor_check import check_sensors
from hdmap_core.elements import read_elements
from hdmap_core.errors import ConfigError
from hdmap_core.files import json_object, make_folder
from hdmap_core.inference import load_predictor
from hdmap_core.metrics.breakdown import breakdown, distance_bands
from hdmap_core.metrics.chamfer_ap import Frames, chamfer_ap
from hdmap_core.metrics.raster_ap import RASTER_PROTOCOLS, raster_ap
from training.corruptions import Corruption
from training.evaluation.gallery import Run
from training.evaluation.overlays import MIN_SCORE
from training.evaluation.predictions import Predicted, Source, Wanted, predict_frames
from training.evaluation.raster_overlap import total_iou
from training.evaluation.results import Scores, print_results, write_results
from training.evaluation.robustness import Robustness
from training.evaluation.task import EvaluateOptions, EvaluationTask, evaluation_task


def evaluate(checkpoint: str | Path, dataroot: str | Path, split: str, options: EvaluateOptions) -> None:
    """Writes `predictions.jsonl`, `gt.jsonl`, `report.json` and `gallery/` to `options.out`, and prints the scores.

    Raises:
        HdmapError: of the class that fits what is wrong; before the long part wherever that can be known.
    """
    task = evaluation_task(checkpoint, Path(dataroot), split, options)
    wanted = _wanted(task.source, (None, *task.corruptions), task.out)
    baseline_name = None
    if options.baseline is not None:
        baseline, baseline_name = _baseline(options.baseline, task)
        wanted += _wanted(baseline, task.corruptions, task.out and task.out / "baseline")
    beside = None if options.beside is None else _beside(Path(options.beside), task)
    if task.out is not None:
        make_folder(task.out)  # a place that cannot be written is told before the long part
    scores = _scores(task, _predict(wanted, task), baseline_name, beside)
    if task.out is not None:
        write_results(task.out, task, scores)
    print_results(task, scores)


def _wanted(source: Source, corruptions: Sequence[Corruption | None], folder: Path | None) -> list[Wanted]:
    """Each corruption's predictions go to a folder of their own; the clean ones (None) to `folder` itself."""
    wanted = []
    for corruption in corruptions:
        place = folder if folder is None or corruption is None else folder / "corruptions" / corruption.label
        wanted.append(Wanted(replace(source, corruption=corruption), place))
    return wanted


def _baseline(checkpoint: str | Path, task: EvaluationTask) -> tuple[Source, str]:
    """The baseline as a source, and its name."""
    path, source = find_checkpoint(checkpoint), task.source
    predictor = load_predictor(path, "cpu")
    theirs, dense = predictor.info, predictor.config.model.dense is not None
    if (theirs.classes, theirs.grid) != (task.info.classes, task.info.grid):
        raise ConfigError(
            f"the baseline {path} has other classes or another grid than {source.checkpoint}, so they have no ground "
            "truth in common; choose a baseline of the same region and classes"
        )
    if dense != source.dense:
        raise ConfigError(
            f"the baseline {path} and {source.checkpoint} have not both dense heads, which know crossings by their "
            "long edges only, so they have no ground truth in common; choose a baseline with the same heads"
        )
    check_sensors(task.dataset, task.truth, lidar=theirs.lidar_sweeps > 0, sd_map=theirs.sd_map)
    return replace(source, checkpoint=path, sha256=theirs.weights_sha256, head=None, dense=dense), theirs.model_id


def _predict(wanted: Sequence[Wanted], task: EvaluationTask) -> list[dict[str, Predicted]]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(f"evaluating {task.split}", total=len(wanted) * len(task.truth))
        return predict_frames(
            wanted,
            task.scenes,
            workers=task.options.workers,
            ray=task.options.ray,
            gpus=task.gpus,
            progress=lambda frames: progress.advance(bar, frames),
        )


def _scores(
    task: EvaluationTask,
    frames: Sequence[Mapping[str, Predicted]],
    baseline_name: str | None,
    beside: tuple[str, Frames] | None,
) -> Scores:
    """Scores of `frames`: clean ones, those of every corruption, and the baseline's of every corruption."""
    info, protocol = task.info, task.options.protocol
    predicted = [{token: frame.elements for token, frame in found.items()} for found in frames]
    bands = distance_bands(info.grid.x_range, info.grid.y_range)

    def run_of(name: str, said: Frames) -> Run:
        return Run(name, said, breakdown(said, task.truth, task.groups, bands, protocol, info.classes, MIN_SCORE))

    runs = [run_of(info.model_id, predicted[0])]
    if beside is not None:
        name, said = beside
        runs.append(run_of(f"{name}, {task.options.beside}" if name == info.model_id else name, said))
    robustness = None
    if kinds := task.corruptions:
        found = [chamfer_ap(some, task.truth, protocol, info.classes).mean_ap for some in predicted[1:]]
        ours, theirs = (_by_kind(some, kinds) for some in (found[: len(kinds)], found[len(kinds) :]))
        robustness = Robustness(runs[0].parts.overall.mean_ap, ours, baseline_name, theirs or None)
    iou, rasters = None, []
    if task.source.dense:
        overlaps = [frame.overlap for frame in frames[0].values() if frame.overlap is not None]
        iou = total_iou(overlaps, info.classes)
        rasters = [raster_ap(predicted[0], task.truth, name, info.classes, info.grid) for name in RASTER_PROTOCOLS]
    return Scores(runs, robustness, iou, rasters)


def _by_kind(scores: Sequence[float], corruptions: Sequence[Corruption]) -> dict[str, tuple[float, ...]]:
    """Kind -> mAP at each severity; empty without scores."""
    result: dict[str, tuple[float, ...]] = {}
    for corruption, score in zip(corruptions, scores, strict=False):
        result[corruption.name] = (*result.get(corruption.name, ()), score)
    return result


def _beside(folder: Path, task: EvaluationTask) -> tuple[str, Frames]:
    """Name and predictions of an earlier evaluation of these frames.

    Raises:
        ConfigError: if it is none, or of other frames.
    """
    path = folder / "predictions.jsonl"
    if not path.is_file():
        raise ConfigError(f"--beside {folder} is no folder of hdmap evaluate: it has no predictions.jsonl")
    said = read_elements(path)
    missing = [token for token in task.truth if token not in said]
    if missing:
        raise ConfigError(
            f"--beside {folder} is of other frames: it lacks {len(missing)} of {len(task.truth)}, such as "
            f"{missing[0]}; evaluate that model on the same split and with the same --limit"
        )
    name = json_object(folder / "report.json").get("checkpoint", folder.name)
    return str(name), {token: said[token] for token in task.truth}
