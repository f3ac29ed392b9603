"""YAML files that somebody hands over: plain values only, bounded in size, in depth and in what aliases repeat."""

import re
from pathlib import Path
from typing import Any

import yaml

_MOST_BYTES = 4_000_000
_MOST_VALUES = 1_000_000
_DEEPEST = 100
_LONGEST_NUMBER = 1000  # characters; the time that 1:59:59 ... takes grows with their square


class _BoundedSafeLoader(yaml.SafeLoader):
    """Refuses merge keys, each of which copies what it names: a few lines of them stand for any number of entries."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Called with each mapping."""
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "merge keys (<<) are not read", node.start_mark)
        super().flatten_mapping(node)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """An integer of bounded length."""
        if len(node.value) > _LONGEST_NUMBER:
            raise yaml.constructor.ConstructorError(None, None, "a number is too long", node.start_mark)
        return super().construct_yaml_int(node)


_BoundedSafeLoader.add_constructor("tag:yaml.org,2002:int", _BoundedSafeLoader.construct_yaml_int)


def read_yaml(path: str | Path) -> Any:
    """The content of a file: mappings, lists, strings, numbers and dates, made by yaml's safe loader; no merge keys.

    Raises:
        OSError: if it cannot be read.
        UnicodeDecodeError: if it is no UTF-8.
        yaml.YAMLError: if it is no YAML, or larger than a configuration is: a few lines whose aliases name one another
            can stand for more values than there is memory.
    """
    with Path(path).open("rb") as stream:
        data = stream.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise yaml.YAMLError(f"it has more than {_MOST_BYTES // 1_000_000} MB, which no configuration has")
    try:
        text = data.decode("utf-8")
        if _depth(text) > _DEEPEST:  # the time that yaml needs grows with its square
            raise yaml.YAMLError("it is nested too deeply")
        content = yaml.load(text, _BoundedSafeLoader)
        if _values(content, {}) > _MOST_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {_MOST_VALUES // 1_000_000} million values")
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError, LookupError, AttributeError) as error:  # values that their tags cannot have
        raise yaml.YAMLError(str(error)) from None
    return content


def _depth(text: str) -> int:
    """How many brackets are open at once, at most; those in strings count, too."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth = depth + 1 if bracket in "[{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def _values(content: Any, known: dict[int, float]) -> float:
    """How many values there are when aliases are written out; infinite where one contains itself."""
    if not isinstance(content, dict | list | set | tuple):
        return 1
    if id(content) not in known:
        known[id(content)] = float("inf")
        parts = [*content, *content.values()] if isinstance(content, dict) else content
        known[id(content)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(content)]
