"""Checkpoints that strangers hand over: an error of ours or a model, never another exception."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hdmap_core.checkpoint import CheckpointConfig, load_checkpoint
from hdmap_core.errors import CheckpointError
from hdmap_core.models import ModelConfig
from hdmap_core.models.bev_encoder import BEVEncoderConfig

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
CONFIG = CheckpointConfig(
    model=ModelConfig(name="small", bev_encoder=BEVEncoderConfig(channels=(8, 8), blocks=(1, 1), out_channels=8))
)


class Quiet(bytes):
    """Bytes that a failure does not print."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


@pytest.fixture(scope="module")
def content(checkpoint: Path) -> bytes:
    return Quiet(checkpoint.read_bytes())


def with_header(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The same weights under another `hdmap` entry."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    ours = json.loads(header["__metadata__"]["hdmap"])
    change(ours)
    header["__metadata__"]["hdmap"] = json.dumps(ours)
    packed = json.dumps(header).encode()
    packed += b" " * (-len(packed) % 8)
    return len(packed).to_bytes(8, "little") + packed + content[8 + length :]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from places(part, (*path, key))


PLACES = [path for path in places(CONFIG.model_dump(mode="json")) if path]
values = st.sampled_from(
    [None, True, -1, 0, 3, 19_999, 10**9, 1e-9, 1e300, "", "mapqr", [], {}, [1, 2, 3], [0.0, 1e-6]]
)


@settings(SHARED, max_examples=12)
@given(place=st.sampled_from(PLACES), value=values)
def test_checkpoints_whose_header_asks_for_something_else(
    content: bytes, tmp_path: Path, place: tuple[Any, ...], value: Any
) -> None:
    def change(ours: dict[str, Any]) -> None:
        section = ours["config"]
        for key in place[:-1]:
            section = section[key]
        section[place[-1]] = value

    path = tmp_path / "changed.safetensors"
    path.write_bytes(with_header(content, change))
    with suppress(CheckpointError):
        load_checkpoint(path)


@SHARED
@given(
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    keep=st.none() | st.integers(0, 10**6),
)
def test_changed_checkpoints(content: bytes, tmp_path: Path, changes: list[tuple[int, int]], keep: int | None) -> None:
    length = int.from_bytes(content[:8], "little")
    path = tmp_path / "changed.safetensors"
    head = bytearray(content[: 8 + length])
    for place, value in changes:
        head[place % len(head)] = value
    path.write_bytes(head + content[8 + length :] if keep is None else head[: keep % (len(head) + 1)])
    with suppress(CheckpointError):
        load_checkpoint(path)
