"""Which reader a folder needs, told by what lies in it: nuScenes' tables."""

from pathlib import Path

from hdmap_core.datasets.nuscenes.keyframe_index import KeyframeIndex, open_tables, write_index
from hdmap_core.datasets.nuscenes.observations import NuScenesDataset
from hdmap_core.datasets.nuscenes.splits import version_for
from hdmap_core.datasets.nuscenes.tables import NuScenesTables, find_version
from hdmap_core.datasets.protocol import MapDataset


def open_dataset(
    root: Path | str, version: str | None = None, *, split: str | None = None, cache: Path | None = None
) -> MapDataset:
    """The data set in a folder.

    Args:
        root: a nuScenes folder, real or synthetic.
        version: which of several data sets in the folder (`v1.0-mini` ...); may be left out when there is only one, or
            when `split` tells.
        split: the split that will be read.
        cache: where an index of big tables lies, if there is one.

    Raises:
        DatasetError: if the folder holds no data set, or several and nothing tells which is meant; if its description
            is damaged.
    """
    root = Path(root)
    name = find_version(root, version) if split is None else version_for(root, split, version)
    return NuScenesDataset(root, tables=NuScenesTables(root, name) if cache is None else open_tables(root, cache, name))


def with_index(dataset: MapDataset, cache: Path) -> MapDataset:
    """The data set by an index of its big tables, written now if there is none that fits; others as they are.

    Raises:
        DatasetError: if the tables cannot be used.
        OutputError: if the cache cannot be written.
    """
    if not isinstance(dataset, NuScenesDataset) or isinstance(dataset.tables, KeyframeIndex):
        return dataset
    return NuScenesDataset(dataset.root, tables=write_index(dataset.tables, cache))
