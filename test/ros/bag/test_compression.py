"""Bags that are compressed, and the beginnings of frames that were cut off."""

import sys
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hdmap_core.errors import BagError
from hdmap_ros.bag.compression import ZSTD_MAGIC, _zstd, decompress_as_far_as_possible, zstd_decompress

PACK = {"": bytes, "zstd": _zstd().compress, "lz4": lz4.frame.compress}


@pytest.mark.parametrize("compression", ["FILE", "MESSAGE", "STORAGE"])
def test_compressed_folders_are_read(
    drive: Path, tmp_path: Path, compression: str, rewrite: Any, messages: Any, refused: Any
) -> None:
    folder = rewrite(drive, tmp_path / "folder", compression=compression)
    assert sorted(messages(folder)) == sorted(messages(drive))
    file = next(path for path in folder.iterdir() if path.name != "metadata.yaml")
    if compression == "FILE":
        assert f"run zstd -d {file}, or give the folder {folder}" in refused(file)
    else:
        assert sorted(messages(file)) == sorted(messages(drive))
        assert sorted(messages(file, recover=True)) == sorted(messages(drive))


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python has zstd itself")
def test_a_package_that_does_not_load_is_no_damage(
    drive: Path, tmp_path: Path, monkeypatch: Any, rewrite: Any, messages: Any
) -> None:
    folder = rewrite(drive, tmp_path / "folder", compression="MESSAGE")
    (folder / "metadata.yaml").unlink()  # which says that messages are compressed, and rosbags unpacks them
    # By its module: setuptools, if a test before has imported it, has put a `backports` of its own in the place.
    monkeypatch.delattr(sys.modules["backports"], "zstd", raising=False)
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    with pytest.raises(BagError, match=r"cannot be read here, as a package of this Python does not load: .*zstd"):
        messages(folder)


@pytest.mark.parametrize("compression", ["", "zstd", "lz4"])
@given(content=st.binary(max_size=20_000), share=st.floats(0, 1))
def test_what_is_read_of_a_beginning_is_a_beginning(compression: str, content: bytes, share: float) -> None:
    packed = PACK[compression](content)
    found = decompress_as_far_as_possible(packed[: int(share * len(packed))], compression)
    assert content.startswith(found)
    assert decompress_as_far_as_possible(packed, compression) == content


@given(content=st.binary(min_size=1, max_size=20_000), place=st.integers(0), bits=st.integers(1, 255))
def test_damage_makes_less_and_no_error(content: bytes, place: int, bits: int) -> None:
    for compression in ("zstd", "lz4"):
        packed = bytearray(PACK[compression](content))
        packed[place % len(packed)] ^= bits
        assert isinstance(decompress_as_far_as_possible(bytes(packed), compression), bytes)


def test_an_unknown_compression_gives_nothing() -> None:
    assert decompress_as_far_as_possible(b"content", "brotli") == b""


def test_a_zstd_frame_there_and_back() -> None:
    frame = _zstd().compress(b"content" * 99)
    assert frame.startswith(ZSTD_MAGIC) and zstd_decompress(frame) == b"content" * 99
