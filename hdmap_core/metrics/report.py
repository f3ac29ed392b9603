"""A score as a table for people and as JSON for programs."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from hdmap_core.metrics.chamfer_ap import C, ChamferScore, ClassAP, ClassScore, Score
from hdmap_core.metrics.raster_ap import RasterClassScore, RasterScore


def score_table(score: Score[C], title: str | None = None) -> Table:
    """A rich table: a row per class, a column per threshold."""
    thresholds = list(next(iter(score.classes.values())).ap)
    caption = f"{score.num_frames} frames, {score.frames_without_prediction} of them not among the predictions"
    kind = "Chamfer AP" if isinstance(score, ChamferScore) else "AP of rasterised lines as published"
    table = Table(title=title or f"{kind}, protocol {score.protocol}", caption=caption)
    table.add_column("class")
    for header in ("truth", "predicted", *(f"AP@{threshold:g} m" for threshold in thresholds), "AP"):
        table.add_column(header, justify="right")
    for label, result in score.classes.items():
        cells = [f"{result.ap[threshold]:.3f}" for threshold in thresholds]
        counts = f"{result.num_truth:,}", f"{result.num_predictions:,}"
        table.add_row(label.value, *counts, *cells, f"{result.mean_ap:.3f}")
    table.add_section()
    table.add_row("mAP", *[""] * (len(thresholds) + 2), f"{score.mean_ap:.3f}", style="bold")
    return table


def score_json(score: Score[C]) -> dict[str, Any]:
    """The same as plain JSON values; thresholds are keys such as "0.5"."""
    return {
        "protocol": score.protocol,
        "mAP": score.mean_ap,
        "num_frames": score.num_frames,
        "frames_without_prediction": score.frames_without_prediction,
        "classes": {label.value: _class_json(result) for label, result in score.classes.items()},
    }


def raster_json(published: RasterScore, honest: ChamferScore) -> dict[str, Any]:
    """A paper's own figure as plain JSON values, with the vector AP under "honest"."""
    return {**score_json(published), "honest": score_json(honest)}


def _class_json(result: ClassAP) -> dict[str, Any]:
    values: dict[str, Any] = {
        "AP": result.mean_ap,
        "num_truth": result.num_truth,
        "num_predictions": result.num_predictions,
        "AP_by_threshold": _by_threshold(result.ap),
    }
    if isinstance(result, ClassScore):
        values["recall_by_threshold"] = _by_threshold(result.recall)
    if isinstance(result, RasterClassScore):
        values["num_frames"] = result.num_frames
    return values


def _by_threshold(values: Mapping[float, float]) -> dict[str, float]:
    return {f"{threshold:g}": value for threshold, value in values.items()}
