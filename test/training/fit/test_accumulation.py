"""Micro-batches one after the other against the batch of all of them."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from training.config import TrainConfig
from training.data.keyframes import Keyframe
from training.fit.run_folder import metrics_of


def test_two_micro_batches_are_a_batch(
    tiny_config: Callable[..., TrainConfig],
    keyframes: Callable[[TrainConfig], list[Keyframe]],
    ddp_worker: ModuleType,
    tmp_path: Path,
) -> None:
    """Each micro-batch divides by its own number of elements and pools its own dice score; batch norms see it alone.

    So frames have one element each, dice is left out, and the model has no batch norms: then nothing may differ.
    """
    models, logs = [], []
    for accumulate in (1, 2):
        config = tiny_config(
            *("optim.batch_size=4", f"optim.accumulate={accumulate}", "optim.steps=3", "loss.mask_dice=0"),
            *("log_every=1", "save_every=100", "data.workers=1"),
        )
        folder = tmp_path / str(accumulate)
        models.append(ddp_worker.train(config, folder, 1, "ddp", frames=keyframes(config)))
        logs.append([record for record in metrics_of(folder) if record["phase"] == "train"])
    assert len({record["loss"] for record in logs[0]}) == 3
    for whole, parts in zip(*logs, strict=True):
        for name in ("loss", "class", "points", "direction", "mask_bce", "grad_norm", "lr"):
            assert parts[name] == pytest.approx(whole[name], rel=2e-4, abs=2e-5), (whole["step"], name)
    for (name, whole), parts in zip(models[0].state_dict().items(), models[1].state_dict().values(), strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-3, atol=2e-4, msg=lambda text, at=name: f"{at}: {text}")
