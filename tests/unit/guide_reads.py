"""What services and tools read, independent of the steps: according to the services' documentation."""

from __future__ import annotations

from fnmatch import fnmatchcase

NOVA, NEUTRON = "/etc/nova/nova.conf", "/etc/neutron/neutron.conf"
AGENTS = "/etc/neutron/plugins/ml2"
UNITS: dict[str, tuple[str, ...]] = {
    "base.*chrony.restart": ("/etc/chrony/chrony.conf",),
    "mariadb.*": ("/etc/mysql/mariadb.conf.d/99-openstack.cnf",),
    "memcached.*": ("/etc/memcached.conf",),
    "etcd.*": ("/etc/default/etcd",),
    "keystone.*": ("/etc/keystone/keystone.conf",),
    "glance.*": ("/etc/glance/glance-api.conf",),
    "placement.*": ("/etc/placement/placement.conf",),
    "nova.compute.*": (NOVA, "/etc/nova/nova-compute.conf"),
    "nova.unit.*": (NOVA,),
    "neutron.unit.nova-api.restart": (NOVA,),
    "neutron.unit.neutron-server.restart": (NEUTRON, f"{AGENTS}/ml2_conf.ini"),
    "neutron*.unit.neutron-openvswitch-agent.restart.2": (NEUTRON, f"{AGENTS}/openvswitch_agent.ini"),
    "neutron.unit.neutron-openvswitch-agent.restart": (NEUTRON, f"{AGENTS}/openvswitch_agent.ini"),
    # The guide names the agent, but means nova-compute (erratum E48).
    "neutron.compute.unit.neutron-openvswitch-agent.restart": (NOVA,),
    "neutron.unit.neutron-dhcp-agent.restart": (NEUTRON, "/etc/neutron/dhcp_agent.ini"),
    "neutron.unit.neutron-metadata-agent.restart": (NEUTRON, "/etc/neutron/metadata_agent.ini"),
    "neutron.unit.neutron-l3-agent.restart": (NEUTRON, "/etc/neutron/l3_agent.ini"),
    "neutron*.command.netplan_apply": ("/etc/systemd/network/05-br-provider.network",),
    "horizon.*": (
        "/etc/openstack-dashboard/local_settings.py",
        "/etc/apache2/conf-available/openstack-dashboard.conf",
    ),
    "cinder.unit.nova-api.restart": (NOVA,),
    "cinder.unit.*": ("/etc/cinder/cinder.conf",),
    "cinder.storage.unit.tgt.restart": ("/etc/tgt/conf.d/cinder.conf",),
    "cinder.storage.unit.cinder-*": ("/etc/cinder/cinder.conf",),
    "swift.unit.*": ("/etc/swift/swift.conf", "/etc/swift/proxy-server.conf"),
    "heat.*": ("/etc/heat/heat.conf",),
    # After the console's nginx is configured, to load the new catalog; the first restart is for the settings.
    "skyline.unit.skyline-apiserver*restart": ("/etc/skyline/skyline.yaml", "/etc/skyline/gunicorn.py"),
    "barbican.*": ("/etc/barbican/barbican.conf",),
    "octavia.*": ("/etc/octavia/octavia.conf",),
    "magnum.*": ("/etc/magnum/magnum.conf",),
}
"""Fact about a restart (id or glob; the first match wins) -> files whose change requires it, in the guide's names."""
TOOLS: dict[str, tuple[str, str]] = {
    "keystone-manage": ("/etc/keystone/keystone.conf", "keystone"),
    "glance-manage": ("/etc/glance/glance-api.conf", "glance"),
    "placement-manage": ("/etc/placement/placement.conf", "placement"),
    "nova-manage": (NOVA, "nova"),
    "neutron-db-manage": (NEUTRON, "neutron"),
    "cinder-manage": ("/etc/cinder/cinder.conf", "cinder"),
    "heat-manage": ("/etc/heat/heat.conf", "heat"),
    "barbican-manage": ("/etc/barbican/barbican.conf", "barbican"),
    "octavia-db-manage": ("/etc/octavia/octavia.conf", "octavia"),
    "magnum-db-manage": ("/etc/magnum/magnum.conf", "magnum"),
    "/opt/skyline/bin/alembic": ("/etc/skyline/skyline.yaml", "skyline"),
    "swift-ring-builder": ("", ""),
}
"""Tool -> the file and the database that must exist before it runs."""


def reads_of(fact: str) -> tuple[str, ...]:
    """The files that the guide's restart is for.

    :raises KeyError: the table has no entry for it
    """
    for pattern, files in UNITS.items():
        if fnmatchcase(fact, pattern):
            return files
    raise KeyError(f"say in UNITS what is read by the service of {fact}")
