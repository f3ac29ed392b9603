"""JSON tables of any size: a list of objects, read one by one."""

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from hdmap_core.datasets.json_faults import json_faults_told
from hdmap_core.errors import CalibrationError, DatasetError
from hdmap_core.geometry.lens import Lens, lens_of

_SEPARATOR = re.compile(r"[\s,]*")

Record = dict[str, Any]


def read_records(path: Path) -> Iterator[Record]:
    """The objects of a JSON list, decoded one by one, so that millions of rows need not be held at once.

    Raises:
        DatasetError: naming file, line and column of what is not JSON, or not a list of objects.
    """
    with json_faults_told(path, "copy or unpack the file again"):
        text = path.read_text(encoding="utf-8")
        decode = json.JSONDecoder().raw_decode
        position = len(text) - len(text.lstrip())
        if text[position : position + 1] != "[":
            raise DatasetError(f"{path}: expected a JSON list of records")
        position += 1
        while True:
            position = _SEPARATOR.match(text, position).end()  # type: ignore[union-attr]
            if text[position : position + 1] == "]":
                return
            record, position = decode(text, position)
            if not isinstance(record, dict):
                raise DatasetError(f"{path}: expected a list of objects, found {str(record)[:40]!r}")
            yield record


def lens_of_record(folder: Path, record: Record) -> Lens | None:
    """The lens of a record of `calibrated_sensor`; None for a pinhole, which all cameras of nuScenes are.

    Other rigs may add what CameraInfo has: `camera_distortion`, which nuImages has as well, and `distortion_model`.

    Args:
        folder: of the tables, for messages.
        record: one.

    Raises:
        DatasetError: naming file and record of a lens that is not known.
    """
    try:
        return lens_of(str(record.get("distortion_model") or ""), record.get("camera_distortion") or ())
    except (CalibrationError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{folder / 'calibrated_sensor.json'}: record {record['token']!r}: {error}") from None


def inside(root: Path, name: Any, folder: Path) -> Path:
    """The path of a sensor file; tables that somebody hands over cannot name one outside of their data set.

    Args:
        root: of the data set.
        name: as `sample_data.json` has it.
        folder: of the tables, for messages.

    Raises:
        DatasetError: if it would lie elsewhere.
    """
    path = PurePosixPath(str(name))
    if path.is_absolute() or ".." in path.parts or "\0" in str(name):
        raise DatasetError(f"{folder / 'sample_data.json'}: the file {str(name)!r} lies outside of {root}; not read")
    return root / path


def city_of(log: Record, folder: Path) -> str:
    """The city of a record of `log`, which names map files.

    Raises:
        DatasetError: if it is no plain name.
    """
    city = str(log["location"])
    if "/" in city or "\0" in city or city.startswith("."):
        raise DatasetError(f"{folder / 'log.json'}: {city!r} is no city; map files are called by it")
    return city
