"""A zip archive of an exported network with a seal: header, what it was made for, and the SHA-256 of every member.

What native code is in a damaged file must not be loaded to find that out, so all of it is read and compared before. The
seal keeps damage away, not malice: whoever changes a member can change the list.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hdmap_core.errors import CheckpointError
from hdmap_core.files.digest import sha256_of
from hdmap_core.files.kinds import what_it_is

ROOT = "network/"
"""Where the members lie; PyTorch wants one folder at the top."""
_SEAL = ROOT + "extra/hdmap.json"


@dataclass(frozen=True)
class Seal:
    """What an archive says of itself.

    Attributes:
        text: the header, see `exported_file.header_text`.
        made_for: what it takes to run it, such as the version of the runtime.
        members: names of the others in the archive, all of them whole.
    """

    text: str
    made_for: dict[str, str]
    members: frozenset[str]


def sealed(members: Mapping[str, bytes], text: str, made_for: Mapping[str, str]) -> bytes:
    """The archive's content; nothing is compressed, so that a runtime can map it.

    Args:
        members: by their names, which begin with `ROOT`.
        text: see `Seal`.
        made_for: see `Seal`.
    """
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    seal = json.dumps({"header": text, "made_for": dict(made_for), "sha256": digests})
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {**members, _SEAL: seal.encode()}.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def read_seal(path: Path) -> Seal:
    """Reads the seal and compares every member with it; nothing is unpacked, run or unpickled.

    Raises:
        CheckpointError: if the file cannot be read, is not ours, or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if _SEAL not in archive.namelist():
                kind = what_it_is(path) or "a zip archive"
                raise CheckpointError(f"{path} is no network that `hdmap export` made: it is {kind}")
            return _read(archive)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    except zipfile.BadZipFile:
        kind = what_it_is(path) or "of an unknown kind, or not whole"
        raise CheckpointError(f"{path} is no network that `hdmap export` made: it is {kind}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError, zlib.error) as error:
        raise CheckpointError(f"{path} is damaged: its seal cannot be read ({error!r}); export it again") from None
    except _Changed as error:
        raise CheckpointError(f"{path} is damaged: {error}; export the checkpoint again") from None


class _Changed(Exception):
    """What is in an archive is not what its seal names."""


def _read(archive: zipfile.ZipFile) -> Seal:
    content = json.loads(archive.read(_SEAL))
    text, made_for = str(content["header"]), {key: str(value) for key, value in content["made_for"].items()}
    digests = dict(content["sha256"])
    if sorted(archive.namelist()) != sorted([*digests, _SEAL]):
        raise _Changed("it does not hold the files that its seal names")
    for name, digest in digests.items():
        try:
            with archive.open(name) as stream:
                found = sha256_of(stream)
        except zipfile.BadZipFile:  # by the archive's own, weaker sum
            found = ""
        if found != digest:
            raise _Changed(f"{name} in it has changed")
    return Seal(text, made_for, frozenset(digests))
