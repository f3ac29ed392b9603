"""Exports for rigs on which no cell is seen by more than so many cameras."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_core.errors import ConfigError
from hdmap_core.inference import load_predictor
from hdmap_core.inference.sample import sample_observation
from hdmap_core.observation import Observation

pytest.importorskip("onnxscript", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs the extra export")

Hdmap = Callable[..., Any]
Write = Callable[..., Path]


def crowded(ring: Observation, cameras: int) -> Observation:
    """Some cameras look the same way."""
    poses = ring.rig.ego_from_camera.clone()
    poses[1:cameras] = poses[0]
    return replace(ring, rig=replace(ring.rig, ego_from_camera=poses))


@pytest.mark.parametrize("options", [(), ("--max-views", 2)], ids=["by itself", "asked for"])
def test_as_many_views_as_the_ring_asks_for(
    options: tuple[Any, ...], tmp_path: Path, hdmap: Hdmap, write_checkpoint: Write
) -> None:
    path = write_checkpoint(tmp_path, "mapfm")
    ended = hdmap("export", path, *options)
    assert "reads 2 cameras per cell" in ended.out and "a rig on which a cell is seen by more is refused" in ended.out
    ours, eager = load_predictor(path.with_suffix(".onnx"), "cpu"), load_predictor(path, "cpu", engine="auto")
    assert ours.engine.source.max_views == 2
    assert eager.engine.why == "model.onnx is for rigs with at most 2 cameras per cell only"
    ring = sample_observation(size=(90, 160))
    for one, other in zip(ours.predict(ring).elements, eager.predict(ring).elements, strict=True):
        np.testing.assert_allclose(one.points, other.points, atol=1e-3)
    with pytest.raises(ConfigError, match=r"than 2 cameras, on this one some are by [4-6]; export it again with --max"):
        ours.predict(crowded(ring, 4))
    assert len(ours.predict(ring).elements) == 12


def test_a_file_for_any_rig(tmp_path: Path, hdmap: Hdmap, write_checkpoint: Write) -> None:
    path = write_checkpoint(tmp_path, "mapfm")
    ended = hdmap("export", path, "--max-views", 6)
    assert ended.code == 0 and "cameras per cell" not in ended.out
    ours, eager = load_predictor(path, "cpu"), load_predictor(path, "cpu", engine="eager")
    assert ours.engine.name == "onnxruntime" and ours.engine.source.max_views is None
    seen = crowded(sample_observation(size=(90, 160)), 4)
    for one, other in zip(ours.predict(seen).elements, eager.predict(seen).elements, strict=True):
        np.testing.assert_allclose(one.points, other.points, atol=1e-3)
