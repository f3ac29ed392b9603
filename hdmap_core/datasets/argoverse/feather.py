"""Feather files as columns of numbers. Needs pyarrow, the extra `av2`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hdmap_core.errors import DatasetError, MissingDependencyError


def read_columns(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns (N,) of a feather file, in the types that it has.

    Raises:
        MissingDependencyError: without pyarrow.
        DatasetError: naming the file if it is missing, truncated, no feather, or lacks a column.
    """
    feather, broken = _feather(path)
    try:
        table = feather.read_table(path, memory_map=False)
        table.validate(full=True)
    except FileNotFoundError:
        raise DatasetError(f"no file {path}; unpack the log again") from None
    except (OSError, ValueError, broken) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise DatasetError(f"{path} is truncated or no feather file ({reason}); download it again") from None
    lacking = [name for name in names if name not in table.column_names]
    if lacking:
        there = ", ".join(table.column_names[:12]) or "none"
        raise DatasetError(
            f"{path} has no column {lacking[0]!r}, it has {there}; expected the Argoverse 2 sensor data set"
        )
    columns = {name: table[name].to_numpy() for name in names}
    for name, values in columns.items():
        if name != "sensor_name" and values.dtype.kind not in "iuf":
            raise DatasetError(f"{path}: the column {name!r} holds no numbers; download the file again")
    return columns


def write_columns(path: Path, columns: dict[str, Any]) -> bytes:
    """The bytes of a feather file with these columns.

    Raises:
        MissingDependencyError: without pyarrow; `path` is what was to be written.
    """
    feather, _ = _feather(path)
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    feather.write_feather(pyarrow.table(columns), sink, compression="uncompressed")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _feather(path: Path) -> tuple[Any, type[Exception]]:
    """The module, and what it raises of files that it cannot read."""
    try:
        from pyarrow import ArrowException, feather
    except ImportError:
        raise MissingDependencyError(
            f"{path}: Argoverse 2 logs need pyarrow, the extra `av2`; python3 -m pip install 'hdmap_ros[av2]', or "
            "'pyarrow>=17' (docs/argoverse.md)"
        ) from None
    return feather, ArrowException
