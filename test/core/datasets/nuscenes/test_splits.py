import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hdmap_core.datasets.nuscenes import version_for
from hdmap_core.datasets.nuscenes.splits import official_splits
from hdmap_core.errors import DatasetError


def folder(root: Path, *versions: str, **own: list[str]) -> Path:
    """A folder with empty versions; `own` says which of them have a split of their own: `mini=["night"]`."""
    for version in versions:
        (root / version).mkdir()
        names = own.get(version.removeprefix("v1.0-"))
        if names is not None:
            (root / version / "splits.json").write_text(json.dumps({name: [] for name in names}))
    return root


@pytest.mark.parametrize(
    ("split", "version"),
    [
        ("mini_train", "v1.0-mini"),
        ("mini_val", "v1.0-mini"),
        ("train", "v1.0-trainval"),
        ("val", "v1.0-trainval"),
        ("train_disjoint", "v1.0-trainval"),
        ("val_disjoint", "v1.0-trainval"),
        ("test", "v1.0-test"),
    ],
)
def test_an_official_split_tells_the_version(split: str, version: str, tmp_path: Path) -> None:
    root = folder(tmp_path, "v1.0-mini", "v1.0-trainval", "v1.0-test")
    assert version_for(root, split) == version
    assert version_for(root, split, "v1.0-mini") == "v1.0-mini"  # what is named counts


def test_every_official_split_is_in_the_table_above(tmp_path: Path) -> None:
    root = folder(tmp_path, "v1.0-mini", "v1.0-trainval", "v1.0-test")
    assert {version_for(root, split) for split in official_splits()} == {"v1.0-mini", "v1.0-trainval", "v1.0-test"}


def test_the_only_version_is_taken_whatever_the_split(tmp_path: Path) -> None:
    root = folder(tmp_path, "v1.0-mini")
    assert {version_for(root, split) for split in ("val", "test", "night")} == {"v1.0-mini"}


def test_a_split_of_one_versions_own(tmp_path: Path) -> None:
    root = folder(tmp_path, "v1.0-mini", "v1.0-trainval", mini=["night", "val"], trainval=["rain"])
    assert version_for(root, "night") == "v1.0-mini"
    assert version_for(root, "rain") == "v1.0-trainval"
    assert version_for(root, "val") == "v1.0-mini"  # the folder's own goes first


@pytest.mark.parametrize(
    ("split", "reason"), [("test", "is of v1.0-test"), ("night", "does not tell"), ("both", "tell")]
)
def test_a_split_that_does_not_tell(split: str, reason: str, tmp_path: Path) -> None:
    root = folder(tmp_path, "v1.0-mini", "v1.0-trainval", mini=["both"], trainval=["both"])
    with pytest.raises(
        DatasetError, match=rf"holds v1.0-mini, v1.0-trainval.*{split!r}.*{reason}.*--version v1.0-mini"
    ):
        version_for(root, split)


def test_a_version_that_is_not_there(tmp_path: Path) -> None:
    root = folder(tmp_path, "v1.0-mini", "v1.0-trainval")
    with pytest.raises(DatasetError, match=r"has no version 'v1.0-test'; it holds v1.0-mini, v1.0-trainval"):
        version_for(root, "val", "v1.0-test")


def test_the_reported_folder(shared_case: Callable[[str], Path]) -> None:
    root = shared_case("nuscenes_two_versions/data")
    assert version_for(root, "mini_val") == "v1.0-mini"
    assert version_for(root, "val") == "v1.0-trainval"
