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
from training.run_folder import metrics_of

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


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


def every_job(experiment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list:
    monkeypatch.setattr(experiment, "CHOSEN", dict.fromkeys(experiment.TRIED, 0.3))
    trials = [experiment.trial(row, factor) for row in experiment.TRIED for factor in experiment.FACTORS]
    return experiment.with_sources([*trials, *(experiment.student(row, 0) for row in experiment.ROWS)])


def test_every_run_is_a_recipe_and_comes_after_what_it_takes(
    experiment: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = every_job(experiment, monkeypatch)
    names = [job.name for job in jobs]
    assert {"teacher", "coach", "refiner", *experiment.ROWS} <= set(names) and len(set(names)) == len(names)
    recipe = experiment.run.__globals__["RECIPE"]
    for job in jobs:
        assert all(names.index(name) < names.index(job.name) for name in job.takes.values())
        taken = [f"{field}={name}" for field, name in job.takes.items()]
        config = load_config(TrainConfig, recipe, [*job.deviations, *taken])
        assert {term.source for term in config.distillation} == set(config.sources)


def test_factors_scale_all_terms_and_must_be_chosen(experiment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = experiment.run.__globals__["RECIPE"]
    deviations = [*experiment.trial("MapKD meant", 0.1).deviations, "sources.teacher=t", "sources.coach=c"]
    config = load_config(TrainConfig, recipe, deviations)
    assert [term.weight for term in config.distillation] == pytest.approx([0.05, 0.075, 0.025, 0.025])
    monkeypatch.setattr(experiment, "CHOSEN", {})
    assert experiment.student("none", 0).takes == {}
    with pytest.raises(SystemExit, match="no factor has been chosen for MapKD meant"):
        experiment.student("MapKD meant", 0)


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
    wrong = experiment.Job("wrong", 0, ["optim.batch_size=0"], {}, 0)
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
