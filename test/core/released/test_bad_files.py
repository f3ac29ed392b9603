"""Files that must not become checkpoints: one line, exit code 2, nothing written, nothing run."""

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hdmap_core.cli import main
from hdmap_core.errors import CheckpointError, ConfigError, HdmapError
from hdmap_core.released.importing import import_file
from hdmap_core.released.weight_file import read_weight_file


def refused(path: Path, **options: Any) -> str:
    """The message, if nothing was written."""
    out = path.with_name("out.safetensors")
    with pytest.raises(HdmapError) as caught:
        import_file(path, out, **options)
    assert not list(path.parent.glob("out*"))
    message = str(caught.value)
    assert "\n" not in message and path.name in message
    return message


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


# --- files that run code ---


class Runs:
    """A pickle of it creates a file as soon as it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("layout", ["zip", "bare pickle", "in meta", "legacy"])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path, layout: str) -> None:
    trace, path = tmp_path / "ran", tmp_path / "weights.pth"
    evil = {"weight": torch.zeros(2), "x": Runs(trace)}
    if layout == "bare pickle":
        path.write_bytes(pickle.dumps(Runs(trace)))
    elif layout == "in meta":
        saved(path, {"meta": {"hook": Runs(trace)}, "state_dict": {"weight": torch.zeros(2)}})
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=layout == "zip")
    assert "refused" in refused(path) and not trace.exists()


def test_what_it_asked_for_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", {"meta": {"run": subprocess.Popen}, "state_dict": {"w": torch.zeros(2)}})
    assert "Popen, which could run code" in refused(path)


# --- files that are something else ---


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\x80\x02}q\x00.", "no PyTorch file"),
        (b"\x00\x01\x02 noise \xff" * 50, "damaged"),
    ],
)
def test_files_of_another_kind_are_told(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    assert says in refused(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([torch.zeros(2)], "holds a list"),
        ({}, "no state dict"),
        ({"epoch": 3, "net": {"w": 3}}, "epoch, net"),
        ({"epoch": 3, "net": {"w": torch.zeros(2)}, "ema": {"w": torch.zeros(2)}}, "several state dicts: ema, net"),
        ({"state_dict": {}}, "no state dict"),
        ({"state_dict": [torch.zeros(2)]}, "no state dict"),
        ({"state_dict": {"w": torch.zeros(2), "step": 3}}, "step"),
        ({"w": torch.zeros(2).to_sparse()}, "dense tensors of real numbers"),
        ({"w": torch.zeros(2, dtype=torch.complex64)}, "dense tensors of real numbers"),
        ({"w": torch.zeros(2, device="meta")}, "dense tensors of real numbers"),
        ({"w": torch.zeros(()).expand(10**6, 10**6)}, "more than any model published"),
        ({3: torch.zeros(2)}, "no tensors: 3"),
        ({"encoder.weight": torch.zeros(2)}, "none of the models that are known"),
    ],
)
def test_contents_of_another_kind_are_told(tmp_path: Path, content: object, says: str) -> None:
    assert says in refused(saved(tmp_path / "weights.pth", content))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "weights.pth")


def test_what_is_no_file(tmp_path: Path) -> None:
    """A pipe in particular, which would be waited for."""
    assert "a folder" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.pth")
    assert "no file" in refused(tmp_path / "pipe.pth")
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    assert "symbolic links" in refused(tmp_path / "loop.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_a_file_that_is_cut_off(tmp_path: Path, share: float, zipped: bool) -> None:
    whole = io.BytesIO()
    torch.save({"w": torch.randn(1000)}, whole, _use_new_zipfile_serialization=zipped)
    path = tmp_path / "weights.pth"
    path.write_bytes(whole.getvalue()[: int(share * len(whole.getvalue()))])
    message = refused(path)
    assert "cut off" in message or "damaged" in message or (not share and "empty" in message)


def test_bytes_that_changed_on_the_way(tmp_path: Path) -> None:
    """PyTorch itself does not look at the sums that it writes."""
    path = saved(tmp_path / "weights.pth", {"w": torch.zeros(1000)})
    content = bytearray(path.read_bytes())
    content[content.index(bytes(64)) + 100] ^= 1
    path.write_bytes(content)
    assert "is damaged" in refused(path) and "download it again" in refused(path)


def test_an_archive_that_would_fill_the_memory(tmp_path: Path) -> None:
    packed, path = saved(tmp_path / "plain.pth", {"w": torch.zeros(10**7)}), tmp_path / "weights.pth"
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert path.stat().st_size < 100_000 and "would unpack to 400" in refused(path)


def test_a_torchscript_archive(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "weights.pt"))
    assert "a TorchScript archive" in refused(tmp_path / "weights.pt")


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "a zip archive, to be unpacked first" in refused(path)


@pytest.mark.parametrize(
    ("wrap", "layout"),
    [
        (lambda state: state, "bare state dict"),
        (lambda state: {"state_dict": state, "optimizer": {"state": {}}, "meta": {"epoch": 24}}, "in 'state_dict'"),
        (lambda state: {"model": state, "ema": state}, "in 'model' (not that in ema)"),
        (lambda state: {"epoch": 3, "ema": state}, "in 'ema'"),
        (lambda state: {"net": state, "step": torch.tensor(3)}, "in 'net'"),
        (lambda state: {"model": {"state_dict": state}}, "in 'model', 'state_dict'"),
        (lambda state: OrderedDict(state), "bare state dict"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module._orig_mod.", "model.module."])
def test_wrappers_and_prefixes_are_found(tmp_path: Path, wrap: Any, layout: str, prefix: str) -> None:
    tensors = {f"{prefix}{name}.w": torch.nn.Parameter(torch.ones(2)) for name in ("model_a", "b")}
    found = read_weight_file(saved(tmp_path / "w.pth", wrap(tensors)))
    assert list(found.tensors) == ["model_a.w", "b.w"] and not any(t.requires_grad for t in found.tensors.values())
    assert found.layout.endswith(f", names with {prefix!r}" if prefix else layout) and layout in found.layout


def test_other_ways_to_keep_a_state_dict(tmp_path: Path) -> None:
    tensor = torch.ones(2)
    save_file({"module.w": tensor}, tmp_path / "w.safetensors")
    assert list(read_weight_file(tmp_path / "w.safetensors").tensors) == ["w"]
    mixed = read_weight_file(saved(tmp_path / "w.pth", {"module.w": tensor, "other": tensor}))
    assert list(mixed.tensors) == ["module.w", "other"]
    averaged = {"n_averaged": torch.tensor(5), "module.w": tensor}
    assert list(read_weight_file(saved(tmp_path / "w.pth", averaged)).tensors) == ["w"]


# --- files of a known model that do not fit ---


@pytest.fixture
def dense(oracle: Callable[[str], Any]) -> tuple[Any, dict[str, Tensor]]:
    """An oracle of P-MapNet's HDMapNet, and tensors of its names that hold nothing."""
    found = oracle("pmapnet_hdmapnet_camera")
    return found, found.hollow()


@pytest.fixture
def vector(oracle: Callable[[str], Any]) -> tuple[Any, dict[str, Tensor]]:
    found = oracle("mapqr_r50")
    return found, found.hollow()


def test_a_file_that_does_not_tell_what_it_is_asks(tmp_path: Path, dense: tuple[Any, dict[str, Tensor]]) -> None:
    found, state = dense
    path = found.write(tmp_path / "weights.pt", state)
    message = refused(path)
    assert all(kind in message for kind in ("hdmapnet-60x30", "pmapnet-60x30", "pmapnet-120x60", "--as"))
    assert "is of hdmapnet or pmapnet" in refused(path, kind="mapkd")
    assert "neither a family" in str(error_of(path, kind="resnet"))
    assert "do not fit that region" in refused(path, kind="pmapnet-50x30")
    import_file(path, tmp_path / "good.safetensors", kind="pmapnet-60x30")
    assert (tmp_path / "good.safetensors").is_file()


def error_of(path: Path, **options: Any) -> HdmapError:
    with pytest.raises(HdmapError) as caught:
        import_file(path, path.with_name("out.safetensors"), **options)
    return caught.value


def test_one_tensor_missing_or_too_many(tmp_path: Path, dense: tuple[Any, dict[str, Tensor]]) -> None:
    found, state = dense
    gone = dict(state)
    del gone["camencode.up1.conv.3.weight"]
    message = refused(found.write(tmp_path / "a.pt", gone), kind="pmapnet-60x30")
    assert "lacks 1 tensor" in message and "camencode.up1.conv.3.weight" in message
    more = {**state, "extra_head.weight": torch.zeros(3)}
    message = refused(found.write(tmp_path / "b.pt", more), kind="pmapnet-60x30")
    assert "no place for 1 tensor: extra_head.weight" in message


def test_another_shape_and_numbers_that_are_not_finite(tmp_path: Path, dense: tuple[Any, dict[str, Tensor]]) -> None:
    found, state = dense
    wide = {**state, "camencode.trunk._conv_stem.weight": torch.zeros(48, 3, 3, 3)}  # of EfficientNet-B4
    assert "misshapen" in refused(found.write(tmp_path / "a.pt", wide), kind="pmapnet-60x30")
    broken = {**state, "bevencode.up2.4.bias": torch.full((4,), float("nan"))}
    message = refused(found.write(tmp_path / "b.pt", broken), kind="pmapnet-60x30")
    assert "numbers are not finite in 1 tensor" in message and "bevencode.up2.4.bias" in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_numbers_of_another_precision(
    tmp_path: Path, dense: tuple[Any, dict[str, Tensor]], dtype: torch.dtype, suffix: str
) -> None:
    found, state = dense
    state = {name: t.to(dtype).contiguous() if t.is_floating_point() else t.contiguous() for name, t in state.items()}
    state["bevencode.up2.4.bias"] = torch.tensor([0.5, -1.5, 2.0, 0.25], dtype=dtype)
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else found.write(path, state)
    import_file(path, tmp_path / "good.safetensors", kind="pmapnet-60x30")
    ours = load_file(tmp_path / "good.safetensors")
    assert {t.dtype for t in ours.values()} <= {torch.float32, torch.int64}
    assert ours["dense_heads.semantic.finish.1.bias"].tolist() == [0.5, -1.5, 2.0, 0.25]


def test_whole_numbers_are_no_weights(tmp_path: Path, dense: tuple[Any, dict[str, Tensor]]) -> None:
    found, state = dense
    for name in ("bevencode.up2.4.bias", "camencode.up1.conv.0.weight"):
        path = found.write(tmp_path / "a.pt", {**state, name: state[name].to(torch.int8)})
        assert f"{name} holds whole numbers" in refused(path, kind="pmapnet-60x30")


DENSE_NAMES = (
    "view_fusion.hw_mat.0.2.weight",
    "view_fusion.hw_mat.3.0.bias",
    "bevencode.conv1.weight",
    "bevencode.bn1.running_var",
)
VECTOR_NAMES = (
    *("img_backbone.layer3.5.conv3.weight", "img_neck.fpn_convs.0.conv.bias", "pts_bbox_head.bev_embedding.weight"),
    *(f"pts_bbox_head.positional_encoding.{name}_embed.weight" for name in ("row", "col")),
    *(f"pts_bbox_head.transformer.{name}" for name in ("cams_embeds", "level_embeds", "can_bus_mlp.2.weight")),
    "pts_bbox_head.transformer.encoder.layers.0.attentions.1.height_offsets.weight",
    "pts_bbox_head.transformer.encoder.layers.2.attentions.0.sampling_offsets.bias",
    *("pts_bbox_head.instance_embedding.weight", "pts_bbox_head.seg_head.0.weight"),
    *("pts_bbox_head.cls_branches.5.6.bias", "pts_bbox_head.transformer.reference_points.2.weight"),
)


@pytest.mark.parametrize("name", DENSE_NAMES)
def test_whichever_tensor_of_a_dense_model_is_missing_or_misshapen(
    tmp_path: Path, dense: tuple[Any, dict[str, Tensor]], name: str
) -> None:
    _misses_and_misshapes(tmp_path, *dense, name, kind="pmapnet-60x30")


@pytest.mark.parametrize("name", VECTOR_NAMES)
def test_whichever_tensor_of_a_vector_model_is_missing_or_misshapen(
    tmp_path: Path, vector: tuple[Any, dict[str, Tensor]], name: str
) -> None:
    """Those above all that tell what the file is."""
    _misses_and_misshapes(tmp_path, *vector, name)


def _misses_and_misshapes(folder: Path, found: Any, state: dict[str, Tensor], name: str, **options: Any) -> None:
    gone = {key: tensor for key, tensor in state.items() if key != name}
    assert name in (message := refused(found.write(folder / "a.pt", gone), **options)) and "lacks" in message
    for odd in (state[name][:0], state[name][..., :-1], torch.zeros(())):
        refused(found.write(folder / "b.pt", {**state, name: odd}), **options)


def test_layers_that_nobody_could_build(tmp_path: Path, vector: tuple[Any, dict[str, Tensor]]) -> None:
    found, state = vector
    more = {**state, "pts_bbox_head.transformer.encoder.layers.1000000000.ffns.0.layers.1.bias": torch.zeros(256)}
    assert "layers.1000000000" in refused(found.write(tmp_path / "a.pth", more))


def test_the_file_that_is_read_is_not_written_over(tmp_path: Path) -> None:
    save_file({"module.w": torch.ones(2)}, tmp_path / "w.safetensors")
    before = (tmp_path / "w.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="is the file to read"):
        import_file(tmp_path / "w.safetensors", tmp_path / "." / "w.safetensors")
    assert (tmp_path / "w.safetensors").read_bytes() == before


def test_another_backbone_or_rig_of_the_vector_line(tmp_path: Path, vector: tuple[Any, dict[str, Tensor]]) -> None:
    found, state = vector
    shallow = {name: tensor for name, tensor in state.items() if not name.startswith("img_backbone.layer3.5")}
    assert "no ResNet-50" in refused(found.write(tmp_path / "a.pth", shallow))
    seven = {**state, "pts_bbox_head.transformer.cams_embeds": torch.zeros(7, 256)}
    assert "7 cameras" in refused(found.write(tmp_path / "b.pth", seven))
    lidar = {**state, "pts_middle_encoder.conv_input.0.weight": torch.zeros(3)}
    assert "LiDAR" in refused(found.write(tmp_path / "c.pth", lidar))
    gone = {name: tensor for name, tensor in state.items() if not name.endswith("layers.0.norms.1.bias")}
    message = refused(found.write(tmp_path / "d.pth", gone))
    assert "lacks 2 tensors" in message and "pts_bbox_head.transformer.decoder.layers.0.norms.1.bias" in message


def test_the_command_says_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    path = saved(tmp_path / "w.pth", {"encoder.weight": torch.zeros(2)})
    monkeypatch.setattr(sys, "argv", ["hdmap", "import", str(path), "-o", str(tmp_path / "out.safetensors")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and not (tmp_path / "out.safetensors").exists()


def test_vectors_of_the_can_bus_are_checked(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", {"w": torch.zeros(2)})
    for vector, told in (([0.0] * 17, "given are 17, 17 of them"), ([float("inf")] * 18, "given are 18, 0 of them")):
        with pytest.raises(ConfigError, match=f"18 finite numbers; {told} finite"):
            import_file(path, tmp_path / "out.safetensors", can_bus=vector)


def test_where_it_came_from_stands_in_the_checkpoint(tmp_path: Path, dense: tuple[Any, dict[str, Tensor]]) -> None:
    from hdmap_core.checkpoint import load_checkpoint
    from hdmap_core.info.known import describe

    found, state = dense
    path, out = found.write(tmp_path / "weights.pt", state), tmp_path / "ours.safetensors"
    import_file(path, out, kind="pmapnet-60x30", overrides=["decode.max_elements=7"])
    checkpoint = load_checkpoint(out)
    came = checkpoint.provenance["imported"]
    assert came["sha256"] == read_weight_file(path).sha256 and came["kind"] == "pmapnet-60x30"
    assert "non-commercial" in checkpoint.provenance["licence"] and checkpoint.config.decode.max_elements == 7
    told = describe(out)
    assert told is not None and "pmapnet-60x30" in told.facts["imported"]
    with pytest.raises(CheckpointError, match="checkpoint of hdmap_ros already"):
        read_weight_file(out)
