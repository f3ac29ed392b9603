"""Bags as single, indexed .mcap files: written whole or not at all, read with clear errors.

`ros2 bag play` (Jazzy and newer) and Foxglove open such a file directly; see docs/decisions.
"""

import heapq
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from hdmap_core.errors import BagError, OutputError, os_errors_as
from hdmap_core.running.interruption import unfinished
from hdmap_ros.bag.compression import ZSTD_MAGIC, zstd_decompress
from hdmap_ros.bag.mcap_scan import MAGIC as MCAP_MAGIC
from hdmap_ros.bag.mcap_scan import McapScan, declared_channels, has_summary, is_bounded, profile
from hdmap_ros.bag.sqlite_salvage import salvaged_sqlite
from hdmap_ros.bag.storage import SQLITE_MAGIC, storage_files
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
def write_mcap(path: str | Path) -> Iterator[BagWriter]:
    """A writer for a file that appears when the block ends without an exception.

    Raises:
        OutputError: if the place cannot be written, or is a folder, or does not end in .mcap.
    """
    path = Path(path)
    types, store = bag_types()
    from rosbags.rosbag2 import StoragePlugin, Writer

    if path.suffix != ".mcap":
        raise OutputError(f"{path}: a bag is written as one file that ends in .mcap")
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file")
    # rosbags makes a folder with metadata.yaml and a file of the folder's name; only that file is kept.
    part = path.parent / f".{path.name}.part"
    with os_errors_as(OutputError, f"cannot write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        with unfinished(part):
            part.mkdir()
            with Writer(part / path.stem, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
                yield BagWriter(writer, types, store)
            (part / path.stem / path.name).replace(path)


class BagReader:
    """A bag that is open; made by `open_bag`.

    Attributes:
        topics: topic -> message type, e.g. `sensor_msgs/msg/Image`.
        counts: topic -> number of messages.
        start_ns: log time of the first message.
        end_ns: log time of the last message.
        damage: what was left out, above all of a bag that was opened with `recover`, in sentences.
        again: opens the bag once more, to be read at another place meanwhile; closed with this one.
    """

    def __init__(
        self, path: Path, readers: Sequence[Any], store: Any, damage: Sequence[str], again: Callable[[], "BagReader"]
    ) -> None:
        self.path = path
        self.damage = tuple(damage)
        self.again = again
        self._readers = readers
        self._store = store
        connections = [entry for reader in readers for entry in reader.connections]
        self.topics: dict[str, str] = {entry.topic: entry.msgtype for entry in connections}
        self.counts: dict[str, int] = dict.fromkeys(self.topics, 0)
        for entry in connections:
            self.counts[entry.topic] += entry.msgcount
        self.start_ns = min(int(reader.start_time) for reader in readers)
        self.end_ns = max(int(reader.end_time) for reader in readers) - 1

    def raw(self, wanted: Callable[[str], bool] = lambda topic: True) -> Iterator[tuple[str, int, bytes]]:
        """Topic, log time and CDR bytes of the topics that are wanted, in the order of time.

        Raises:
            BagError: where the bag is damaged.
        """
        streams = []
        for reader in self._readers:
            connections = [entry for entry in reader.connections if wanted(entry.topic)]
            if connections:
                streams.append(reader.messages(connections))
        messages = heapq.merge(*streams, key=lambda entry: entry[1])
        while True:
            try:
                connection, stamp_ns, data = next(messages)
                data = bytes(data)
                if data.startswith(ZSTD_MAGIC):  # no CDR begins so: the bag's messages are compressed one by one
                    data = zstd_decompress(data)
            except StopIteration:
                return
            except Exception as error:  # damaged bytes make rosbags fail in many ways
                raise BagError(_damaged(self.path, error)) from None
            yield connection.topic, stamp_ns, data

    def messages(
        self,
        wanted: Callable[[str], bool] = lambda topic: True,
        unreadable: Callable[[str, str], None] | None = None,
    ) -> Iterator[tuple[str, int, Any]]:
        """Like `raw`, with rosbags' message objects.

        Args:
            wanted: which topics.
            unreadable: takes topic and reason of a message that cannot be read, which is then left out.

        Raises:
            BagError: where the bag is damaged, or holds a type that is not known.
        """
        for topic, stamp_ns, data in self.raw(wanted):
            try:
                message = self._store.deserialize_cdr(data, self.topics[topic])
            except Exception as error:
                reason = f"a message on {topic} cannot be read as {self.topics[topic]}: {_reason(error)}"
                if unreadable is None:
                    raise BagError(f"{self.path}: {reason}") from None
                unreadable(topic, reason)
            else:
                yield topic, stamp_ns, message

    def offered_qos(self, topic: str) -> Any:
        """Rosbags' Qos of a topic, or None where the bag says nothing."""
        entries = [entry for reader in self._readers for entry in reader.connections if entry.topic == topic]
        profiles = entries[0].ext.offered_qos_profiles
        return profiles[0] if profiles else None


@contextmanager
def open_bag(path: str | Path, recover: bool = False) -> Iterator[BagReader]:
    """A reader of an .mcap or .db3 file, or of a rosbag2 folder, with or without its metadata.yaml.

    Args:
        path: bag.
        recover: read the whole messages of a recording that was cut off or is damaged.

    Raises:
        BagError: if there is no such bag, or it cannot be read; the message says why and what to do.
    """
    path = Path(path)
    _, store = bag_types()
    damage: list[str] = []
    files = storage_files(path, damage if recover else None)
    with ExitStack() as stack:
        readers = [_open_storage(file, recover, stack, damage) for file in files]
        bag = BagReader(path, readers, store, damage, lambda: stack.enter_context(open_bag(path, recover)))
        if recover and not any(bag.counts.values()):
            raise BagError(f"{path} holds no message that is whole")
        yield bag


def _open_storage(file: Path, recover: bool, stack: ExitStack, damage: list[str]) -> Any:
    """An open reader, closed by `stack`, of rosbags where it takes the file."""
    from rosbags.rosbag2 import Reader

    with file.open("rb") if file.is_file() else nullcontext() as stream:
        head = stream.read(16) if stream else b""
    try:
        if head.startswith(MCAP_MAGIC) and (recover or not _for_rosbags(file)):
            scan = McapScan(file)
            stack.callback(scan.close)
            foreign = sorted(channel.topic for channel in declared_channels(file) if not channel.is_ros2)
            damage += [f"{file.name}: {sentence}" for sentence in scan.damage]
            damage += [f"{file.name}: {topic} holds no ROS 2 messages and is left out" for topic in foreign]
            return scan
        if head == SQLITE_MAGIC and recover:
            file = stack.enter_context(salvaged_sqlite(file, damage))
        reader = Reader(file)
        reader.open()
        stack.callback(reader.close)
        return reader
    except BagError:
        raise
    except Exception as error:  # damaged bytes make rosbags fail in many ways
        raise BagError(_damaged(file, error)) from None


def _for_rosbags(file: Path) -> bool:
    """Whether rosbags takes a whole MCAP file: it wants an index, rosbag2's profile, and nothing but ROS 2 in it.

    It unpacks chunks whole, however much that is, so that those must say it truly.
    """
    ros2 = has_summary(file) and profile(file) == "ros2" and all(c.is_ros2 for c in declared_channels(file))
    return ros2 and is_bounded(file)


def _damaged(path: Path, error: Exception) -> str:
    if isinstance(error, ImportError):  # as of backports.zstd, which packages that are compressed need
        return f"{path} cannot be read here, as a package of this Python does not load: {error}"
    if "not in timestamp order" in str(error):
        return f"{path} has no index and its messages are not in the order of time; give --recover, which sorts them"
    return f"{path} is damaged: {_reason(error)}; copy it again, or read what is whole with --recover"


def _reason(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
