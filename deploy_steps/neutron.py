"""Networking service: ML2 with Open vSwitch, VXLAN, L3. Guide: 安装openstack服务 / Neutron."""

from __future__ import annotations

from stackspec.cloud_inventory import inventory_of
from stackspec.inventory import Node
from stackspec.openstack import (
    Database,
    DbSync,
    Endpoint,
    Network,
    OsloConfig,
    OvsBridge,
    OvsSetting,
    ServiceUser,
    Subnet,
    database_url,
    keystone_auth,
    keystone_authtoken,
    transport_url,
)
from stackspec.openstack.rabbitmq import ASK
from stackspec.resources import Answers, Await, File, Packages, Resource, Service, SpareInterface
from stackspec.resources.ini import Value
from stackspec.site import Site
from stackspec.step import Resources, Step, step

from .nova import CONTROLLER_SERVICES, IDENTITY

__all__ = ["neutron", "neutron_compute", "nova_networking"]

CONF = "/etc/neutron/neutron.conf"
ML2 = "/etc/neutron/plugins/ml2/ml2_conf.ini"
TAPS = """\
# Open vSwitch in userspace reads an interface's flags and writes them back. If libvirt sets a tap up in between, the
# tap stays down, and the guest has no network. Set it up again when both are done.
ACTION=="add", SUBSYSTEM=="net", KERNEL=="tap*", RUN+="/usr/bin/systemd-run --no-block --collect --on-active=3 \
--timer-property=AccuracySec=1 /bin/sh -c 'ip link set dev %k up || true'"
"""
CLEANUP = """\
# After a power cut, Open vSwitch still has the ports of routers and DHCP servers, which confuses the agents.
[Unit]
Description=Remove stale OpenStack ports from Open vSwitch
After=openvswitch-switch.service
Before=neutron-openvswitch-agent.service neutron-l3-agent.service neutron-dhcp-agent.service nova-compute.service

[Service]
Type=oneshot
RemainAfterExit=yes
User=neutron
ExecStart=/usr/bin/neutron-ovs-cleanup --config-file /etc/neutron/neutron.conf

[Install]
WantedBy=multi-user.target
"""
LISTENS = (
    "pid=$(systemctl show --property MainPID --value {unit}); "
    'age=$(ps -o etimes= -p "$pid"); '
    'test "${{age:-0}}" -gt 600 || ({ask_rabbitmq} list_queues name) | grep -qx q-l3-plugin'
)
"""The server has its queue. RabbitMQ is queried, which takes seconds, only if the server has just started."""


@step(role="controller", provides="network")
def neutron(site: Site, keystone: Step, mariadb: Step, rabbitmq: Step, memcached: Step) -> Resources:
    """The controller's part: API server, and the agents for bridges, routers, DHCP and metadata."""
    controller = site.controller.name
    yield Database("neutron")
    yield ServiceUser("neutron")
    # Neutron notifies nova about ports with nova's own account, whose chapter may come later.
    yield ServiceUser("nova")
    yield Endpoint("network", name="neutron", description="OpenStack Networking", url=f"http://{controller}:9696")
    yield Packages("neutron-server", "neutron-plugin-ml2", "neutron-openvswitch-agent")
    yield Packages("neutron-l3-agent", "neutron-dhcp-agent", "neutron-metadata-agent")
    yield OsloConfig(
        CONF,
        {
            "database": {"connection": database_url(site, "neutron")},
            "DEFAULT": {
                "core_plugin": "ml2",
                "service_plugins": "router",
                "transport_url": transport_url(site),
                "auth_strategy": "keystone",
                "notify_nova_on_port_status_changes": "true",
                "notify_nova_on_port_data_changes": "true",
            },
            "keystone_authtoken": {**keystone_authtoken(site, "neutron")},
            "nova": {"region_name": site.region, **keystone_auth(site, "nova")},
            "oslo_concurrency": {"lock_path": "/var/lib/neutron/tmp"},
        },
        own=("database", "keystone_authtoken", "nova"),
    )
    yield OsloConfig(
        ML2,
        {
            "ml2": {
                "type_drivers": "flat,vlan,vxlan",
                "tenant_network_types": "vxlan",
                "mechanism_drivers": "openvswitch,l2population",
                "extension_drivers": "port_security",
            },
            "ml2_type_flat": {"flat_networks": "provider"},
            "ml2_type_vxlan": {"vni_ranges": "1:1000"},
        },
    )
    upgrade = ("neutron-db-manage", "--config-file", CONF, "--config-file", ML2, "upgrade", "head")
    yield DbSync(upgrade, database="neutron", package="neutron-server", user="neutron")
    yield from _switch(site, site.controller)
    yield OsloConfig("/etc/neutron/l3_agent.ini", {"DEFAULT": {"interface_driver": "openvswitch"}})
    yield OsloConfig(
        "/etc/neutron/dhcp_agent.ini",
        {
            "DEFAULT": {
                "interface_driver": "openvswitch",
                "dhcp_driver": "neutron.agent.linux.dhcp.Dnsmasq",
                "enable_isolated_metadata": "true",
            }
        },
    )
    yield OsloConfig(
        "/etc/neutron/metadata_agent.ini",
        {"DEFAULT": {"nova_metadata_host": controller, "metadata_proxy_shared_secret": site.password("metadata")}},
    )
    yield Service("neutron-server")
    # Earlier requests of agents are lost; an agent would wait for the timeout, and start minutes later.
    look = LISTENS.format(ask_rabbitmq=ASK, unit=site.release.unit("neutron-server")[-1])
    yield Await(("sh", "-c", look), "neutron-server listens to its agents", service="neutron-server", timeout=300)
    yield Service("neutron-openvswitch-agent", "neutron-dhcp-agent", "neutron-metadata-agent", "neutron-l3-agent")
    yield Answers(f"http://{controller}:9696/", service="neutron-server")
    network = site.networks["provider"]
    yield Network("provider", physical_network="provider", shared=network.shared)
    yield Subnet("provider", network="provider")


@step(role="compute", provides="network")
def neutron_compute(site: Site, node: Node, neutron: Step) -> Resources:
    """A compute node's part: the Open vSwitch agent, without a database (erratum E47)."""
    yield Packages("neutron-openvswitch-agent")
    yield OsloConfig(
        CONF,
        {
            "database": {"connection": None},
            "DEFAULT": {"transport_url": transport_url(site)},
            "oslo_concurrency": {"lock_path": "/var/lib/neutron/tmp"},
        },
    )
    yield from _switch(site, node)
    yield Service("neutron-openvswitch-agent")


@step(role=("controller", "compute"), provides="network")
def nova_networking(site: Site, node: Node, nova: Step, nova_discover: Step, neutron: Step) -> Resources:
    """Nova uses neutron. Guide: 配置计算服务使用网络服务; nova-compute is restarted, which the guide forgets (E48)."""
    options: dict[str, Value] = {"region_name": site.region, **keystone_auth(site, "neutron")}
    if "controller" in node.roles:
        options |= {"service_metadata_proxy": "true", "metadata_proxy_shared_secret": site.password("metadata")}
    yield OsloConfig("/etc/nova/nova.conf", {"neutron": options}, own=("neutron",))
    if "controller" in node.roles:
        yield Service(*CONTROLLER_SERVICES)
        yield Answers(f"http://{site.controller.name}:8774/", service="nova-api")
    if "compute" in node.roles:
        # Before its registration, nova-compute does not listen to libvirt's events: until it is restarted, each device
        # takes 20 s to be detached.
        yield Service("nova-compute", reads=("/etc/nova/nova.conf", IDENTITY))


def _switch(site: Site, node: Node) -> list[Resource]:
    """Open vSwitch with the provider bridge, and the agent's configuration. One owner of the bridge (erratum E42)."""
    network = site.networks["provider"]
    address = f"{node.provider.address}/{network.cidr.prefixlen}"
    port = node.provider.interface
    userspace = inventory_of(site).datapath == "netdev"
    tso = OvsSetting("userspace-tso-enable", "true")
    agent: dict[str, dict[str, Value]] = {
        "ovs": {"bridge_mappings": "provider:br-provider", "local_ip": site.tunnel_address(node)},
        "agent": {"tunnel_types": "vxlan", "l2_population": "true"},
        "securitygroup": {"enable_security_group": "true", "firewall_driver": "openvswitch"},
    }
    if userspace:
        agent["ovs"]["datapath_type"] = "netdev"
    # As in the guide's netplan: the default route moves from the interface to the bridge.
    way_out = [f"Gateway={network.gateway}", *(f"DNS={each}" for each in network.dns)]
    lines = [f"Address={address}", *(way_out if node.provider.default_route else ()), "LinkLocalAddressing=no"]
    links = (f"/etc/systemd/network/05-{port}.network", "/etc/systemd/network/05-br-provider.network")
    switch: list[Resource] = [
        SpareInterface(port, leads_out=node.provider.default_route),
        # Our files sort before those of netplan and cloud-init, and persist (errata E43-E45).
        File(links[0], f"[Match]\nName={port}\n\n[Network]\nLinkLocalAddressing=no\nLLDP=no\n"),
        File(links[1], "\n".join(["[Match]", "Name=br-provider", "", "[Network]", *lines, ""])),
        Service("systemd-networkd", reads=links),
    ]
    if userspace:
        # Guests send partial checksums; without this, which must be set before a port exists, TCP fails.
        switch += [Service("ovsdb-server", reads=()), tso, File("/etc/udev/rules.d/70-tap.rules", TAPS)]
    switch += [
        # A restart removes addresses from its bridges, so restart only for options read at startup.
        Service("openvswitch-switch", reads=(tso.title,)),
        OvsBridge("br-provider", port, inventory_of(site).datapath, address),
        OsloConfig("/etc/neutron/plugins/ml2/openvswitch_agent.ini", agent),
        File("/etc/systemd/system/neutron-ovs-cleanup.service", CLEANUP),
        Service("neutron-ovs-cleanup", reads=()),
    ]
    return switch
