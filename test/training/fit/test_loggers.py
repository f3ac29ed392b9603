"""What a run leaves on the TensorBoard, in Weights & Biases (offline) and in MLflow (a folder), and that it goes on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hdmap_core.config import load_config
from hdmap_core.errors import DatasetError, MissingDependencyError
from hdmap_core.models import build_model
from training.config import TrainConfig
from training.data.keyframes import load_keyframes
from training.evaluation.pictures import picture_predictions
from training.fit.loggers import open_loggers
from training.fit.run_folder import RunFolder

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

    monkeypatch.setattr(f"training.fit.loggers.{name.capitalize()}Run", missing)
    with pytest.raises(MissingDependencyError, match=f"is gone .*pip install .*{name}"):
        open_loggers([name], tmp_path, {})


def test_pictures_of_cameras(
    recipe: Path, synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prediction and truth in the images of the same frames; images that are gone end nothing."""
    config = load_config(TrainConfig, recipe, [f"data.root={synthetic_root}", f"data.cache={tmp_path}"])
    frames = load_keyframes(synthetic_root, "val", config.model, keep_inputs=False, cache=tmp_path, workers=1)
    model = build_model(config.model).eval()
    pictures = picture_predictions(model, frames, config, frames.dataset)
    assert {name for name in pictures if name.startswith("cameras")} == {"cameras/0", "cameras/1"}
    assert pictures["cameras/0"].shape == (360, 960, 3) and pictures["cameras/0"].std() > 10

    def gone(*_: Any, **__: Any) -> Any:
        raise DatasetError("cannot read samples/CAM_FRONT/x.jpg")

    loaded = [frames[index] for index in range(len(frames))]
    monkeypatch.setattr(type(frames.dataset), "observation", gone)
    assert set(picture_predictions(model, loaded, config, frames.dataset)) == {"predictions/0", "predictions/1"}
