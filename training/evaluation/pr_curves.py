"""Precision over recall as small SVG charts, one per class, of one run or of two."""

from collections.abc import Mapping
from html import escape

import numpy as np

from hdmap_core.elements import MapClass
from hdmap_core.metrics.chamfer_ap import ChamferScore, ClassScore

_WIDTH, _HEIGHT, _LEFT, _BELOW, _ABOVE = 300, 230, 34, 30, 8
_DASHES = ("", "7 4", "2 4")  # of the thresholds, the strictest first
_MOST_POINTS = 200


def pr_curves(scores: Mapping[str, ChamferScore]) -> str:
    """A chart per class.

    Args:
        scores: name of a run -> its score; the first is drawn in colour, a second in grey.
    """
    first = next(iter(scores.values()))
    charts = "".join(
        _chart(label, {name: score.classes[label] for name, score in scores.items() if label in score.classes})
        for label in first.classes
    )
    return f'<div class="tables">{charts}</div>'


def _chart(label: MapClass, runs: Mapping[str, ClassScore]) -> str:
    lines, keys = [], []
    for number, (name, score) in enumerate(runs.items()):
        style = label.value if number == 0 else "other"
        for dash, (threshold, curve) in zip(_DASHES * len(score.curves), score.curves.items(), strict=False):
            told = f"{name}, {threshold:g} m: AP {score.ap[threshold]:.3f}"
            drawn = f'class="curve {style}" stroke-dasharray="{dash}" d="{_path(*curve)}"'
            lines.append(f"<path {drawn}><title>{escape(told)}</title></path>")
        keys.append(f"{name}: AP {score.mean_ap:.3f}" if len(runs) > 1 else f"AP {score.mean_ap:.3f}")
    ticks = "".join(_tick(value) for value in (0.0, 0.5, 1.0))
    title = label.value.replace("_", " ")
    return (
        f'<figure class="chart"><figcaption>{escape(title)} '
        f'<span class="soft">{escape("; ".join(keys))}</span></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Precision over recall of {escape(title)}">'
        f'{ticks}<text x="{_WIDTH - 4}" y="{_HEIGHT - _BELOW - 6}" text-anchor="end">recall</text>'
        f'<text x="{_LEFT + 6}" y="{_ABOVE + 12}">precision</text>{"".join(lines)}</svg></figure>'
    )


def _path(recall: np.ndarray, precision: np.ndarray) -> str:
    """The envelope, from recall 0 to the last that is reached."""
    if not len(recall):
        return "M0 0"
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    keep = np.unique(np.linspace(0, len(recall) - 1, min(len(recall), _MOST_POINTS)).round().astype(int))
    points = [(0.0, float(envelope[0])), *zip(recall[keep].tolist(), envelope[keep].tolist(), strict=True)]
    return "M" + "L".join("{:.1f} {:.1f}".format(*_at(x, y)) for x, y in points)


def _at(recall: float, precision: float) -> tuple[float, float]:
    wide, high = _WIDTH - _LEFT - 8, _HEIGHT - _ABOVE - _BELOW
    return _LEFT + recall * wide, _ABOVE + (1 - precision) * high


def _tick(value: float) -> str:
    (x, bottom), (left, y) = _at(value, 0.0), _at(0.0, value)
    _, top = _at(value, 1.0)
    right, _ = _at(1.0, value)
    return (
        f'<path class="axis" d="M{x:.1f} {bottom:.1f}L{x:.1f} {top:.1f}M{left:.1f} {y:.1f}L{right:.1f} {y:.1f}"/>'
        f'<text x="{x:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">{value:g}</text>'
        f'<text x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    )
