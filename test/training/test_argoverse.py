"""The verbs of `hdmap` on Argoverse 2 logs, and the same score as on the nuScenes folder of the same drives."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hdmap_core.datasets.opening import open_dataset
from hdmap_core.inference import default_weights

Verb = Callable[..., Any]
RECIPE = Path(__file__).resolve().parents[2] / "config" / "recipes" / "tiny" / "ground.yaml"
SHORT = (
    "optim.steps=2", "optim.batch_size=1", "optim.warmup_steps=1", "evaluate_every=2", "evaluate_frames=2",
    "save_every=2", "data.workers=1", "data.keep_inputs=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def other_logs(argoverse_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of its own, for caches."""
    root = tmp_path_factory.mktemp("verbs") / "logs"
    root.mkdir()
    for path in argoverse_world.iterdir():
        if path.name != "cache":
            (root / path.name).symlink_to(path)
    return root


def test_prepare_train_and_evaluate(other_logs: Path, tmp_path: Path, hdmap: Verb) -> None:
    prepared = hdmap("prepare", other_logs, "--split", "train", "--split", "val", "--decode", "--workers", "1")
    assert prepared.code == 0, prepared.err
    run = tmp_path / "run"
    trained = hdmap("train", RECIPE, f"data.root={other_logs}", *SHORT, "-o", run)
    assert trained.code == 0, trained.err
    evaluated = hdmap("evaluate", run, other_logs, "--split", "val", "--version", "10hz", "--json")
    assert evaluated.code == 0, evaluated.err
    assert math.isfinite(json.loads(evaluated.out)["mAP"])


def test_the_score_is_that_of_the_nuscenes_folder(sensor_world: Path, other_logs: Path, hdmap: Verb) -> None:
    reports = []
    for root in (sensor_world, other_logs):
        ended = hdmap("evaluate", default_weights(), root, "--split", "val", "--json")
        assert ended.code == 0, ended.err
        report = json.loads(ended.out)
        reports.append([report["mAP"], *(each["AP"] for each in report["classes"].values())])
    assert reports[0] == pytest.approx(reports[1], abs=1e-6)


def test_predict(other_logs: Path, tmp_path: Path, hdmap: Verb) -> None:
    token = open_dataset(other_logs).tokens[0]
    ended = hdmap("predict", default_weights(), other_logs, "--sample", token, "-o", tmp_path / "map.png")
    assert ended.code == 0, ended.err
    assert (tmp_path / "map.png").stat().st_size > 1000
