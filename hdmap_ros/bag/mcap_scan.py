"""MCAP files read from front to back, without their index: damaged ones, and those that rosbags does not take.

Format: https://mcap.dev/spec. Of a last chunk that was cut off the whole messages are read; a chunk inside the file
whose checksum does not fit is left out.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from hdmap_ros.bag.compression import MOST_BYTES, decompress_as_far_as_possible, stated_size

MAGIC = b"\x89MCAP0\r\n"
_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 1, 2, 3, 4, 5, 6, 15
_LOOK_AT = 5000  # records without a summary in which channels are looked for


@dataclass(frozen=True)
class Channel:
    """A topic as a file declares it.

    Attributes:
        encoding: of its messages: `cdr` in ROS 2, else ros1, protobuf, json ...
        kind: name of its schema, e.g. `sensor_msgs/msg/Image`.
        schema_encoding: ros2msg, ros2idl, protobuf ...; empty where there is no schema.
        qos: rosbag2's text of the offered QoS; empty where there is none.
    """

    topic: str
    encoding: str
    kind: str
    schema_encoding: str
    qos: str

    @property
    def is_ros2(self) -> bool:
        """Whether its messages are ROS 2's."""
        return self.encoding == "cdr" and self.schema_encoding in ("ros2msg", "ros2idl", "omgidl", "")


def profile(path: Path) -> str:
    """The profile that an MCAP file names, `ros2` for one of rosbag2; empty where its header is damaged."""
    with path.open("rb") as file:
        head = file.read(4096)[len(MAGIC) :]
    return _text(head, 9)[0] if head[:1] == bytes([_HEADER]) and len(head) > 13 else ""


def is_closed(path: Path) -> bool:
    """Whether an MCAP file ends as one that was written to its end."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(len(MAGIC), size - len(MAGIC)))
        return file.read() == MAGIC


def has_summary(path: Path) -> bool:
    """Whether an MCAP file has the section with its index."""
    return _summary_start(path) > 0


def declared_channels(path: Path) -> list[Channel]:
    """The channels of an MCAP file: of its summary or, where it has none, of its beginning."""
    begin = _summary_start(path) or len(MAGIC)
    with path.open("rb") as file:
        catalogue = _Catalogue()
        for record in islice(_records(file, begin, file.seek(0, 2), []), _LOOK_AT):
            catalogue.add(record)
    return list(catalogue.channels.values())


def is_bounded(path: Path) -> bool:
    """Whether every chunk says truly, at its beginning, to how many bytes it unpacks, and to no more than are read.

    Readers that unpack a chunk whole may be trusted with such a file.
    """
    with path.open("rb") as file:
        end, position = file.seek(0, 2), len(MAGIC)
        while position + 9 <= end:
            file.seek(position)
            op, length = struct.unpack("<BQ", file.read(9))
            if op == _CHUNK:
                head = file.read(min(length, 128))
                if len(head) < 40:
                    return False
                compression, begin = _text(head, 28)
                size = struct.unpack_from("<Q", head, 16)[0]
                if size > MOST_BYTES or (compression and stated_size(head[begin + 8 :], compression) != size):
                    return False
            position += 9 + length
    return True


class McapScan:
    """The ROS 2 messages of one file, with the face of rosbags' readers.

    Attributes:
        connections: rosbags' Connection per topic.
        start_time: log time of the first message, nanoseconds.
        end_time: one after that of the last message.
        damage: sentences that say what was left out.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.damage: list[str] = []
        catalogue = _Catalogue()
        places: list[tuple[int, int, int, int, int, int]] = []  # log time, order, channel, chunk, offset, length
        for record in _records(self._file, len(MAGIC), _end_of_data(self._file), self.damage):
            catalogue.add(record)
            if record.op == _MESSAGE and record.length >= 22:
                channel, _, log_ns = struct.unpack_from("<HIQ", record.body)
                places.append((log_ns, len(places), channel, record.chunk, record.offset + 22, record.length - 22))
        channels = {key: channel for key, channel in catalogue.channels.items() if channel.is_ros2}
        self._places = sorted(place for place in places if place[2] in channels)
        counts = Counter(place[2] for place in self._places)
        self._connections = {key: _connection(key, channel, counts[key]) for key, channel in channels.items()}
        self.connections = list(self._connections.values())
        self.start_time = self._places[0][0] if self._places else 2**63 - 1
        self.end_time = self._places[-1][0] + 1 if self._places else 0
        self._chunk = lru_cache(maxsize=4)(self._read_chunk)

    def messages(self, connections: Collection[Any]) -> Iterator[tuple[Any, int, bytes]]:
        """Connection, log time and CDR bytes in the order of time."""
        wanted = {connection.id for connection in connections}
        for log_ns, _, channel, chunk, offset, length in self._places:
            if channel not in wanted:
                continue
            if chunk:
                data = self._chunk(chunk)[offset : offset + length]
            else:
                self._file.seek(offset)
                data = self._file.read(length)
            yield self._connections[channel], log_ns, data

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _read_chunk(self, position: int) -> bytes:
        self._file.seek(position + 1)
        return _chunk_content(self._file.read(struct.unpack("<Q", self._file.read(8))[0]))[0]


def _summary_start(path: Path) -> int:
    """Where the summary begins; 0 where there is none."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 37))
        footer = file.read()
    closed = footer[:1] == bytes([_FOOTER]) and footer.endswith(MAGIC)
    return struct.unpack_from("<Q", footer, 9)[0] if closed else 0


@dataclass(frozen=True)
class _Record:
    op: int
    body: bytes  # of a message at least its first 22 bytes
    offset: int  # of the body, in its chunk or in the file
    length: int
    chunk: int = 0  # where its chunk begins in the file; 0: it is in none


def _records(file: Any, begin: int, end: int, damage: list[str]) -> Iterator[_Record]:
    """Headers, schemas, channels and messages of a file from `begin` on, also those in chunks."""
    position = begin
    while position + 9 <= end:
        file.seek(position)
        op, length = struct.unpack("<BQ", file.read(9))
        left = end - position - 9
        if op in (_FOOTER, _DATA_END):
            return
        if op == _CHUNK:
            content, intact = _chunk_content(file.read(min(length, left)))
            if intact or length > left:
                used = 0
                for record in _inside(content, position):
                    yield record
                    used = record.offset + record.length
                intact = used == len(content)
            if not intact and length <= left:
                damage.append(f"the chunk of {length} bytes at byte {position} is damaged, what is not whole left out")
        elif op == 0 or length > left:  # zeros that a file system left, or a record that was cut off
            break
        else:
            yield _Record(op, file.read(min(length, 22) if op == _MESSAGE else length), position + 9, length)
        position += 9 + length
    damage.append(f"the recording ends at byte {min(position, end)} of {end} without its index")


def _end_of_data(file: Any) -> int:
    """The size of a file without the zeros at its end, which a file system leaves after a power failure."""
    end = file.seek(0, 2)
    while end:
        begin = max(0, end - 65536)
        file.seek(begin)
        used = len(file.read(end - begin).rstrip(b"\0"))
        if used:
            return begin + used
        end = begin
    return 0


def _inside(content: bytes, chunk: int) -> Iterator[_Record]:
    """The whole records of a chunk's content."""
    position = 0
    while position + 9 <= len(content):
        op, length = struct.unpack_from("<BQ", content, position)
        if op == 0 or position + 9 + length > len(content):
            return
        yield _Record(op, content[position + 9 : position + 9 + length], position + 9, length, chunk)
        position += 9 + length


def _chunk_content(body: bytes) -> tuple[bytes, bool]:
    """Decompressed content of a chunk record, as much as there is, and whether it is intact."""
    if len(body) < 40:
        return b"", False
    size, checksum = struct.unpack_from("<QI", body, 16)
    compression, position = _text(body, 28)
    if size > MOST_BYTES:
        return b"", False
    content = decompress_as_far_as_possible(body[position + 8 :], compression, size)
    return content, len(content) == size and checksum in (0, zlib.crc32(content))


class _Catalogue:
    """Schemas and channels as they come by."""

    def __init__(self) -> None:
        self.channels: dict[int, Channel] = {}
        self._schemas: dict[int, tuple[str, str]] = {}

    def add(self, record: _Record) -> None:
        if record.op == _SCHEMA:
            name, position = _text(record.body, 2)
            self._schemas[_id(record.body, 0)] = (name, _text(record.body, position)[0])
        elif record.op == _CHANNEL:
            topic, position = _text(record.body, 4)
            encoding, position = _text(record.body, position)
            kind, schema_encoding = self._schemas.get(_id(record.body, 2), ("", ""))
            qos = _metadata(record.body[position + 4 :]).get("offered_qos_profiles", "")
            self.channels[_id(record.body, 0)] = Channel(topic, encoding, kind, schema_encoding, qos)


def _metadata(body: bytes) -> dict[str, str]:
    found, position = {}, 0
    while position < len(body):
        key, position = _text(body, position)
        found[key], position = _text(body, position)
    return found


def _id(body: bytes, position: int) -> int:
    return int.from_bytes(body[position : position + 2], "little")


def _text(body: bytes, position: int) -> tuple[str, int]:
    """A string with its length before it, and where it ends."""
    begin = position + 4
    end = begin + int.from_bytes(body[position:begin], "little")
    return body[begin:end].decode(errors="replace"), end


def _connection(key: int, channel: Channel, count: int) -> Any:
    from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat
    from rosbags.rosbag2.metadata import parse_qos

    extension = ConnectionExtRosbag2(channel.encoding, parse_qos(channel.qos) if channel.qos else [])
    nothing = MessageDefinition(MessageDefinitionFormat.NONE, "")
    return Connection(key, channel.topic, channel.kind, nothing, "", count, extension, None)
