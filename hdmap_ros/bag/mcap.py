"""Bags as single, indexed .mcap files: written whole or not at all, read with clear errors.

`ros2 bag play` (Jazzy and newer) and Foxglove open such a file directly; see docs/decisions.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hdmap_core.errors import BagError, OutputError
from hdmap_ros.message_types import MessageTypes, bag_types


class BagWriter:
    """Writes messages of rosbags' classes, or raw CDR bytes; made by `write_mcap`.

    Attributes:
        types: the classes to build messages from.
        counts: topic -> messages written.
    """

    def __init__(self, writer: Any, types: MessageTypes, store: Any) -> None:
        self.types = types
        self.counts: dict[str, int] = {}
        self._writer = writer
        self._store = store
        self._connections: dict[str, Any] = {}

    def declare(self, topic: str, kind: str, *, latched: bool = False, depth: int = 10) -> None:
        """Makes a topic, which may stay empty. It is offered reliably; `latched` adds transient local."""
        from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

        durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
        never = QosTime(0, 0)
        automatic = QosLiveliness.AUTOMATIC
        qos = Qos(
            QosHistory.KEEP_LAST, depth, QosReliability.RELIABLE, durability, never, never, automatic, never, False
        )
        connection = self._writer.add_connection(topic, kind, typestore=self._store, offered_qos_profiles=[qos])
        self._connections[topic] = connection
        self.counts[topic] = 0

    def write(self, topic: str, stamp_ns: int, message: Any) -> None:
        """Appends a message to a declared topic; `stamp_ns` is its log time."""
        connection = self._connections[topic]
        data = message if isinstance(message, bytes) else self._store.serialize_cdr(message, connection.msgtype)
        self._writer.write(connection, stamp_ns, data)
        self.counts[topic] += 1


@contextmanager
def write_mcap(path: Path) -> Iterator[BagWriter]:
    """A writer for a file that appears when the block ends without an exception.

    Raises:
        OutputError: if the place cannot be written, or is a folder, or does not end in .mcap.
    """
    types, store = bag_types()
    from rosbags.rosbag2 import StoragePlugin, Writer

    if path.suffix != ".mcap":
        raise OutputError(f"{path}: a bag is written as one file that ends in .mcap")
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file")
    # rosbags makes a folder with metadata.yaml and a file of the folder's name; only that file is kept.
    part = path.parent / f".{path.name}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        with Writer(part / path.stem, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
            yield BagWriter(writer, types, store)
        (part / path.stem / path.name).replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


class BagReader:
    """A bag that is open; made by `open_bag`.

    Attributes:
        topics: topic -> message type, e.g. `sensor_msgs/msg/Image`.
        counts: topic -> number of messages.
        start_ns: log time of the first message.
        end_ns: log time of the last message.
    """

    def __init__(self, path: Path, reader: Any, store: Any) -> None:
        self.path = path
        self._reader = reader
        self._store = store
        self.topics: dict[str, str] = {entry.topic: entry.msgtype for entry in reader.connections}
        self.counts: dict[str, int] = {entry.topic: entry.msgcount for entry in reader.connections}
        self.start_ns = int(reader.start_time)
        self.end_ns = int(reader.end_time) - 1

    def raw(self, wanted: Callable[[str], bool] = lambda topic: True) -> Iterator[tuple[str, int, bytes]]:
        """Topic, log time and CDR bytes of the topics that are wanted, in the order of time.

        Raises:
            BagError: where the bag is damaged.
        """
        connections = [entry for entry in self._reader.connections if wanted(entry.topic)]
        if not connections:
            return
        messages = self._reader.messages(connections)
        while True:
            try:
                connection, stamp_ns, data = next(messages)
            except StopIteration:
                return
            except Exception as error:  # damaged bytes make rosbags fail in many ways
                raise BagError(f"{self.path} is damaged: {_reason(error)}; copy or record it again") from None
            yield connection.topic, stamp_ns, bytes(data)

    def messages(self, wanted: Callable[[str], bool] = lambda topic: True) -> Iterator[tuple[str, int, Any]]:
        """Like `raw`, with rosbags' message objects.

        Raises:
            BagError: where the bag is damaged, or holds a type that is not known.
        """
        for topic, stamp_ns, data in self.raw(wanted):
            try:
                yield topic, stamp_ns, self._store.deserialize_cdr(data, self.topics[topic])
            except Exception as error:
                reason = _reason(error)
                raise BagError(
                    f"{self.path}: a message on {topic} cannot be read as {self.topics[topic]}: {reason}"
                ) from None

    def offered_qos(self, topic: str) -> Any:
        """Rosbags' Qos of a topic, or None where the bag says nothing."""
        entry = next(entry for entry in self._reader.connections if entry.topic == topic)
        profiles = entry.ext.offered_qos_profiles
        return profiles[0] if profiles else None


@contextmanager
def open_bag(path: Path) -> Iterator[BagReader]:
    """A reader of an .mcap or .db3 file, or of a rosbag2 folder.

    Raises:
        BagError: if there is no such bag, or it is truncated or of another format.
    """
    _, store = bag_types()
    from rosbags.rosbag2 import Reader

    if not path.exists():
        raise BagError(f"{path}: no such bag; give an .mcap file or a rosbag2 folder")
    try:
        reader = Reader(path)
        reader.open()
    except Exception as error:  # damaged bytes make rosbags fail in many ways
        raise BagError(
            f"{path} is no bag that can be read: {_reason(error)}; it may be truncated, copy it again"
        ) from None
    try:
        yield BagReader(path, reader, store)
    finally:
        reader.close()


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
