"""Files of the package that are no Python."""

import shutil
from pathlib import Path

import pytest

from hdmap_core.checkpoint import find_checkpoint
from hdmap_core.files import shipped as module
from hdmap_core.files.shipped import package_folder, shipped
from hdmap_core.inference import default_weights

RECIPE = Path("config/recipes/tiny/ground.yaml")


def test_the_checkout_comes_first_then_installs_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = package_folder("msg")
    assert checkout is not None and (checkout / "MapElement.msg").is_file()
    for name in ("one", "two"):
        (tmp_path / name / "share" / "hdmap_ros" / "config" / "topics").mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path / 'none'}:{tmp_path / 'one'}:{tmp_path / 'two'}")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "lib" / "hdmap_core" / "files" / "shipped.py"))
    assert package_folder("config/topics") == tmp_path / "one" / "share" / "hdmap_ros" / "config" / "topics"
    shutil.rmtree(tmp_path / "one")
    assert package_folder("config/topics") == tmp_path / "two" / "share" / "hdmap_ros" / "config" / "topics"
    assert package_folder("no such folder") is None


def test_the_pages_names_of_recipes_and_weights_hold_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped(RECIPE).is_file() and shipped(RECIPE).parts[-4:] == RECIPE.parts
    assert find_checkpoint("hdmap_core/weights/student.safetensors").samefile(default_weights())


def test_what_is_there_or_is_nothing_of_ours_stays_as_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("config/recipes/mine.yaml", "tiny/ground.yaml", "config/online_map.yaml", ".", "/config/recipes"):
        assert shipped(name) == Path(name)
    RECIPE.parent.mkdir(parents=True)
    RECIPE.write_text("model: {name: mine}\n")
    assert shipped(RECIPE) == RECIPE
