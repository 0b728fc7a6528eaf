"""Editing the text of an ini file: options are set in place, comments and everything else stay."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_SECTION = re.compile(r"^\s*\[([^\]]+)\]")
_OPTION = re.compile(r"^([^\s#;=:\[][^=:]*?)\s*(?:[=:]\s*(.*?))?\s*$")


def read(text: str) -> dict[str, dict[str, str]]:
    """Options in force, section -> option -> value; the last of a repeated option wins, as oslo.config reads it.

    Options before any section are in the section ``""``; indented lines continue the value above.
    """
    found: dict[str, dict[str, str]] = {}
    section, last = "", ""
    for line in text.splitlines():
        if header := _SECTION.match(line):
            section, last = header[1], ""
            found.setdefault(section, {})
        elif line[:1].isspace() and line.strip() and last and not line.strip().startswith(("#", ";")):
            found[section][last] += "\n" + line.strip()
        elif option := _OPTION.match(line):
            last = option[1]
            found.setdefault(section, {})[last] = option[2] or ""
        elif not line.strip():
            last = ""
    return found


def edit(text: str, wanted: Mapping[str, Mapping[str, str | None]], own: Iterable[str] = ()) -> str:
    """`text` with the options of `wanted` set, None meaning not set.

    An option that is set already keeps its place; a new one goes below the comment that shows its default, else to the
    top of its section. Lines that must not count any more are commented out.

    :param wanted: section -> option -> value
    :param own: sections that hold what `wanted` says and nothing else
    """
    own = set(own)
    active = read(text)
    new = {
        section: {
            name: value for name, value in options.items() if value is not None and name not in active.get(section, {})
        }
        for section, options in wanted.items()
    }
    result: list[str] = []
    section, continues = "", ""
    done: set[tuple[str, str]] = set()

    def add(names: Iterable[str]) -> None:
        result.extend(_line(section, name, str(new[section].pop(name))) for name in list(names))

    for line in text.splitlines():
        option = _OPTION.match(line) if not line[:1].isspace() else None
        if header := _SECTION.match(line):
            section, continues = header[1], ""
            result.append(line)
            if section in new:
                commented = set(re.findall(r"^#\s?([\w.-]+)\s*=", _section_text(text, section), re.MULTILINE))
                add(name for name in new[section] if name not in commented)
        elif option:
            name, wants = option[1], wanted.get(section, {})
            if name in wants and wants[name] is not None:
                continues = "drop"
                if (section, name) not in done:
                    same = (option[2] or "") == wants[name]
                    result.append(line if same else _line(section, name, str(wants[name])))
                done.add((section, name))
            elif name in wants or section in own:
                continues = "comment"
                result.append("#" + line)
            else:
                continues = ""
                result.append(line)
        elif line[:1].isspace() and line.strip() and continues:
            if continues == "comment":
                result.append("#" + line)
        else:
            continues = ""
            result.append(line)
            hint = re.match(r"^#\s?([\w.-]+)\s*=", line)
            if hint and hint[1] in new.get(section, {}):
                add([hint[1]])
    for section in new:
        if new[section]:
            if section:
                result += ["", f"[{section}]"] if result and result[-1].strip() else [f"[{section}]"]
                add(new[section])
            else:
                result += [_line("", name, str(value)) for name, value in new[""].items()]
    return "\n".join(result) + "\n" if result else ""


def _line(section: str, name: str, value: str) -> str:
    """An option as it is written; a file without sections is read by a shell, which allows no blanks."""
    return f"{name} = {value}" if section else f"{name}={value}"


def _section_text(text: str, section: str) -> str:
    """The lines of `section`, wherever its header stands."""
    parts = re.split(r"(?m)^\s*\[([^\]]+)\].*$", text)
    return "\n".join(parts[place + 1] for place in range(1, len(parts), 2) if parts[place] == section)
