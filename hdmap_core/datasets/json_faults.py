"""What is wrong with a JSON file of a data set, told in one line."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hdmap_core.errors import DatasetError


@contextmanager
def json_faults_told(where: Path | str, advice: str) -> Iterator[None]:
    """What reading and parsing JSON raises inside the block becomes a message.

    Args:
        where: the file, and what else tells the place in it.
        advice: what to do about JSON that is broken, after a semicolon.

    Raises:
        DatasetError: in place of what reading and parsing raise.
    """
    try:
        yield
    except json.JSONDecodeError as error:
        raise DatasetError(
            f"{where}: broken or truncated JSON at line {error.lineno}, column {error.colno}: {error.msg}; {advice}"
        ) from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"{where}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise DatasetError(f"cannot read {where}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # numbers without end, lists in lists in lists ...
        raise DatasetError(f"{where}: JSON that is not read: {error}") from None
