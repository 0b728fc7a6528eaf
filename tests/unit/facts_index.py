"""docs/facts.md: what the install guide sets at which line, from data/facts.yaml. Run this file to write it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FACTS = HERE / "data/facts.yaml"
PAGE = HERE.parents[1] / "docs/facts.md"
HEAD = """\
# Facts of the install guide, by line

Each row is one thing that the guide says to do or to set: the line of the guide, the fact's name in
[facts.yaml](../tests/unit/data/facts.yaml), which has the value, and the [erratum](errata.md), if the guide is wrong.
A fact's name begins with its chapter. `compute` or `storage` after it means those nodes, where the same is done on the
controller, too.

The page is made from that file: `.venv/bin/python tests/unit/facts_index.py` writes it, and a test compares both.
"""


def index(facts: Iterable[Mapping[str, Any]]) -> str:
    """The page: a table for each chapter, in the guide's line order."""
    chapters: dict[str, list[Mapping[str, Any]]] = {}
    for fact in facts:
        chapters.setdefault(fact["step"], []).append(fact)
    text = HEAD
    for chapter, entries in chapters.items():
        text += f"\n## {chapter} ({len(entries)})\n\n| line | fact | erratum |\n|---|---|---|\n"
        for fact in sorted(entries, key=lambda each: int(each["line"])):
            found = fact.get("erratum", [])
            errata = [found] if isinstance(found, str) else found
            links = ", ".join(f"[{each}](errata.md#{each.lower()})" for each in errata)
            text += f"| {fact['line']} | `{fact['id']}` | {links} |\n"
    return text


if __name__ == "__main__":
    from ruamel.yaml import YAML

    PAGE.write_text(index(YAML(typ="safe").load(FACTS)))
