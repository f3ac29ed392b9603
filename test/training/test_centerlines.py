"""A recipe with centerlines among its classes: from the map through targets and a step to the score."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hdmap_core.checkpoint import CheckpointConfig, save_checkpoint
from hdmap_core.elements import MapClass, read_elements
from hdmap_core.models import build_model
from training.config import TrainConfig
from training.data.batches import TrainBatches
from training.data.keyframes import load_keyframes
from training.evaluation.quick_score import quick_score
from training.objectives import supervised

CLASSES = "model.classes=[divider, ped_crossing, boundary, centerline]"


def test_from_the_map_to_the_score(
    synthetic_root: Path, tiny_config: Callable[..., TrainConfig], hdmap: Callable[..., Any], tmp_path: Path
) -> None:
    config = tiny_config(
        CLASSES, "model.grid.x_range=[-14.4, 14.4]", "model.grid.y_range=[-9.6, 9.6]", "decode.head=vectors"
    )
    frames = load_keyframes(
        synthetic_root, "train", config.model, keep_inputs=True, sweeps=0, cache=tmp_path / "cache", workers=1
    )
    lanes = [e for frame in (frames[0], frames[1]) for e in frame.elements if e.label is MapClass.CENTERLINE]
    assert lanes and not any(lane.closed for lane in lanes)

    batch = TrainBatches(frames, config)[0]
    targets = batch.targets
    for labels, owners in zip(targets.labels, targets.owners, strict=True):
        for index in torch.nonzero(labels == 3).flatten().tolist():
            assert (owners == index).sum() == 1, "one direction"
    assert (targets.labels == 3).any()
    torch.manual_seed(0)
    model = build_model(config.model)
    terms = supervised(model, batch, config)
    assert terms and all(torch.isfinite(term) for term in terms.values())
    assert set(quick_score(model.eval(), frames, config)) >= {"mAP"}

    path = tmp_path / "model.safetensors"
    published = CheckpointConfig(model=config.model, decode=config.decode)
    save_checkpoint(path, model, published, {"dataset": "none"})
    out = tmp_path / "out"
    ended = hdmap("evaluate", path, synthetic_root, "--device", "cpu", "-o", out)
    assert ended.code == 0, ended.err
    score = json.loads((out / "report.json").read_text())
    truth = [e for elements in read_elements(out / "gt.jsonl").values() for e in elements]
    assert score["classes"]["centerline"]["num_truth"] == sum(e.label is MapClass.CENTERLINE for e in truth) > 0
    assert score["mAP"] == pytest.approx(sum(c["AP"] for c in score["classes"].values()) / 4)
