"""Lines of an ESRI shapefile in WGS-84 degrees, checked before anybody computes with them."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hdmap_core.errors import DatasetError, MissingDependencyError, os_errors_as

_PARTS = (".shp", ".shx", ".dbf")
_LINES = {3, 13, 23}  # polylines, without and with heights or measures
_EMPTY = 0
_COPY = "copy or unpack it again"


@dataclass(frozen=True)
class ShapefileLine:
    """One record.

    Attributes:
        parts: each (P, 2) float64 longitude, latitude in degrees.
        attributes: by the names of the table's columns.
    """

    parts: tuple[np.ndarray, ...]
    attributes: dict[str, object]


def read_lines(path: str | Path) -> list[ShapefileLine]:
    """All lines of a shapefile; records without a shape are left out.

    Args:
        path: the .shp file; .shx and .dbf must lie beside it, .prj may.

    Raises:
        DatasetError: naming the file that is missing, truncated, not a shapefile of lines or in another projection.
        MissingDependencyError: without pyshp.
    """
    try:
        import shapefile
    except ModuleNotFoundError:
        raise MissingDependencyError(
            "shapefiles are read by pyshp, which is not installed; pip install pyshp"
        ) from None
    path = Path(path)
    files = {suffix: path.with_suffix(suffix) for suffix in _PARTS}
    for file in files.values():
        if not file.is_file():
            raise DatasetError(f"no file {file}; a shapefile is {', '.join(_PARTS)} side by side, copy all of them")
    _check_projection(path.with_suffix(".prj"))
    for suffix in (".shp", ".shx"):
        _check_size(files[suffix])
    _check_table_size(files[".dbf"])
    try:
        with shapefile.Reader(str(path), encoding="utf-8", encodingErrors="replace") as reader:
            if reader.shapeType not in _LINES:
                raise DatasetError(f"{path}: holds {reader.shapeTypeName} shapes; roads must be polylines")
            # Of a record that is marked as deleted there is None, and its shape goes with it.
            records = (reader.record(number) for number in range(reader.numRecords))
            pairs = zip(reader.iterShapes(), records, strict=True)
            return [_line(shape, record.as_dict()) for shape, record in pairs if record and shape.shapeType != _EMPTY]
    except DatasetError:
        raise
    # A damaged file makes pyshp raise what it happens to stumble over.
    except (shapefile.ShapefileException, struct.error, OSError, ValueError, IndexError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} or its .shx or .dbf is damaged ({error}); {_COPY}") from None


def _line(shape: object, attributes: dict[str, object]) -> ShapefileLine:
    points = np.array([point[:2] for point in shape.points], dtype=np.float64).reshape(-1, 2)  # type: ignore[attr-defined]
    parts = np.split(points, list(shape.parts)[1:])  # type: ignore[attr-defined]
    return ShapefileLine(tuple(parts), attributes)


def _check_projection(path: Path) -> None:
    """Coordinates must be degrees of WGS-84; without a .prj the caller has to see by where they are."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8", errors="replace").upper()
    name = text.partition('"')[2].partition('"')[0] or "an unknown projection"
    if text.lstrip().startswith("PROJ") or "WGS" not in text or "84" not in text:
        raise DatasetError(
            f"{path}: the coordinates are in {name}; expected WGS-84 longitude and latitude (EPSG:4326). Convert them, "
            "e.g. with `ogr2ogr -t_srs EPSG:4326`"
        )


def _check_size(path: Path) -> None:
    header = _header(path, 100)
    if struct.unpack(">i", header[:4])[0] != 9994:
        raise DatasetError(f"{path} is not part of a shapefile")
    _expect(path, 2 * struct.unpack(">i", header[24:28])[0])


def _check_table_size(path: Path) -> None:
    records, header, record = struct.unpack("<IHH", _header(path, 32)[4:12])
    _expect(path, header + records * record)


def _header(path: Path, length: int) -> bytes:
    with os_errors_as(DatasetError, f"cannot read {path}"), path.open("rb") as stream:
        header = stream.read(length)
    if len(header) < length:
        raise DatasetError(f"{path} is truncated: it has {len(header)} bytes, less than a header; {_COPY}")
    return header


def _expect(path: Path, size: int) -> None:
    found = path.stat().st_size
    if found < size:
        raise DatasetError(f"{path} is truncated: it has {found} of {size} bytes; {_COPY}")
