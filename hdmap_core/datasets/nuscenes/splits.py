"""Which scenes are for training and which for testing.

The official lists are those of nuscenes-devkit (`utils/splits.py`). Most streets of the official val set also occur in
train; StreamMapNet (Yuan et al., WACV 2024) drew geographically disjoint lists, here `train_disjoint` and
`val_disjoint`. Say with every score which split it is for.

A folder's own splits stand in `<version>/splits.json`, an object name -> list of scene names, as nuscenes-devkit reads
it. They go before the official ones of the same name.

A folder may hold several versions, as v1.0-mini beside v1.0-trainval, whose scenes v1.0-mini repeats. A split then
tells which one is read (`version_for`).
"""

import json
from functools import cache
from pathlib import Path

from hdmap_core.datasets.json_faults import json_faults_told
from hdmap_core.datasets.nuscenes.keyframe_index import KeyframeIndex
from hdmap_core.datasets.nuscenes.tables import NuScenesTables, find_version, versions_in
from hdmap_core.errors import DatasetError

# Scene numbers; both ends of a range belong to it.
_RANGES = {
    "train": (
        "1-2 4-11 19-34 41-76 120-135 138-139 149-152 154-155 157-168 170-185 187-188 190-196 199-200 202-204 206-214 "
        "218-220 222 224-264 283-306 315-318 321 323-324 328 347-386 388-403 405-408 410-459 461-465 467-469 471-472 "
        "474-480 499-502 504-515 517-518 525-539 541-546 566 568 570-578 580 582-600 639-679 681 683-689 695-698 "
        "700-701 703-719 726-728 730-731 733-741 744 746-747 749-752 757-765 767-769 786-787 789-792 803-806 808-813 "
        "815-817 819-822 847-856 858 860-866 868-873 875-878 880 882-903 945 947 949 952-953 955-961 975-984 988-992 "
        "994-1025 1044-1058 1074-1102 1104-1110"
    ),
    "val": (
        "3 12-18 35-36 38-39 92-110 221 268-278 329-332 344-346 519-524 552-565 625-627 629-630 632-638 770-771 775 "
        "777-778 780-784 794-800 802 904-917 919-931 962-963 966-969 971-972 1059-1073"
    ),
    "test": (
        "77-91 111-119 140 142-148 265-266 279-282 307-314 333-343 481-498 547-551 601-604 606-624 827-831 833-842 "
        "844-846 932-933 935-943 1026-1043"
    ),
    "mini_train": "61 553 655 757 796 1077 1094 1100",
    "mini_val": "103 916",
    "val_disjoint": (
        "1 10-11 20 38 41 53-54 121-122 139 152 160 184 269 347-348 366 368-369 378 389-398 411-419 525-539 541-546 "
        "556-558 566 568 570-578 580 582-583 642-651 739-741 744 746-747 749-752 757-765 767-771 775 777-778 794-800 "
        "803-804 911-915 919-920 924 962-963 1002-1003 1016-1018 1055-1063"
    ),
}
# In neither of StreamMapNet's lists.
_LEFT_OUT = "410 641 805 910"
_VERSION_OF = {
    **dict.fromkeys(("train", "val", "train_disjoint", "val_disjoint"), "v1.0-trainval"),
    **dict.fromkeys(("mini_train", "mini_val"), "v1.0-mini"),
    "test": "v1.0-test",
}


@cache
def official_splits() -> dict[str, tuple[str, ...]]:
    """Split name -> scene names in ascending order, for the published lists."""
    numbers = {name: _numbers(ranges) for name, ranges in _RANGES.items()}
    # A range spans numbers that no scene of train or val has.
    numbers["val_disjoint"] &= numbers["train"] | numbers["val"]
    rest = (numbers["train"] | numbers["val"]) - numbers["val_disjoint"] - _numbers(_LEFT_OUT)
    numbers["train_disjoint"] = rest
    return {name: tuple(f"scene-{number:04d}" for number in sorted(found)) for name, found in numbers.items()}


def version_for(root: Path, split: str, version: str | None = None) -> str:
    """The version of a nuScenes folder that is read for a split.

    Args:
        root: the folder.
        split: its name.
        version: the one that the user named, which counts.

    Returns:
        `version`, else the only one that is there, else the only one whose own splits have this name, else that of the
        official split: v1.0-mini for `mini_val`.

    Raises:
        DatasetError: if the folder has not that version, or several and the split does not tell which.
    """
    found = versions_in(root)
    if version is not None or len(found) == 1:
        return find_version(root, version)
    owners = [name for name in found if split in _own_splits(root / name)]
    if len(owners) == 1:
        return owners[0]
    official = _VERSION_OF.get(split)
    if official in found:
        return official
    reason = f"which is of {official}" if official else "which does not tell one from the other"
    raise DatasetError(
        f"{root} holds {', '.join(found)}, and none of them goes with the split {split!r}, {reason}; name another "
        f"split, or the version: --version {found[0]} (in a recipe data.version={found[0]})"
    )


def splits_of(tables: NuScenesTables | KeyframeIndex) -> dict[str, tuple[str, ...]]:
    """Split name -> scene names, whether this folder has them or not: the published lists and the folder's own."""
    return {**official_splits(), **{name: tuple(scenes) for name, scenes in _own_splits(tables.folder).items()}}


def _own_splits(folder: Path) -> dict[str, list[str]]:
    path = folder / "splits.json"
    if not path.is_file():
        return {}
    with json_faults_told(path, "write it again"):
        splits = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(splits, dict) or not all(isinstance(scenes, list) for scenes in splits.values()):
        raise DatasetError(f"{path}: expected an object: split name -> list of scene names")
    return splits


def _numbers(ranges: str) -> set[int]:
    numbers: set[int] = set()
    for part in ranges.split():
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers
