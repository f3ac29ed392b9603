"""The objective through the whole loop: who learns, who does not, and that a run goes on as if it had not ended."""

import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn

from hdmap_core.checkpoint import load_checkpoint
from hdmap_core.errors import CheckpointError, ConfigError
from hdmap_core.models import build_model
from training.config import TrainConfig
from training.data.batches import TrainBatches
from training.data.keyframes import load_keyframes, sweeps_for
from training.data.seen_by import taught_keyframes
from training.distill.objective import Distillation
from training.distill.sources import Source, load_sources
from training.fit.run_folder import metrics_of
from training.train import train

Load = Callable[..., TrainConfig]
QUIET = Console(quiet=True)
LAST, STATE = "checkpoints/last.safetensors", "checkpoints/state.safetensors"


def batches_of(config: TrainConfig, sources: dict[str, Source]) -> TrainBatches:
    def keyframes(model):
        return load_keyframes(config.data.root, "train", model, keep_inputs=False, sweeps=sweeps_for(model), workers=1)

    seen = {name: keyframes(source.config) for name, source in sources.items()}
    models = {name: source.config for name, source in sources.items()}
    return TrainBatches(taught_keyframes(keyframes(config.model), seen), config, None, models)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict(keep_vars=False).items()} | {
        f"buffer {name}": value.clone() for name, value in module.named_buffers()
    }


def test_student_and_projections_learn_and_no_source_changes(student: Load) -> None:
    config = student()
    sources = load_sources(config)
    before = {name: weights(source.model) for name, source in sources.items()}
    torch.manual_seed(0)
    model = build_model(config.model).train()
    distillation = Distillation(config, sources)
    batch = batches_of(config, sources)[0]
    learners = nn.ModuleList([model, distillation.learned])
    assert not any(source.model is module for source in sources.values() for module in learners.modules())
    optimizer = torch.optim.AdamW(learners.parameters(), lr=1e-3)
    for _ in range(2):  # residual branches start at zero, and wait for a step
        optimizer.zero_grad()
        terms = distillation(model, batch)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
    assert set(terms) == {
        *("dense_semantic", "dense_variance", "dense_distance", "dense_direction"),
        *("tgpd_teacher", "msrd_teacher", "msrd_coach"),
    }
    assert all(torch.isfinite(value) and value > 0 for value in terms.values())
    for name, parameter in learners.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    assert sum(p.numel() for p in distillation.learned.parameters()) > 0
    for name, source in sources.items():
        assert not source.model.training and all(not m.training for m in source.model.modules())
        assert all(p.grad is None and not p.requires_grad for p in source.model.parameters())
        after = weights(source.model)
        assert all(torch.equal(value, after[key]) for key, value in before[name].items())


def test_each_term_alone_reaches_the_student(student: Load) -> None:
    """Every kind, between models for which it is made; only what carries features to the term has a gradient."""
    kinds = (
        *("{kind: tgpd_published, source: teacher}", "{kind: tgpd, source: coach, patches: [2, 3]}"),
        *("{kind: msrd, source: teacher}", "{kind: bevdistill, source: teacher, points: 20, width: 16}"),
        *("{kind: unidistill, source: teacher, boxes: 2}", "{kind: bev_features, source: coach, where: lines}"),
    )
    config = student(f"distillation=[{', '.join(kinds)}]", "model.bottleneck.channels=32")
    sources = load_sources(config)
    model = build_model(config.model).train()
    distillation = Distillation(config, sources)
    batch = batches_of(config, sources)[0]
    for name, module in distillation.learned.items():
        model.zero_grad()
        terms = distillation(model, batch)
        terms[name].backward()
        assert terms[name] > 0, name
        reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        assert any(n.startswith(("bottleneck", "view_transform")) for n in reached), name
        assert not any("embedding" in n for n in reached), name
        for other, each in distillation.learned.items():
            own = [p.grad is not None and p.grad.any() for p in each.parameters()]
            assert all(own) if module is each else not any(own), (name, other)
        distillation.learned.zero_grad()


def test_mapdistill_takes_two_modalities(student: Load) -> None:
    term = "distillation=[{kind: mapdistill, source: teacher, patches: [2, 4]}]"
    config = student(term, name="mapkd/mapdistill", alone=True)
    sources = load_sources(config)
    model = build_model(config.model).train()
    distillation = Distillation(config, sources)
    value = distillation(model, batches_of(config, sources)[0])["mapdistill_teacher"]
    value.backward()
    assert torch.isfinite(value) and value > 0
    assert all(p.grad is not None and p.grad.any() for p in distillation.learned.parameters())
    assert all(
        any(p.grad.any() for p in slot.parameters() if p.grad is not None) for slot in (model.lidar, model.backbone)
    )


def test_sources_see_the_same_motion_and_clean_images(student: Load) -> None:
    """With mirroring on, each source's roads, points and projections are those of the student's frame."""
    moving = ("augment.mirror=1", "augment.blind=1", "augment.colour=0.5", "augment.zoom=0.2")
    config, still = student(*moving), student("model.sd_prior={}", "model.bottleneck=null")
    sources = load_sources(config)
    seen, plain = batches_of(config, sources)[0], batches_of(still, load_sources(still))[0]
    assert seen.tokens == plain.tokens and set(seen.seen_by) == {"teacher", "coach"}
    teacher, clean = seen.seen_by["teacher"], plain.seen_by["teacher"]
    assert torch.equal(teacher.images, clean.images) and not torch.equal(seen.inputs.images, clean.images)
    assert teacher.camera_mask.all() and not seen.inputs.camera_mask.all()
    mirrored = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0]))
    torch.testing.assert_close(teacher.projection, clean.projection @ mirrored)
    torch.testing.assert_close(teacher.points, clean.points * torch.tensor([1.0, -1, 1, 1, 1]))
    assert not torch.equal(teacher.sd_raster, clean.sd_raster)
    assert (teacher.sd_raster.flip(2) == clean.sd_raster).float().mean() > 0.97  # but for drawing
    assert seen.inputs.points is None and seen.inputs.sd_raster is None


def test_a_run_ends_and_goes_on_bit_equal(student: Load, tmp_path: Path) -> None:
    schedule = ("optim.schedule=step", "optim.milestones=[]", "evaluate_frames=1")
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    train(student(*schedule, "optim.steps=3"), whole, QUIET)
    for steps in (1, 3):
        train(student(*schedule, f"optim.steps={steps}"), parted, QUIET)
    expected, found = (load_file(folder / STATE) for folder in (whole, parted))
    assert expected.keys() == found.keys()
    assert any(name.startswith("learned/tgpd_teacher.projections") for name in expected)
    assert any(name.startswith("optimizer/learned.tgpd_teacher") for name in expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    published = load_checkpoint(whole / LAST)
    assert not any("learned" in name or "projections" in name for name in load_file(whole / LAST))
    taught = published.provenance["sources"]
    assert set(taught) == {"teacher", "coach"} and len(taught["teacher"]["sha256"]) == 64
    assert {"tgpd_teacher", "msrd_teacher", "msrd_coach"} <= set(metrics_of(whole)[0])


def test_other_projections_or_teachers_are_another_run(
    student: Load, saved: Callable[..., Path], tmp_path: Path
) -> None:
    train(student("optim.steps=1"), tmp_path, QUIET)
    with pytest.raises(CheckpointError, match=r"another model.*learned/"):
        train(student("optim.steps=2", "distillation.0.weight=0"), tmp_path, QUIET)
    with pytest.raises(CheckpointError, match=r"differs in the weights of sources\.teacher;"):
        train(student("optim.steps=2", f"sources.teacher={saved('pmapnet/lidar_sd_hd')}"), tmp_path, QUIET)


def test_fsdp_is_refused(student: Load, tmp_path: Path) -> None:
    from training.fit.launch import Hardware

    # Fabric's launch makes a process group and tells its place in the environment; both would outlive the test.
    with patch.dict(os.environ):
        with pytest.raises(ConfigError, match="does not go with --strategy fsdp"):
            train(student("optim.batch_size=2"), tmp_path, QUIET, hardware=Hardware("cpu", 1, 1, "fsdp"))
        torch.distributed.destroy_process_group()
