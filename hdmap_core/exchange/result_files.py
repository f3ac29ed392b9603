"""A file of elements by frame, ours or another program's: what it is follows from its content."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdmap_core.elements import MapClass, MapElement, read_elements
from hdmap_core.errors import ElementError, os_errors_as
from hdmap_core.exchange import maptr, streammapnet
from hdmap_core.files.kinds import what_it_is

_ONE_OBJECT = re.compile(rb'\s*\{\s*"(?:meta|results|GTs)"\s*:')
_ACCEPTED = (
    "give elements as `hdmap evaluate` writes them (one JSON line per frame), MapTR's nuscmap_results.json or "
    "nuscenes_map_anns_val.json, or the submission_vector.json of StreamMapNet or MapTracker"
)


@dataclass(frozen=True)
class ResultFile:
    """What a file holds.

    Attributes:
        frames: frame token -> elements, metres in the ego frame.
        program: whose format it is: `MapTR`, `StreamMapNet`, `MapTracker`; None for our own.
    """

    frames: dict[str, list[MapElement]]
    program: str | None = None


def read_result_file(path: str | Path, numbers: Sequence[MapClass] | None = None) -> ResultFile:
    """Reads elements of any format that is known here.

    Args:
        path: the file.
        numbers: the classes by number, where a file names none; the program's own by default.

    Raises:
        ElementError: naming the file, and what in it cannot be used.
    """
    path = Path(path)
    with os_errors_as(ElementError, f"cannot read {path}"), path.open("rb") as stream:
        kind, is_one_object = what_it_is(path), _ONE_OBJECT.match(stream.read(4096))
    if kind is not None and not kind.startswith("a text file") and path.stat().st_size:
        raise ElementError(f"{path} is {kind}; {_ACCEPTED}")
    if not is_one_object:
        return ResultFile(read_elements(path))
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ElementError(f"{path} is broken or truncated JSON ({error}); write or copy it again") from None
    try:
        return _of_another_program(content, numbers)
    except ElementError as error:
        raise ElementError(f"{path}: {error}") from None


def class_order(text: str) -> tuple[MapClass, ...]:
    """The classes of a list of names like `divider,ped_crossing,boundary`.

    Raises:
        ElementError: if a name is unknown or occurs twice.
    """
    names = [name.strip() for name in text.split(",")]
    known = [label.value for label in MapClass]
    wrong = [name for name in names if name not in known] or [name for name in names if names.count(name) > 1]
    if wrong:
        raise ElementError(f"--label-order {text!r}: {wrong[0]!r} is unknown or twice; known are {', '.join(known)}")
    return tuple(MapClass(name) for name in names)


def _of_another_program(content: dict[str, Any], numbers: Sequence[MapClass] | None) -> ResultFile:
    if isinstance(content.get("results"), dict):
        program = "MapTracker" if streammapnet.is_of_maptracker(content) else "StreamMapNet"
        return ResultFile(streammapnet.frames_of(content, numbers or streammapnet.NUMBERS), program)
    if any(key in content for key in maptr.KEYS):
        return ResultFile(maptr.frames_of(content, numbers or maptr.NUMBERS), "MapTR")
    raise ElementError(f"no results are in it; {_ACCEPTED}")
