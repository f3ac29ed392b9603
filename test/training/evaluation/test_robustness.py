"""mCE and mRR against numbers worked out by hand."""

import pytest
from rich.console import Console

from training.evaluation.robustness import Robustness, robustness_table

OURS = {"fog": (0.4, 0.3, 0.2), "snow": (0.5, 0.5, 0.5)}
BASELINE = {"fog": (0.2, 0.1, 0.0), "snow": (0.5, 0.4, 0.3)}


def test_by_hand() -> None:
    result = Robustness(0.5, OURS, "other", BASELINE)
    # CE: fog (0.6 + 0.7 + 0.8) / (0.8 + 0.9 + 1.0), snow 1.5 / (0.5 + 0.6 + 0.7). RR: fog 0.9 / 1.5, snow 1.5 / 1.5.
    assert result.corruption_error("fog") == pytest.approx(2.1 / 2.7)
    assert result.corruption_error("snow") == pytest.approx(1.5 / 1.8)
    assert result.resilience_rate("fog") == pytest.approx(0.6)
    assert result.mean_corruption_error == pytest.approx((2.1 / 2.7 + 1.5 / 1.8) / 2)
    assert result.mean_resilience_rate == pytest.approx(0.8)


def test_a_model_against_itself_has_error_one() -> None:
    assert Robustness(0.5, OURS, "itself", OURS).mean_corruption_error == pytest.approx(1.0)


def test_what_cannot_be_said_is_none() -> None:
    alone = Robustness(0.5, OURS)
    assert alone.mean_corruption_error is None and alone.mean_resilience_rate is not None
    assert Robustness(0.0, OURS).mean_resilience_rate is None
    perfect = dict.fromkeys(OURS, (1.0, 1.0, 1.0))
    assert Robustness(0.5, OURS, "perfect", perfect).mean_corruption_error is None


def test_table_and_json() -> None:
    result = Robustness(0.5, OURS, "other", BASELINE)
    console = Console(width=100, record=True)
    console.print(robustness_table(result))
    text = console.export_text()
    assert all(part in text for part in ("fog", "snow", "0.600", "0.778", "other", "clean 0.500"))
    plain = result.to_json()
    assert plain["corruptions"]["fog"]["mAP_by_severity"] == [0.4, 0.3, 0.2] and plain["mRR"] == pytest.approx(0.8)
