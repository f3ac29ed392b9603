"""The student that ships with the package, on a town it has never seen."""

import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.inference import Predictor, default_weights, load_predictor
from hdmap_core.metrics.chamfer_ap import chamfer_ap


@pytest.fixture(scope="module")
def student() -> Predictor:
    return load_predictor(default_weights(), "cpu")


@pytest.fixture(scope="module")
def unseen_town(tmp_path_factory: pytest.TempPathFactory) -> NuScenesDataset:
    root = tmp_path_factory.mktemp("unseen")
    change = {"towns": {"test": 1}, "keyframes": 8, "lidar": "none"}
    write_dataset(root, PRESETS["v1"].model_copy(update=change))
    return NuScenesDataset(root)


def test_it_is_small_and_says_where_it_comes_from() -> None:
    path = default_weights()
    assert path.stat().st_size < 10e6
    card = (path.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert load_predictor(path, "cpu").info.weights_sha256 in card


def test_no_file_names_the_machine_that_made_it() -> None:
    for path in (default_weights(), default_weights().with_suffix(".onnx")):
        assert b".py" not in path.read_bytes(), path.name


def test_it_maps_a_town_it_has_never_seen(student: Predictor, unseen_town: NuScenesDataset) -> None:
    predictions = {token: student.predict(unseen_town.observation(token)).elements for token in unseen_town.tokens}
    truth = {token: unseen_town.elements(token) for token in unseen_town.tokens}
    assert chamfer_ap(predictions, truth).mean_ap > 0.2  # far below the model card's figure: one short drive varies


def test_a_missing_camera_costs_its_part_of_the_map_only(student: Predictor, unseen_town: NuScenesDataset) -> None:
    observation = unseen_town.observation(unseen_town.tokens[0])
    front = observation.rig.names.index("CAM_FRONT")
    images = tuple(None if index == front else image for index, image in enumerate(observation.images))
    elements = student.predict(replace(observation, images=images)).elements
    assert any((element.points[:, 0] < -5).any() and element.score > 0.3 for element in elements)


def test_the_order_of_the_cameras_does_not_matter(student: Predictor, unseen_town: NuScenesDataset) -> None:
    observation = unseen_town.observation(unseen_town.tokens[0])
    names = observation.rig.names[::-1]
    turned = replace(observation, rig=observation.rig.select(names), images=observation.images[::-1])
    first, second = student.predict(observation).elements, student.predict(turned).elements
    assert [element.label for element in first] == [element.label for element in second]
    assert all(abs(a.score - b.score) < 0.05 for a, b in zip(first, second, strict=True))


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs ONNX Runtime")
def test_it_runs_quantised_where_onnx_runtime_is(student: Predictor, unseen_town: NuScenesDataset) -> None:
    """The file beside the checkpoint was made of it: export it again (`--format int8`) after another training."""
    assert (student.info.engine, student.info.precision) == ("onnxruntime", "int8"), student.info.engine_why
    exact = load_predictor(default_weights(), "cpu", engine="eager")
    assert student.info.model_id == exact.info.model_id and student.config == exact.config
    met = seen = 0
    for token in unseen_town.tokens[::4]:
        prepared = exact.prepare(unseen_town.observation(token))
        ours, theirs = (predictor.engine(prepared.batch).semantic for predictor in (student, exact))
        assert ours is not None and theirs is not None
        met, seen = met + int(((ours > 0) & (theirs > 0)).sum()), seen + int(((ours > 0) | (theirs > 0)).sum())
    assert met / seen > 0.97


def test_without_onnx_runtime_it_runs_in_pytorch_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    info = load_predictor(default_weights(), "cpu").info
    assert (info.engine, info.precision) == ("eager", "fp32")
    assert "onnxruntime" in info.engine_why


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs ONNX Runtime")
def test_who_asks_for_fp32_gets_it() -> None:
    info = load_predictor(default_weights(), "cpu", "fp32").info
    assert (info.engine, info.precision) == ("eager", "fp32")
    assert "student.onnx computes in int8, not in fp32" in info.engine_why
