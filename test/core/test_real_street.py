"""The real keyframe with its real map, through reader, shipped student, metric and picture."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.elements import MapClass
from hdmap_core.geometry import BEVGrid
from hdmap_core.inference import default_weights, load_predictor
from hdmap_core.metrics.chamfer_ap import chamfer_ap
from hdmap_core.viz import draw_map

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
GRID = BEVGrid(x_range=(-30.0, 30.0), y_range=(-15.0, 15.0), resolution=0.3)


@pytest.fixture(scope="module")
def real_frames(load_module: Callable[[Path], ModuleType]) -> ModuleType:
    return load_module(EXPERIMENTS / "real_frames.py")


def test_the_plain_reader_sees_what_the_nuscenes_reader_sees(
    real_frames: ModuleType, real_frame_source: Path, real_frame_root: Path
) -> None:
    dataset = NuScenesDataset(real_frame_root, road_plane=False)
    observation, other = real_frames.read_frame(real_frame_source), dataset.observation(dataset.tokens[0])
    assert observation.token == other.token and observation.stamp_ns == other.stamp_ns
    order = [observation.rig.names.index(name) for name in other.rig.names]
    np.testing.assert_allclose(observation.rig.ego_from_camera[order], other.rig.ego_from_camera, atol=1e-9)
    np.testing.assert_array_equal(observation.images[order[0]], other.images[0])


def test_the_true_lines_lie_as_the_map_has_them(real_frames: ModuleType, real_frame_source: Path) -> None:
    elements = real_frames.true_elements(real_frame_source, real_frames.read_frame(real_frame_source), GRID)

    def length(label: MapClass) -> float:
        lines = [each.points for each in elements if each.label is label]
        return float(sum(np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in lines))

    assert 105 < length(MapClass.DIVIDER) < 120 and 230 < length(MapClass.BOUNDARY) < 245  # 113 and 236 m by its README
    dividers = [each for each in elements if each.label is MapClass.DIVIDER]
    assert len(dividers) == 4
    for each in elements:  # the street runs along the car
        along, across = np.abs(each.points[-1] - each.points[0])
        assert along > 5 * across


def test_scored_against_itself_it_is_perfect_and_the_student_is_scored_and_drawn(
    real_frames: ModuleType, real_frame_source: Path
) -> None:
    observation = real_frames.read_frame(real_frame_source)
    truth = real_frames.true_elements(real_frame_source, observation, GRID)
    classes = tuple(real_frames.LAYERS)
    assert chamfer_ap({"real": truth}, {"real": truth}, classes=classes).mean_ap == pytest.approx(1.0)
    elements = load_predictor(default_weights(), "cpu", engine="eager").predict(observation).elements
    score = chamfer_ap({"real": elements}, {"real": truth}, classes=classes)
    assert 0.0 <= score.mean_ap <= 1.0 and score.classes[MapClass.DIVIDER].num_truth == 4
    bare = draw_map(observation, [], None, GRID)
    assert (draw_map(observation, elements, truth, GRID) != bare).any()
