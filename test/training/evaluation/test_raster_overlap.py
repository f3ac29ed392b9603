"""Overlaps of dense heads' rasters with the truth, and their sum, the mIoU."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.inference import Prediction
from hdmap_core.models import ModelConfig
from training.corruptions import Corruption
from training.data.batches import dense_targets
from training.evaluation import predictions
from training.evaluation.raster_overlap import iou_json, iou_table, raster_overlap, total_iou

CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)
MODEL = ModelConfig.model_validate(
    {
        "name": "small",
        "grid": BEVGrid((-6.0, 6.0), (-3.0, 3.0), 0.15),
        "bev_encoder": {"kind": "resnet18"},
        "vectors": None,
        "segmentation": None,
        "dense": {},
    }
)
TRUTH = [
    MapElement(MapClass.DIVIDER, np.array([[-5.0, -1], [5, -1]])),
    MapElement(MapClass.PED_CROSSING, np.array([[0.0, 0], [2, 0], [2, 2], [0, 2]]), closed=True),
]


def test_the_truth_overlaps_itself_and_nothing_nothing() -> None:
    drawn = dense_targets([TRUTH], MODEL).semantic[0].numpy()
    cells = [int((drawn == channel).sum()) for channel in (1, 2, 3)]
    assert cells[0] > 7 * 60 and cells[1] > 0 and cells[2] == 0
    assert raster_overlap(drawn, TRUTH, MODEL) == [cells, cells]
    assert raster_overlap(np.zeros_like(drawn), TRUTH, MODEL) == [[0, 0, 0], cells]
    assert raster_overlap(np.roll([0, 1, 2, 3], 1)[drawn], TRUTH, MODEL)[0] == [0, 0, 0], "of other classes"


def test_cells_are_summed_over_frames_and_a_class_that_never_occurs_does_not_count() -> None:
    found = total_iou([[[5, 0, 0], [10, 0, 3]], [[1, 0, 0], [20, 0, 5]]], CLASSES)
    assert found["divider"] == pytest.approx(0.2) and found["boundary"] == 0
    assert math.isnan(found["ped_crossing"]) and found["mIoU"] == pytest.approx(0.1)
    assert iou_json(found)["ped_crossing"] is None
    console = Console(width=100, record=True)
    console.print(iou_table(found))
    shown = console.export_text()
    assert all(text in shown for text in ("ped crossing", "0.200", "0.000", "0.100", "–"))


@pytest.mark.parametrize("corruption", [None, Corruption("fog", 1)])
def test_overlaps_are_of_clean_images(
    synthetic_root: Path, monkeypatch: pytest.MonkeyPatch, corruption: Corruption | None
) -> None:
    raster = np.ones(MODEL.grid.shape, np.uint8)
    predictor = SimpleNamespace(
        info=SimpleNamespace(classes=MODEL.classes, grid=MODEL.grid, lidar_sweeps=0, enough_pixels=None),
        config=SimpleNamespace(model=MODEL),
        prepare=lambda observation: observation,
        complete=lambda observation: Prediction([], {}, raster),
    )
    monkeypatch.setattr(predictions, "_predictor", lambda *_: predictor)
    source = predictions.Source(
        Path("x"), "0", synthetic_root, "v1.0-mini", "0", None, "cpu", dense=True, corruption=corruption
    )
    token = NuScenesDataset(synthetic_root).tokens[0]
    overlap = predictions._predict_piece(predictions._Piece(source, (token,)))[token].overlap
    assert (overlap is None) == (corruption is not None)
    assert overlap is None or overlap[1][0] == raster.size
