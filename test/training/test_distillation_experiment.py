"""The experiment script: what it plans, that a run lands and is scored, and the table that run folders make."""

import argparse
import importlib
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from hdmap_core.config import load_config
from training.config import TrainConfig
from training.fit.run_folder import metrics_of

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
RECIPE = EXPERIMENTS / "mapkd_rows.yaml"


@pytest.fixture
def experiment(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    return importlib.import_module("distillation")


@pytest.fixture
def world(synthetic_root: Path, tmp_path: Path) -> Path:
    """The small world; its town of val is its town of test too."""
    root = tmp_path / "world"
    shutil.copytree(synthetic_root, root, ignore=shutil.ignore_patterns("cache"))
    for path in root.glob("v1.0-*/splits.json"):
        splits = json.loads(path.read_text())
        path.write_text(json.dumps({**splits, "test": splits["val"]}))
    return root


def scored(folder: Path, **scores: float) -> None:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text(json.dumps({"phase": "val", "step": 120, **scores}) + "\n")


def test_every_run_is_a_recipe_and_comes_after_what_it_needs(experiment: ModuleType, tmp_path: Path) -> None:
    rows = [*experiment.ROWS, *experiment.ABLATIONS]
    jobs = experiment.with_needs([experiment.student(row, seed) for seed in (0, 1) for row in rows])
    names = [job.folder(tmp_path) for job in jobs]
    assert len(set(names)) == len(names) == 5 + len(experiment.TRIED) * len(experiment.FACTORS) + 2 * len(rows)
    for job in jobs:
        position = names.index(job.folder(tmp_path))
        assert all(names.index(need.folder(tmp_path)) < position for need in job.needs)
        for need in job.trials:
            if not need.folder(tmp_path).is_dir():
                scored(need.folder(tmp_path), mIoU=0.2, mAP=need.factor == 0.3)
        config = load_config(TrainConfig, RECIPE, job.recipe(tmp_path))
        assert {term.source for term in config.distillation} == set(config.sources)
        assert bool(job.frames) == (job.name in (*rows, "teacher", "coach"))


def test_a_row_takes_the_factor_that_was_best_on_val(experiment: ModuleType, tmp_path: Path) -> None:
    for factor, overlap, precision in ((0.1, 0.4, 0.1), (0.3, 0.3, 0.3), (1.0, 0.5, 0.0)):
        scored(experiment.trial("MapKD meant, no coach", factor).folder(tmp_path), mIoU=overlap, mAP=precision)
    for row, wanted in (
        ("MapKD meant, no coach", [0.15, 0.225]),
        ("MapKD meant", [0.15, 0.225, 0.075, 0.075]),
        ("MapKD meant, no TGPD", [0.225, 0.075]),
    ):
        config = load_config(TrainConfig, RECIPE, experiment.student(row, 1).recipe(tmp_path))
        assert [term.weight for term in config.distillation] == pytest.approx(wanted), row
    assert "| MapKD meant, no coach | 0.400, 0.100 | 0.300, 0.300 | 0.500, 0.000 | x0.3 |" in experiment.trials_table(
        tmp_path
    )


def test_all_trains_scores_and_repeats_nothing(
    experiment: ModuleType, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = argparse.Namespace(dataroot=world, out=tmp_path / "runs", steps=1, jobs=1)
    job = experiment.student("none", 0)
    experiment.do_all([job], arguments)
    scores = json.loads((tmp_path / "runs/none-0/test.json").read_text())
    assert 0 <= scores["mIoU"] <= 1 and scores["parameters_m"] == pytest.approx(0.20, abs=0.01)
    assert [record["step"] for record in metrics_of(tmp_path / "runs/none-0") if record["phase"] == "val"] == [1]
    assert "none-0: done" in capsys.readouterr().out
    experiment.do_all([job], arguments)
    assert capsys.readouterr().out == ""


def test_a_run_that_fails_is_named_and_the_others_are_done(experiment: ModuleType, world: Path, tmp_path: Path) -> None:
    arguments = argparse.Namespace(dataroot=world, out=tmp_path / "runs", steps=1, jobs=2)
    wrong = experiment.Job("wrong", 0, ["optim.batch_size=0"], [], {})
    with pytest.raises(SystemExit, match=r"not done: wrong-0; .*log"):
        experiment.do_all([wrong, experiment.student("none", 0)], arguments)
    assert experiment.student("none", 0).is_done(arguments.out)


def test_the_table_says_shares_of_the_lead_and_what_is_missing(experiment: ModuleType, tmp_path: Path) -> None:
    scores = {
        "teacher-0": (0.7, 0.5),
        "none-0": (0.5, 0.3),
        "none-1": (0.4, 0.3),
        "MapKD meant-0": (0.6, 0.4),
        "MapKD meant-1": (0.7, 0.35),
        "UniDistill-0": (0.45, 0.3),
    }
    for name, (overlap, precision) in scores.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "test.json").write_text(json.dumps({"mIoU": overlap, "mAP": precision}))
    said = experiment.table(["none", "UniDistill", "MapKD meant"], [0, 1], tmp_path)
    assert (
        "| MapKD meant | 2 | 0.650 ± 0.071 | 0.600, 0.700 | 75% ± 35% | 50%, 100% | 0.375 ± 0.035 | 0.400, 0.350 |"
        in said
    )
    assert "| 38% ± 18% | 50%, 25% |" in said
    assert "| UniDistill | 1 | 0.450 | 0.450 | -25% | -25% |" in said
    assert "| teacher | 1 | 0.700 |" in said
    assert said.endswith("Missing: UniDistill-1")
