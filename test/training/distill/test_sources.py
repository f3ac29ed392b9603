"""A source that does not fit is one clear line before anything is prepared; one of another size teaches."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import save_file

from hdmap_core.errors import CheckpointError, ConfigError, DatasetError
from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.observation import Observation
from hdmap_core.preprocess import camera_inputs
from training.config import TrainConfig
from training.data.batches import TrainBatches
from training.data.keyframes import Keyframes, load_keyframes
from training.data.seen_by import taught_keyframes
from training.distill.objective import Distillation
from training.distill.sources import load_sources
from training.train import train

Load = Callable[..., TrainConfig]
Save = Callable[..., Path]
QUIET = Console(quiet=True)


def refused(config: TrainConfig, folder: Path, *parts: str) -> None:
    with pytest.raises(CheckpointError) as error:
        train(config, folder / "run", QUIET)
    message = str(error.value)
    assert message.startswith("sources.teacher: ") and "\n" not in message
    assert all(part in message for part in parts), message
    assert not (folder / "run").exists(), "nothing was made"


@pytest.mark.parametrize(
    ("name", "overrides", "parts"),
    [
        (
            "pmapnet/lidar_sd",
            ["model.classes=[divider, boundary]"],
            ["classes divider, boundary, the student has divi"],
        ),
        ("pmapnet/lidar_sd", ["model.classes=[boundary, ped_crossing, divider]"], ["classes boundary, ped_crossing"]),
        ("pmapnet/lidar_sd", ["model.grid.x_range=[-30, 30]"], ["x [-30.0, 30.0]", "grid is x [-15.0, 15.0]"]),
        ("pmapnet/hd_pretrain", [], ["refiner by itself", "the model that was trained from it"]),
        ("hdmapnet/camera", [], ["distillation.0 (tgpd) looks at the tap bev_small of the source, which has camera"]),
    ],
)
def test_a_model_that_cannot_teach(
    student: Load, saved: Save, tmp_path: Path, name: str, overrides: list[str], parts: list[str]
) -> None:
    config = student(f"sources.teacher={saved(name, *overrides)}")
    refused(config, tmp_path, *parts)


def test_files_that_are_no_checkpoint(student: Load, tmp_path: Path) -> None:
    text, foreign = tmp_path / "notes.safetensors", tmp_path / "foreign.safetensors"
    text.write_text("nothing")
    save_file({"weight": torch.zeros(1)}, foreign)
    for path, part in ((text, "is a text file"), (foreign, "not of hdmap_ros"), (tmp_path / "no", "no checkpoint at")):
        refused(student(f"sources.teacher={path}"), tmp_path, part)
    (tmp_path / "empty").mkdir()
    refused(student(f"sources.teacher={tmp_path / 'empty'}"), tmp_path, "no checkpoint at")


@pytest.mark.parametrize(
    ("terms", "changes", "part"),
    [
        ("{kind: vector_response, source: teacher}", [], "no vector head"),
        ("{kind: tgpd_published, source: teacher}", ["model.bottleneck.channels=20"], "32 channels, the student's 20"),
        ("{kind: mapdistill, source: teacher}", [], "tap lidar of the student, which has camera, bev_small"),
        ("{kind: bev_features, source: teacher, taps: [depth]}", [], "tap depth of the student"),
        ("{kind: msrd, source: teacher}", ["augment.turn=0.5"], "augment.turn"),
    ],
)
def test_a_term_that_finds_nothing(student: Load, tmp_path: Path, terms: str, changes: list[str], part: str) -> None:
    refused(student(f"distillation=[{terms}]", *changes, alone=True), tmp_path, part)


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["sources={}"], "takes the source 'coach'; say which it is: sources.coach=RUN"),
        (["sources.tutor=x"], "no term of distillation takes the source 'tutor'; they take coach, teacher"),
        (["objective=supervised"], "belong together"),
        (["distillation=[]"], "belong together"),
        (["distillation.0.kind=magic"], "distillation.0"),
        (["distillation.7.weight=1"], "'7' is no place in a list of 3"),
        (["distillation.0.weigth=1"], "did you mean 'weight'"),
    ],
)
def test_recipes_that_make_no_sense(student: Load, overrides: list[str], part: str) -> None:
    with pytest.raises(ConfigError) as error:
        student(*overrides)
    assert part in str(error.value)


def test_a_term_without_weight_needs_no_source(student: Load) -> None:
    config = student("distillation.2.weight=0", "sources.coach=nowhere")
    sources = load_sources(config)
    assert list(sources) == ["teacher"]
    assert list(Distillation(config, sources).learned) == ["tgpd_teacher", "msrd_teacher"]


def test_another_resolution_and_image_size_teach(student: Load, saved: Save) -> None:
    """Of the source: cells of 0.5 m for the student's 0.75, other images, other widths, its own cameras' names."""
    size = ("model.grid.resolution=0.5", "model.backbone.image_size=[32, 64]")
    terms = (
        *("{kind: tgpd, source: teacher, patches: [2, 3]}", "{kind: msrd, source: teacher, mask: soft}"),
        *("{kind: bevdistill, source: teacher, width: 16}", "{kind: unidistill, source: teacher}"),
        "{kind: bev_features, source: teacher}",
    )
    path = saved("pmapnet/camera_sd", *size)
    config = student(f"distillation=[{', '.join(terms)}]", f"sources.teacher={path}", alone=True)
    sources = load_sources(config)
    root, models = config.data.root, {"teacher": sources["teacher"].config}
    seen = {"teacher": load_keyframes(root, "train", models["teacher"], keep_inputs=False, workers=1)}
    own = load_keyframes(root, "train", config.model, keep_inputs=False, workers=1)
    batch = TrainBatches(taught_keyframes(own, seen), config, None, models)[0]
    assert batch.seen_by["teacher"].images.shape[-2:] == (32, 64)
    assert batch.seen_by["teacher"].sd_raster.shape[-2:] == (30, 60)
    model = build_model(config.model).train()
    found = Distillation(config, sources)(model, batch)
    torch.stack(list(found.values())).sum().backward()
    assert len(found) == 4 + len(terms) and all(torch.isfinite(value) for value in found.values())


def test_a_data_set_without_what_a_source_looks_at(student: Load, without_sd_maps: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"sources\.teacher: the model looks at an SD map"):
        train(student(f"data.root={without_sd_maps}"), tmp_path, QUIET)
    assert not (tmp_path / "metrics.jsonl").exists(), "no step was taken"


def test_keyframes_are_those_of_all_and_images_decoded_once(
    student: Load, saved: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = student(f"sources.teacher={saved('pmapnet/camera_sd', 'model.backbone.image_size=[32, 64]')}")
    models = {name: source.config for name, source in load_sources(config).items()}

    def keyframes(model: ModelConfig) -> Keyframes:
        return load_keyframes(config.data.root, "train", model, keep_inputs=False, workers=1)

    own, seen = keyframes(config.model), {name: keyframes(model) for name, model in models.items()}
    decoded: list[tuple[int, int]] = []

    def made(observation: Observation, model: ModelConfig) -> ModelInput:
        decoded.append(model.image_backbone.image_size)  # type: ignore[union-attr]
        return camera_inputs(observation, model)

    monkeypatch.setattr("training.data.keyframes.camera_inputs", made)
    frame = taught_keyframes(own, seen)[1]
    assert decoded == [(64, 96), (32, 64)], "the coach takes the student's"
    assert frame.seen_by["coach"].inputs.images is frame.inputs.images
    assert {each.token for each in frame.seen_by.values()} == {frame.token}
    tokens = seen["coach"].tokens[::-1]
    fewer = replace(seen["coach"], truth=replace(seen["coach"].truth, tokens=tokens[:1]))
    assert taught_keyframes(own, {"coach": fewer}).rows.tolist() == [[1, 0]]
    none = replace(seen["coach"], truth=replace(seen["coach"].truth, tokens=tokens[:0]))
    with pytest.raises(DatasetError, match="by the student and by coach"):
        taught_keyframes(own, {"coach": none})


def test_the_command_says_it_in_a_line(student: Load, saved: Save, tmp_path: Path, hdmap: Callable[..., Any]) -> None:
    recipe, wrong = tmp_path / "recipe.yaml", saved("pmapnet/hd_pretrain")
    recipe.write_text(yaml.safe_dump(student().model_dump(mode="json")))
    ended = hdmap("train", recipe, f"sources.teacher={wrong}", "-o", tmp_path / "run")
    ended.assert_refused("sources.teacher", "refiner by itself")
    assert not (tmp_path / "run").exists()
    dry = hdmap("train", recipe, f"sources.teacher={wrong}", "--dry-run")
    assert dry.code == 0 and "refiner by itself" in dry.out
