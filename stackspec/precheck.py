"""What is looked at on every node before anything is touched."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from .errors import InputError
from .resources.base import Context, Resource, Shared, file
from .site import Site
from .task import Task
from .transport import Connections


def precheck(site: Site, connections: Connections) -> None:
    """See that nodes run the distribution of the release and have the interfaces that the inventory names.

    :raises InputError: naming every node and what is wrong there
    """
    errors = []
    wanted = site.release.distribution
    for node in site.nodes.values():
        interfaces = {kind: getattr(node, kind).interface for kind in ("management", "provider")}
        looks = {kind: file(f"/sys/class/net/{name}") for kind, name in interfaces.items()}
        facts = connections[node.name].facts([file("/etc/os-release"), file("/usr/lib/os-release"), *looks.values()])
        text = facts[file("/usr/lib/os-release")]["content"] or facts[file("/etc/os-release")]["content"]
        found = dict(word.split("=", 1) for word in shlex.split(text) if "=" in word)
        if (found.get("ID"), found.get("VERSION_ID")) != (wanted.id, wanted.version):
            errors.append(
                f"node {node.name}: runs {found.get('PRETTY_NAME', 'an unknown system')}, and the release "
                f"{site.release.name} is for {wanted.id} {wanted.version}"
            )
        errors += [
            f"node {node.name}: no interface {interfaces[kind]}, which the inventory names at nodes.{node.name}.{kind}"
            for kind, look in looks.items()
            if not facts[look]["exists"]
        ]
    if errors:
        raise InputError("\n".join(errors))


def check_obstacles(tasks: Iterable[Task], site: Site, connections: Connections, shared: Shared) -> None:
    """Ask the resources of all steps what on their node forbids them.

    :raises InputError: naming every node and what is wrong there
    """
    errors = []
    for task in tasks:
        careful = [each for each in task.resources if type(each).obstacles is not Resource.obstacles]
        if careful:
            queries = [query for each in careful for query in each.queries(site, task.node)]
            context = Context(site, task.node, connections[task.node.name].facts(queries), shared)
            errors += [f"node {task.node.name}: {text}" for each in careful for text in each.obstacles(context)]
    if errors:
        # Two steps may stand before the same obstacle.
        raise InputError("\n".join(dict.fromkeys(errors)))
