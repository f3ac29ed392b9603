"""What sources said is kept on disk: the same terms as from the sources themselves, which then do not run again."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from hdmap_core.errors import ConfigError, DatasetError, OutputError
from hdmap_core.model_io import DenseOutput, ModelOutput, VectorOutput
from hdmap_core.models import MapModel, build_model
from training.config import TrainConfig
from training.distill.kept_outputs import KeptOutputs, kept_outputs
from training.distill.objective import Distillation
from training.distill.sources import load_sources
from training.train import train

from .test_objective import batches_of

Load = Callable[..., TrainConfig]
KEPT = "data.keep_sources=true"
STATE = "checkpoints/state.safetensors"
FIELDS = ["taps.bev", "dense.semantic", "dense.direction", "vectors.logits", "vectors.points", "vectors.queries"]


def said(batch: int = 2) -> ModelOutput:
    torch.manual_seed(0)
    dense = DenseOutput(torch.randn(batch, 4, 3, 5), torch.randn(batch, 8, 3, 5), torch.randn(batch, 7, 3, 5))
    vectors = VectorOutput(torch.randn(2, batch, 6, 3), torch.rand(2, batch, 6, 4, 2), queries=torch.randn(batch, 6, 9))
    taps = {"bev": torch.randn(batch, 5, 3, 5), "camera": torch.randn(batch, 5, 3, 5)}
    return ModelOutput(vectors=vectors, dense=dense, taps=taps)


def test_what_is_recalled_is_what_was_said(tmp_path: Path) -> None:
    output = said()
    KeptOutputs(tmp_path, ["a", "b", "c"], FIELDS).keep(["c", "a"], output)
    again = KeptOutputs(tmp_path, ["a", "b", "c"], FIELDS)  # another run
    found = again.recall(["a", "c"])
    assert found is not None and found.dense is not None and found.vectors is not None
    assert output.dense is not None and output.vectors is not None

    def same(kept: Tensor, true: Tensor, dim: int = 0) -> None:
        assert kept.dtype == torch.float32
        torch.testing.assert_close(kept, true.flip(dim), rtol=1e-3, atol=1e-3)

    same(found.taps["bev"], output.taps["bev"])
    same(found.dense.semantic, output.dense.semantic)
    same(found.dense.direction, output.dense.direction)
    assert torch.equal(found.vectors.logits, output.vectors.logits[-1:].flip(1))  # in full, the last layer
    assert torch.equal(found.vectors.points, output.vectors.points[-1:].flip(1))
    assert set(found.taps) == {"bev"}
    assert again.recall(["a", "b"]) is None
    assert KeptOutputs(tmp_path, ["a", "b", "c"], [*FIELDS, "taps.camera"]).recall(["a", "c"]) is None


def test_half_precision_is_kept_too(tmp_path: Path) -> None:
    """As sources say it under bf16-mixed."""
    output = said()
    output.taps["bev"] = output.taps["bev"].bfloat16()
    kept = KeptOutputs(tmp_path, ["a", "b"], ["taps.bev"])
    kept.keep(["a", "b"], output)
    found = kept.recall(["a", "b"])
    assert found is not None and torch.equal(found.taps["bev"], output.taps["bev"].float())


def test_a_damaged_file_names_the_folder_to_delete(tmp_path: Path) -> None:
    """That of this source alone, not the cache around it, which holds the prepared keyframes."""
    folder = tmp_path / "cache" / "said-by-teacher"
    KeptOutputs(folder, ["a", "b"], ["taps.bev"]).keep(["a", "b"], said())
    (folder / "taps.bev.npy").write_bytes(b"")
    with pytest.raises(DatasetError, match=f"the cache {folder} is damaged .*delete it"):
        KeptOutputs(folder, ["a", "b"], ["taps.bev"]).recall(["a", "b"])


def test_no_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    kept = KeptOutputs(tmp_path, ["a", "b"], FIELDS)
    full = shutil.disk_usage(tmp_path)._replace(free=10)
    with (
        patch("training.distill.kept_outputs.shutil.disk_usage", return_value=full),
        pytest.raises(OutputError, match=r"taps\.bev of 2 keyframes needs .*data\.cache"),
    ):
        kept.keep(["a", "b"], said())
    assert not list(tmp_path.glob("*.npy"))


@pytest.mark.parametrize("rival", ["mapkd/3_student", "mapkd/mapdistill"])
def test_terms_are_those_of_the_sources_which_run_once(student: Load, tmp_path: Path, rival: str) -> None:
    taught = (
        () if rival.endswith("student") else ("distillation=[{kind: mapdistill, source: teacher, patches: [2, 4]}]",)
    )
    config = student(KEPT, *taught, name=rival, alone=bool(taught))
    sources = load_sources(config)
    batches = batches_of(config, sources)
    training, batch = replace(batches.keyframes.student, cache=tmp_path), batches[0]
    model = build_model(config.model).train()
    plain, keeping, later = (Distillation(config, sources) for _ in range(3))
    for each in (keeping, later):
        each.learned.load_state_dict(plain.learned.state_dict())
        each.kept = kept_outputs(config, sources, training)
    expected, first = plain(model, batch), keeping(model, batch)
    with patch.object(MapModel, "forward", side_effect=AssertionError("a source ran again")):
        said = [later._said(name, batch) for name in sources]
    assert all(each.dense is not None and not each.dense.semantic.requires_grad for each in said)
    second = later(model, batch)
    for name, value in expected.items():
        torch.testing.assert_close(first[name], value, rtol=5e-3, atol=5e-3)
        assert torch.equal(first[name], second[name]), name


def test_other_weights_are_kept_elsewhere(student: Load, saved: Callable[..., Path], tmp_path: Path) -> None:
    folders = []
    for _ in range(2):
        teacher = f"sources.teacher={saved('pmapnet/lidar_sd_hd')}"
        config = student(KEPT, teacher, "distillation.2.weight=0")
        sources = load_sources(config)
        kept_outputs(config, sources, replace(batches_of(config, sources).keyframes.student, cache=tmp_path))
        folders.append(set(tmp_path.glob("said-by-*")))
    assert len(folders[0]) == 1 and len(folders[1]) == 2


def test_a_run_does_not_depend_on_what_others_kept(student: Load, tmp_path: Path) -> None:
    """The second run recalls all that the first one kept, and is the same bit by bit."""
    for name in ("first", "second"):
        train(student(KEPT, f"data.cache={tmp_path}", "optim.steps=2"), tmp_path / name, Console(quiet=True))
    expected, found = (load_file(tmp_path / name / STATE) for name in ("first", "second"))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_what_moves_the_view_is_refused(student: Load) -> None:
    with pytest.raises(ConfigError, match=r"augment\.mirror, shift would show them something else; set to 0"):
        student(KEPT, "augment.mirror=0.5", "augment.shift=1", "augment.turn=0")
