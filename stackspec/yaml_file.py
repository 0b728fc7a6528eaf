"""A YAML file that a user wrote: read, refused with file and line when it is none, and where each key of it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from .errors import InputError

DEEPEST = 50
"""Collections in each other that a file of ours may have; the library takes half a minute to use up the stack."""


def read_yaml(path: Path) -> tuple[Any, YamlSource]:
    """Read a YAML file and keep where each key stands.

    :raises InputError: the file cannot be read or is not YAML (a key twice in one mapping is refused, too)
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
                    f"{path}:{event.start_mark.line + 1}: *{event.anchor} is an alias, and a few of them can fill the "
                    "memory; write the value itself"
                )
        data = YAML().load(text)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    except DuplicateKeyError as error:
        # The library's message quotes both values, which may be secrets, and names the second key's line.
        key = str(error.problem).split('"')[1]
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{path}:{line}: duplicate key {key!r}") from None
    except RecursionError:
        raise InputError(f"{path}:1: nested too deeply for an inventory or a file of secrets") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = " ".join(str(error.problem).split())
        raise InputError(f"{path}:{line}: not valid YAML: {problem}") from None
    except (YAMLError, UnicodeDecodeError):
        raise InputError(f"{path}:1: not a YAML file: it holds characters that no text has") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}:1: a mapping (key: value) is expected here; `stackspec init` writes an example")
    return data, YamlSource(path, data)


class YamlSource:
    """Finds the line of a key in a loaded YAML file."""

    def __init__(self, path: Path, data: Any) -> None:
        self.path = path
        self._data = data

    def line(self, location: tuple[int | str, ...]) -> int:
        """1-based line of the key at `location`, or of its nearest parent that is in the file."""
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
    """What was read, as dictionaries, lists and values that know nothing of their lines."""
    if isinstance(data, dict):
        return {str(key): plain_data(value) for key, value in data.items()}
    if isinstance(data, list):
        return [plain_data(value) for value in data]
    return data
