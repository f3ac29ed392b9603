"""Which reader a recording needs, told by what is given: the functions of the entry-point group `hdmap.recordings`."""

from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from hdmap_core.errors import DatasetError
from hdmap_core.recordings.recording import Recording, Wanted


def open_recording(inputs: Sequence[str], wanted: Wanted) -> Recording:
    """The recording in files or a folder.

    Each function of the group takes the same, and gives None where the inputs are not of its kind.

    Args:
        inputs: a data set's folder; images, a folder of images, or videos, of which each may be written `CAMERA=FILE`;
            a bag.
        wanted: what of it.

    Raises:
        DatasetError: if the inputs are not there, or nothing that is known.
        HdmapError: if they are damaged, or lack what is wanted.
    """
    for given in inputs:
        if not Path(given).exists() and not Path(given.partition("=")[2] or given).exists():
            raise DatasetError(f"{given}: no such file or folder")
    for entry in sorted(entry_points(group="hdmap.recordings"), key=lambda entry: entry.name):
        recording: Recording | None = entry.load()(inputs, wanted)
        if recording is not None:
            return recording
    raise DatasetError(
        f"{inputs[0]} is nothing that can be predicted: no folder of nuScenes, frames or Argoverse 2, no bag (.mcap, "
        ".db3, a rosbag2 folder), no image or video (those need --rig rig.yaml)"
    )
