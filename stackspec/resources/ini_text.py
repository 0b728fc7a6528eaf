"""Edits the text of an ini file: options are set in place, comments and everything else are preserved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_SECTION = re.compile(r"^\s*\[([^\]]+)\]")
_OPTION = re.compile(r"^([^\s#;=:\[][^=:]*?)\s*(?:[=:]\s*(.*?))?\s*$")
_HINT = re.compile(r"^#\s?([\w.-]+)\s*=")
"""A commented-out option with its default."""


@dataclass(frozen=True)
class _Line:
    """A line and its kind: section, option, more (continuation of the option above) or other.

    :param name: the option; for other, the commented-out option
    :param value: the line's part of the option's value
    """

    text: str
    kind: str
    section: str
    name: str = ""
    value: str = ""


def _lines(text: str) -> Iterator[_Line]:
    """The lines of `text` as oslo.config parses them: an indented line always continues the option above; a blank line
    or a comment ends it."""
    section, last = "", ""
    for line in text.removesuffix("\n").split("\n") if text else ():
        if last and line[:1].isspace() and line.strip():
            comment = line.strip().startswith(("#", ";"))
            yield _Line(line, "more", section, last, "" if comment else "\n" + line.strip())
        elif header := _SECTION.match(line):
            section, last = header[1], ""
            yield _Line(line, "section", section)
        elif option := _OPTION.match(line):
            last = option[1]
            yield _Line(line, "option", section, last, option[2] or "")
        else:
            last = ""
            hint = _HINT.match(line)
            yield _Line(line, "other", section, hint[1] if hint else "")


def read(text: str) -> dict[str, dict[str, str]]:
    """Effective options, section -> option -> value; the last of a repeated option wins, as in oslo.config.

    Options before the first section are in the section ``""``; indented lines continue the value above.
    """
    found: dict[str, dict[str, str]] = {}
    for line in _lines(text):
        if line.kind == "section":
            found.setdefault(line.section, {})
        elif line.kind == "option":
            found.setdefault(line.section, {})[line.name] = line.value
        elif line.kind == "more":
            found[line.section][line.name] += line.value
    return found


def edit(text: str, wanted: Mapping[str, Mapping[str, str | None]], own: Iterable[str] = ()) -> str:
    """`text` with the options of `wanted` set; None means not set.

    An existing option keeps its place; a new one goes below the comment with its default, otherwise to the top of its
    section. Obsolete lines are commented out.

    :param wanted: section -> option -> value
    :param own: sections that contain only the options of `wanted`
    """
    own = set(own)
    lines = list(_lines(text))
    active = read(text)
    hinted = {(line.section, line.name) for line in lines if line.kind == "other" and line.name}
    # Options not set by any line yet; each is removed when it is written.
    new = {
        section: {
            name: value for name, value in options.items() if value is not None and name not in active.get(section, {})
        }
        for section, options in wanted.items()
    }
    result: list[str] = []
    start: int | None = None
    done: set[tuple[str, str]] = set()
    fate = ""
    added = -1

    def add(section: str, names: Iterable[str]) -> None:
        nonlocal added
        for name in names:
            result.append(_line(section, name, str(new[section].pop(name))))
            added = len(result)

    for line in lines:
        place, wants = (line.section, line.name), wanted.get(line.section, {})
        if line.kind == "option":
            value = wants.get(line.name)
            fate = "keep" if line.name not in wants else "drop"
            if value is None and (line.name in wants or line.section in own):
                fate = "comment"
            elif value is not None and place not in done:
                done.add(place)
                # A correct first line keeps its spelling; continuation lines are dropped in any case.
                result.append(line.text if line.value == value else _line(line.section, line.name, value))
        if line.kind in ("option", "more"):
            if fate != "drop":
                result.append(line.text if fate == "keep" else "#" + line.text)
            continue
        if line.text[:1].isspace() and len(result) == added:
            # An indented line without an option is invalid in oslo.config; it must not continue the added option.
            result.append("")
        if line.kind == "section" and start is None:
            start = len(result)
        result.append(line.text)
        if line.section not in new:
            continue
        if line.kind == "section":
            add(line.section, [name for name in new[line.section] if (line.section, name) not in hinted])
        elif line.kind == "other" and line.name in new[line.section]:
            add(line.section, [line.name])

    if rest := new.pop("", {}):
        # Options without a section must come before the first section.
        place_of_rest = len(result) if start is None else start
        gap = [""] if result[place_of_rest:] and result[place_of_rest][:1].isspace() else []
        result[place_of_rest:place_of_rest] = [*(_line("", name, str(value)) for name, value in rest.items()), *gap]
    for section in new:
        if new[section]:
            result += ["", f"[{section}]"] if result and result[-1].strip() else [f"[{section}]"]
            add(section, list(new[section]))
    return "\n".join(result) + "\n" if result else ""


def _line(section: str, name: str, value: str) -> str:
    """An option's text; files without sections are read by a shell, which allows no blanks around =."""
    if not section:
        return f"{name}={value}"
    return f"{name} = {value}".rstrip(" ").replace("\n", "\n    ")
