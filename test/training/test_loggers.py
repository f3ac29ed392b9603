"""What a run leaves on the TensorBoard, in Weights & Biases (offline) and in MLflow (a folder), and that it goes on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hdmap_core.config import load_config
from hdmap_core.errors import MissingDependencyError
from training.config import TrainConfig
from training.loggers import open_loggers
from training.run_folder import RunFolder

PICTURE = {"cameras/0": np.zeros((4, 6, 3), np.uint8)}


def written(folder: Path, recipe: Path, *loggers: str, first: int = 0) -> RunFolder:
    names = [f"loggers=[{','.join(loggers)}]"] if loggers else []
    run = RunFolder(folder, load_config(TrainConfig, recipe, ["data.root=x", *names]), {})
    run.begin(first)
    run.log("val", first + 5, {"mAP": 0.25, "AP_divider": 0.5})
    run.show(first + 5, PICTURE)
    return run


def test_the_tensorboard_has_recipe_scores_and_pictures(recipe: Path, tmp_path: Path) -> None:
    written(tmp_path / "run", recipe)
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    tags = board.Tags()
    assert {"val/mAP", "val/AP_divider"} <= set(tags["scalars"]) and tags["images"] == ["cameras/0"]
    (text,) = board.Tensors("recipe/text_summary")
    assert "optim:" in text.tensor_proto.string_val[0].decode()


def test_mlflow(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    written(tmp_path / "run", recipe, "mlflow")
    written(tmp_path / "run", recipe, "mlflow", first=5)
    number = json.loads((tmp_path / "run" / "loggers.json").read_text())["mlflow"]
    client = mlflow.tracking.MlflowClient(f"file:{tmp_path / 'run' / 'mlruns'}")
    found = client.get_run(number)
    assert found.data.params["optim/batch_size"] and found.data.metrics["val/AP_divider"] == 0.5
    assert [entry.step for entry in client.get_metric_history(number, "val/mAP")] == [5, 10], "it went on"
    assert sorted(each.path for each in client.list_artifacts(number, "cameras/0")) == [
        "cameras/0/0000005.png",
        "cameras/0/0000010.png",
    ]


def test_wandb_offline(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    written(tmp_path / "run", recipe, "wandb")
    wandb.finish()
    number = json.loads((tmp_path / "run" / "loggers.json").read_text())["wandb"]
    assert [path.name for path in (tmp_path / "run").rglob("*.wandb")] == [f"run-{number}.wandb"]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_one_that_is_missing_is_told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdmap_core.required_packages.complaint", lambda module: "is gone" if module == name else "")

    def missing(*_: Any) -> Any:
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(f"training.loggers.{name.capitalize()}Run", missing)
    with pytest.raises(MissingDependencyError, match=f"is gone .*pip install .*{name}"):
        open_loggers([name], tmp_path, {})
