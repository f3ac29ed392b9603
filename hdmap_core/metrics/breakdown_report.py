"""A breakdown as tables for people and as JSON for programs."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from hdmap_core.metrics.breakdown import Breakdown, GroupScore


def group_table(kind: str, groups: Sequence[GroupScore], most: int = 12) -> Table:
    """A rich table: a row per group, a column per class.

    Args:
        kind: what is compared, for the title.
        groups: at least one.
        most: of more groups than these, the worst are shown.
    """
    classes = list(groups[0].ap)
    shown = list(groups)
    caption = None
    if len(groups) > most:
        shown = sorted(groups, key=lambda group: 2.0 if group.mean_ap is None else group.mean_ap)[:most]
        caption = f"the {most} worst of {len(groups)}"
    table = Table(title=f"by {kind}", caption=caption)
    table.add_column(kind, no_wrap=True)
    for header in ("frames", "truth", *(label.value for label in classes), "mAP"):
        table.add_column(header, justify="right")
    for group in shown:
        counts = f"{group.num_frames:,}", f"{group.num_truth:,}"
        table.add_row(group.name, *counts, *(number(group.ap[label]) for label in classes), number(group.mean_ap))
    return table


def breakdown_json(parts: Breakdown) -> dict[str, list[dict[str, Any]]]:
    """What is compared -> its groups as plain JSON values; AP is null where there is no ground truth."""
    return {
        kind: [
            {
                "name": group.name,
                "mAP": group.mean_ap,
                "num_frames": group.num_frames,
                "num_truth": group.num_truth,
                "num_predictions": group.num_predictions,
                "AP": {label.value: ap for label, ap in group.ap.items()},
            }
            for group in groups
        ]
        for kind, groups in parts.groups.items()
    }


def number(value: float | None) -> str:
    """A score with three digits, or a dash."""
    return "–" if value is None else f"{value:.3f}"
