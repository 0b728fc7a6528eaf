"""Files and directories."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..inventory import Node
from ..site import Site
from .actions import Execute, MakeDirectory, Write
from .base import Change, Context, Difference, ManagedFile, Query, Resource, bytes_of, file, unified_diff


@dataclass(frozen=True)
class File(ManagedFile):
    """A file with exactly this content.

    :param path: the file, by the guide's name
    :param content: its text
    :param mode: its mode
    :param owner: its owner
    :param group: its group
    """

    content: str
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"

    def changes(self, context: Context) -> list[Change]:
        path = context.site.release.path(self.path)
        found = context.facts[file(path)]
        differences = _attributes(self, found, path)
        before = str(found["content"])
        diff = ""
        if before != self.content or not found["exists"]:
            diff = unified_diff(path, before, self.content)
            differences.append(_first_line(before, self.content))
        if not differences:
            return []
        action = Write(path, self.content, self.mode, self.owner, self.group)
        return [Change(f"write {path}", tuple(differences), diff, (action,), (path,))]


@dataclass(frozen=True)
class Directory(Resource):
    """A directory with this mode and owner."""

    path: str
    mode: int = 0o755
    owner: str = "root"
    group: str = "root"

    @property
    def title(self) -> str:
        return self.path + "/"

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [file(self.path)]

    def changes(self, context: Context) -> list[Change]:
        differences = _attributes(self, context.facts[file(self.path)], self.path)
        if not differences:
            return []
        action = MakeDirectory(self.path, self.mode, self.owner, self.group)
        return [Change(f"create {self.path}/", tuple(differences), "", (action,))]


@dataclass(frozen=True)
class Lines(ManagedFile):
    """Lines that a file must contain; the rest of the file is unchanged.

    :param path: the file
    :param lines: the lines, in this order when they are added
    :param replaces: regular expression for other lines that are removed
    """

    lines: tuple[str, ...]
    replaces: str = ""

    def changes(self, context: Context) -> list[Change]:
        path = context.site.release.path(self.path)
        found = context.facts[file(path)]
        before = str(found["content"]).splitlines()
        there, wanted = set(before), set(self.lines)
        differences = [Difference("line", repr(line), "absent") for line in self.lines if line not in there]
        unwanted = [line for line in before if self.replaces and line not in wanted and re.match(self.replaces, line)]
        differences += [Difference("line", "absent", repr(line)) for line in unwanted]
        if not differences:
            return []
        after = self._edit(before)
        text = "\n".join(after) + "\n"
        diff = unified_diff(path, str(found["content"]), text)
        return [Change(f"write {path}", tuple(differences), diff, (Write(path, text),), (path,))]

    def _edit(self, before: list[str]) -> list[str]:
        matches = [bool(self.replaces and re.match(self.replaces, line)) for line in before]
        if any(matches):
            place = matches.index(True)
            kept = [line for line, match in zip(before, matches, strict=True) if not match and line not in self.lines]
            place -= sum(line in self.lines and not match for line, match in zip(before[:place], matches, strict=False))
            return [*kept[:place], *self.lines, *kept[place:]]
        there = set(before)
        return [*before, *(line for line in self.lines if line not in there)]


@dataclass(frozen=True)
class Access(Resource):
    """Mode and owner of files written by a package or a command.

    :param files: the files, which must exist
    """

    files: tuple[str, ...]
    mode: int = 0o640
    owner: str = "root"
    group: str = "root"

    @property
    def title(self) -> str:
        return f"access to {' '.join(self.files)}"

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [file(site.release.path(path)) for path in self.files]

    def changes(self, context: Context) -> list[Change]:
        differences: list[Difference] = []
        wrong: list[str] = []
        for path in map(context.site.release.path, self.files):
            found = _attributes(self, context.facts[file(path)], path)
            differences += [Difference(f"{path}: {each.what}", each.wanted, each.found) for each in found]
            wrong += [path] if found else []
        if not wrong:
            return []
        owner = Execute(("chown", f"{self.owner}:{self.group}", *wrong))
        mode = Execute(("chmod", f"{self.mode:04o}", *wrong))
        return [Change(f"set mode and owner of {' '.join(wrong)}", tuple(differences), "", (owner, mode))]


@dataclass(frozen=True)
class FileFrom(ManagedFile):
    """A file created on another node, copied through the controlling machine.

    :param path: the file, on both nodes
    :param node: name of the source node
    """

    node: str
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        path = site.release.path(self.path)
        return [file(path), bytes_of(path)]

    def changes(self, context: Context) -> list[Change]:
        path = context.site.release.path(self.path)
        wanted = context.shared.ask(self.node, bytes_of(path))
        found = context.facts[bytes_of(path)]
        differences = _attributes(self, context.facts[file(path)], path)
        if wanted is None or wanted != found:
            known = "(known after apply)" if wanted is None else _digest(wanted)
            now = "absent" if found is None else _digest(found)
            differences.append(Difference(f"{path} of {self.node}", known, now))
        if not differences:
            return []
        actions = (Write(path, wanted, self.mode, self.owner, self.group),) if wanted is not None else ()
        return [Change(f"copy {path} from {self.node}", tuple(differences), "", actions, (path,))]


def _digest(content: bytes) -> str:
    return f"sha256 {hashlib.sha256(content).hexdigest()[:16]}"


def _attributes(wanted: File | Directory | Access | FileFrom, found: dict[str, Any], path: str) -> list[Difference]:
    if not found["exists"]:
        return [Difference(path, "present", "absent")]
    differences = []
    if found["mode"] != wanted.mode:
        differences.append(Difference("mode", f"{wanted.mode:04o}", f"{found['mode']:04o}"))
    for name in ("owner", "group"):
        if found[name] != getattr(wanted, name):
            differences.append(Difference(name, getattr(wanted, name), found[name]))
    return differences


def _first_line(before: str, after: str) -> Difference:
    """The first difference: enough to identify the cause; the diff has the rest."""
    old, new = before.splitlines(), after.splitlines()
    for number in range(max(len(old), len(new))):
        left = old[number] if number < len(old) else "end of file"
        right = new[number] if number < len(new) else "end of file"
        if left != right:
            return Difference(f"line {number + 1}", repr(right), repr(left))
    return Difference("end of file", "newline" if after.endswith("\n") else "no newline", "the opposite")
