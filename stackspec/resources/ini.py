"""Options in an ini file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import ini_text
from .base import Change, Context, Difference, ManagedFile, Reference, file, resolve, unified_diff

Value = str | int | bool | Reference | None


@dataclass(frozen=True)
class IniFile(ManagedFile):
    """Options of an ini file; comments and other options stay as they are.

    :param path: the file, as the guide names it
    :param options: section -> option -> value; None means that the option must not be set
    :param own: sections that hold these options and nothing else ("comment out any other option in the section")
    :param mode: mode of the file when it is made; an existing file keeps mode and owner
    """

    options: Mapping[str, Mapping[str, Value]] = field(hash=False)
    own: tuple[str, ...] = ()
    mode: int = 0o640

    def changes(self, context: Context) -> list[Change]:
        path = context.site.release.path(self.path)
        found = context.facts[file(path)]
        wanted: dict[str, dict[str, str | None]] = {}
        unknown: list[Difference] = []
        for section, options in self.options.items():
            for name, value in options.items():
                text = resolve(value, context)
                if isinstance(value, Reference) and text is None:
                    unknown.append(Difference(f"[{section}] {name}", "(known after apply)", "not set"))
                else:
                    wanted.setdefault(section, {})[name] = text
        before = str(found["content"])
        differences = [*_differences(wanted, self.own, ini_text.read(before)), *unknown]
        if not differences and found["exists"]:
            return []
        after = ini_text.edit(before, wanted, self.own)
        action: dict[str, Any] = {"op": "write", "path": path, "content": after}
        if not found["exists"]:
            action["mode"] = self.mode
        return [Change(f"write {path}", tuple(differences), unified_diff(path, before, after), (action,), (path,))]


def _differences(
    wanted: Mapping[str, Mapping[str, str | None]], own: Iterable[str], found: Mapping[str, Mapping[str, str]]
) -> list[Difference]:
    differences = []
    for section, options in wanted.items():
        for name, value in options.items():
            now = found.get(section, {}).get(name)
            if now != value:
                differences.append(Difference(f"[{section}] {name}", _shown(value), _shown(now)))
    for section in own:
        for name, now in found.get(section, {}).items():
            if name not in wanted.get(section, {}):
                differences.append(Difference(f"[{section}] {name}", "not set", _shown(now)))
    return differences


def _shown(value: str | None) -> str:
    return "not set" if value is None else repr(value)
