"""Files of the package that are no Python."""

import shutil
from pathlib import Path

import pytest

from hdmap_ros import package_folder as module
from hdmap_ros.package_folder import package_folder


def test_the_checkout_comes_first_then_installs_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = package_folder("msg")
    assert checkout is not None and (checkout / "MapElement.msg").is_file()
    for name in ("one", "two"):
        (tmp_path / name / "share" / "hdmap_ros" / "config" / "topics").mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path / 'none'}:{tmp_path / 'one'}:{tmp_path / 'two'}")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "lib" / "hdmap_ros" / "package_folder.py"))
    assert package_folder("config/topics") == tmp_path / "one" / "share" / "hdmap_ros" / "config" / "topics"
    shutil.rmtree(tmp_path / "one")
    assert package_folder("config/topics") == tmp_path / "two" / "share" / "hdmap_ros" / "config" / "topics"
    assert package_folder("no such folder") is None
