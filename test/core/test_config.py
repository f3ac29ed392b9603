from pathlib import Path
from typing import Literal

import pytest

from hdmap_core.config import Config, load_config, parse_config
from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid


class Fast(Config):
    kind: Literal["fast"] = "fast"
    wheels: int = 4


class Strong(Config):
    kind: Literal["strong"] = "strong"
    torque: float = 1.0


class Engine(Config):
    rate: float = 1e-3
    cylinders: tuple[int, ...] = (1, 2)
    drive: Fast | Strong = Fast()


class Car(Config):
    name: str
    engine: Engine = Engine()
    spare: Engine | None = None
    fleet: tuple[Engine, ...] = ()
    grid: BEVGrid = BEVGrid()


def load(tmp_path: Path, text: str, *overrides: str) -> Car:
    path = tmp_path / "car.yaml"
    path.write_text(text)
    return load_config(Car, path, overrides)


def test_defaults_and_deviations(tmp_path: Path) -> None:
    car = load(tmp_path, "name: a\nengine: {rate: 0.5, drive: {kind: strong, torque: 3}}\ngrid: {resolution: 0.6}")
    assert (car.engine.rate, car.engine.drive, car.engine.cylinders) == (0.5, Strong(torque=3.0), (1, 2))
    assert car.grid == BEVGrid(resolution=0.6)


def test_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Car(name="a").name = "b"  # type: ignore[misc]


def test_what_is_dumped_loads_again(tmp_path: Path) -> None:
    car = Car(name="a", spare=Engine(drive=Strong(torque=2)), grid=BEVGrid((-3, 3), (0, 9), 0.5))
    _ = car.grid.shape  # a cached property must not end up in the dump
    assert parse_config(Car, car.model_dump(mode="json"), "again") == car


@pytest.mark.parametrize("text", ["2e-4", "'2e-4'", "2.0e-4", "0.0002"])
def test_numbers_that_yaml_reads_as_strings(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, f"name: a\nengine: {{rate: {text}}}").engine.rate == 2e-4
    assert load(tmp_path, "name: a", f"engine.rate={text}").engine.rate == 2e-4


def test_overrides(tmp_path: Path) -> None:
    car = load(tmp_path, "name: a", "name=b", "engine.cylinders=[3, 4, 5]", "spare={rate: 2}", "grid.resolution=0.6")
    assert (car.name, car.engine.cylinders, car.grid.resolution) == ("b", (3, 4, 5), 0.6)
    assert car.spare is not None and car.spare.rate == 2
    assert load(tmp_path, "name: a\nspare: {rate: 2}", "spare=null").spare is None
    assert load(tmp_path, "name: a", "name=a=b").name == "a=b"


def test_overrides_reach_into_lists(tmp_path: Path) -> None:
    text = "name: a\nengine: {cylinders: [3, 4]}\nfleet: [{rate: 1}, {rate: 2}]"
    car = load(tmp_path, text, "engine.cylinders.1=9", "fleet.0.rate=5", "fleet.1={rate: 7}")
    assert car.engine.cylinders == (3, 9) and [each.rate for each in car.fleet] == [5, 7]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("engine.rate", "must look like key.subkey=value"),
        ("=3", "must look like key.subkey=value"),
        ("name.first=3", "'name' is a value, not a section"),
        ("engine.rate=[1", "not valid YAML"),
        ("trips.3=1", "'3' is no place in a list of 2"),
        ("trips.first=1", "'first' is no place in a list of 2"),
        ("trips.0.far=1", "'0' is a value, not a section"),
        ("engine.rat=1", "unknown key 'engine.rat'; did you mean 'rate'?"),
        ("engin.rate=1", "unknown key 'engin'; did you mean 'engine'?"),
        ("grid.resolutoin=0.6", "unknown key 'grid.resolutoin'; did you mean 'resolution'?"),
        ("spare.cylinder=1", r"unknown key 'spare.cylinder'; did you mean 'cylinders'?"),
    ],
)
def test_wrong_overrides_say_why(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "name: a\ntrips: [1, 2]" if "trips" in override else "name: a", override)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{}", ["car.yaml", "name: Field required"]),
        ("name: [1]", ["name: Input should be a valid string", "[1]"]),
        ("name: a\nengine: {rate: quick}", ["engine.rate", "'quick'"]),
        ("name: a\nengine: {rate: quick, cylinders: 3}", ["engine.rate", "engine.cylinders"]),
        ("name: a\nwheel: 3", ["unknown key 'wheel'", "Allowed here: engine, fleet, grid, name, spare"]),
        ("name: a\ngrid: {resolution: 0.7}", ["car.yaml", "0.7", "whole number of cells"]),
        ("- a\n- b", ["car.yaml", "mapping", "list"]),
        ("", ["car.yaml", "mapping"]),
        ("name: [a", ["car.yaml", "not valid YAML"]),
        ("name: !!python/object/apply:os.getcwd []", ["not valid YAML"]),
    ],
)
def test_wrong_recipes_say_where_and_what(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    for part in parts:
        assert part in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read recipe .*missing\.yaml: No such file"):
        load_config(Car, tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="cannot read recipe"):
        load_config(Car, tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(Car, binary)
