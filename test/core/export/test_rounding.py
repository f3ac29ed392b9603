"""Rounding and mistakes are told apart: what a network rounds itself an export may round, what is wrong is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hdmap_core.checkpoint import load_checkpoint, save_checkpoint
from hdmap_core.errors import ConfigError
from hdmap_core.export.in_double import in_double
from hdmap_core.export.reference import Reference, reference
from hdmap_core.inference.engine import EagerEngine, output_tensors
from hdmap_core.inference.exported_file import KEY, TOLERANCE, Sample, read_header
from hdmap_core.model_io import ModelInput, ModelOutput, VectorOutput
from hdmap_core.models import build_model

Write = Callable[..., Path]


class AsksForFloat32(nn.Module):
    """In every way that a module can; in float32 the small number would be lost in the one."""

    def __init__(self) -> None:
        super().__init__()
        self.tiny = nn.Parameter(torch.tensor(1e-9))

    def forward(self, inputs: ModelInput) -> ModelOutput:
        assert inputs.projection is not None and inputs.images is not None
        one = inputs.images.float()[..., :1, :1].to(torch.float32).to(dtype=torch.float32)
        one = one * torch.ones(1) * torch.ones((), dtype=torch.float32) * torch.linspace(1, 1, 1)
        one = one + self.tiny.float() + torch.full((), 1e-9, dtype=torch.float32) + torch.tensor(1e-9)
        return ModelOutput(vectors=VectorOutput(one, one.type(torch.float32) + 1e-9 * inputs.projection.sum()))


def test_nothing_on_the_way_is_rounded() -> None:
    model, before = AsksForFloat32(), torch.get_default_dtype()
    given = ModelInput(images=torch.ones(1, 1, 3, 2, 2, dtype=torch.uint8), projection=torch.ones(1, 1, 3, 4))
    found = in_double(model, given).vectors
    assert found is not None and found.logits.dtype == found.points.dtype == torch.float64
    assert (found.logits - 1).flatten().tolist() == pytest.approx([3e-9] * 3, rel=1e-3)
    assert (found.points - 1).flatten().tolist() == pytest.approx([15e-9] * 3, rel=1e-3)
    assert model.tiny.dtype == torch.float32 and torch.get_default_dtype() == before
    alone = model(given).vectors
    assert alone is not None and alone.logits.dtype == torch.float32


def test_the_default_comes_back_after_an_error() -> None:
    with pytest.raises(AssertionError):
        in_double(AsksForFloat32(), ModelInput())
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("name", ["student, vectors", "student, masks", "mapqr", "mapfm", "pmapnet, lidar, hd"])
def test_every_family_runs_in_float64(name: str, tmp_path: Path, write_checkpoint: Write) -> None:
    exported = reference(write_checkpoint(tmp_path, name))
    for sample in (exported.sample, exported.other):
        assert 0 < sample.rounding < 1e-4
        outputs = output_tensors(in_double(exported.engine.model, sample.inputs))
        assert all(tensor.dtype == torch.float64 for tensor in outputs.values())


def sample(rounding: float) -> Sample:
    return Sample(ModelInput(), {}, {}, rounding)


def test_what_is_allowed_grows_with_the_networks_own_rounding() -> None:
    usual = TOLERANCE["fp32"]
    wanted = {0.0: usual, 2e-4: usual, 5e-4: 2 * usual, 2.5e-3: 10 * usual, 0.3: 20 * usual, 1e9: 20 * usual}
    for rounding, allowed in wanted.items():
        assert sample(rounding).allowed("fp32") == pytest.approx(allowed)
        assert sample(rounding).allowed("int8") == TOLERANCE["int8"]
    assert not sample(float("nan")).allowed("fp32") >= 0


@pytest.fixture(scope="module")
def amplifying(tmp_path_factory: pytest.TempPathFactory, write_checkpoint: Write) -> Path:
    """A small MapQR whose decoder makes much of little."""
    folder = tmp_path_factory.mktemp("amplifying")
    config = load_checkpoint(write_checkpoint(folder, "mapqr")).config
    assert config.model.vectors is not None
    deeper = config.model.model_copy(update={"vectors": config.model.vectors.model_copy(update={"layers": 3})})
    torch.manual_seed(0)
    model = build_model(deeper)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "vector_head" in name and parameter.dim() > 1:
                parameter *= 3
    save_checkpoint(folder / "model.safetensors", model, config.model_copy(update={"model": deeper}), {})
    return folder / "model.safetensors"


def wrong(path: Path, change: Callable[[dict[str, Tensor]], None]) -> EagerEngine:
    """A runtime whose graph has another weight somewhere than the checkpoint."""
    checkpoint = load_checkpoint(path)
    with torch.no_grad():
        change(dict(checkpoint.model.named_parameters()))
    return EagerEngine(checkpoint, torch.device("cpu"))


def test_a_network_that_amplifies_is_exported_all_the_same(amplifying: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra export")
    pytest.importorskip("onnxruntime", reason="needs the extra export")
    import onnx

    from hdmap_core.export.onnx_file import export_onnx
    from hdmap_core.inference import load_predictor

    exported = reference(amplifying)
    assert 2.5e-4 < exported.sample.rounding < 5e-3, "or this test shows nothing"
    export_onnx(exported, tmp_path / "model.onnx")
    load_predictor(tmp_path / "model.onnx", "cpu")
    kept = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    _, sample = read_header(kept[KEY], tmp_path / "model.onnx")
    assert sample.rounding == pytest.approx(exported.sample.rounding)


CHANGES: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "a sign in the neck": lambda state: state["backbone.neck.smooth.weight"].neg_(),
    "a sign in the view transform": lambda state: state["view_transform.layers.0.cross_attention.output.weight"].neg_(),
    "an axis of the BEV": lambda state: _rolled(state["view_transform.queries"]),
    "a factor in the decoder": lambda state: state["vector_head.layers.0.sampling.value.weight"].mul_(1.1),
}


def _rolled(table: Tensor) -> None:
    table.copy_(table.roll(1, dims=-1))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["plain", "amplifying"])
def test_a_graph_with_a_wrong_weight_is_refused(
    amplifying: Path, tmp_path: Path, write_checkpoint: Write, kind: str, change: str
) -> None:
    path = amplifying if kind == "amplifying" else write_checkpoint(tmp_path, "mapqr")
    exported = reference(path)
    assert exported.compare(EagerEngine(load_checkpoint(path), torch.device("cpu"))) < 5e-3
    with pytest.raises(ConfigError, match=r"disagrees with PyTorch by .* own rounding to float32 makes"):
        exported.compare(wrong(path, CHANGES[change]))


def test_what_rounds_beyond_all_measure_is_refused_and_the_message_says_why(amplifying: Path) -> None:
    exported = reference(amplifying)
    hopeless = replace(exported.sample, rounding=0.3)
    chaos = Reference(exported.engine, hopeless, hopeless)
    engine = EagerEngine(load_checkpoint(amplifying), torch.device("cpu"))
    engine.model.register_forward_hook(lambda _, inputs, output: _shifted(output))
    with pytest.raises(ConfigError, match=r"allowed: 0\.02; PyTorch's own rounding to float32 makes 0\.3"):
        chaos.compare(engine)


def _shifted(output: ModelOutput) -> ModelOutput:
    assert output.vectors is not None
    return replace(output, vectors=replace(output.vectors, points=output.vectors.points + 0.1))
