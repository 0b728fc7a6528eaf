"""What the steps declare beyond the guide: one line of text for each item, to be listed with a reason.

Whatever a fact covers is left out: the comparison with the facts checks it.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stackspec.inventory import Node
from stackspec.openstack import Bootstrap, Database, DbSync, Image, Ring
from stackspec.openstack.api_object import ApiObject
from stackspec.openstack.rabbitmq import RabbitUser
from stackspec.resources import (
    Answers,
    Await,
    Command,
    Directory,
    File,
    Generated,
    IniFile,
    Lines,
    Packages,
    PythonSettings,
    Reference,
    Resource,
    Service,
    Venv,
    YamlFile,
)
from stackspec.resources.base import resolve
from stackspec.site import Site

from .bare import NamedSecrets, context
from .conformity import Deliberate, entries_of, load_facts, nodes_of, on
from .fact_kinds import Fact, argv_of, with_disks
from .guide_plan import CHAPTERS, RELEASES, NodePlan, Part, Plan

BEYOND = Path(__file__).parent / "data/beyond.yaml"
CHAPTER_OF = {step: chapter for chapter, steps in CHAPTERS.items() for step in steps}
LEFT_OUT = {"timeout", "what", "advice", "needed_for", "where"}
"""Arguments that do not affect the desired state: timeouts, and texts for people."""
SAID = (Bootstrap, Command, Database, DbSync, Generated, Venv)
"""Kinds of resources whose commands are compared as declared, or part by part."""
Covered = set[tuple[str, ...]]
"""What the facts cover: (kind, names...)."""


@cache
def listed(release: str) -> dict[str, set[str]]:
    """Step -> the lines that data/beyond.yaml has for a release."""
    found: dict[str, set[str]] = {}
    for step, groups in YAML(typ="safe").load(BEYOND.read_text()).items():
        for group in groups:
            assert group["why"].strip(), f"{step}: say why"
            if group.get("release", release) == release:
                found.setdefault(step, set()).update(group["has"])
    return found


def declared(plan: Plan, deliberate: Deliberate, steps: Collection[str] = ()) -> dict[str, set[str]]:
    """Step -> lines for what it declares that no fact covers; a line that only applies to some nodes names them."""
    found: dict[str, list[tuple[Node, list[str]]]] = {}
    for here in plan.nodes.values():
        for step, resources in here.steps.items():
            if resources and step in CHAPTER_OF and (not steps or step in steps):
                covered = _covered(here, CHAPTER_OF[step], deliberate)
                lines = list(dict.fromkeys(_lines(here, step, resources, covered)))
                found.setdefault(step, []).append((here.node, lines))
    return {step: set(_together(nodes)) for step, nodes in found.items()}


def _together(nodes: list[tuple[Node, list[str]]]) -> Iterator[str]:
    """The lines of several nodes, merged where they are equal or differ only in the node's own values."""
    names = [node.name for node, _ in nodes]
    raw: dict[str, list[str]] = {}
    shown: dict[str, list[str]] = {}
    for node, lines in nodes:
        for line in lines:
            raw.setdefault(line, []).append(node.name)
    for node, lines in nodes:
        for line in lines:
            shown.setdefault(line if raw[line] == names else _for_all(line, node), []).append(node.name)
    for line, on_nodes in shown.items():
        yield line if on_nodes == names else f"{line} (on {', '.join(on_nodes)})"


def _for_all(line: str, node: Node) -> str:
    """The line with placeholders for the node's own values."""
    if "controller" in node.roles:
        return line
    own = {node.address: "MANAGEMENT", str(node.provider.address): "PROVIDER", node.name: "NAME"}
    for text, word in own.items():
        line = re.sub(rf"(?<![\w.]){re.escape(text)}(?![\w]|\.\d)", word, line)
    return line


def _covered(here: NodePlan, chapter: str, deliberate: Deliberate) -> Covered:
    """What the facts of a chapter cover, both as the guide has it and as deliberate.yaml replaces it."""
    found: Covered = set()
    for fact in _facts(chapter):
        if here.node in nodes_of(fact, here.site):
            part = here.part(chapter)
            instead: dict[str, Any] = {}
            for name in entries_of(fact, deliberate):
                instead |= deliberate[name].get("instead", {})
            found |= _of(on(here.node, fact, here.site), part)
            if instead:
                found |= _of(on(here.node, {**fact, **instead}, here.site), part)
    return found


@cache
def _facts(chapter: str) -> list[Fact]:
    return [fact for fact in load_facts() if fact["step"] == chapter]


def _of(fact: Fact, part: Part) -> Covered:
    kind = fact["kind"]
    if kind == "package" or kind == "unit":
        return {(kind, name.removesuffix(".service")) for name in fact.get("names", [fact["name"]])}
    if kind == "ini":
        return {("ini", fact["file"], fact["section"], fact["key"])}
    if kind == "setting":
        return {("setting", fact["file"], fact["key"])}
    if kind == "file":
        return {("line", fact["path"], with_disks(line, part)) for line in fact["contains"]}
    if kind == "directory":
        return {("directory", fact["path"])}
    if kind == "command":
        return {("command", *argv_of(fact, part))}
    if kind == "role_assignment":
        where = fact.get("project", fact.get("domain", fact.get("system", "")))
        return {("role", fact["user"], fact["assigned_role"], str(where))}
    if kind == "endpoint":
        return {("create_endpoint", fact["interface"], fact["url"])}
    if kind == "object":
        if fact["type"] == "security_group_rule":
            return {
                (
                    "create_security_group_rule",
                    fact["protocol"],
                    str(fact.get("dst_port", "")),
                    str(fact.get("source", "")),
                )
            }
        return {(f"create_{fact['type']}", str(fact.get("name")))}
    return {(kind.replace("keystone_", "create_").replace("service", "create_service"), str(fact.get("name")))}


def _lines(here: NodePlan, step: str, resources: Iterable[Resource], covered: Covered) -> Iterator[str]:
    resources = list(resources)
    for place, each in enumerate(resources):
        if not isinstance(each, ApiObject):
            yield from _resource(here.site, here.node, each, covered)
            yield from _unread(here.site, each, resources[place + 1 :])
    for done in here.after.done:
        if done.step == step and done.action["op"] == "call":
            yield from _call(done.action, covered)
        elif done.step == step and done.action["op"] == "command" and not isinstance(done.resource, SAID):
            argv = [str(word) for word in done.action["argv"]]
            if ("command", *argv) not in covered:
                yield f"does {shlex.join(argv)}"
    for each in resources:
        if isinstance(each, Image):
            yield f"{_words(each)}"


def _unread(site: Site, each: Any, later: list[Resource]) -> Iterator[str]:
    """A file that restarts no service."""
    if isinstance(each, IniFile | File | Lines | PythonSettings | YamlFile):
        path = site.release.path(each.path)
        reads = [other.reads for other in later if isinstance(other, Service)]
        if not any(files is None or path in files for files in reads):
            yield f"{path} is read by no service of the step"


def _resource(site: Site, node: Node, each: Any, covered: Covered) -> Iterator[str]:
    path = site.release.path(each.path) if hasattr(each, "path") else ""
    if isinstance(each, IniFile):
        yield from _options(site, node, each, path, covered)
    elif isinstance(each, File | Lines):
        lines = _text(each.content) if isinstance(each, File) else each.lines
        yield from (f"{path}: {line}" for line in lines if ("line", path, line) not in covered)
        if isinstance(each, Lines) and each.replaces:
            yield f"{path}: in the place of {each.replaces}"
        if isinstance(each, File):
            yield from _access(each, path, 0o644)
    elif isinstance(each, PythonSettings | YamlFile):
        settings = flat(each.settings)
        yield from (
            f"{path}: {key} = {value!r}" for key, value in settings if not _is_set(("setting", path, key), covered)
        )
        yield from _access(each, path, 0o640)
    elif isinstance(each, Packages):
        yield from (f"package {name}" for name in each.real_names(site) if ("package", name) not in covered)
    elif isinstance(each, Service):
        yield from (f"service {name}" for name in each.units(site) if ("unit", name) not in covered)
        if each.reads is not None:
            yield f"{each.title} reads {', '.join(each.reads) or 'nothing'}"
    elif isinstance(each, Directory):
        if ("directory", path) not in covered:
            yield f"directory {path} {each.mode:04o} {each.owner} {each.group}"
    elif isinstance(each, Command):
        if ("command", *(word for word in each.argv if word != "-y")) not in covered:
            yield f"run {each.title}" + (f" as {each.user}" if each.user else "")
        yield from (f"run {each.title} with {line}" for line in each.stdin.splitlines())
    elif isinstance(each, DbSync):
        if ("command", *each.argv) not in covered:
            yield f"run {' '.join(each.argv)} as {each.user}"
        yield f"{each.title} follows {each.version or f'package {each.package}'}"
    elif isinstance(each, Answers):
        yield f"{each.title}: {' or '.join(map(str, each.status))}" + (f", by {each.service}" if each.service else "")
    elif isinstance(each, Await):
        yield f"wait for {' '.join(each.look)}" + (f" <<< {' '.join(each.stdin.split())}" if each.stdin else "")
    elif not isinstance(each, Database | RabbitUser | Bootstrap | Ring):
        yield _words(each)


def _text(content: str) -> list[str]:
    """The lines of a file without comments; for a key or a certificate, what kind it is."""
    if "-----BEGIN" not in content:
        return [line for line in content.splitlines() if line and not line.startswith("#")]
    found = []
    for match in re.finditer(r"-----BEGIN (.+?)-----.*?-----END \1-----", content, re.DOTALL):
        of = next(name for name, text in NamedSecrets.documents.items() if match[0] in text)
        found.append(f"{match[1]} of {of}")
    return found


def _options(site: Site, node: Node, each: IniFile, path: str, covered: Covered) -> Iterator[str]:
    here = context(site, node)
    for section, options in each.options.items():
        for key, value in options.items():
            if ("ini", path, section, key) not in covered:
                shown = repr(value) if isinstance(value, Reference) else resolve(value, here)
                yield f"{path} [{section}] {key}" + (" is not set" if shown is None else f" = {shown}")
    yield from (f"{path} [{section}] has nothing else" for section in each.own)
    yield from _access(each, path, 0o640)


def _access(each: Any, path: str, usual: int) -> Iterator[str]:
    owner, group = getattr(each, "owner", "root"), getattr(each, "group", "root")
    if (each.mode, owner, group) != (usual, "root", "root"):
        yield f"{path} is {each.mode:04o} {owner} {group}"


def _is_set(place: tuple[str, ...], covered: Covered) -> bool:
    """Whether a fact covers the setting, or everything below one of its parent names."""
    kind, path, key = place
    names = key.split(".")
    return any((kind, path, ".".join(names[:end])) in covered for end in range(1, len(names) + 1))


def flat(settings: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    """Settings as flat names, joined by dots."""
    found: list[tuple[str, Any]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{above}{key}.")
        else:
            found.append((f"{above}{key}", value))
    return found


def _call(call: dict[str, Any], covered: Covered) -> Iterator[str]:
    name, kwargs = call["name"], call["kwargs"]
    names = [str(getattr(each, "name", each)) for each in call["args"]]
    if name.startswith(("find_", "get_")):
        return
    if name.startswith("assign_"):
        where, user, role = names if len(names) == 3 and "system" not in name else (names[2], names[0], names[1])
        if ("role", user, role, where) not in covered:
            yield f"role {role} of {user} on {where}"
    elif name == "create_endpoint":
        if (name, kwargs["interface"], kwargs["url"]) not in covered:
            yield f"endpoint {kwargs['interface']} {kwargs['url']} of {kwargs['region_id']}"
    else:
        key: tuple[str, ...] = (name, str(kwargs.get("name", "")))
        if name == "create_security_group_rule":
            key = (name, kwargs["protocol"], str(kwargs.get("port_range_min", "")), kwargs["remote_ip_prefix"])
        if key not in covered:
            yield " ".join([name, *names, *(f"{k}={v}" for k, v in sorted(kwargs.items()))])


def _words(each: Any) -> str:
    """A resource as in source code: its class and its arguments."""
    fields = {field.name: getattr(each, field.name) for field in dataclasses.fields(each) if field.name not in LEFT_OUT}
    shown = ", ".join(f"{name}={value!r}" for name, value in fields.items() if value not in ("", (), None))
    return f"{type(each).__name__}({shown})"


def differences(plan: Plan, release: str, deliberate: Deliberate, steps: Collection[str] = ()) -> list[str]:
    """What is declared but not listed, and what is listed but not declared."""
    wanted, found = listed(release), declared(plan, deliberate, steps)
    problems = []
    for step in steps or sorted({*wanted, *found}):
        new, gone = found.get(step, set()) - wanted.get(step, set()), wanted.get(step, set()) - found.get(step, set())
        problems += [f"{step}: not in the guide, and not in {BEYOND.name}: {line}" for line in sorted(new)]
        problems += [f"{step}: in {BEYOND.name}, and not declared: {line}" for line in sorted(gone)]
    return problems


__all__ = ["BEYOND", "RELEASES", "declared", "differences", "listed"]
