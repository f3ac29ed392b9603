"""Imported models with generated weights behave as ordinary checkpoints do: info, evaluate, export."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hdmap_core.released.importing import import_file

SMALLER = ["model.backbone.image_size=[96,160]", "model.backbone.filled_size=[90,160]"]
FEW = ["model.vectors.num_queries=5", "model.vectors.one_to_many=0", "decode.score_threshold=0.0"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "overrides", "notes"),
    [
        ("maptr_r50", None, [*SMALLER, *FEW], ("CAN bus", "LiDAR")),
        ("hdmapnet_camera", "hdmapnet-60x30", [], ()),
    ],
)
def test_an_imported_model_is_scored_and_exported(
    oracle: Callable[[str], Any],
    place: Path,
    hdmap: Callable[..., Any],
    tiny_world: Path,
    name: str,
    kind: str | None,
    overrides: list[str],
    notes: tuple[str, ...],
) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra export")
    pytest.importorskip("onnxruntime", reason="needs the extra export")
    reference, weights, exported = oracle(name), place / "imported.safetensors", place / "exported.onnx"
    reference.write(place / "released.pth", reference.state())
    found = import_file(place / "released.pth", weights, kind=kind, overrides=overrides)
    assert len(found.notes) == len(notes)
    assert all(word in note for word, note in zip(notes, found.notes, strict=True))
    told = hdmap("info", weights)
    assert told.code == 0 and "non-commercial" in told.out and "released.pth" in told.out
    ended = hdmap("export", weights, "--format", "onnx", "-o", exported)
    assert ended.code == 0 and "differs from PyTorch by" in ended.out, ended.err
    scores = []
    for path in (weights, exported):
        ended = hdmap("evaluate", path, tiny_world, "--split", "val", "--limit", "1", "--device", "cpu", "--json")
        assert ended.code == 0, ended.err
        scores.append(json.loads(ended.out))
    eager, onnx = ([each["num_predictions"] for each in score["classes"].values()] for score in scores)
    assert eager == onnx and any(eager)


def test_a_model_that_reads_no_can_bus_refuses_its_vector(
    oracle: Callable[[str], Any], place: Path, hdmap: Callable[..., Any]
) -> None:
    reference = oracle("maptrv2_r50")
    state = reference.hollow()
    path, vector = reference.write(place / "weights.pth", state), ",".join(["0"] * 18)
    hdmap("import", path, "-o", place / "out.safetensors", "--can-bus", vector).assert_refused("does not read")
    assert not (place / "out.safetensors").exists()
