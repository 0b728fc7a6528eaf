"""Settings in a Python file, such as Django's."""

from __future__ import annotations

import ast
import pprint
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import StackspecError
from .actions import Write
from .base import Change, Context, Difference, ManagedFile, file, unified_diff

_WIDTH = 100


@dataclass(frozen=True)
class PythonSettings(ManagedFile):
    """Top-level assignments in a Python file; the rest of the file is unchanged.

    :param path: the file, by the guide's name
    :param settings: name -> value (a literal)
    :param mode: mode of a new file; an existing file keeps mode and owner
    """

    settings: Mapping[str, Any] = field(hash=False)
    mode: int = 0o644

    def changes(self, context: Context) -> list[Change]:
        path = context.site.release.path(self.path)
        found = context.facts[file(path)]
        before = str(found["content"])
        try:
            assigned = _assignments(before)
        except SyntaxError as error:
            raise StackspecError(f"{path}:{error.lineno}: not valid Python: {error.msg}; fix or remove it") from None
        differences = []
        for name, value in self.settings.items():
            now = _shown(assigned[name]) if name in assigned else "not set"
            if now != repr(value):
                differences.append(Difference(name, repr(value), now))
        if not differences and found["exists"]:
            return []
        after = _edit(before, assigned, {each.what: self.settings[each.what] for each in differences})
        action = Write(path, after, None if found["exists"] else self.mode)
        return [Change(f"write {path}", tuple(differences), unified_diff(path, before, after), (action,), (path,))]


def _assignments(text: str) -> dict[str, ast.Assign]:
    """Name -> the last plain assignment to it."""
    return {
        each.targets[0].id: each
        for each in ast.parse(text).body
        if isinstance(each, ast.Assign) and len(each.targets) == 1 and isinstance(each.targets[0], ast.Name)
    }


def _shown(assignment: ast.Assign) -> str:
    """The value as a Python literal; an expression keeps its source."""
    try:
        return repr(ast.literal_eval(assignment.value))
    except ValueError:
        return ast.unparse(assignment.value)


def _edit(text: str, assigned: Mapping[str, ast.Assign], wanted: Mapping[str, Any]) -> str:
    """`text` with `wanted` assigned: in place of the effective assignment, otherwise at the end."""
    lines = text.splitlines()
    inside = {name: value for name, value in wanted.items() if name in assigned}
    # From the end of the file, so that line numbers above stay valid.
    for name in sorted(inside, key=lambda name: assigned[name].lineno, reverse=True):
        statement = assigned[name]
        lines[statement.lineno - 1 : statement.end_lineno] = _written(name, inside[name])
    for name in wanted:
        if name not in inside:
            lines += _written(name, wanted[name])
    return "\n".join(lines) + "\n"


def _written(name: str, value: Any) -> list[str]:
    shown = pprint.pformat(value, width=_WIDTH - len(name) - 3, sort_dicts=False).splitlines()
    pad = " " * (len(name) + 3)
    return [f"{name} = {shown[0]}", *(pad + line for line in shown[1:])]
