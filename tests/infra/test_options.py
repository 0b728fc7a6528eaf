"""Looks up the options that the steps set in the services' code installed on the node."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from stackspec.fixtures import programs
from stackspec.plugin.session import RUN
from stackspec.plugin.testinfra_backend import HostOf
from stackspec.resources.ini import IniFile
from stackspec.site import Site
from stackspec.task import Task

COMMANDS = {
    "keystone": "keystone-manage",
    "glance": "glance-manage",
    "placement": "placement-manage",
    "nova": "nova-manage",
    "neutron": "neutron-db-manage",
    "cinder": "cinder-manage",
    "heat": "heat-manage",
    "barbican": "barbican-manage",
    "octavia": "octavia-db-manage",
    "magnum": "magnum-db-manage",
}
"""Service -> one of its commands, present on all its nodes; its shebang names the Python with the code."""
MEANT = {
    # It is in the guide, but has no effect.
    "octavia": ["[service_auth] memcached_servers: no option of octavia"],
}


def written(plan: Sequence[Task], site: Site, node: str, service: str) -> dict[str, list[tuple[str, str]]]:
    """File of a service -> sections and options that the steps write there."""
    found: dict[str, list[tuple[str, str]]] = {}
    for each in (each for task in plan if task.node.name == node for each in task.resources):
        if isinstance(each, IniFile) and each.path.startswith(f"/etc/{service}/") and "uwsgi" not in each.path:
            names = [(section, name) for section, options in each.options.items() for name in options]
            found.setdefault(site.release.path(each.path), []).extend(names)
    return found


@pytest.mark.parametrize("service", [pytest.param(name, marks=pytest.mark.steps(name), id=name) for name in COMMANDS])
def test_code_knows_what_the_steps_write(
    service: str, deployed: None, site: Site, node_host: HostOf, pytestconfig: pytest.Config
) -> None:
    """A service ignores an option with a typo, or of another release, without an error."""
    problems: list[str] = []
    seen: set[tuple[str, str]] = set()
    for node in site.nodes:
        files = written(pytestconfig.stash[RUN].plan, site, node, service)
        names = {name for each in files.values() for name in each} - seen
        if not names:
            # Importing a service takes long, especially on a slow node.
            continue
        seen |= names
        words = (service, json.dumps(sorted(names)), *files)
        out = programs.output(node_host(node), "option_check", *words, code_of=COMMANDS[service])
        problems += json.loads(out.splitlines()[-1])
    assert seen, f"the steps write nothing into the files of {service}"
    assert sorted(set(problems)) == MEANT.get(service, [])
