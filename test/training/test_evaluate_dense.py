"""`hdmap evaluate` of models with dense heads: mIoU and the papers' AP beside the honest one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hdmap_core.checkpoint import CheckpointConfig, save_checkpoint
from hdmap_core.metrics.raster_ap import RASTER_PROTOCOLS
from hdmap_core.models import build_model
from training.config import TrainConfig
from training.evaluation import predictions as predictions_module

CPU = ("--device", "cpu", "--gallery", 0)


@pytest.fixture
def checkpoint(dense_config: Callable[..., TrainConfig], tmp_path: Path) -> Callable[..., Path]:
    """A random model of a recipe that publishes all that it has."""

    def save(row: str, *overrides: str) -> Path:
        config = dense_config(row, *overrides)
        torch.manual_seed(0)
        model = build_model(config.model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
        path = tmp_path / f"{config.model.name}.safetensors"
        stage = CheckpointConfig(
            model=config.model, decode=config.decode.model_copy(update={"score_threshold": 0.0, "max_elements": 20})
        )
        save_checkpoint(path, model, stage, {"dataset": "none"})
        return path

    return save


def strict(text: str) -> dict[str, Any]:
    """JSON without NaN, which is none."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in a report")

    return json.loads(text, parse_constant=refuse)


def test_what_is_printed_says_which_figure_is_which(
    hdmap: Callable[..., Any], checkpoint: Callable[..., Path], sensor_world: Path, tmp_path: Path
) -> None:
    ended = hdmap("evaluate", checkpoint("pmapnet/lidar_sd_hd"), sensor_world, *CPU, "-o", tmp_path / "out")
    assert ended.code == 0, ended.err
    for part in ("Chamfer AP, protocol maptr", "IoU of the dense heads' rasters", "mIoU", "the honest figure"):
        assert part in ended.out
    for protocol in RASTER_PROTOCOLS:
        assert f"AP of rasterised lines as published, protocol {protocol}" in ended.out


def test_json_and_what_is_taken_again(
    hdmap: Callable[..., Any],
    checkpoint: Callable[..., Path],
    sensor_world: Path,
    tmp_path: Path,
    computed: list[str],
) -> None:
    out = tmp_path / "out"
    command = ("evaluate", checkpoint("pmapnet/camera_sd"), sensor_world, *CPU, "-o", out, "--json")
    ended = hdmap(*command)
    assert ended.code == 0, ended.err
    report = strict(ended.out)
    assert set(report["iou"]) == {"divider", "ped_crossing", "boundary", "mIoU"}
    known = [value for name, value in report["iou"].items() if name != "mIoU" and value is not None]
    assert known and report["iou"]["mIoU"] == pytest.approx(sum(known) / len(known))
    assert set(report["raster_ap"]) == set(RASTER_PROTOCOLS)
    for protocol, published in report["raster_ap"].items():
        assert published["protocol"] == protocol and published["honest"]["mAP"] == report["mAP"]
    written = strict((out / "report.json").read_text())
    assert {key: written[key] for key in report} == report
    overlaps = strict((out / "overlaps.json").read_text())
    assert len(overlaps) == 2 == len(computed)
    assert report["iou"]["boundary"] == pytest.approx(
        sum(value[0][2] for value in overlaps.values()) / sum(value[1][2] for value in overlaps.values())
    )

    assert hdmap(*command).out == ended.out and len(computed) == 2, "all of it is taken again"
    (out / "overlaps.json").unlink()
    assert hdmap(*command).out == ended.out and len(computed) == 4, "elements without their overlaps are not"
    (out / "predictions.jsonl").unlink()
    assert hdmap(*command).out == ended.out and len(computed) == 6
    (out / "overlaps.json").write_text(json.dumps({token: [[9, 9, 9], [9, 9, 9]] for token in overlaps}))
    assert hdmap(*command).out == ended.out and len(computed) == 8, "nor what somebody changed"
    assert strict((out / "overlaps.json").read_text()) == overlaps


def test_workers_change_nothing(
    hdmap: Callable[..., Any],
    checkpoint: Callable[..., Path],
    sensor_world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predictions_module, "PIECE", 1)
    path, found = checkpoint("pmapnet/lidar_sd"), []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        ended = hdmap("evaluate", path, sensor_world, *CPU, "-o", out, "--json", "--workers", workers)
        assert ended.code == 0, ended.err
        found.append((ended.out, *((out / name).read_bytes() for name in ("predictions.jsonl", "overlaps.json"))))
    assert found[0] == found[1]


def test_a_folder_without_sd_maps_is_refused(
    hdmap: Callable[..., Any], checkpoint: Callable[..., Path], without_sd_maps: Path, computed: list[str]
) -> None:
    parts = ("maps/sd/", ".geojson is missing", f"hdmap sdmap OSM_FOLDER {without_sd_maps}")
    model, cameras = checkpoint("pmapnet/camera_sd"), checkpoint("hdmapnet/camera")
    hdmap("evaluate", model, without_sd_maps, *CPU).assert_refused(*parts)
    corrupted = ("--corruption", "fog", "--baseline", model)
    hdmap("evaluate", cameras, without_sd_maps, *CPU, *corrupted).assert_refused(*parts)
    assert computed == []


def test_a_baseline_without_dense_heads_has_another_ground_truth(
    hdmap: Callable[..., Any], checkpoint: Callable[..., Path], sensor_world: Path, computed: list[str]
) -> None:
    dense, vectors = checkpoint("hdmapnet/camera"), checkpoint("tiny/ground")
    for model, baseline in ((dense, vectors), (vectors, dense)):
        command = ("evaluate", model, sensor_world, *CPU, "--corruption", "fog", "--baseline", baseline)
        hdmap(*command).assert_refused(str(baseline), "long edges only")
    assert computed == []


def test_a_refiner_by_itself_cannot_be_evaluated(
    hdmap: Callable[..., Any], checkpoint: Callable[..., Path], sensor_world: Path
) -> None:
    hdmap("evaluate", checkpoint("pmapnet/hd_pretrain"), sensor_world, *CPU).assert_refused("refiner by itself")


def test_predict_reads_sweeps_and_roads(
    hdmap: Callable[..., Any], checkpoint: Callable[..., Path], sensor_world: Path, tmp_path: Path
) -> None:
    ended = hdmap("predict", checkpoint("pmapnet/lidar_sd"), sensor_world, "-o", tmp_path / "map.png", *CPU[:2])
    assert ended.code == 0 and "elements drawn" in ended.out, ended.err
    assert (tmp_path / "map.png").stat().st_size > 1000
