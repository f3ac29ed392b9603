"""A score as a table for people and as JSON for programs."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from hdmap_core.elements import MapClass
from hdmap_core.metrics.chamfer_ap import ChamferScore, ClassScore
from hdmap_core.metrics.raster_ap import RasterClassScore, RasterScore


def score_table(score: ChamferScore | RasterScore, title: str | None = None) -> Table:
    """A rich table: a row per class, a column per threshold."""
    classes: Mapping[MapClass, ClassScore | RasterClassScore] = {**score.classes}
    thresholds = list(next(iter(classes.values())).ap)
    caption = f"{score.num_frames} frames, {score.frames_without_prediction} of them not among the predictions"
    kind = "Chamfer AP" if isinstance(score, ChamferScore) else "AP of rasterised lines as published"
    table = Table(title=title or f"{kind}, protocol {score.protocol}", caption=caption)
    table.add_column("class")
    for header in ("truth", "predicted", *(f"AP@{threshold:g} m" for threshold in thresholds), "AP"):
        table.add_column(header, justify="right")
    for label, result in classes.items():
        cells = [f"{result.ap[threshold]:.3f}" for threshold in thresholds]
        counts = f"{result.num_truth:,}", f"{result.num_predictions:,}"
        table.add_row(label.value, *counts, *cells, f"{result.mean_ap:.3f}")
    table.add_section()
    table.add_row("mAP", *[""] * (len(thresholds) + 2), f"{score.mean_ap:.3f}", style="bold")
    return table


def score_json(score: ChamferScore | RasterScore) -> dict[str, Any]:
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


def _class_json(result: ClassScore | RasterClassScore) -> dict[str, Any]:
    values = {
        "AP": result.mean_ap,
        "num_truth": result.num_truth,
        "num_predictions": result.num_predictions,
        "AP_by_threshold": _by_threshold(result.ap),
    }
    if isinstance(result, ClassScore):
        return {**values, "recall_by_threshold": _by_threshold(result.recall)}
    return {**values, "num_frames": result.num_frames}


def _by_threshold(values: Mapping[float, float]) -> dict[str, float]:
    return {f"{threshold:g}": value for threshold, value in values.items()}
