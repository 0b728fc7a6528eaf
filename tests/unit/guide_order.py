"""The order of operations on a node: files before tools, schemas before services, objects before their uses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Any

from stackspec.openstack import Bootstrap, DbSync
from stackspec.resources import (
    Command,
    Directory,
    File,
    IniFile,
    Lines,
    Packages,
    PythonSettings,
    Service,
    YamlFile,
)
from stackspec.resources.service import Unwanted

from .bare import context
from .conformity import nodes_of, on
from .fact_kinds import Fact, place_of
from .guide_plan import NodePlan, Part
from .guide_reads import TOOLS

BY_BOOTSTRAP = {"user": {"admin"}, "project": {"admin"}, "role": {"admin", "member", "reader"}, "domain": {"Default"}}
"""What keystone-manage bootstrap creates."""
MADE_BY = {
    "user": "create_user",
    "project": "create_project",
    "role": "create_role",
    "domain": "create_domain",
    "network": "create_network",
    "subnet": "create_subnet",
    "security_group": "create_security_group",
}
"""Kind of an object -> the call that creates it."""
HOLDS = (Command, DbSync, Directory, File, IniFile, Lines, Packages, PythonSettings, Service, Unwanted, YamlFile)
"""Kinds of resources that can be checked again on a simulated machine."""
ANY_ORDER = {
    "neutron.command.db_upgrade neutron.command.add_*_provider": "a schema is no part of a bridge",
    "swift.ring.*.add.* swift.ring.*.add.*": "disks enter a ring in any order, before it is balanced",
    "swift.storage.command.mount_sdb swift.storage.command.mkdir_sdc": "each disk by itself",
}
"""Pairs of facts, `the one that is first here, the other`, whose order in the guide is arbitrary, and why."""


def order_problems(here: NodePlan, facts: Iterable[Fact]) -> Iterator[str]:
    """Descriptions of what is done too early on a node."""
    yield from _tools(here)
    yield from _schemas(here)
    yield from _undone(here)
    yield from _as_in_the_guide(here, facts)
    yield from _lookups(here)
    yield from _logins(here)


def _tools(here: NodePlan) -> Iterator[str]:
    for each in here.after.done:
        action = each.action
        if action["op"] == "command" and str(action["argv"][0]) in TOOLS:
            path, database = TOOLS[str(action["argv"][0])]
            file = here.after.files.get(path)
            what = f"{each.step}: {' '.join(map(str, action['argv']))}"
            if path and (file is None or file["mtime"] > each.place):
                yield f"{what}: {path} is not as it will be"
            if database and here.after.sql.made.get(database, each.place) >= each.place:
                yield f"{what}: there is no database {database}"


def _as_in_the_guide(here: NodePlan, facts: Iterable[Fact]) -> Iterator[str]:
    """Commands run in the guide's order, and services start after the commands that precede them in the guide."""
    by_chapter: dict[str, list[Fact]] = {}
    for fact in facts:
        if fact["kind"] in ("command", "unit") and here.node in nodes_of(fact, here.site):
            by_chapter.setdefault(fact["step"], []).append(fact)
    for chapter, found in by_chapter.items():
        part = here.part(chapter)
        placed = [(fact, _place(on(here.node, fact, here.site), part)) for fact in found]
        placed = sorted(((fact, place) for fact, place in placed if place), key=lambda each: each[0]["line"])
        for (one, first), (other, second) in combinations(placed, 2):
            turned = one["kind"] == "command" and one["line"] < other["line"] and first > second
            if turned and not any(fnmatchcase(f"{other['id']} {one['id']}", pair) for pair in ANY_ORDER):
                yield f"{other['id']} comes before {one['id']}"


def _place(fact: Fact, part: Part) -> int:
    """Position of the command, or of the chapter's last start of the service; 0 if there is none."""
    if fact["kind"] == "command":
        return place_of(fact, part)
    unit = part.site.release.unit(fact["name"].removesuffix(".service"))[0]
    starts = [each for each in part.done if each.action.get("verb") == "restart" and unit in each.action["units"]]
    return starts[-1].place if starts else 0


def _schemas(here: NodePlan) -> Iterator[str]:
    """A step's services start after its schema has been created."""
    starts: dict[str, int] = {}
    for each in here.after.done:
        if each.action.get("verb") == "restart":
            starts[each.step] = each.place
    for each in here.after.done:
        if isinstance(each.resource, DbSync) and starts.get(each.step, each.place) < each.place:
            yield f"{each.step}: {each.resource.title} is made after its services have started"


def _undone(here: NodePlan) -> Iterator[str]:
    """Every declaration still holds after all steps: no step undoes what another one has done."""
    for step, resources in here.steps.items():
        now = context(here.site, here.node)
        now.facts = here.after
        for each in resources:
            if isinstance(each, HOLDS):
                changes = [change for change in each.changes(now) if change.actions]
                # What only the cloud knows is unknown in a plan.
                differences = [d for change in changes for d in change.differences if "known after" not in d.wanted]
                yield from (f"{step}: {each.title} does not hold to the end: {found}" for found in differences)
            now.watched += each.paths(here.site)


def _lookups(here: NodePlan) -> Iterator[str]:
    """An object is created before it is looked up, given a role, or used as the parent of another."""
    there: dict[str, set[str]] = {kind: set() for kind in MADE_BY}
    for each in here.after.done:
        if isinstance(each.resource, Bootstrap):
            there = {kind: names | BY_BOOTSTRAP.get(kind, set()) for kind, names in there.items()}
        if each.action["op"] == "call":
            yield from (f"{each.step}: {problem}" for problem in _unknown(each.action, there))
            for kind, method in MADE_BY.items():
                if each.action["name"] == method:
                    there[kind].add(each.action["kwargs"]["name"])


def _unknown(call: dict[str, Any], there: dict[str, set[str]]) -> Iterator[str]:
    kind = call["name"].removeprefix("find_")
    if call["name"].startswith("find_") and kind in there and call["args"][0] not in there[kind]:
        yield f"{kind} {call['args'][0]} is looked up before it is made"
    if call["name"].startswith("assign_"):
        roles = [each.name for each in call["args"] if getattr(each, "id", "") == getattr(each, "name", None)]
        known = set().union(*there.values())
        yield from (f"{each} is used before it is made" for each in roles if each not in known)


def _logins(here: NodePlan) -> Iterator[str]:
    """Calls need keystone: its schema, its keys and its administrator."""
    bootstrap = [each.place for each in here.after.done if isinstance(each.resource, Bootstrap)]
    calls = [each for each in here.after.done if each.action["op"] == "call"]
    if calls and (not bootstrap or calls[0].place < bootstrap[0]):
        yield f"{calls[0].step}: {calls[0].resource.title} is made before keystone is there"
