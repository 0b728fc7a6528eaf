"""Options in an ini file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ..errors import CannotTell
from . import ini_text
from .actions import Write
from .base import (
    Change,
    Context,
    Difference,
    ManagedFile,
    Reference,
    file,
    refusal,
    resolve,
    unified_diff,
)

Value = str | int | bool | Reference | None


@dataclass(frozen=True)
class IniFile(ManagedFile):
    """Options of an ini file; comments and other options are unchanged.

    :param path: the file, by the guide's name
    :param options: section -> option -> value; None means that the option must not be set
    :param own: sections that contain only these options ("comment out any other option in the section")
    :param mode: mode of a new file; an existing file keeps mode and owner
    """

    options: Mapping[str, Mapping[str, Value]] = field(hash=False)
    own: tuple[str, ...] = ()
    mode: int = 0o640

    def joined(self, other: IniFile) -> IniFile:
        """This file merged with the options in `other`, unless a value is known only when `other` is applied."""
        if any(isinstance(value, Reference) for values in other.options.values() for value in values.values()):
            return self
        options = {section: dict(values) for section, values in self.options.items()}
        for section, values in other.options.items():
            for name, value in values.items():
                options.setdefault(section, {}).setdefault(name, value)
        return replace(self, options=options, own=tuple(dict.fromkeys((*self.own, *other.own))))

    def changes(self, context: Context) -> list[Change]:
        path = context.site.release.path(self.path)
        found = context.facts[file(path)]
        wanted: dict[str, dict[str, str | None]] = {}
        unknown: list[Difference] = []
        unread: list[Difference] = []
        before = str(found["content"])
        now = ini_text.read(before)
        for section, options in self.options.items():
            for name, value in options.items():
                try:
                    text = resolve(value, context)
                except CannotTell as error:
                    # Keep the current value in the text, even in an own section: it may be correct.
                    text = now.get(section, {}).get(name)
                    unread.append(Difference(f"[{section}] {name}", f"cannot tell: {error}", _shown(text)))
                    wanted.setdefault(section, {})[name] = text
                    continue
                if isinstance(value, Reference) and text is None:
                    unknown.append(Difference(f"[{section}] {name}", "(known after apply)", "not set"))
                else:
                    wanted.setdefault(section, {})[name] = text
        differences = [*_differences(wanted, self.own, now), *unknown, *unread]
        if not differences and found["exists"]:
            return []
        after = ini_text.edit(before, wanted, self.own)
        write = Write(path, after, None if found["exists"] else self.mode)
        action = refusal("; ".join(f"{each.what} of {path}: {each.wanted}" for each in unread)) if unread else write
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
