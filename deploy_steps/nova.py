"""Compute service. Guide: 安装openstack服务 / Nova."""

from __future__ import annotations

from collections.abc import Iterable

from stackspec.cloud_inventory import inventory_of
from stackspec.inventory import Node
from stackspec.openstack import (
    AvailabilityZone,
    Database,
    DbSync,
    Endpoint,
    Flavor,
    OsloConfig,
    ServiceUser,
    database_url,
    keystone_auth,
    keystone_authtoken,
    transport_url,
)
from stackspec.openstack.database import CLIENT
from stackspec.release import ReleaseValue
from stackspec.resources import Answers, Await, Command, File, Packages, Service
from stackspec.resources.ini import Value
from stackspec.site import Site
from stackspec.step import Resources, Step, step

__all__ = [
    "CONTROLLER_SERVICES",
    "IDENTITY",
    "nova",
    "nova_compute",
    "nova_discover",
]

METADATA_UNIT = ReleaseValue("nova_metadata_unit", "")
"""The unit of the metadata service, if it is separate from nova-api."""
PAGE = ReleaseValue("novnc_page", "vnc_auto.html")
"""noVNC's page that connects automatically."""
IDENTITY = "/var/lib/nova/compute_id"
"""nova-compute's node id, written at its first start."""
ZONES_IN_PLACEMENT = """
SELECT COUNT(*)
FROM nova_api.aggregates zone
JOIN nova_api.aggregate_hosts member ON member.aggregate_id = zone.id
JOIN nova.compute_nodes node ON node.host = member.host AND node.deleted = 0
JOIN placement.resource_providers provider ON provider.uuid = node.uuid
JOIN placement.resource_provider_aggregates has ON has.resource_provider_id = provider.id
JOIN placement.placement_aggregates known ON known.id = has.aggregate_id AND known.uuid = zone.uuid
WHERE zone.name IN ({zones})
"""
"""Counts the compute nodes whose zone is in placement."""
RESTARTS = "/etc/systemd/system/nova-compute.service.d/stackspec.conf"
RESTARTS_TEXT = """\
# An idle libvirt daemon exits after two minutes. When a whole site boots slowly, nova-compute connects to an exiting
# daemon, and exits without an error: by default systemd would not restart it.
[Service]
Restart=always
RestartSec=5
"""
METADATA_TEXT = """\
# Listens only on the management network, for neutron's agent; on other networks clients could guess the shared secret.
# The start script passes this to uWSGI. At boot the address may be configured after the service starts.
[Service]
Environment="BIND_PARAMS=--freebind --http-socket {address}:8775"
"""
CONTROLLER_SERVICES = ("nova-api", "nova-scheduler", "nova-conductor", "nova-novncproxy")


@step(role="controller", provides="compute")
def nova(site: Site, keystone: Step, glance: Step, placement: Step, rabbitmq: Step) -> Resources:
    """The controller's part: API, scheduler, conductor, console proxy, and the cells cell0 and cell1."""
    controller = site.controller.name
    for name in ("nova_api", "nova", "nova_cell0"):
        yield Database(name, user="nova")
    yield ServiceUser("nova")
    yield Endpoint("compute", name="nova", description="OpenStack Compute", url=f"http://{controller}:8774/v2.1")
    yield Packages("nova-api", "nova-conductor", "nova-novncproxy", "nova-scheduler")
    common = _common(site, site.controller)
    common["DEFAULT"]["metadata_listen"] = "$my_ip"
    if unit := site.release.value(METADATA_UNIT):
        address = site.controller.address
        yield File(f"/etc/systemd/system/{unit}.service.d/stackspec.conf", METADATA_TEXT.format(address=address))
    inventory = inventory_of(site)
    computes = [node for node in inventory.nodes.values() if "compute" in node.roles]
    if inventory.zones() and any(node.availability_zone is None for node in computes):
        # Only servers that request a zone are scheduled on its nodes.
        common["DEFAULT"]["default_schedule_zone"] = "nova"
    yield OsloConfig(
        "/etc/nova/nova.conf",
        {
            **common,
            "api_database": {"connection": database_url(site, "nova", "nova_api")},
            "database": {"connection": database_url(site, "nova")},
            "vnc": {"enabled": "true", "server_listen": "$my_ip", "server_proxyclient_address": "$my_ip"},
            "scheduler": {"discover_hosts_in_cells_interval": 300},
        },
        own=("api_database", "database", "keystone_authtoken", "service_user", "placement"),
    )
    manage = ("nova-manage",)
    yield DbSync((*manage, "api_db", "sync"), database="nova_api", package="nova-api", user="nova")
    yield Command(
        (*manage, "cell_v2", "map_cell0"),
        user="nova",
        unless=_counts(1),
        unless_stdin="SELECT COUNT(*) FROM nova_api.cell_mappings WHERE name='cell0'",
    )
    yield Command(
        (*manage, "cell_v2", "create_cell", "--name=cell1", "--verbose"),
        user="nova",
        unless=_counts(1),
        unless_stdin="SELECT COUNT(*) FROM nova_api.cell_mappings WHERE name='cell1'",
    )
    yield DbSync((*manage, "db", "sync"), database="nova", package="nova-api", user="nova", fills=("nova_cell0",))
    yield Service(*CONTROLLER_SERVICES)
    yield Answers(f"http://{controller}:8774/", service="nova-api")
    for name, flavor in inventory.flavors.items():
        yield Flavor(name, flavor.vcpus, flavor.ram, flavor.disk)


@step(role="compute", provides="compute")
def nova_compute(site: Site, node: Node, nova: Step, chrony_client: Step) -> Resources:
    """A compute node. Consoles listen on its management address only (erratum E36)."""
    page = site.release.value(PAGE)
    yield Packages("nova-compute")
    yield OsloConfig(
        "/etc/nova/nova.conf",
        {
            **_common(site, node),
            "vnc": {
                "enabled": "true",
                "server_listen": "$my_ip",
                "server_proxyclient_address": "$my_ip",
                "novncproxy_base_url": f"http://{site.controller.address}:6080/{page}",
            },
        },
        own=("keystone_authtoken", "service_user", "placement"),
    )
    virtual = {"libvirt": {"virt_type": inventory_of(site).virt_type}}
    yield OsloConfig("/etc/nova/nova-compute.conf", virtual, mode=0o640)
    yield File(RESTARTS, RESTARTS_TEXT)
    yield Service("nova-compute")
    yield Await(
        ("test", "-s", IDENTITY), what="the compute id from its first start", service="nova-compute", timeout=300
    )


@step(role="controller", provides="compute")
def nova_discover(site: Site, nova_compute: Step) -> Resources:
    """Map the compute nodes to cell1, and to the zones of the inventory. Guide: 将计算节点添加到单元格数据库."""
    hosts = [node.name for node in site.with_role("compute")]
    names = _quoted(hosts)
    # A compute node registers after its service has started, which may take minutes on a slow node. Its provider in
    # placement comes last, and nova sets a node's zone there, which the scheduler needs, only if the provider exists.
    registered = (
        "SELECT COUNT(*) FROM nova.compute_nodes node JOIN placement.resource_providers provider USING (uuid) "
        f"WHERE node.deleted = 0 AND node.host IN ({names})"
    )
    what = "compute nodes registered in nova's and placement's databases"
    yield Await(_counts(len(hosts)), stdin=registered, what=what, service="nova-conductor", timeout=300.0)
    yield Command(
        ("nova-manage", "cell_v2", "discover_hosts", "--verbose"),
        user="nova",
        unless=_counts(len(hosts)),
        unless_stdin=f"SELECT COUNT(*) FROM nova_api.host_mappings WHERE host IN ({names})",
    )
    zones = inventory_of(site).zones()
    for zone, hosts_of_zone in zones.items():
        yield AvailabilityZone(zone, tuple(hosts_of_zone))
    if zones:
        yield Command(
            ("nova-manage", "placement", "sync_aggregates", "--verbose"),
            user="nova",
            unless=_counts(sum(len(each) for each in zones.values())),
            unless_stdin=ZONES_IN_PLACEMENT.format(zones=_quoted(zones)),
        )


def _quoted(names: Iterable[str]) -> str:
    """Names as a SQL list."""
    return ", ".join(f"'{name}'" for name in names)


def _counts(number: int) -> tuple[str, ...]:
    """A command that succeeds if the query on its standard input returns `number`."""
    return ("sh", "-c", f'test "$({" ".join(CLIENT)})" = {number}')


def _common(site: Site, node: Node) -> dict[str, dict[str, Value]]:
    """Options of nova.conf common to controller and compute nodes."""
    controller = site.controller.name
    v3 = f"http://{controller}:5000/v3"
    return {
        # The packages' log_dir is removed, as in the guide (erratum E33); the unit then defines where logs go.
        "DEFAULT": {"transport_url": transport_url(site), "my_ip": node.address, "log_dir": None},
        "api": {"auth_strategy": "keystone"},
        "keystone_authtoken": {**keystone_authtoken(site, "nova", slash="/")},
        "service_user": {"send_service_user_token": "true", **keystone_auth(site, "nova", url=v3)},
        "glance": {"api_servers": f"http://{controller}:9292"},
        "oslo_concurrency": {"lock_path": "/var/lib/nova/tmp"},
        "placement": {"region_name": site.region, **keystone_auth(site, "placement", url=v3)},
    }
