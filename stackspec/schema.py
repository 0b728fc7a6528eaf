"""Checks data of YAML files against models; an error names file and line, and says what is expected.

A field's `description` completes "expected ..." where pydantic's own error would not help.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from .errors import InputError
from .yaml_file import YamlSource, plain_data

_Model = TypeVar("_Model", bound=BaseModel)


class Strict(BaseModel):
    """A part of a file; undeclared keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def matches(pattern: str, what: str) -> AfterValidator:
    """The check that a text matches.

    :param pattern: a regular expression for the whole text
    :param what: what is expected: completes the message after "is not"
    """

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{value!r} is not {what}")
        return value

    return AfterValidator(check)


def one_of(*names: str) -> AfterValidator:
    """The check that a text is one of `names`."""

    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"{value!r} is unknown; expected {' or '.join(map(repr, names))}")
        return value

    return AfterValidator(check)


def parse(model: type[_Model], data: Any, source: YamlSource) -> _Model:
    """Check `data` against `model`.

    :raises InputError: the first error, with file:line and, for an unknown key, the known keys
    """
    plain = plain_data(data)
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        # A misspelt key is both unknown and leaves one missing: report the unknown one.
        errors = error.errors()
        first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
        location = tuple(part for part in first["loc"] if part != "[key]")
        message = _explain(model, first, location)
        if first["type"] == "extra_forbidden":
            inner = _model_at(model, location[:-1])
            known = sorted(set(inner.model_fields) - {"name"}) if inner else []
            near = difflib.get_close_matches(str(location[-1]), known, 1)
            message += f"; did you mean {near[0]!r}?" if near else ""
            message += f" (known here: {', '.join(known)})" if known else ""
        shown = location[:-1] if first["type"] in ("extra_forbidden", "missing") else _existing(plain, location)
        if not location:
            # Our own messages name the key: find its line.
            location = tuple(message.split(":")[0].split(" ")[0].split("."))
        dotted = ".".join(str(part) for part in shown)
        raise InputError(f"{source.path}:{source.line(location)}: {dotted + ': ' if dotted else ''}{message}") from None


def _existing(data: Any, location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The part of `location` that is in the file: union checks append type names."""
    for place, part in enumerate(location):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            # The last part may be a misnamed key, such as a network's.
            return location[:place]
    return location


def _explain(model: type[BaseModel], error: Any, location: tuple[int | str, ...]) -> str:
    """What is wrong and how to fix it."""
    kind, found = error["type"], error["input"]
    if expected := _expected(model, location):
        return f"expected {expected}"
    if kind == "missing" and isinstance(location[-1], int):
        return f"the list is too short: entry {location[-1] + 1} is missing"
    if kind == "ip_v4_network" and isinstance(found, str):
        try:
            return f"{found!r} is an address; the network is {ipaddress.IPv4Network(found, strict=False)}"
        except ValueError:
            return f"{found!r} is not a network such as 10.0.0.0/24"
    messages: dict[str, Callable[[], str]] = {
        "extra_forbidden": lambda: f"unknown key {location[-1]!r}",
        "missing": lambda: f"{location[-1]!r} is missing; `stackspec init` writes an example",
        "ip_v4_address": lambda: f"{found!r} is not an address such as 10.0.0.10",
        "literal_error": lambda: f"{found!r} is unknown; expected {error['ctx']['expected']}",
        "string_pattern_mismatch": lambda: f"{found!r} does not match {error['ctx']['pattern']}",
        "bool_parsing": lambda: f"{found!r} is neither true nor false",
        "bool_type": lambda: f"{found!r} is neither true nor false",
        "int_parsing": lambda: f"{found!r} is not a whole number",
        "too_short": lambda: "the list is empty; at least one entry is required",
        "dict_type": lambda: "expected a mapping (key: value)",
        "mapping_type": lambda: "expected a mapping (key: value)",
        "model_type": lambda: "expected a mapping (key: value)",
        "tuple_type": lambda: "expected a list such as [one, two]",
    }
    if kind in messages:
        return messages[kind]()
    text: str = error["msg"]
    return text.removeprefix("Value error, ")


def _expected(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """The description of the field at `location`, or of the one that contains it."""
    for end in range(len(location), 0, -1):
        inner = _model_at(model, location[: end - 1])
        if inner is not None and (field := inner.model_fields.get(str(location[end - 1]))) is not None:
            return field.description or ""
    return ""


def _model_at(annotation: Any, location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The model of a schema at `location`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not location:
            return annotation
        field = annotation.model_fields.get(str(location[0]))
        return _model_at(field.annotation, location[1:]) if field is not None else None
    # The location contains mapping keys and list indexes, but not union types.
    rest = location[1:] if get_origin(annotation) in (dict, Mapping, tuple) else location
    return next((found for each in get_args(annotation) if (found := _model_at(each, rest)) is not None), None)
