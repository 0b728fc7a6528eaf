"""Checks on every node before anything is changed."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from .errors import InputError
from .inventory import Node
from .node_connections import NodeConnections
from .resources.base import ASKED_AT_ONCE, Context, Resource, Shared, file
from .site import Site
from .task import Task


def precheck(site: Site, connections: NodeConnections) -> None:
    """Check that nodes run the distribution of the release and have the interfaces of the inventory.

    :raises InputError: naming every node and what is wrong there
    """
    wanted = site.release.distribution

    def look(node: Node) -> list[str]:
        interfaces = {kind: getattr(node, kind).interface for kind in ("management", "provider")}
        looks = {kind: file(f"/sys/class/net/{name}") for kind, name in interfaces.items()}
        facts = connections[node.name].facts([file("/etc/os-release"), file("/usr/lib/os-release"), *looks.values()])
        text = facts[file("/usr/lib/os-release")]["content"] or facts[file("/etc/os-release")]["content"]
        found = dict(word.split("=", 1) for word in shlex.split(text) if "=" in word)
        errors = []
        if (found.get("ID"), found.get("VERSION_ID")) != (wanted.id, wanted.version):
            errors.append(
                f"node {node.name}: runs {found.get('PRETTY_NAME', 'an unknown system')}, but the release "
                f"{site.release.name} requires {wanted.id} {wanted.version}"
            )
        return errors + [
            f"node {node.name}: has no interface {interfaces[kind]}, configured in nodes.{node.name}.{kind}"
            for kind, look in looks.items()
            if not facts[look]["exists"]
        ]

    _refuse(_on_each(look, site.nodes.values()))


def check_obstacles(tasks: Iterable[Task], site: Site, connections: NodeConnections, shared: Shared) -> None:
    """Collect the obstacles that the resources of all steps find on their node, with one round trip per node.

    :raises InputError: naming every node and what is wrong there
    """
    careful: dict[str, list[Resource]] = {}
    for task in tasks:
        careful.setdefault(task.node.name, []).extend(
            each for each in task.resources if type(each).obstacles is not Resource.obstacles
        )

    def look(node: Node) -> list[str]:
        resources = careful[node.name]
        facts = connections[node.name].facts(query for each in resources for query in each.queries(site, node))
        context = Context(site, node, facts, shared)
        return [f"node {node.name}: {text}" for each in resources for text in each.obstacles(context)]

    _refuse(_on_each(look, [site.nodes[name] for name, resources in careful.items() if resources]))


def _on_each(look: Callable[[Node], list[str]], nodes: Iterable[Node]) -> list[str]:
    """The errors found on nodes, which are checked in parallel."""
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        return [error for errors in pool.map(look, nodes) for error in errors]


def _refuse(errors: Iterable[str]) -> None:
    # Two steps may have the same obstacle.
    if told := list(dict.fromkeys(errors)):
        raise InputError("\n".join(told))
