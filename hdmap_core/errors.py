"""The errors a user can cause and mend. Anything else that escapes is a bug.

Every message says what is wrong, where (file, field, token), and what to do about it. The command line turns these
into one line on stderr and exit code 2; the node turns them into a log line and a diagnostic.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class HdmapError(Exception):
    """Base of all errors that come from input, not from a defect of the program."""


@contextmanager
def os_errors_as(kind: type[HdmapError], what: str, advice: str = "") -> Iterator[None]:
    """Raises `kind` in place of an OSError of the block: what could not be done, the system's reason, what to do."""
    try:
        yield
    except OSError as error:
        raise kind(f"{what}: {error.strerror or error}" + (advice and f"; {advice}")) from None


def first_line(error: Exception) -> str:
    """Of what a library says, at most 200 characters; its class where it says nothing."""
    return str(error).strip().split("\n")[0][:200] or type(error).__name__


class ConfigError(HdmapError):
    """A recipe, override or parameter that cannot be used."""


class CheckpointError(HdmapError):
    """A checkpoint that is missing, damaged, of another format or of another model."""


class ModelOutputError(HdmapError):
    """A network gave what are no numbers."""


class DatasetError(HdmapError):
    """A data set folder with missing, truncated or inconsistent content."""


class CalibrationError(HdmapError):
    """Intrinsics or extrinsics that no camera can have."""


class ImageError(HdmapError):
    """An image that cannot be decoded or converted."""


class ElementError(HdmapError):
    """A map element, or a file of map elements, that is malformed."""


class BagError(HdmapError):
    """A bag that is missing, truncated or lacks a needed topic."""


class OutputError(HdmapError):
    """A place that cannot be written."""


class MissingDependencyError(HdmapError):
    """An optional package that is not installed; the message names the extra that brings it."""
