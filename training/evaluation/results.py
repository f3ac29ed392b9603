"""What came of an evaluation, as files, tables and pictures."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from hdmap_core.elements import write_elements
from hdmap_core.files import remove_folder, write_atomically
from hdmap_core.metrics.breakdown_report import breakdown_json, group_table
from hdmap_core.metrics.raster_ap import RasterScore
from hdmap_core.metrics.report import raster_json, score_json, score_table
from training.evaluation import gallery
from training.evaluation.gallery import Run
from training.evaluation.gallery_page import gallery_page
from training.evaluation.raster_overlap import iou_json, iou_table
from training.evaluation.robustness import Robustness, robustness_table
from training.evaluation.task import EvaluationTask


@dataclass(frozen=True)
class Scores:
    """All figures.

    Attributes:
        runs: this one, and the one beside it.
        robustness: None without corruptions.
        iou: class -> IoU of the dense heads' rasters, and `mIoU`; None without such heads.
        rasters: their AP as the papers have it.
    """

    runs: list[Run]
    robustness: Robustness | None
    iou: dict[str, float] | None
    rasters: list[RasterScore]


def report_of(task: EvaluationTask, scores: Scores) -> dict[str, Any]:
    """Plain JSON values: what was scored, and every figure."""
    parts, source = scores.runs[0].parts, task.source
    report = {
        "checkpoint": task.info.model_id,
        "data": str(source.dataroot.resolve()),
        "data_version": source.version,
        "split": task.split,
        "heads": task.heads,
        **score_json(parts.overall),
        "breakdown": breakdown_json(parts),
    }
    if scores.iou is not None:
        report["iou"] = iou_json(scores.iou)
        report["raster_ap"] = {score.protocol: raster_json(score, parts.overall) for score in scores.rasters}
    return {**report, "robustness": None if scores.robustness is None else scores.robustness.to_json()}


def write_results(out: Path, task: EvaluationTask, scores: Scores) -> None:
    """`gt.jsonl`, `report.json` and, if asked for, `gallery/`; predictions lie there already.

    Raises:
        OutputError: if one of them cannot be written.
    """
    write_elements(out / "gt.jsonl", task.truth)
    ranked = sorted(scores.runs[0].parts.frame_f1.items(), key=lambda item: -item[1])
    listed = [{"token": token, "scene": task.dataset.scene_of(token).name, "F1": f1} for token, f1 in ranked]
    write_atomically(out / "report.json", _json({**report_of(task, scores), "frames": listed}).encode())
    if task.options.gallery:
        _draw(out / "gallery", task, scores)


def _draw(folder: Path, task: EvaluationTask, scores: Scores) -> None:
    remove_folder(folder / "images")  # of an earlier gallery
    ranked = gallery.extremes(scores.runs[0].parts.frame_f1, task.options.gallery)
    shown = track(ranked, "drawing the gallery", console=Console(stderr=True))
    cards = gallery.draw_frames(folder, task.dataset, shown, scores.runs, task.truth, task.info.grid)
    strip = {}
    if task.corruptions and ranked:
        token = ranked[0][1]
        strip = gallery.draw_corruptions(folder, task.dataset, token, task.truth[token], task.corruptions)
    heads = ", ".join(f"{label.replace('_', ' ')} from {head}" for label, head in task.heads.items())
    keyframes = f"{len(task.truth):,} keyframes of {len(task.scenes)} scenes"
    facts = [
        f"{task.source.dataroot.name}, split {task.split}, {keyframes}",
        f"protocol {task.options.protocol}; heads: {heads}",
    ]
    page = gallery_page(scores.runs[0].name, facts, scores.runs, cards, scores.robustness, strip)
    write_atomically(folder / "index.html", page.encode())


def print_results(task: EvaluationTask, scores: Scores) -> None:
    """Tables, or JSON if asked for."""
    if task.options.as_json:
        print(_json(report_of(task, scores)))
        return
    console, parts = Console(), scores.runs[0].parts
    console.print(score_table(parts.overall))
    for kind, groups in parts.groups.items():
        if len(groups) > 1:
            console.print(group_table(kind, groups))
    if scores.robustness is not None:
        console.print(robustness_table(scores.robustness))
    if scores.iou is not None:
        console.print(iou_table(scores.iou))
        for score in scores.rasters:
            console.print(score_table(score))
        console.print(
            "Chamfer AP is the honest figure; AP as published is only for comparison with the papers' tables. "
            "Crossings count by their two long edges in all of them."
        )
    if task.out is not None:
        page = task.out / "gallery" / "index.html" if task.options.gallery else task.out / "report.json"
        console.print(f"→ {page}", soft_wrap=True, highlight=False)


def _json(report: dict[str, Any]) -> str:
    return json.dumps(report, indent=2)
