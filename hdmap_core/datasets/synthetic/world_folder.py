"""The folder that a synthetic world is written to: whose it is, whether it is complete, how far it has come.

`synth.json` says what is written there.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from hdmap_core.datasets.synthetic.presets import SynthConfig
from hdmap_core.errors import DatasetError, OutputError
from hdmap_core.files import PART, write_atomically

Layout = Literal["nuscenes", "av2"]
Progress = Callable[[int, int], None]
"""Called with (files written, files in all)."""
_MANIFEST = "synth.json"


def write_file(path: Path, content: bytes) -> None:
    """Write a file of the data set whole or not at all; there are too many to wait for the disk.

    Raises:
        OutputError: disk full, no permission, and the like.
    """
    advice = "make room or choose another folder, then run the same command again: what is complete is kept"
    write_atomically(path, content, durable=False, advice=advice)


def compact_json(content: object) -> bytes:
    """Without a space or a line's end."""
    return json.dumps(content, separators=(",", ":")).encode()


def write_sd_map(root: Path, city: str, roads: list[Any]) -> None:
    """The SD map of a city from its roads (`road_feature`)."""
    content = compact_json({"type": "FeatureCollection", "features": roads})
    write_file(root / "maps" / "sd" / f"{city}.geojson", content)


def counted(progress: Progress | None, done: int, total: int) -> Callable[[int], None]:
    """Tells how many files there are, and again each time that the function that it returns is told of some more."""

    def advance(files: int) -> None:
        nonlocal done
        done += files
        if progress is not None:
            progress(min(done, total), total)

    advance(0)
    return advance


def claim(root: Path, config: SynthConfig, layout: Layout = "nuscenes") -> bool:
    """Make `root` ours, or check that it is.

    Args:
        root: the folder.
        config: what is to be written there.
        layout: in which format.

    Returns:
        Whether the folder is complete already.

    Raises:
        DatasetError: the folder belongs to something else or to another configuration.
        OutputError: the folder cannot be made or read.
    """
    path = root / _MANIFEST
    try:
        if root.exists() and not root.is_dir():
            raise DatasetError(f"{root} is a file; give a folder to write to")
        strangers = sorted(p.name for p in root.iterdir() if p.name != f"{_MANIFEST}{PART}") if root.exists() else []
        if not strangers:
            write_file(path, _manifest(config, False, layout))
            return False
        if _MANIFEST not in strangers:
            raise DatasetError(
                f"{root} is not empty and has no {_MANIFEST} (it holds {strangers[0]}): not written by hdmap synth; "
                "choose an empty folder"
            )
        content = json.loads(path.read_text(encoding="utf-8"))
        theirs, is_complete = content["config"], bool(content["complete"])
        their_layout = content.get("layout", "nuscenes")
    except OSError as error:
        raise OutputError(f"cannot use {root}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError):
        raise DatasetError(f"{path} is damaged; remove the folder {root} and write it again") from None
    if their_layout != layout:
        raise DatasetError(f"{root} was written with --format {their_layout}; give that, or another folder")
    ours = config.model_dump(mode="json")
    # An option that is younger than the folder had its default.
    theirs = {**SynthConfig(towns=config.towns).model_dump(mode="json"), **theirs}
    different = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
    if different:
        key = different[0]
        raise DatasetError(
            f"{root} was written with {key} = {theirs.get(key)}, now it is {ours.get(key)}; give the same options to "
            "finish it, or another folder"
        )
    return is_complete


def mark_complete(root: Path, config: SynthConfig, layout: Layout = "nuscenes") -> None:
    """Say that all of a claimed folder is written.

    Raises:
        OutputError: it cannot be said.
    """
    write_file(root / _MANIFEST, _manifest(config, True, layout))


def _manifest(config: SynthConfig, complete: bool, layout: Layout) -> bytes:
    """The content of `synth.json`."""
    content = {"config": config.model_dump(mode="json"), "complete": complete}
    if layout != "nuscenes":
        content["layout"] = layout
    return (json.dumps(content, indent=1) + "\n").encode()
