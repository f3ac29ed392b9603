"""How much a score suffers from corruptions: mean corruption error and mean resilience rate.

With mAP in 0..1, kinds of corruption i = 1..N and severities s = 1..3 (as RoboBEV and Robo3D define them, there with
other scores):

    CE_i = sum_s (1 - mAP_i,s) / sum_s (1 - baseline's mAP_i,s)       mCE = mean of CE_i;  below 1: better than baseline
    RR_i = sum_s mAP_i,s / (3 mAP_clean)                              mRR = mean of RR_i;  1: nothing is lost

RR divides by the model's own clean score, so a model that is bad everywhere can have a high mRR: read both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from hdmap_core.metrics.breakdown_report import number
from training.corruptions import SEVERITIES


@dataclass(frozen=True)
class Robustness:
    """mAP of a model, and of a baseline, under corruptions.

    Attributes:
        clean: mAP without corruption.
        by_kind: kind of corruption -> mAP at severity 1, 2, 3.
        baseline_name: for tables; None without a baseline.
        baseline: kind -> mAP at severity 1, 2, 3 of the baseline, or None.
    """

    clean: float
    by_kind: Mapping[str, tuple[float, ...]]
    baseline_name: str | None = None
    baseline: Mapping[str, tuple[float, ...]] | None = None

    def corruption_error(self, kind: str) -> float | None:
        """CE_i; None without a baseline, or if the baseline makes no error."""
        if self.baseline is None:
            return None
        theirs = sum(1 - score for score in self.baseline[kind])
        return sum(1 - score for score in self.by_kind[kind]) / theirs if theirs > 0 else None

    def resilience_rate(self, kind: str) -> float | None:
        """RR_i; None if the clean score is 0."""
        scores = self.by_kind[kind]
        return sum(scores) / (len(scores) * self.clean) if self.clean > 0 else None

    @property
    def mean_corruption_error(self) -> float | None:
        """mCE; None if any CE_i is."""
        return _mean([self.corruption_error(kind) for kind in self.by_kind])

    @property
    def mean_resilience_rate(self) -> float | None:
        """mRR; None if any RR_i is."""
        return _mean([self.resilience_rate(kind) for kind in self.by_kind])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; null where a figure does not exist."""
        return {
            "clean_mAP": self.clean,
            "baseline": self.baseline_name,
            "mCE": self.mean_corruption_error,
            "mRR": self.mean_resilience_rate,
            "corruptions": {
                kind: {
                    "mAP_by_severity": list(scores),
                    "CE": self.corruption_error(kind),
                    "RR": self.resilience_rate(kind),
                    "baseline_mAP_by_severity": None if self.baseline is None else list(self.baseline[kind]),
                }
                for kind, scores in self.by_kind.items()
            },
        }


def robustness_table(result: Robustness) -> Table:
    """A rich table: a row per kind of corruption, and the means."""
    against = f"; CE against {result.baseline_name}" if result.baseline_name else "; no baseline, so no CE"
    table = Table(title="mAP under corruptions, by severity", caption=f"clean {result.clean:.3f}{against}")
    table.add_column("corruption", no_wrap=True)
    for header in (*(f"mAP, {severity}" for severity in SEVERITIES), "mean", "RR", "CE"):
        table.add_column(header, justify="right")
    for kind, scores in result.by_kind.items():
        rates = number(result.resilience_rate(kind)), number(result.corruption_error(kind))
        table.add_row(kind, *map(number, scores), number(float(np.mean(scores))), *rates)
    table.add_section()
    means = number(result.mean_resilience_rate), number(result.mean_corruption_error)
    table.add_row("mRR, mCE", *[""] * (len(SEVERITIES) + 1), *means, style="bold")
    return table


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
