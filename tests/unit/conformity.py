"""Compares the install guide's facts with what the steps declare for the guide's machines and release.

A fact holds if the resources of its chapter, on every node of its role, do what the guide does. Their effects are read
from their attributes, from the operations that they send to a bare node and from the calls that they
make in an empty cloud.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stackspec.inventory import Node
from stackspec.site import Site

from .fact_kinds import KINDS, Fact
from .guide_plan import CHAPTERS, RELEASES, ROOT, Plan, guide_site, plan_of
from .guide_secrets import Place, users_of, with_secrets

Deliberate = dict[str, dict[str, Any]]
"""Entries of deliberate.yaml, by fact id or glob."""

FACTS = Path(__file__).parent / "data/facts.yaml"
DELIBERATE = Path(__file__).parent / "data/deliberate.yaml"
FIXED = {"ini": "value", "unit": "name", "command": "run", "object": "name", "setting": "value"}
"""Kind of a fact -> the attribute that its `fixed` corrects."""


@cache
def load_facts(path: Path = FACTS) -> list[Fact]:
    """The facts of the chapters that have steps; the rest of the file is not parsed, which saves a second."""
    sections = re.split(r"(?m)^# ---- (\w+)$", path.read_text())
    wanted = [text for name, text in zip(sections[1::2], sections[2::2], strict=True) if name in CHAPTERS]
    return [dict(each) for each in YAML(typ="safe").load("".join(wanted))]


@cache
def load_deliberate(release: str = RELEASES[0]) -> Deliberate:
    """Fact id or glob -> {why, instead, checked_by}: the common entries and those of this release."""
    found = YAML(typ="safe").load(DELIBERATE.read_text())
    entries = {name: {"why": each} if isinstance(each, str) else each for name, each in found.items()}
    own = DELIBERATE.with_name(f"{release}.yaml")
    if own.exists():
        for name, each in YAML(typ="safe").load(own.read_text()).items():
            # Both files may contain an entry with this name.
            entries[f"{name}@{release}"] = {**each, "release": release}
    return entries


@dataclass(frozen=True)
class Verdict:
    """`same`, `deliberate` or `missing`, and why."""

    status: str
    why: str


def nodes_without(fact: Fact, plan: Plan, only: Collection[str] = ()) -> list[str]:
    """Nodes of the fact's role on which it does not hold; limited to `only` if given."""
    nodes = nodes_of(fact, plan.site)
    if not nodes:
        return [f"any node: none has the role {fact['role']}"]
    look = KINDS[fact["kind"]]
    return [
        node.name
        for node in nodes
        if not (only and node.name not in only)
        and not look(on(node, fact, plan.site), plan.part(fact["step"], node.name))
    ]


def nodes_of(fact: Fact, site: Site) -> list[Node]:
    """Nodes that the fact applies to."""
    if fact.get("type") == "node":
        # A row in the table of machines applies to the site.
        return [site.controller]
    if fact["role"] != "all":
        return site.with_role(fact["role"])
    # All nodes of the chapter: the fourth machine has no storage.
    plan = guide_plan()
    return [node for node in site.nodes.values() if plan.part(fact["step"], node.name).resources]


def on(node: Node, fact: Fact, site: Site) -> Fact:
    """The fact as it applies to a node: corrected, with the node's addresses and the site's secrets."""
    fact = dict(fact)
    if "fixed" in fact and fact["kind"] in FIXED:
        fact[FIXED[fact["kind"]]] = fact.pop("fixed")
    here: Fact = _on(node, fact) if "compute" in node.roles else fact
    return with_secrets(here, users(), site.password)


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


@cache
def users() -> dict[Place, str]:
    """The users whose passwords the guide's options contain."""
    return users_of(load_facts())


@cache
def guide_plan(release: str = RELEASES[0]) -> Plan:
    """The plan of the guide's machines with a release."""
    return plan_of(guide_site(release), before())


def before() -> dict[str, str]:
    """Initial content of the machines: lines and options from packages that the guide removes."""
    files: dict[str, str] = {}
    for fact in load_facts():
        if fact["kind"] == "file" and "replaces" in fact:
            files[fact["path"]] = files.get(fact["path"], "") + f"{fact['replaces']}\n"
        if fact["kind"] == "ini" and fact.get("absent"):
            files[fact["file"]] = files.get(fact["file"], "") + f"[{fact['section']}]\n{fact['key']} = shipped\n"
    return files


def judge(fact: Fact, deliberate: Deliberate, plan: Plan | None = None, only: Collection[str] = ()) -> Verdict:
    """Whether the steps do what the fact says, or deliberately differ; limited to the nodes in `only` if given."""
    plan = plan or guide_plan()
    names = entries_of(fact, deliberate)
    without = nodes_without(fact, plan, only)
    if not without:
        # Another node may differ on purpose.
        if names and not (only and nodes_without(fact, plan)):
            return Verdict("missing", f"is the same as in the guide: take {names[0]!r} out of {DELIBERATE.name}")
        return Verdict("same", "")
    if not names or len({"release" in deliberate[each] for each in names}) < len(names):
        many = f"; {len(names)} entries of {DELIBERATE.name} are about it: {names}" if names else ""
        return Verdict("missing", f"not declared as in line {fact['line']} of the guide on {', '.join(without)}{many}")
    entry = deliberate[names[-1]]
    if instead := {key: value for each in names for key, value in deliberate[each].get("instead", {}).items()}:
        entry = {**entry, "instead": instead}
    problem = next(_problems(fact, entry, plan, only), "")
    return Verdict("missing", f"{names[-1]!r}: {problem}") if problem else Verdict("deliberate", entry["why"])


def entries_of(fact: Fact, deliberate: Deliberate) -> list[str]:
    """The entries about a fact. A release's entry is added to the common one, unless the common one omits the fact."""
    found = _fitting(fact["id"], tuple(deliberate))
    common = [name for name in found if "release" not in deliberate[name]]
    if any("instead" not in deliberate[name] for name in common):
        return common
    return [*common, *(name for name in found if "release" in deliberate[name])]


@cache
def _fitting(fact: str, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if fnmatchcase(fact, name.partition("@")[0])]


def _problems(fact: Fact, entry: dict[str, Any], plan: Plan, only: Collection[str]) -> Iterator[str]:
    """What is wrong with an entry of deliberate.yaml for this fact."""
    if unknown := entry.keys() - {"why", "instead", "checked_by", "release"}:
        yield f"unknown keys {sorted(unknown)}"
    cited = re.match(r"E\d+", entry["why"])
    errata = fact.get("erratum", [])
    if cited and cited[0] not in ([errata] if isinstance(errata, str) else errata):
        yield f"the fact is not touched by erratum {cited[0]}"
    if "instead" in entry:
        # By default `fixed` corrects the fact's own attribute, unless the entry replaces that attribute.
        corrected = FIXED.get(fact["kind"])
        kept = "kind" not in entry["instead"] and corrected not in entry["instead"]
        own = {key: value for key, value in fact.items() if key != "fixed" or kept}
        if without := nodes_without({**own, **entry["instead"]}, plan, only):
            yield f"what it names instead is not declared on {', '.join(without)}"
    named = set(re.findall(r"\bE\d+", entry["why"])) & set([errata] if isinstance(errata, str) else errata)
    if not named and not {"instead", "checked_by"} & entry.keys():
        yield "name an erratum of the fact, what is there instead, or the test that fails when the promise is broken"
    if fact["kind"] == "verify" and "checked_by" not in entry and "when" not in fact:
        yield "name the test that checks it in checked_by"
    if "checked_by" in entry:
        path, _, name = entry["checked_by"].partition("::")
        if not re.search(rf"(?m)^def {name}\(", (ROOT / path).read_text() if (ROOT / path).is_file() else ""):
            yield f"no test {entry['checked_by']}"
