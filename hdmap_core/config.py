"""Strict configuration: frozen pydantic models read from YAML, with `a.b=c` overrides and errors that teach."""

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from hdmap_core.errors import ConfigError
from hdmap_core.files.shipped import shipped
from hdmap_core.files.yaml_files import read_yaml


class Config(BaseModel):
    """Base of every configuration: immutable, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


C = TypeVar("C", bound=Config)


def load_config(kind: type[C], path: str | Path, overrides: Sequence[str] = ()) -> C:
    """Reads a YAML recipe and applies overrides such as `optim.lr=1e-3` (values are YAML).

    `config/recipes/...` is the package's own where it is not there (`files.shipped`).

    Raises:
        ConfigError: naming the file, the key, what was meant and what is allowed.
    """
    try:
        content = read_yaml(shipped(path))
    except OSError as error:
        raise ConfigError(f"cannot read recipe {path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of keys to values, got {type(content).__name__}")
    for override in overrides:
        _apply_override(content, override)
    return parse_config(kind, content, str(path))


def changed(config: C, overrides: Sequence[str], source: str) -> C:
    """A config with overrides such as `model.name=mine`; `source` names it in errors.

    Raises:
        ConfigError: as `load_config`.
    """
    content = config.model_dump(mode="json")
    for override in overrides:
        _apply_override(content, override)
    return parse_config(type(config), content, source)


def parse_config(kind: type[C], content: Any, source: str) -> C:
    """Validates plain values; `source` names them in errors.

    Raises:
        ConfigError: listing every key that is wrong.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = [_explain(kind, item) for item in error.errors(include_url=False)]
        raise ConfigError(f"{source}: " + "; ".join(problems)) from None
    except ArithmeticError as error:  # of a check that reckons with a number before that one was checked
        raise ConfigError(f"{source}: its numbers cannot be: {error}") from None
    except ConfigError as error:  # of a value that checks itself, such as BEVGrid
        raise ConfigError(f"{source}: {error}") from None


def _apply_override(content: dict[str, Any], override: str) -> None:
    path, separator, value = override.partition("=")
    if not separator or not path:
        raise ConfigError(f"override {override!r} must look like key.subkey=value")
    *parents, last = path.strip().split(".")
    section: Any = content
    for key in parents:
        section = section.setdefault(key, {}) if isinstance(section, dict) else _item(section, key, override)
        if not isinstance(section, dict | list):
            raise ConfigError(f"override {override!r}: {key!r} is a value, not a section")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"override {override!r}: the value is not valid YAML: {reason}") from None
    if isinstance(section, list):
        _item(section, last, override)
        section[int(last)] = parsed
    else:
        section[last] = parsed


def _item(section: list[Any], key: str, override: str) -> Any:
    if not key.isdecimal() or int(key) >= len(section):
        raise ConfigError(f"override {override!r}: {key!r} is no place in a list of {len(section)}; they count from 0")
    return section[int(key)]


def _explain(kind: type[BaseModel], item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "union_tag_not_found":
        kinds = [repr(_tag(section)) for section in _candidates(kind, item["loc"])]
        return f"{where} needs kind: one of {', '.join(kinds)}"
    if item["type"] not in ("extra_forbidden", "unexpected_keyword_argument"):
        message = item["msg"].removeprefix("Value error, ")
        got = "" if isinstance(item["input"], dict | BaseModel) else f" (got {item['input']!r})"
        return f"{where}: {message}{got}" if where else message + got
    allowed = _fields_at(kind, item["loc"][:-1])
    close = difflib.get_close_matches(str(item["loc"][-1]), allowed, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    choices = f" Allowed here: {', '.join(allowed)}." if allowed else ""
    return f"unknown key {where!r}{hint}{choices}"


def _fields_at(kind: type, loc: Sequence[Any]) -> list[str]:
    """Field names of the section that a pydantic error location leads to."""
    return sorted({name for candidate in _candidates(kind, loc) for name in _annotations(candidate)})


def _candidates(kind: type, loc: Sequence[Any]) -> list[type]:
    """The sections that a pydantic error location may mean; union tags in it are followed by name."""
    candidates = [kind]
    for part in loc:
        following: list[type] = []
        for candidate in candidates:
            annotations = _annotations(candidate)
            if part in annotations:
                following += _sections_in(annotations[part])
            elif _tag(candidate) == part:
                following.append(candidate)
        candidates = following or candidates
    return candidates


def _annotations(section: type) -> dict[str, Any]:
    """Field names of a pydantic model or a dataclass, with their types."""
    if issubclass(section, BaseModel):
        return {name: field.annotation for name, field in section.model_fields.items()}
    return {field.name: field.type for field in dataclasses.fields(section)}  # type: ignore[arg-type]


def _tag(section: type) -> Any:
    if not issubclass(section, BaseModel) or "kind" not in section.model_fields:
        return None
    return section.model_fields["kind"].default


def _sections_in(annotation: Any) -> list[type]:
    if isinstance(annotation, type) and (issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation)):
        return [annotation]
    return [section for argument in getattr(annotation, "__args__", ()) for section in _sections_in(argument)]
