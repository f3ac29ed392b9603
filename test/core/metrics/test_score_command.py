"""`hdmap score` on files, good and bad."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from hdmap_core.elements import MapClass, MapElement, write_elements
from hdmap_core.errors import ConfigError, ElementError, HdmapError
from hdmap_core.metrics.cli import score


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command("score")(score)
    app.callback()(lambda: None)
    return app


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    path = tmp_path / "gt.jsonl"
    element = MapElement(MapClass.DIVIDER, np.array([[0, 0], [10, 0]]))
    write_elements(path, {"a": [element], "b": []})
    return path


def test_json(app: typer.Typer, truth: Path) -> None:
    result = CliRunner().invoke(app, ["score", str(truth), str(truth), "--json"])
    assert result.exit_code == 0, result.output
    score = json.loads(result.output)
    assert score["mAP"] == pytest.approx(1 / 3)
    assert score["classes"]["divider"]["AP_by_threshold"] == {"0.5": 1.0, "1": 1.0, "1.5": 1.0}
    assert (score["num_frames"], score["frames_without_prediction"]) == (2, 0)


def test_centerlines_count_where_the_truth_has_some(app: typer.Typer, truth: Path, tmp_path: Path) -> None:
    line = np.array([[0, 0], [10, 0]])
    both = tmp_path / "both.jsonl"
    write_elements(both, {"a": [MapElement(MapClass.DIVIDER, line), MapElement(MapClass.CENTERLINE, line)], "b": []})

    def scored(pred: Path, gt: Path) -> dict[str, Any]:
        return json.loads(CliRunner().invoke(app, ["score", str(pred), str(gt), "--json"]).output)

    assert scored(both, both)["classes"]["centerline"]["AP"] == pytest.approx(1.0)
    assert scored(both, both)["mAP"] == pytest.approx(2 / 4)
    assert scored(truth, both)["mAP"] == pytest.approx(1 / 4)
    assert "centerline" not in scored(both, truth)["classes"]


@pytest.mark.parametrize("protocol", ["maptr", "mapqr", "streammapnet"])
def test_table(app: typer.Typer, truth: Path, protocol: str) -> None:
    result = CliRunner().invoke(app, ["score", str(truth), str(truth), "--protocol", protocol])
    assert result.exit_code == 0, result.output
    assert "divider" in result.output
    assert "mAP" in result.output


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"token": "a", "elements": [{"label": "kerb", "points": [[0, 0], [1, 1]]}]}', "line 1.*unknown label 'kerb'"),
        ('{"token": "a", "elements": [{"label": "divider", "points": [[0, NaN], [1, 1]]}]}', "line 1.*not finite"),
        ('{"token": "a", "elements": [{"label": "divider", "points": [[0, 0]]}]}', "line 1.*at least 2 points"),
        ('{"token": "a", "elements": []}\n{"token": "a", "elements": []}', "line 2: frame 'a' occurs twice"),
        ('{"token": "z", "elements": []}', "no ground truth"),
        ('{"token": "a"', "not JSON lines"),
    ],
)
def test_bad_predictions_are_named(app: typer.Typer, truth: Path, tmp_path: Path, line: str, message: str) -> None:
    bad = tmp_path / "pred.jsonl"
    bad.write_text(line)
    result = CliRunner().invoke(app, ["score", str(bad), str(truth)])
    assert isinstance(result.exception, HdmapError)
    with pytest.raises(ElementError, match=message):
        raise result.exception


def test_missing_file(app: typer.Typer, truth: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["score", str(tmp_path / "none.jsonl"), str(truth)])
    assert isinstance(result.exception, ElementError)
    assert "none.jsonl" in str(result.exception)


@pytest.mark.parametrize("protocol", ["hdmapnet", "hdmapnet-code", "pmapnet"])
def test_published_figures_have_the_honest_one_beside_them(app: typer.Typer, truth: Path, protocol: str) -> None:
    arguments = ["score", str(truth), str(truth), "--protocol", protocol, "--grid", "60x30"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    score = json.loads(result.output)
    assert (score["protocol"], score["honest"]["protocol"]) == (protocol, "maptr")
    assert score["mAP"] == score["honest"]["mAP"] == pytest.approx(1 / 3)
    tables = CliRunner().invoke(app, arguments).output
    assert f"as published, protocol {protocol}" in " ".join(tables.split())
    assert "Honest: Chamfer AP of vectors, protocol maptr" in " ".join(tables.split())


def test_the_grid_cuts_lines(app: typer.Typer, truth: Path) -> None:
    arguments = ["score", str(truth), str(truth), "--protocol", "hdmapnet", "--json", "--grid"]
    near = json.loads(CliRunner().invoke(app, [*arguments, "6x6@0.3"]).output)
    assert near["classes"]["divider"]["num_truth"] == 1


@pytest.mark.parametrize("grid", ["60", "60x", "axb", "60x30@", "60x30@0.7", "0x30"])
def test_bad_grid(app: typer.Typer, truth: Path, grid: str) -> None:
    result = CliRunner().invoke(app, ["score", str(truth), str(truth), "--protocol", "hdmapnet", "--grid", grid])
    assert isinstance(result.exception, ConfigError)


def test_unknown_protocol_lists_all(app: typer.Typer, truth: Path) -> None:
    result = CliRunner().invoke(app, ["score", str(truth), str(truth), "--protocol", "mapnet"])
    assert isinstance(result.exception, ElementError)
    for name in ("maptr", "mapqr", "streammapnet-100x50", "hdmapnet-code", "pmapnet"):
        assert name in str(result.exception)
