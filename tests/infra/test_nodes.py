"""What a node needs beside its services: room on its disks, whole packages, the right time, networks of full size."""

from __future__ import annotations

import json
import time

import pytest

from stackspec.waiting import wait_for

FULL = 95
"""Per cent of a file system, or of its inodes, from which on services fail that write there."""
NOT_DISKS = ("tmpfs", "devtmpfs", "squashfs", "iso9660", "efivarfs", "fuse.snapfuse")
BRIDGED = {"controller", "compute"}
"""Roles of nodes that have the provider's bridge."""
OFFSET = 1.0
"""Seconds that a node's clock may differ from the controller's; tokens and heartbeats bear more."""


def test_disks_have_room(base, site, node_host):
    """No file system is full, or out of inodes, or read-only: databases, queues and images stop there."""
    problems = []
    for name in site.nodes:
        for what, option in (("room", ""), ("inodes", "-i")):
            options = " ".join(f"-x {kind}" for kind in NOT_DISKS)
            rows = node_host(name).check_output(f"df -lP {option} {options}").splitlines()[1:]
            for *_, used, mount in (row.split(maxsplit=5) for row in rows):
                if used != "-" and int(used.rstrip("%")) >= FULL:
                    problems.append(f"{name}: {mount} has no {what}: {used} used")
        for folder in ("/etc", "/var/lib", "/var/log", "/tmp"):
            if node_host(name).run("test -w %s", folder).rc != 0:
                problems.append(f"{name}: {folder} is read-only")
    assert not problems, "\n".join(problems)


def test_packages_are_whole(deployed, base, site, node_host):
    """dpkg has finished everything, and apt's dependencies hold."""
    problems = []
    for name in site.nodes:
        host = node_host(name)
        problems += [f"{name}: {line}" for line in host.check_output("dpkg --audit").splitlines()]
        check = host.run("apt-get check -qq")
        problems += [f"{name}: apt-get check: {line}" for line in check.stderr.splitlines() if check.rc != 0]
    assert not problems, "\n".join(problems)


def test_clocks_agree(chrony, chrony_client, site, node_host):
    """Each node's clock shows what the controller's does; within the time that asking takes nobody can tell."""
    found = {}
    for name in site.nodes:
        host = node_host(name)
        before = time.time()
        there = float(host.check_output("date +%s.%N"))
        after = time.time()
        # Between the two looks at ours: the middle is wrong by half of them at most.
        found[name] = (there - (before + after) / 2, (after - before) / 2)
    own, _ = found[site.controller.name]
    for name, (offset, doubt) in found.items():
        assert abs(offset - own) <= OFFSET + doubt + found[site.controller.name][1], (
            f"{name}: its clock is {offset - own:+.1f} s from the controller's; see chronyc sources there"
        )


def test_time_comes_from_where_the_inventory_says(chrony, site, controller):
    """The controller has chosen a source of the inventory's; without one it serves its own clock."""

    def chosen() -> list[list[str]]:
        rows = [line.split(",") for line in controller.check_output("chronyc -n -c sources").splitlines()]
        return [row for row in rows if row[1] == "*"]

    if not site.inventory.time_servers:
        assert not chosen(), f"the inventory names no time server: {chosen()}"
        return

    what = f"the controller follows one of {', '.join(site.inventory.time_servers)}"
    wait_for(what, chosen, 60, detail=lambda: str(controller.run("chronyc sources").stdout))


@pytest.mark.parametrize("network", ["management", "provider"])
def test_full_packets_reach_every_node(network, base, neutron_compute, site, node_host):
    """A packet as large as the interface allows arrives whole: a switch or tunnel between that takes less loses it."""
    nodes = [node for node in site.nodes.values() if network == "management" or set(node.roles) & BRIDGED]
    problems = []
    for node in nodes:
        host = node_host(node.name)
        for other in nodes:
            if other is node:
                continue
            address = str(getattr(other, network).address)
            (route,) = json.loads(host.check_output("ip -j route get %s", address))
            (link,) = json.loads(host.check_output("ip -j link show dev %s", route["dev"]))
            size = link["mtu"] - 28
            if host.run("ping -q -c 2 -W 3 -M do -s %s %s", str(size), address).rc != 0:
                problems.append(f"{node.name}: no packet of {link['mtu']} bytes from {route['dev']} reaches {address}")
    assert not problems, "\n".join(problems)
