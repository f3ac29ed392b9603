"""A quantised file: integers where they pay, the same map nearly, and taken for fp32 by nobody."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hdmap_core.checkpoint import CheckpointConfig, save_checkpoint
from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid
from hdmap_core.inference import load_predictor
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.models.backbones.image_backbone import ImageBackboneConfig
from hdmap_core.models.bev_encoder import BEVEncoderConfig
from hdmap_core.models.view_transforms.mlp_ipm import MlpIPMConfig
from hdmap_core.postprocess import DecodeConfig

pytest.importorskip("onnxscript", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs the extra export")
import onnx
import onnxruntime

from hdmap_core.export import integer_graph, quantisation
from hdmap_core.export.onnx_file import export_onnx, onnx_bytes
from hdmap_core.export.reference import Reference, reference

STUDENT = ModelConfig(
    name="little",
    grid=BEVGrid((-6.0, 6.0), (-3.0, 3.0), 0.5),
    vectors=None,
    bev_encoder=BEVEncoderConfig(channels=(8, 8), blocks=(1, 1), out_channels=8),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A student with random weights, `model.safetensors`, in PyTorch."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("made") / "model.safetensors"
    save_checkpoint(path, build_model(STUDENT), CheckpointConfig(model=STUDENT, decode=DecodeConfig(head="masks")), {})
    return reference(path)


@pytest.fixture(scope="module")
def folder(made: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `model.onnx` in int8, and `plain.onnx` with its ends as they were exported; one keyframe has to do."""
    folder = tmp_path_factory.mktemp("quantised")

    def take_bytes(graph: onnx.GraphProto) -> None:
        opsets = [onnx.helper.make_opsetid("", 20)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), str(folder / "plain.onnx"))
        integer_graph.take_bytes(graph)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantisation, "TOWNS", 1)
        patch.setattr(quantisation, "KEYFRAMES", 1)
        patch.setattr(quantisation, "take_bytes", take_bytes)
        deviation = export_onnx(made, folder / "model.onnx", "int8")
    assert 1e-4 < deviation < 0.1, "quantised, and not by much"
    return folder


def test_it_carries_what_a_checkpoint_carries_and_says_what_it_computes_in(made: Reference, folder: Path) -> None:
    engine = load_predictor(folder / "model.onnx", "cpu").engine
    assert (engine.name, engine.precision) == ("onnxruntime", "int8")
    assert engine.source.config == made.engine.source.config and engine.source.sha256 == made.engine.source.sha256


def test_the_last_convolution_stays_in_fp32_and_no_other(folder: Path) -> None:
    graph = onnx.load(str(folder / "model.onnx")).graph
    kinds = {name: node.op_type for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type in ("Conv", "ConvTranspose")]
    exact = [node for node in convolutions if kinds.get(node.input[1]) != "DequantizeLinear"]
    assert len(convolutions) > 5 and exact == convolutions[-1:]


def test_no_folder_of_the_machine_is_in_it(made: Reference, folder: Path) -> None:
    for content in (onnx_bytes(made), (folder / "model.onnx").read_bytes()):
        assert b".py" not in content, "a trace of the exporter's stack"


def test_pixels_go_in_as_bytes_and_masks_come_out_in_one_step(folder: Path) -> None:
    """Else ONNX Runtime takes a tenth longer: the exporter's graph has changed, and `integer_graph` no longer fits."""
    kinds = [node.op_type for node in onnx.load(str(folder / "model.onnx")).graph.node]
    assert kinds[:3].count("SpaceToDepth") == 1 and kinds.count("ConvTranspose") == 1
    assert not {"Cast", "Div", "Sub", "Transpose", "DepthToSpace"} & set(kinds)


def test_masks_are_shuffled_by_convolution_to_the_same_values(made: Reference) -> None:
    proto = onnx.load_from_string(onnx_bytes(made))
    inputs = {"ground": made.sample.inputs.ground.numpy()}  # type: ignore[union-attr]
    ways = []
    for _ in range(2):
        session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        ways.append(([node.op_type for node in proto.graph.node], session.run(None, inputs)[0]))
        integer_graph.shuffle_by_convolution(proto.graph)
    assert "DepthToSpace" in ways[0][0] and "DepthToSpace" not in ways[1][0] and "ConvTranspose" in ways[1][0]
    np.testing.assert_allclose(ways[0][1], ways[1][1], rtol=0, atol=1e-5)


def test_bytes_at_the_front_say_what_the_exporters_graph_says(made: Reference, folder: Path) -> None:
    """Apart by no more than rounding in int8."""
    inputs = {"ground": made.sample.inputs.ground.numpy()}  # type: ignore[union-attr]
    plain, ours = (
        onnxruntime.InferenceSession(str(folder / name), providers=["CPUExecutionProvider"]).run(None, inputs)[0]
        for name in ("plain.onnx", "model.onnx")
    )
    assert plain.shape == ours.shape
    assert np.abs(plain - ours).mean() < 0.03 * plain.std() and np.corrcoef(plain.ravel(), ours.ravel())[0, 1] > 0.99


def test_auto_takes_it_unless_fp32_is_asked_for(made: Reference, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    config = CheckpointConfig(model=STUDENT, decode=DecodeConfig(head="masks"))
    torch.manual_seed(0)
    save_checkpoint(path, build_model(STUDENT), config, {})
    shutil.copy(folder / "model.onnx", tmp_path)
    taken = load_predictor(path, "cpu").info
    assert (taken.engine, taken.precision) == ("onnxruntime", "int8")
    exact = load_predictor(path, "cpu", "fp32").info
    assert (exact.engine, exact.precision) == ("eager", "fp32")
    assert "model.onnx computes in int8, not in fp32" in exact.engine_why
    with pytest.raises(ConfigError, match=r"model\.onnx computes in int8, not in fp32; export it again"):
        load_predictor(folder / "model.onnx", "cpu", "fp32")


def test_what_was_never_quantised_is_refused(made: Reference) -> None:
    images = ImageBackboneConfig(model="resnet18.tv_in1k", image_size=(64, 128), cameras=("CAM_FRONT",), out_channels=8)
    other = ModelConfig(name="other", grid=STUDENT.grid, backbone=images, view_transform=MlpIPMConfig())
    with pytest.raises(ConfigError, match="other is not quantised: int8 is proven for models that look at the ground"):
        quantisation.quantised(b"", other)
