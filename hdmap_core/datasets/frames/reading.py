"""Parses what frames.json and frames.jsonl hold; what is wrong is told by frame, camera and field, in one line."""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from hdmap_core.datasets.frames.format import Frame
from hdmap_core.datasets.json_faults import json_faults_told
from hdmap_core.errors import DatasetError

NAMES = ("frames.json", "frames.jsonl")
_Part = TypeVar("_Part", bound=BaseModel)


def parsed(kind: type[_Part], data: bytes, where: str) -> _Part:
    """Checked content of JSON.

    Args:
        kind: `FramesFile`, or a part of it.
        data: the JSON.
        where: file, and what else tells the place in it.

    Raises:
        DatasetError: naming the place, frame, camera and field of what cannot be.
    """
    try:
        return kind.model_validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        content = loaded(data, where)
        raise DatasetError(f"{where}: {_explained(kind, first, content)}") from None


def loaded(data: bytes, where: str) -> Any:
    """Content of JSON.

    Raises:
        DatasetError: if it is none.
    """
    with json_faults_told(where, "write or copy the file again"):
        return json.loads(data.decode("utf-8"))


def _explained(kind: type[BaseModel], problem: Any, content: Any) -> str:
    """Like `frame 'f1', camera 'front': 'translation' must be [x, y, z], metres; got [1, 2]`."""
    place: list[str] = []
    fields: list[str] = []
    description, value = "", content
    section: type[BaseModel] | None = kind
    if kind is Frame:
        place.append(_called(kind, value, 0))
    for part in problem["loc"]:
        if isinstance(part, int) and section is not None and isinstance(value, list):
            value, fields = value[part] if part < len(value) else None, []
            place.append(_called(section, value, part))
        elif isinstance(part, str) and section is not None and part in section.model_fields:
            fields.append(part)
            about = section.model_fields[part]
            description = about.description or ""
            value = value.get(part) if isinstance(value, dict) else None
            section = _section_of(about.annotation)
        elif problem["type"] == "extra_forbidden":
            known = ", ".join((section or kind).model_fields)
            return _at(place, f"the field {part!r} is not known; known are {known}")
        else:
            break
    field = ".".join(fields)
    if problem["type"] == "missing" and fields and problem["loc"][-1] == fields[-1]:
        return _at(place, f"the field {field!r} is missing: {description}")
    if not field:
        return _at(place, f"expected an object, got {_short(value)}")
    return _at(place, f"{field!r} must be {description}; got {_short(value)}")


def _called(section: type[BaseModel], value: Any, number: int) -> str:
    """What an entry of a list is called in messages."""
    word = {"Frame": "frame", "Camera": "camera", "SceneFacts": "scene", "Element": "element"}[section.__name__]
    name = next((value[key] for key in ("token", "name") if key in value), None) if isinstance(value, dict) else None
    return f"{word} {name!r:.60}" if isinstance(name, str) and name else f"{word} number {number + 1}"


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """The part that a field holds, or holds a list of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_section_of(argument) for argument in getattr(annotation, "__args__", ()))
    return next((section for section in inner if section is not None), None)


def _at(place: Sequence[str], text: str) -> str:
    return f"{', '.join(place)}: {text}" if place else text


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
