"""Files that a program on the node writes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from ..inventory import Node
from ..site import Site
from .actions import Execute
from .base import Change, Context, Difference, ManagedFile, Query, file, run, unified_diff


@dataclass(frozen=True)
class Generated(ManagedFile):
    """A file whose content a program prints; made again as soon as the program would print something else.

    :param path: the file, as the guide names it
    :param argv: the program, which only reads
    :param edits: what is changed of what it prints, as sed's ``s`` has it
    :param check: a command that ends with 0 when the new file, whose name it gets as its last word, is right
    """

    argv: tuple[str, ...]
    edits: tuple[str, ...] = ()
    check: tuple[str, ...] = ()

    @property
    def _printer(self) -> str:
        edits = " ".join(f"-e {shlex.quote(each)}" for each in self.edits)
        return f"text=$({shlex.join(self.argv)}) && printf '%s\\n' \"$text\"" + (f" | sed {edits}" if edits else "")

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [run("sh", "-c", self._printer), file(site.release.path(self.path))]

    def changes(self, context: Context) -> list[Change]:
        path = context.site.release.path(self.path)
        printed = context.facts[run("sh", "-c", self._printer)]
        before = str(context.facts[file(path)]["content"])
        known = printed["status"] == 0
        if known and printed["out"] == before:
            return []
        text = str(printed["out"]) if known else "(known after apply)\n"
        difference = Difference(path, f"as {self.argv[0]} prints it", "another content" if before else "absent")
        new = shlex.quote(f"{path}.new")
        check = f"{shlex.join(self.check)} {new} && " if self.check else ""
        # Printed anew then: the program may come just before.
        script = f"umask 022; {{ {self._printer}; }} > {new} && {check}sync {new} && mv {new} {shlex.quote(path)}"
        action = Execute(("sh", "-c", script), what=f"generate {path}", show=script)
        diff = unified_diff(path, before, text)
        return [Change(f"generate {path}", (difference,), diff, (action,), (path,))]
