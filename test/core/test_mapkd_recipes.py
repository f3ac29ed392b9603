"""The recipes of MapKD's table: what they are made of, how large, at every range, and what they say of the papers."""

import re
from functools import cache
from pathlib import Path

import pytest
import torch

from hdmap_core.config import load_config
from hdmap_core.models import MapModel, build_model

TrainConfig = pytest.importorskip("training.config", reason="colcon installs no `training`; see make test").TrainConfig

FOLDER = Path(__file__).resolve().parents[2] / "config" / "recipes"
ROWS = {
    # Millions of parameters that the published code reads, measured there, and EfficientNets in the model.
    "hdmapnet/camera": (78.3, 1),
    "pmapnet/camera_sd": (78.9, 1),
    "pmapnet/camera_sd_hd": (195.6 - 0.97, 1),
    "pmapnet/lidar_sd": (86.1, 1),
    "pmapnet/lidar_sd_hd": (202.8 - 0.97, 1),
    "pmapnet/simulated_sd": (99.7 - 7.9, 2),
    "pmapnet/simulated_sd_hd": (216.4 - 7.9 - 0.97, 2),
}
UNUSED = 1.69  # of a published EfficientNet-B0: the last convolution and the classifier, which nothing reads
RANGES = {
    "120x60": "model.grid={x_range: [-60, 60], y_range: [-30, 30], resolution: 0.3}",
    "240x60": "model.grid={x_range: [-120, 120], y_range: [-30, 30], resolution: 0.3}",
}


@cache
def model(name: str, *overrides: str) -> MapModel:
    with torch.device("meta"):
        return build_model(load_config(TrainConfig, FOLDER / f"{name}.yaml", list(overrides)).model)


def millions(built: MapModel) -> float:
    return sum(parameter.numel() for parameter in built.parameters()) / 1e6


@pytest.mark.parametrize("name", ROWS)
def test_size_of_the_published_models(name: str) -> None:
    published, trunks = ROWS[name]
    assert millions(model(name)) + trunks * UNUSED == pytest.approx(published, abs=0.06)


@pytest.mark.parametrize(
    ("name", "published"),
    [("hdmapnet/camera", 266.0), ("pmapnet/camera_sd", 266.6), ("pmapnet/lidar_sd", 273.8)],
)
def test_size_at_240_m(name: str, published: float) -> None:
    assert millions(model(name, RANGES["240x60"])) + UNUSED == pytest.approx(published, abs=0.06)


@pytest.mark.parametrize("name", [*ROWS, "pmapnet/hd_pretrain", "pmapnet/hd_pretrain_small"])
@pytest.mark.parametrize("override", RANGES.values(), ids=RANGES)
def test_other_ranges_by_override(name: str, override: str) -> None:
    assert millions(model(name, override)) > 5


def test_a_fusion_of_cameras_and_lidar_by_override() -> None:
    built = model("hdmapnet/camera", "model.lidar={kind: pillars}")
    assert millions(built) + UNUSED == pytest.approx(82.7, rel=0.01)


def test_size_of_the_students() -> None:
    """MapKD's as published, what is used of it; the students of MapKD are as they are without a teacher."""
    assert millions(model("mapkd/3_student")) + UNUSED == pytest.approx(80.7, abs=0.06)
    assert millions(model("mapkd/bevdistill")) == millions(model("hdmapnet/camera"))
    assert millions(model("student/3_student")) == millions(model("student/ground"))


@pytest.mark.parametrize("line", ["mapkd", "student"])
def test_stages_name_each_other(line: str) -> None:
    teacher, coach, student = (
        load_config(TrainConfig, next((FOLDER / line).glob(f"{number}_{name}.yaml")))
        for number, name in ((1, "teacher"), (2, "coach"), (3, "student"))
    )
    assert coach.sources == {"teacher": Path("runs") / teacher.model.name}
    assert student.sources == {**coach.sources, "coach": Path("runs") / coach.model.name}
    assert {term.source for term in student.distillation} == {"teacher", "coach"} and not teacher.sources
    for source in (teacher, coach):
        assert source.model.grid == student.model.grid and source.model.classes == student.model.classes
    assert teacher.model.lidar_sweeps and not student.model.lidar_sweeps and student.model.sd_prior is None


def test_the_refiner_for_a_vehicle_is_small() -> None:
    assert millions(model("pmapnet/hd_pretrain_small")) < 7


@pytest.mark.parametrize("name", ROWS)
def test_head_gives_the_published_row_with_its_columns_put_right(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text()
    found = re.search(r"ped ([\d.]+), div ([\d.]+), bound ([\d.]+), mIoU ([\d.]+)", text)
    assert found is not None and "opposite headings" in text
    ped, divider, boundary, mean = map(float, found.groups())
    assert divider > ped, "swapped as in MapKD's table"
    assert (ped + divider + boundary) / 3 == pytest.approx(mean, abs=0.02)


@pytest.mark.parametrize("name", [name for name in ROWS if name.endswith("_hd")])
def test_a_second_stage_starts_from_the_first(name: str) -> None:
    config = load_config(TrainConfig, FOLDER / f"{name}.yaml")
    first = load_config(TrainConfig, FOLDER / f"{name.removesuffix('_hd')}.yaml")
    prior = load_config(TrainConfig, FOLDER / "pmapnet" / "hd_pretrain.yaml")
    assert config.start.model == Path("runs") / first.model.name
    assert config.start.hd_refiner == Path("runs") / prior.model.name
    assert config.model.hd_refiner == prior.model.hd_refiner
    assert config.model.model_copy(update={"hd_refiner": None, "name": first.model.name}) == first.model
