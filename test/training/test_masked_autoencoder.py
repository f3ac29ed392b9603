"""P-MapNet's stages: the refiner alone learns to complete maps, then the whole model starts from it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from hdmap_core.checkpoint import load_checkpoint
from hdmap_core.errors import CheckpointError, ConfigError
from hdmap_core.inference import load_predictor
from training.config import TrainConfig
from training.data.batches import TrainBatches
from training.data.keyframes import Keyframes, load_keyframes
from training.evaluation.quick_score import true_raster, validation_inputs
from training.fit.run_folder import metrics_of
from training.train import train

Load = Callable[..., TrainConfig]
QUIET = Console(quiet=True)
BEST, STATE = "checkpoints/best.safetensors", "checkpoints/state.safetensors"


def keyframes(config: TrainConfig, split: str = "train") -> Keyframes:
    return load_keyframes(config.data.root, split, config.model, keep_inputs=config.data.keep_inputs, workers=1)


def val_records(folder: Path) -> list[dict[str, float]]:
    return [record for record in metrics_of(folder) if record["phase"] == "val"]


def test_refiner_then_whole_model(dense_config: Load, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    config = dense_config("pmapnet/hd_pretrain", "optim.steps=3")
    best = train(config, first, QUIET)
    scores = val_records(first)[0]
    assert 0 <= best <= 1 and set(scores) >= {"mAP", "mIoU"}
    per_class = [value for name, value in scores.items() if name.startswith("IoU_")]
    assert per_class and scores["mIoU"] == pytest.approx(sum(per_class) / len(per_class), abs=1e-5)
    assert load_checkpoint(first / BEST).config.model == config.model
    with pytest.raises(CheckpointError, match=r"refiner by itself.*start\.hd_refiner"):
        load_predictor(first / BEST, "cpu")

    seen: list[dict[str, torch.Tensor]] = []
    overrides = (f"start.hd_refiner={first}", "optim.steps=2", "save_every=2", "optim.ema=0")
    whole = dense_config("pmapnet/camera_sd_hd", *overrides)

    def started(model: torch.nn.Module) -> None:
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})

    train(whole, second, QUIET, on_model=started)
    refiner = {name: tensor for name, tensor in load_file(first / BEST).items() if name.startswith("hd_refiner.")}
    assert refiner and all(torch.equal(seen[0][name], tensor) for name, tensor in refiner.items())
    after = load_file(second / "checkpoints" / "last.safetensors")
    assert not torch.equal(after["hd_refiner.embed.weight"], seen[0]["hd_refiner.embed.weight"]), "it is trained on"

    # A resumed run needs its first stage no more.
    shutil.rmtree(first)
    train(dense_config("pmapnet/camera_sd_hd", *overrides, "optim.steps=3"), second, QUIET, on_model=started)
    assert [record["step"] for record in val_records(second)] == [2, 3]
    resumed = load_file(second / "checkpoints" / "last.safetensors")
    moved = (resumed["hd_refiner.embed.weight"] - after["hd_refiner.embed.weight"]).abs().max()
    again = (refiner["hd_refiner.embed.weight"] - after["hd_refiner.embed.weight"]).abs().max()
    assert 0 < moved < again, "one step on from where it stood, not from the first stage"
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        train(whole, tmp_path / "new", QUIET)


def test_validation_hides_the_same_each_time(dense_config: Load) -> None:
    config = dense_config("pmapnet/hd_pretrain")
    frames = keyframes(config, "val")
    first, again, other_seed = (
        [validation_inputs(frames[index], index, c).semantic for index in range(2)]
        for c in (config, config, config.model_copy(update={"seed": 5}))
    )
    for index, (a, b, c) in enumerate(zip(first, again, other_seed, strict=True)):
        assert a is not None and torch.equal(a, b) and torch.equal(a, c)
        assert a.shape == (1, 4, *config.model.grid.shape) and (a.sum(dim=1) == 1).all()
        truth = torch.from_numpy(true_raster(frames[index], config)).long()
        shown = a[0, 1:].sum(dim=0) > 0
        assert shown.any() and (a[0].argmax(dim=0)[shown] == truth[shown]).all(), "what is shown is true"
        assert ((truth > 0) & ~shown).any(), "some of it is hidden"


def test_a_batch_depends_on_seed_and_step_only(dense_config: Load) -> None:
    config = dense_config("pmapnet/hd_pretrain", "augment.mirror=0.5", "augment.rotate=10")
    frames = keyframes(config)
    batches = TrainBatches(frames, config)
    later = TrainBatches(keyframes(config), config)[3]
    for _ in range(2):
        batch = batches[3]
        assert batch.hidden is not None and later.hidden is not None
        assert batch.hidden.shape == (2, 3, *config.model.grid.shape) and batch.hidden.dtype == torch.bool
        assert torch.equal(batch.hidden, later.hidden) and batch.tokens == later.tokens
        assert torch.equal(batch.targets.dense.semantic, later.targets.dense.semantic)
    assert not torch.equal(batches[4].hidden, later.hidden)
    other = TrainBatches(frames, config.model_copy(update={"seed": 1}))[3]
    assert not torch.equal(other.hidden, later.hidden)
    divider, crossing, boundary = later.hidden[0]
    assert torch.equal(divider, crossing) and not torch.equal(divider, boundary), "boundaries have blocks of their own"
    moved = batches[3].to("cpu")
    assert torch.equal(moved.hidden, later.hidden)


def test_an_interrupted_run_is_the_uninterrupted_one(dense_config: Load, tmp_path: Path) -> None:
    schedule = ("optim.schedule=step", "optim.milestones=[]")
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    train(dense_config("pmapnet/hd_pretrain", *schedule, "optim.steps=4"), whole, QUIET)
    for steps in (2, 4):
        train(dense_config("pmapnet/hd_pretrain", *schedule, f"optim.steps={steps}"), parted, QUIET)
    expected, found = (load_file(folder / STATE) for folder in (whole, parted))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, atol=0, rtol=0, msg=name)


def test_kept_inputs_are_none_for_a_refiner(dense_config: Load, tmp_path: Path) -> None:
    """A store of ground pixels for the same grid must not reach it, nor the other way round."""
    config = dense_config("pmapnet/hd_pretrain", "data.keep_inputs=true")
    ground = dense_config("tiny/ground", "data.keep_inputs=true")
    assert ground.model.grid == config.model.grid
    for first, second in ((config, ground), (ground, config)):
        cache = tmp_path / first.model.name
        found = {}
        for each in (first, second):
            frames = load_keyframes(each.data.root, "train", each.model, keep_inputs=True, cache=cache, workers=1)
            found[each.model.name] = set(frames.inputs)
        assert found == {config.model.name: set(), ground.model.name: {"ground"}}


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("pmapnet/hd_pretrain", ["objective=supervised"], "belong together"),
        ("pmapnet/camera_sd_hd", ["objective=masked_autoencoder"], "belong together"),
        ("pmapnet/hd_pretrain", ["model.hd_refiner=null"], "give hd_refiner"),
        ("pmapnet/hd_pretrain", ["model.dense={}"], "null for backbone, lidar, sd_prior, bottleneck, bev_encoder"),
        ("pmapnet/hd_pretrain", ["model.sd_prior={}"], "null for backbone, lidar"),
        ("pmapnet/hd_pretrain", ["decode.head=vectors"], "'vectors', which the model has not; it has dense"),
        ("pmapnet/hd_pretrain", ["augment.photometric=1"], "augment.photometric"),
        ("pmapnet/hd_pretrain", ["masking.ratio=[0.7, 0.2]"], "the least share comes first"),
        ("pmapnet/hd_pretrain", ["model.classes=[divider, divider]"], "none twice"),
        ("pmapnet/hd_pretrain", ["model.hd_refiner.patch=1"], "hd_refiner.patch"),
        ("pmapnet/camera_sd_hd", ["model.dense.directions=18"], "hd_refiner.dense.directions is 36"),
        ("pmapnet/camera_sd_hd", ["model.hd_refiner.dense.line_cells=7"], "dense.line_cells is 3, hd_refiner"),
        ("pmapnet/camera_sd", ["model.dense.directions=256"], "dense.directions"),
        ("pmapnet/camera_sd", ["model.auxiliary={image_lines: false}"], "auxiliary.bev_lines=false"),
        ("tiny/ground", ["best_by=mIoU"], "needs the dense heads"),
        ("tiny/ground", ["model.hd_refiner={}"], "give dense as well"),
        ("pmapnet/camera_sd", ["model.bev_encoder={kind: unet}"], "bev_encoder"),
        ("pmapnet/camera_sd", ["model.segmentation={}"], "belong together"),
        ("pmapnet/camera_sd", ["model.backbone.cameras=[]"], "weights per camera"),
        ("pmapnet/simulated_sd", ["model.lidar.backbone.image_size=[64, 64]"], "both see the same images"),
        ("pmapnet/simulated_sd", ["model.lidar.backbone.cameras=[CAM_FRONT]"], "must be empty or backbone.cameras"),
    ],
)
def test_what_does_not_belong_together(dense_config: Load, name: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        dense_config(name, *overrides)
    assert message in str(refused.value)
