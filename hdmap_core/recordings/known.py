"""What the core reads: data sets, and people's own images and videos."""

from collections.abc import Sequence
from pathlib import Path

from hdmap_core.recordings.keyframes import open_keyframes
from hdmap_core.recordings.recording import Recording, Wanted
from hdmap_core.recordings.rig_pictures import are_pictures, open_pictures


def open_known(inputs: Sequence[str], wanted: Wanted) -> Recording | None:
    """See `hdmap_core.recordings.opening`."""
    if are_pictures(inputs):
        return open_pictures(inputs, wanted)
    if len(inputs) > 1:
        return None
    folder = Path(inputs[0])
    if wanted.rig is not None and folder.is_dir():
        return open_pictures(inputs, wanted)
    is_data_set = folder.is_dir() or folder.suffix in (".json", ".jsonl")
    return open_keyframes(folder, wanted) if is_data_set else None
