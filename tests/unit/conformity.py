"""Joins the install guide's facts with what the steps declare for the guide's own machines and release.

A fact is the same when the resources of its chapter, on every node of its role, make what the guide makes; what they
would do is read from their attributes, from the operations that they send to a bare node and from the calls that they
make of an empty cloud.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stackspec.inventory import Node

from .fact_kinds import KINDS, Fact
from .guide_plan import CHAPTERS, ROOT, guide_site, part_of

FACTS = Path(__file__).parent / "data/facts.yaml"
DELIBERATE = Path(__file__).parent / "data/deliberate.yaml"
FIXED = {"ini": "value", "unit": "name", "command": "run", "object": "name", "setting": "value"}
"""Kind of a fact -> the attribute that its `fixed` corrects."""


def load_facts(path: Path = FACTS) -> list[Fact]:
    """The facts of the chapters that have steps; the others of the file are not even parsed, which takes a second."""
    sections = re.split(r"(?m)^# ---- (\w+)$", path.read_text())
    wanted = [text for name, text in zip(sections[1::2], sections[2::2], strict=True) if name in CHAPTERS]
    return [dict(each) for each in YAML(typ="safe").load("".join(wanted))]


def load_deliberate() -> dict[str, dict[str, Any]]:
    """Fact id or glob -> {why, instead, checked_by}."""
    found = YAML(typ="safe").load(DELIBERATE.read_text())
    return {name: {"why": each} if isinstance(each, str) else each for name, each in found.items()}


@dataclass(frozen=True)
class Verdict:
    """`same`, `deliberate` or `missing`, and why."""

    status: str
    why: str


def nodes_without(fact: Fact) -> list[str]:
    """Nodes of the fact's role that do not get what it says."""
    fact = dict(fact)
    if "fixed" in fact and fact["kind"] in FIXED:
        fact[FIXED[fact["kind"]]] = fact.pop("fixed")
    site = guide_site()
    nodes = list(site.nodes.values()) if fact["role"] == "all" else site.with_role(fact["role"])
    if fact["role"] == "all":
        # All that the chapter is about: the fourth machine stores nothing.
        nodes = [node for node in nodes if part_of(fact["step"], node.name).resources]
    if fact.get("type") == "node":
        # A line of the table of machines is about the site.
        nodes = [site.controller]
    found = [] if nodes else [f"any node: none has the role {fact['role']}"]
    for node in nodes:
        part = part_of(fact["step"], node.name)
        here = _on(node, fact) if "compute" in node.roles else fact
        if not KINDS[fact["kind"]](here, part):
            found.append(node.name)
    return found


def _on(node: Node, value: Any) -> Any:
    """The guide writes compute01's addresses where each compute node has its own."""
    if isinstance(value, dict):
        return {key: _on(node, each) for key, each in value.items()}
    if isinstance(value, list):
        return [_on(node, each) for each in value]
    if isinstance(value, str):
        own = str(node.provider.address)
        return re.sub(r"\b10\.0\.0\.20\b", node.address, re.sub(r"\b192\.168\.35\.20\b", own, value))
    return value


def judge(fact: Fact, deliberate: dict[str, dict[str, Any]]) -> Verdict:
    """Whether the steps do what the fact says, or leave it on purpose."""
    entries = [pattern for pattern in deliberate if fnmatchcase(fact["id"], pattern)]
    without = nodes_without(fact)
    if not without:
        if entries:
            return Verdict("missing", f"is the same as in the guide: take {entries[0]!r} out of {DELIBERATE.name}")
        return Verdict("same", "")
    if len(entries) != 1:
        many = f"; {len(entries)} entries of {DELIBERATE.name} are about it: {entries}" if entries else ""
        return Verdict("missing", f"not declared as in line {fact['line']} of the guide on {', '.join(without)}{many}")
    entry = deliberate[entries[0]]
    problem = next(_problems(fact, entry), "")
    return Verdict("missing", f"{entries[0]!r}: {problem}") if problem else Verdict("deliberate", entry["why"])


def _problems(fact: Fact, entry: dict[str, Any]) -> Iterator[str]:
    """What is wrong with an entry of deliberate.yaml for this fact."""
    if unknown := entry.keys() - {"why", "instead", "checked_by"}:
        yield f"unknown keys {sorted(unknown)}"
    cited = re.match(r"E\d+", entry["why"])
    errata = fact.get("erratum", [])
    if cited and cited[0] not in ([errata] if isinstance(errata, str) else errata):
        yield f"the fact is not touched by erratum {cited[0]}"
    if "instead" in entry:
        own = {key: value for key, value in fact.items() if key != "fixed"}
        if without := nodes_without({**own, **entry["instead"]}):
            yield f"what it names instead is not declared on {', '.join(without)}"
    if fact["kind"] == "verify" and "checked_by" not in entry and "when" not in fact:
        yield "name the test that checks it in checked_by"
    if "checked_by" in entry:
        path, _, name = entry["checked_by"].partition("::")
        if not re.search(rf"(?m)^def {name}\(", (ROOT / path).read_text() if (ROOT / path).is_file() else ""):
            yield f"no test {entry['checked_by']}"
