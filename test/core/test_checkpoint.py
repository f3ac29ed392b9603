import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hdmap_core.checkpoint import (
    CheckpointConfig,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from hdmap_core.config import parse_config
from hdmap_core.elements import MapClass
from hdmap_core.errors import CheckpointError, ConfigError, OutputError
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.models.bev_encoder import BEVEncoderConfig
from hdmap_core.models.heads.vector_decoder import VectorDecoderConfig

CONFIG = CheckpointConfig(
    model=ModelConfig(
        name="small",
        grid=BEVGrid((-6.0, 6.0), (-3.0, 3.0), 0.5),
        bev_encoder=BEVEncoderConfig(channels=(8, 8), blocks=(1, 1), out_channels=8),
        vectors=VectorDecoderConfig(num_queries=5, num_points=4, channels=8, layers=1, attention_heads=2),
    )
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "runs" / "small.safetensors"
    save_checkpoint(path, build_model(CONFIG.model), CONFIG, {"dataset": "synth", "step": 7})
    return path


def rewritten(path: Path, change: Any, tensors: dict[str, torch.Tensor] | None = None) -> Path:
    """The same file with its header changed in place by `change`, and other tensors."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["hdmap"])
    change(header)
    save_file(tensors or load_file(path), path, metadata={"hdmap": json.dumps(header)})
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_round_trip_gives_equal_outputs(tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = build_model(CONFIG.model)
    inputs = ModelInput(torch.randint(0, 256, (2, 4, 24, 48), dtype=torch.uint8))
    for _ in range(3):  # batch norm's running statistics are part of it
        model(inputs)
    save_checkpoint(tmp_path / "a.safetensors", model, CONFIG, {"seed": 2})
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    assert (loaded.config, loaded.provenance, loaded.model.training) == (CONFIG, {"seed": 2}, False)
    with torch.no_grad():
        wanted, got = model.eval()(inputs), loaded.model(inputs)
    torch.testing.assert_close(got.semantic, wanted.semantic, rtol=0, atol=0)
    torch.testing.assert_close(got.vectors.points, wanted.vectors.points, rtol=0, atol=0)
    torch.testing.assert_close(got.vectors.logits, wanted.vectors.logits, rtol=0, atol=0)


def test_digest_is_that_of_the_file_and_tells_weights_apart(saved: Path, tmp_path: Path) -> None:
    first = load_checkpoint(saved).sha256
    assert first == load_checkpoint(saved).sha256 and len(first) == 64
    torch.manual_seed(9)
    save_checkpoint(tmp_path / "other.safetensors", build_model(CONFIG.model), CONFIG, {})
    assert load_checkpoint(tmp_path / "other.safetensors").sha256 != first


def test_missing(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.999])
def test_truncated(saved: Path, keep: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    message = refusal(saved)
    assert any(words in message for words in ("cut off", "empty", "not a readable safetensors file")), message
    assert ("a checkpoint of hdmap_ros that is cut off" in message) == (keep in (0.5, 0.999))


def test_not_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(3)}, path)
    assert "a PyTorch file (.pth, .pt, .ckpt or .bin), which is not read" in refusal(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_somebody_else(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata=metadata)
    assert "not of hdmap_ros" in refusal(path)


@pytest.mark.parametrize("header", ["{", "[" * 100_000, "9" * 5_000], ids=["cut", "nested", "number"])
def test_header_that_is_no_json(header: str, tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata={"hdmap": header})
    refusal(path)


@pytest.mark.parametrize("number", [0, 2, "1", None])
def test_other_format(saved: Path, number: Any) -> None:
    message = refusal(rewritten(saved, lambda header: header.update(format=number)))
    assert f"format {number!r}, this version reads 1" in message and "export it again" in message


def test_unknown_config_key(saved: Path) -> None:
    message = refusal(rewritten(saved, lambda header: header["config"]["model"].update(gird=3)))
    assert "unknown key 'model.gird'; did you mean 'grid'?" in message


@pytest.mark.parametrize("config", [None, 3, {}])
def test_config_that_is_none(saved: Path, config: Any) -> None:
    refusal(rewritten(saved, lambda header: header.update(config=config)))


@pytest.mark.parametrize("provenance", [None, "mine", ["synth"]])
def test_provenance_that_is_no_object(saved: Path, provenance: Any) -> None:
    assert "provenance" in refusal(rewritten(saved, lambda header: header.update(provenance=provenance)))


def test_a_grid_that_no_memory_holds(saved: Path) -> None:
    """No tensor stands for it, so that all of them fit."""
    message = refusal(rewritten(saved, lambda header: header["config"]["model"]["grid"].update(resolution=0.001)))
    assert "a grid of " in message and " cells" in message


@pytest.mark.parametrize("size", [[20_000, 20_000], [8_000, 4_800]])
def test_images_that_no_memory_holds(saved: Path, size: list[int]) -> None:
    """Each side is one that a picture may have; the second is too large for four of them."""
    cameras = ["CAM_FRONT", "CAM_BACK", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT"]

    def larger(header: dict[str, Any]) -> None:
        backbone = {"model": "resnet18.tv_in1k", "image_size": size, "cameras": cameras}
        header["config"]["model"].update(backbone=backbone, view_transform={"kind": "bevformer"})

    assert "pixels in all" in refusal(rewritten(saved, larger))


def test_config_with_an_impossible_grid(saved: Path) -> None:
    message = refusal(rewritten(saved, lambda header: header["config"]["model"]["grid"].update(resolution=0.7)))
    assert "whole number of cells" in message


def test_other_class_list_does_not_fit_the_weights(saved: Path) -> None:
    def fewer(header: dict[str, Any]) -> None:
        header["config"]["model"]["classes"] = ["divider", "boundary"]

    assert "has misshapen" in refusal(rewritten(saved, fewer))


def test_lost_and_foreign_tensors(saved: Path) -> None:
    tensors = load_file(saved)
    name = min(tensors)
    del tensors[name]
    message = refusal(rewritten(saved, lambda header: None, tensors))
    assert "lacks 1 tensor" in message and name in message
    tensors = load_file(saved) | {name: torch.zeros(1), "zzz.extra": torch.zeros(2)}
    assert "unknown 1 tensor" in refusal(rewritten(saved, lambda header: None, tensors))


def test_the_published_head_must_exist() -> None:
    content = CONFIG.model_dump(mode="json")
    content["decode"]["head"] = "masks"
    assert parse_config(CheckpointConfig, content, "x").decode.head == "masks"
    content["model"]["segmentation"] = None
    with pytest.raises(ConfigError, match=r"decode\.head is 'masks', which the model has not; it has vectors$"):
        parse_config(CheckpointConfig, content, "x")


def test_centerlines_are_not_published_from_masks() -> None:
    content = CONFIG.model_dump(mode="json")
    content["model"]["classes"] = ["divider", "centerline"]
    content["decode"]["head"] = "masks"
    with pytest.raises(ConfigError, match=r"sense; set decode\.by_class\.centerline to 'vectors'"):
        parse_config(CheckpointConfig, content, "x")
    content["decode"]["by_class"] = {"centerline": "vectors"}
    assert parse_config(CheckpointConfig, content, "x").decode.head_of(MapClass.CENTERLINE) == "vectors"


def test_find(tmp_path: Path, saved: Path) -> None:
    assert find_checkpoint(saved) == saved
    run = tmp_path / "run"
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*run"):
        find_checkpoint(run)
    (run / "checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"run folder of `hdmap train`"):
        find_checkpoint(run)
    for name in ("last", "best"):  # the best wins as soon as there is one
        path = run / "checkpoints" / f"{name}.safetensors"
        path.write_bytes(saved.read_bytes())
        assert find_checkpoint(run) == path


def test_full_disk_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"cannot write .*small\.safetensors: No space left on device"):
        save_checkpoint(saved, build_model(CONFIG.model), CONFIG, {})
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
