"""Environment: names, time, repositories, client. Guide: 基础环境."""

from __future__ import annotations

import re

from stackspec.inventory import Node
from stackspec.release import ReleaseValue
from stackspec.resources import Claim, Command, File, Lines, NothingHalfInstalled, Packages, Service
from stackspec.site import Site
from stackspec.step import Resources, Step, step

__all__ = ["base", "chrony", "chrony_client", "openstack_client"]

ARCHIVE = ReleaseValue("cloud_archive", "")
"""Name of the Ubuntu cloud archive, if the distribution itself has another OpenStack release."""
IN_USE = (
    "/var/lib/mysql/ibdata1",
    "/var/lib/rabbitmq/mnesia",
    "/etc/openvswitch/conf.db",
    *(f"/etc/{name}/{name}.conf" for name in ("keystone", "placement", "nova", "neutron", "cinder", "swift", "heat")),
    *(f"/etc/{name}/{name}.conf" for name in ("barbican", "octavia", "magnum")),
    "/etc/glance/glance-api.conf",
)
"""Data and settings of the guide's software, which do not exist on a bare node."""
TIME_SOURCES = r"^(pool|server|sourcedir|allow|local)\b"
"""Lines of chrony.conf for time sources and allowed clients."""


@step(role="all")
def base(site: Site, node: Node) -> Resources:
    """The site's mark, host names (never set by the guide, erratum E04), and the repository of the release."""
    yield Claim(IN_USE)
    yield NothingHalfInstalled()
    yield Command(("hostname", node.name), unless=("sh", "-c", f'test "$(hostname)" = {node.name}'))
    yield File("/etc/hostname", f"{node.name}\n")
    names = "|".join(re.escape(each) for each in site.nodes)
    yield Lines(
        "/etc/hosts",
        tuple(f"{each.address} {each.name}" for each in site.nodes.values()),
        replaces=rf"^\S+\s+({names})\s*$",
    )
    if archive := site.release.value(ARCHIVE):
        yield Command(
            ("add-apt-repository", "-y", f"cloud-archive:{archive}"),
            creates=f"/etc/apt/sources.list.d/cloudarchive-{archive}.list",
        )


@step(role="controller")
def chrony(site: Site, base: Step) -> Resources:
    """Time: the controller serves the others. Its own sources are the inventory's time_servers (erratum E03)."""
    yield Packages("chrony")
    lines = [f"server {server} iburst" for server in site.inventory.time_servers]
    lines += [f"allow {site.networks['management'].cidr}", "local stratum 10"]
    yield Lines("/etc/chrony/chrony.conf", tuple(lines), replaces=TIME_SOURCES)
    yield Service("chrony")


@step(role=("compute", "storage"))
def chrony_client(site: Site, node: Node, chrony: Step) -> Resources:
    """The other nodes follow the controller, which comes first, since iburst polls only in the first seconds."""
    if "controller" in node.roles:
        return
    yield Packages("chrony")
    yield Lines("/etc/chrony/chrony.conf", (f"server {site.controller.name} iburst",), replaces=TIME_SOURCES)
    yield Service("chrony")


@step(role="all")
def openstack_client(site: Site, base: Step) -> Resources:
    """The command line client, for the operator."""
    yield Packages("python3-openstackclient")
