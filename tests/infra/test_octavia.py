"""Octavia on the controller: its interface in the management network, its certificates, and who listens where."""

from __future__ import annotations

import json

import testinfra.host

from stackspec.site import Site


def test_interface_is_the_port(octavia: object, controller: testinfra.host.Host, site: Site) -> None:
    """o-hm0 is up with its fixed address and the MTU of the tunnels, and no route leads out by it."""
    (link,) = json.loads(controller.check_output("ip -j -d address show dev o-hm0"))
    wanted = site.inventory.octavia
    assert wanted is not None
    address = (str(wanted.network[2]), wanted.network.prefixlen)
    assert address in [(each["local"], each["prefixlen"]) for each in link["addr_info"]]
    routes = json.loads(controller.check_output("ip -j route show default"))
    assert all(route["dev"] != "o-hm0" for route in routes), routes
