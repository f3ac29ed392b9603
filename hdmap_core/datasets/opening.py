"""Which reader a folder needs, told by what lies in it: nuScenes' tables, frames of one's own, Argoverse 2's logs."""

from pathlib import Path

from hdmap_core.datasets.argoverse.logs import find_logs
from hdmap_core.datasets.argoverse.observations import ArgoverseDataset
from hdmap_core.datasets.frames.dataset import FramesDataset
from hdmap_core.datasets.frames.reading import NAMES as FRAMES_FILES
from hdmap_core.datasets.nuscenes.keyframe_index import KeyframeIndex, open_tables, write_index
from hdmap_core.datasets.nuscenes.observations import NuScenesDataset
from hdmap_core.datasets.nuscenes.splits import version_for
from hdmap_core.datasets.nuscenes.tables import VERSIONS, NuScenesTables, find_version
from hdmap_core.datasets.protocol import MapDataset
from hdmap_core.errors import DatasetError


def open_dataset(
    root: Path | str, version: str | None = None, *, split: str | None = None, cache: Path | None = None
) -> MapDataset:
    """The data set in a folder.

    Args:
        root: a nuScenes folder, real or synthetic; a frames folder, or its file; a folder of Argoverse 2 logs.
        version: which of several data sets in the folder (`v1.0-mini`, `frames.json` ...); may be left out when there
            is only one, or when `split` tells. Of Argoverse 2 logs, how many keyframes per second: `2hz`, which is
            taken when nothing is said, `10hz` ...
        split: the split that will be read.
        cache: where an index of big tables lies, if there is one.

    Raises:
        DatasetError: if the folder holds no data set, or several and nothing tells which is meant; if its description
            is damaged.
    """
    root = Path(root)
    if find_logs(root):
        return ArgoverseDataset(root, version)
    frames = _frames_file(root, version)
    if frames is not None:
        return FramesDataset(frames)
    name = find_version(root, version) if split is None else version_for(root, split, version)
    return NuScenesDataset(root, tables=NuScenesTables(root, name) if cache is None else open_tables(root, cache, name))


def _frames_file(root: Path, version: str | None) -> Path | None:
    """The frames file that is meant; None where it is none."""
    if root.is_file():
        return root
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; give a nuScenes folder, one with frames.json, or Argoverse 2 logs")
    others = [name for name in VERSIONS if (root / name).is_dir()]
    found = [name for name in FRAMES_FILES if (root / name).is_file()]
    if version is not None:
        if version in found or version.endswith((".json", ".jsonl")):
            return root / version
        if found and not others:
            raise DatasetError(f"{root} has no version {version!r}; it holds {', '.join(found)}")
        return None
    if found and (others or len(found) > 1):
        raise DatasetError(f"{root} holds {', '.join(others + found)}; say which is meant: --version {found[0]}")
    if not found and not others:
        names = ", ".join((*VERSIONS, *FRAMES_FILES))
        raise DatasetError(
            f"{root} holds no data set: none of {names}, no Argoverse 2 logs in train, val or test; give the folder "
            "above them, make one with `hdmap synth`, or describe your own in frames.json (docs/your_own_data.md)"
        )
    return root / found[0] if found else None


def cache_of(root: Path) -> Path:
    """Where what is prepared of a data set lies unless somebody says otherwise."""
    return (root.parent if root.is_file() else root) / "cache"


def with_index(dataset: MapDataset, cache: Path) -> MapDataset:
    """The data set by an index of its big tables, written now if there is none that fits; others as they are.

    Raises:
        DatasetError: if the tables cannot be used.
        OutputError: if the cache cannot be written.
    """
    if not isinstance(dataset, NuScenesDataset) or isinstance(dataset.tables, KeyframeIndex):
        return dataset
    return NuScenesDataset(dataset.root, tables=write_index(dataset.tables, cache))
