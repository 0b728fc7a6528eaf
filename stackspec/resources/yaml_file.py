"""Settings in a YAML file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML

from .base import Change, Context, ManagedFile
from .files import File


@dataclass(frozen=True)
class YamlFile(ManagedFile):
    """A YAML file with exactly these settings.

    :param path: the file, by the guide's name
    :param settings: section -> setting -> value, nested as in the file
    """

    settings: Mapping[str, Any] = field(hash=False)
    mode: int = 0o640
    owner: str = "root"
    group: str = "root"

    @property
    def text(self) -> str:
        """The file. Text that a parser could read as a number is quoted (000000, erratum E96)."""
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        stream = io.StringIO()
        yaml.dump(dict(self.settings), stream)
        return stream.getvalue()

    def changes(self, context: Context) -> list[Change]:
        return File(self.path, self.text, self.mode, self.owner, self.group).changes(context)
