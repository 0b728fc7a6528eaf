"""Reads a user's YAML file, with file and line in errors, and the line of each key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from .errors import InputError

DEEPEST = 50
"""Maximum nesting depth; the library takes half a minute to exhaust the stack."""


def read_yaml(path: Path) -> tuple[Any, YamlSource]:
    """Read a YAML file and keep the line of each key.

    :raises InputError: the file cannot be read or is not valid YAML (duplicate keys are refused as well)
    """
    try:
        text = path.read_text(encoding="utf-8")
        depth = 0
        for event in YAML().parse(text):
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            if depth > DEEPEST:
                raise RecursionError
            if isinstance(event, AliasEvent):
                raise InputError(
                    f"{path}:{event.start_mark.line + 1}: *{event.anchor} is an alias, which is refused because a few "
                    "can fill the memory; write the value itself"
                )
        data = YAML().load(text)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except DuplicateKeyError as error:
        # The library's message quotes both values, which may be secrets, and has the second key's line.
        key = str(error.problem).split('"')[1]
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{path}:{line}: duplicate key {key!r}") from None
    except RecursionError:
        raise InputError(f"{path}:1: nested too deeply for an inventory or a secrets file") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = " ".join(str(error.problem).split())
        raise InputError(f"{path}:{line}: not valid YAML: {problem}") from None
    except (YAMLError, UnicodeDecodeError):
        raise InputError(f"{path}:1: not a YAML file: it contains non-text characters") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}:1: expected a mapping (key: value); `stackspec init` writes an example")
    return data, YamlSource(path, data)


class YamlSource:
    """Finds the line of a key in a loaded YAML file."""

    def __init__(self, path: Path, data: Any) -> None:
        self.path = path
        self._data = data

    def line(self, location: tuple[int | str, ...]) -> int:
        """1-based line of the key at `location`, or of its nearest parent in the file."""
        line = 1
        here: Any = self._data
        for key in location:
            try:
                marks = here.lc
                line = (marks.key(key) if isinstance(here, dict) else marks.item(key))[0] + 1
                here = here[key]
            except (KeyError, IndexError, AttributeError, TypeError):
                break
        return line


def plain_data(data: Any) -> Any:
    """The data as plain dictionaries, lists and values without line information."""
    if isinstance(data, dict):
        return {str(key): plain_data(value) for key, value in data.items()}
    if isinstance(data, list):
        return [plain_data(value) for value in data]
    return data
