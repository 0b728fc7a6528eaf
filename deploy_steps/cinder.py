"""Block storage. Guide: 安装openstack服务 / Cinder."""

from __future__ import annotations

from stackspec.cloud_inventory import CloudNode, inventory_of
from stackspec.inventory import Node
from stackspec.openstack import (
    Database,
    DbSync,
    Endpoint,
    OsloConfig,
    ServiceUser,
    VolumeService,
    VolumeType,
    database_url,
    keystone_auth,
    keystone_authtoken,
    transport_url,
)
from stackspec.resources import (
    Answers,
    File,
    InitiatorName,
    KernelModule,
    LvmFilter,
    Packages,
    Resource,
    Service,
    VolumeGroup,
)
from stackspec.resources.ini import Value
from stackspec.site import Site
from stackspec.step import Resources, Step, step

__all__ = ["cinder", "cinder_backup", "cinder_volume", "volume_attachment"]

CONF = "/etc/cinder/cinder.conf"
OWN = ("database", "keystone_authtoken", "service_user", "nova")
BACKEND = "lvm"
"""Name of the guide's only backend, and of its volume type."""
GROUP = "cinder-volumes"
LVM = "/etc/lvm/lvm.conf"
TARGETS = "/etc/tgt/conf.d/cinder.conf"
PORTAL = "/etc/systemd/system/tgt.service.d/portal.conf"
PORTAL_TEXT = """\
# Listens only on the management network. At boot its address may come late, and tgtd would listen on all addresses.
[Service]
ExecStartPre=/bin/sh -c 'until ip -brief address | grep -qF " {address}/"; do sleep 0.5; done'
ExecStart=
ExecStart=/usr/sbin/tgtd -f --iscsi portal={address}:3260
TimeoutStartSec=300
"""


@step(role="controller", provides="volumev3", section="disks.cinder")
def cinder(site: Site, keystone: Step, mariadb: Step, rabbitmq: Step, memcached: Step) -> Resources:
    """The controller's part: API and scheduler, and the default volume type."""
    controller = site.controller.name
    yield Database("cinder")
    yield ServiceUser("cinder")
    url = f"http://{controller}:8776/v3/%(project_id)s"
    yield Endpoint("volumev3", name="cinderv3", description="OpenStack Block Storage", url=url)
    yield Packages("cinder-api", "cinder-scheduler")
    options = _common(site, site.controller)
    options["DEFAULT"]["default_volume_type"] = BACKEND
    yield OsloConfig(CONF, options, own=OWN)
    yield DbSync(("cinder-manage", "db", "sync"), database="cinder", package="cinder-api", user="cinder")
    yield Service("cinder-scheduler", "cinder-api")
    yield Answers(f"http://{controller}:8776/", status=(200, 300), service="cinder-api")
    yield VolumeType(BACKEND, {"volume_backend_name": BACKEND})


@step(role="storage", section="disks.cinder")
def cinder_volume(site: Site, node: CloudNode, cinder: Step, chrony_client: Step) -> Resources:
    """A storage node: volumes are logical volumes of a separate group, exported by iSCSI."""
    devices = node.devices("cinder")
    if not devices:
        return
    where = f"nodes.{node.name}.disks.cinder"
    yield Packages("lvm2", "thin-provisioning-tools", "cinder-volume", "tgt")
    yield KernelModule("dm_thin_pool", "it can make no volumes", f"list the disks of {where} on another node")
    yield LvmFilter(LVM, devices)
    yield VolumeGroup(GROUP, devices, where, node.disks["cinder"].wipe)
    options = _common(site, node)
    options["DEFAULT"] |= {"enabled_backends": BACKEND, "glance_api_servers": f"http://{site.controller.name}:9292"}
    options[BACKEND] = {
        "volume_driver": "cinder.volume.drivers.lvm.LVMVolumeDriver",
        "volume_group": GROUP,
        "target_protocol": "iscsi",
        "target_helper": "tgtadm",
        "volume_backend_name": BACKEND,
    }
    yield OsloConfig(CONF, options, own=(*OWN, BACKEND))
    yield File(TARGETS, "include /var/lib/cinder/volumes/*\n")
    yield File(PORTAL, PORTAL_TEXT.format(address=node.address))
    yield Service("tgt", reads=(site.release.path(TARGETS), PORTAL))
    yield Service("cinder-volume", reads=(CONF,))
    yield VolumeService("cinder-volume", f"{node.name}@{BACKEND}")


@step(role="storage", section=("disks.cinder", "disks.swift"))
def cinder_backup(site: Site, node: CloudNode, cinder_volume: Step, swift_storage: Step) -> Resources:
    """Backups to object storage, which the guide installs a chapter later (erratum E61).

    Like a compute node, the node accesses volumes for backups by iSCSI.
    """
    if not node.devices("cinder"):
        return
    yield Packages("cinder-backup")
    yield from _initiator(site, node)
    # The public endpoint up to where the project's id follows (erratum E62).
    url = site.public(f"http://{site.controller.name}:8080/v1/AUTH_")
    driver = "cinder.backup.drivers.swift.SwiftBackupDriver"
    yield OsloConfig(CONF, {"DEFAULT": {"backup_driver": driver, "backup_swift_url": url}})
    yield Service("cinder-backup", reads=(CONF,))
    yield VolumeService("cinder-backup", node.name)


@step(role=("controller", "compute"), section="disks.cinder")
def volume_attachment(site: Site, node: CloudNode, cinder: Step, nova_networking: Step) -> Resources:
    """Nova attaches volumes. Guide: 配置 Compute 以使用 Block Storage; compute nodes read it, too (erratum E58)."""
    if "controller" not in node.roles and not node.volumes:
        return
    yield OsloConfig("/etc/nova/nova.conf", {"cinder": {"os_region_name": site.region}, **_keys(site)})
    if "controller" in node.roles:
        yield Service("nova-api")
        yield Answers(f"http://{site.controller.name}:8774/", service="nova-api")
    if "compute" in node.roles and node.volumes:
        # Encrypted volumes are formatted on the node of their first attachment.
        yield Packages("cryptsetup-bin")
        yield from _initiator(site, node)
        # Physical volumes inside a volume belong to the server.
        yield LvmFilter(LVM, node.devices("cinder"))
        yield Service("nova-compute", reads=("/etc/nova/nova.conf",))


def _common(site: Site, node: Node) -> dict[str, dict[str, Value]]:
    """Options of cinder.conf common to controller and storage nodes."""
    own = keystone_auth(site, "cinder")
    return {
        "DEFAULT": {"transport_url": transport_url(site), "auth_strategy": "keystone", "my_ip": node.address},
        "database": {"connection": database_url(site, "cinder")},
        "keystone_authtoken": {**keystone_authtoken(site, "cinder")},
        "oslo_concurrency": {"lock_path": "/var/lib/cinder/tmp"},
        # Long requests survive the expiry of the user's token, and nova is notified of extended volumes.
        "service_user": {"send_service_user_token": "true", **own},
        "nova": {"region_name": site.region, **own},
        **_keys(site),
    }


def _keys(site: Site) -> dict[str, dict[str, Value]]:
    """Where the keys of encrypted volumes are, as nova.conf and cinder.conf say it."""
    return {
        "key_manager": {"backend": "barbican"},
        "barbican": {"auth_endpoint": f"http://{site.controller.name}:5000/v3", "barbican_region_name": site.region},
    }


def _initiator(site: Site, node: CloudNode) -> list[Resource]:
    """Requirements of nodes that attach volumes. Without the last two packages attached volumes cannot be extended."""
    attach = tuple(each.name for each in inventory_of(site).nodes.values() if _attaches(each))
    advice = "set volumes: false there" if "compute" in node.roles and node.volumes else "remove its disks.cinder"
    return [
        Packages("open-iscsi", "lsscsi", "sg3-utils"),
        KernelModule("iscsi_tcp", "no volume can be attached", f"{advice}, at nodes.{node.name} of the inventory"),
        InitiatorName(attach),
        # The daemon itself is socket-activated.
        Service("iscsid.socket", reads=()),
    ]


def _attaches(node: CloudNode) -> bool:
    return ("compute" in node.roles and node.volumes) or bool(node.devices("cinder"))
