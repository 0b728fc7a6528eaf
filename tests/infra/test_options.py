"""Looks up the options that the steps set in the services' code installed on the node."""

from __future__ import annotations

import json

import pytest

from stackspec.fixtures import programs
from stackspec.resources.ini import IniFile
from stackspec.site import Site
from stackspec.step import STEPS
from stackspec.testinfra_backend import HostOf

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


def written(site: Site, node: str, service: str) -> dict[str, list[tuple[str, str]]]:
    """File of a service -> sections and options that the steps set there."""
    found: dict[str, list[tuple[str, str]]] = {}
    for step in STEPS.values():
        for each in step.resources(site, site.nodes[node]) if site.nodes[node] in step.nodes(site) else ():
            if isinstance(each, IniFile) and each.path.startswith(f"/etc/{service}/") and "uwsgi" not in each.path:
                names = [(section, name) for section, options in each.options.items() for name in options]
                found.setdefault(site.release.path(each.path), []).extend(names)
    return found


@pytest.mark.parametrize("service", [pytest.param(name, marks=pytest.mark.steps(name), id=name) for name in COMMANDS])
def test_code_knows_what_the_steps_write(service: str, deployed: None, site: Site, node_host: HostOf) -> None:
    """All options exist in the service: misspelt or outdated options would be ignored silently."""
    problems: list[str] = []
    seen: set[tuple[str, str]] = set()
    for node in site.nodes:
        files = written(site, node, service)
        names = {name for each in files.values() for name in each} - seen
        if not names:
            # Importing a service takes long, especially on a slow node.
            continue
        seen |= names
        host = node_host(node)
        python = host.check_output("sed -n '1s/^#!//p' $(command -v %s)", COMMANDS[service])
        words = (service, json.dumps(sorted(names)), *files)
        out = host.check_output(f"{python} -c %s" + " %s" * len(words), programs.text("option_check"), *words)
        problems += json.loads(out.splitlines()[-1])
    assert seen, f"the steps write nothing into the files of {service}"
    assert sorted(set(problems)) == MEANT.get(service, [])
