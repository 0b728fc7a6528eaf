"""Object storage. Guide: 安装openstack服务 / Swift."""

from __future__ import annotations

import uuid
from pathlib import PurePosixPath

from stackspec.inventory import Node
from stackspec.openstack import Endpoint, OsloConfig, Ring, RingDevice, ServiceUser
from stackspec.release import ReleaseValue
from stackspec.resources import (
    Access,
    Answers,
    Directory,
    File,
    FileFrom,
    KeptOption,
    Lines,
    Mounted,
    Packages,
    Resource,
    Service,
    Xfs,
)
from stackspec.resources.ini import Value
from stackspec.site import Site
from stackspec.step import Resources, Step, step

CACHE_MODE = ReleaseValue("swift_cache_mode", "0775")
CACHE_OWNER = ReleaseValue("swift_cache_owner", "root")
"""Mode of /var/cache/swift, as in the distribution's units."""
SERVERS = {"account": 6202, "container": 6201, "object": 6200}
"""Servers of each storage node, with their ports."""
DAEMONS = {
    "account": ("auditor", "reaper", "replicator"),
    "container": ("auditor", "replicator", "sync", "updater"),
    "object": ("auditor", "replicator", "updater"),
}
"""Daemons of each server: the guide's `swift-init all`, as systemd units (erratum E83)."""
FOLDER = Directory("/etc/swift", 0o750, group="swift")
"""Only swift can read rings and hashes (errata E64, E82)."""
DISKS = "/srv/node"
UDEV = """\
# A kernel may mistake the superblock of a file system on a whole disk for a partition table: PowerTec's has only a
# checksum of 8 bits. Such partitions must not be identified as the file system, or one of them is mounted at boot.
SUBSYSTEM=="block", ENV{DEVTYPE}=="partition", IMPORT{parent}="ID_FS_TYPE"
SUBSYSTEM=="block", ENV{DEVTYPE}=="partition", ENV{ID_FS_TYPE}=="xfs", \
ENV{UDEV_DISABLE_PERSISTENT_STORAGE_RULES_FLAG}="1"
"""
PIPELINE = (
    "catch_errors gatekeeper healthcheck proxy-logging cache container_sync bulk ratelimit authtoken keystoneauth "
    "container-quotas account-quotas slo dlo versioned_writes proxy-logging proxy-server"
)


def nodes_with_disks(site: Site) -> list[Node]:
    """Storage nodes with disks for swift in the inventory."""
    return [node for node in site.with_role("storage") if node.devices("swift")]


def mount_point(device: str) -> str:
    """The mount point of a disk."""
    return f"{DISKS}/{PurePosixPath(device).name}"


def file_system(site: Site, node: Node, device: str) -> str:
    """UUID of the file system on a disk, which identifies the site's own disks."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{site.secrets.key('swift disks')} {node.name} {device}"))


def ring(site: Site, name: str) -> Ring:
    """All disks of the site, with one zone per node, so that no two replicas are on one node (erratum E79)."""
    devices = tuple(
        RingDevice(zone, node.address, SERVERS[name], PurePosixPath(device).name)
        for zone, node in enumerate(nodes_with_disks(site), 1)
        for device in node.devices("swift")
    )
    return Ring(f"/etc/swift/{name}.ring.gz", devices)


def swift_conf(site: Site, step: str) -> list[Resource]:
    """Values shared by all nodes: two different secrets that make object paths unpredictable (erratum E81)."""
    hashes = {f"swift_hash_path_{end}": site.secrets.key(f"swift hash {end}") for end in ("suffix", "prefix")}
    options: dict[str, dict[str, Value]] = {
        "swift-hash": {**hashes},
        "storage-policy:0": {"name": "Policy-0", "default": "yes"},
    }
    path = "/etc/swift/swift.conf"
    return [
        *(KeptOption(path, "swift-hash", name, value, step) for name, value in hashes.items()),
        OsloConfig(path, options, own=("swift-hash",)),
        Access((path,), group="swift"),
    ]


@step(role="storage", section="disks.swift")
def swift_disks(site: Site, node: Node, base: Step) -> Resources:
    """A mounted file system on each disk, before the disks are added to the rings."""
    devices = node.devices("swift")
    if not devices:
        return
    yield Packages("xfsprogs")
    yield File("/etc/udev/rules.d/59-swift.rules", UDEV)
    for device in devices:
        yield Xfs(device, file_system(site, node, device), mount_point(device), node.disks["swift"].wipe)
    # nofail: a node boots even with a broken disk (erratum E70).
    mounts = [f"UUID={file_system(site, node, each)} {mount_point(each)} xfs noatime,nofail 0 2" for each in devices]
    yield Lines("/etc/fstab", tuple(mounts), replaces=rf"\S+\s+{DISKS}/")
    for device in devices:
        yield Mounted(device, mount_point(device))


@step(role="controller", provides="object-store", section="disks.swift")
def swift(site: Site, keystone: Step, memcached: Step, swift_disks: Step) -> Resources:
    """The proxy, the rings, and the daemon that removes expired objects, which the guide lacks."""
    controller = site.controller.name
    api = f"http://{controller}:8080"
    yield ServiceUser("swift")
    yield Endpoint(
        "object-store",
        name="swift",
        description="OpenStack Object Storage",
        url=f"{api}/v1/AUTH_%(project_id)s",
        admin_url=f"{api}/v1",
    )
    yield Packages(
        "swift",
        "swift-proxy",
        "python3-swiftclient",
        "python3-keystoneclient",
        "python3-keystonemiddleware",
        "memcached",
        "swift-object-expirer",
    )
    yield FOLDER
    yield from swift_conf(site, "swift")
    cache = {"use": "egg:swift#memcache", "memcache_servers": f"{controller}:11211"}
    yield OsloConfig(
        "/etc/swift/proxy-server.conf",
        {
            "DEFAULT": {"bind_port": 8080, "user": "swift", "swift_dir": "/etc/swift"},
            "pipeline:main": {"pipeline": PIPELINE},
            "app:proxy-server": {"use": "egg:swift#proxy", "account_autocreate": "True"},
            # The guide's second role does not exist (erratum E67).
            "filter:keystoneauth": {"use": "egg:swift#keystoneauth", "operator_roles": "admin,member"},
            "filter:authtoken": {
                "paste.filter_factory": "keystonemiddleware.auth_token:filter_factory",
                "www_authenticate_uri": f"http://{controller}:5000",
                "auth_url": f"http://{controller}:5000",
                "memcached_servers": f"{controller}:11211",
                "auth_type": "password",
                "project_domain_id": "default",
                "user_domain_id": "default",
                "project_name": "service",
                "username": "swift",
                "password": site.password("swift"),
                "delay_auth_decision": "True",
            },
            "filter:cache": {**cache},
        },
        own=("pipeline:main", "filter:authtoken"),
    )
    yield OsloConfig(
        "/etc/swift/object-expirer.conf",
        {
            "DEFAULT": {"user": "swift", "swift_dir": "/etc/swift"},
            "pipeline:main": {"pipeline": "catch_errors proxy-logging cache proxy-server"},
            "app:proxy-server": {"use": "egg:swift#proxy"},
            "filter:cache": {**cache},
            "filter:catch_errors": {"use": "egg:swift#catch_errors"},
            "filter:proxy-logging": {"use": "egg:swift#proxy_logging"},
        },
    )
    yield Access(("/etc/swift/proxy-server.conf", "/etc/swift/object-expirer.conf"), group="swift")
    for name in SERVERS:
        yield ring(site, name)
    # Services reload rings by themselves.
    proxy = "/etc/swift/proxy-server.conf"
    yield Service("swift-proxy", reads=("/etc/swift/swift.conf", proxy))
    yield Service("swift-object-expirer", reads=("/etc/swift/swift.conf", "/etc/swift/object-expirer.conf"))
    yield Answers(f"{api}/healthcheck", service="swift-proxy")


@step(role="storage", section="disks.swift")
def swift_storage(site: Site, node: Node, swift: Step) -> Resources:
    """The account, container and object servers, and their replication daemons."""
    devices = node.devices("swift")
    if not devices:
        return
    yield Packages("rsync", "swift", "swift-account", "swift-container", "swift-object")
    for device in devices:
        yield Directory(mount_point(device), owner="swift", group="swift")
    yield File("/etc/rsyncd.conf", rsyncd_conf(node))
    yield FOLDER
    yield from swift_conf(site, "swift_storage")
    common = {"user": "swift", "swift_dir": "/etc/swift", "devices": DISKS, "mount_check": "True"}
    recon = {"use": "egg:swift#recon", "recon_cache_path": "/var/cache/swift", "recon_lock_path": "/var/lock"}
    for name, port in SERVERS.items():
        yield OsloConfig(
            f"/etc/swift/{name}-server.conf",
            {
                "DEFAULT": {"bind_ip": node.address, "bind_port": port, **common},
                # Each with its own name; the guide's container server has the object server's name (erratum E75).
                "pipeline:main": {"pipeline": f"healthcheck recon {name}-server"},
                "filter:recon": {**recon},
            },
            own=("pipeline:main",),
        )
    yield Access(tuple(f"/etc/swift/{name}-server.conf" for name in SERVERS), group="swift")
    mode, owner = site.release.value(CACHE_MODE), site.release.value(CACHE_OWNER)
    yield Directory("/var/cache/swift", int(mode, 8), owner, "swift")
    for name in SERVERS:
        yield FileFrom(f"/etc/swift/{name}.ring.gz", site.controller.name)
    yield Service("rsync", reads=("/etc/rsyncd.conf",))
    for name, daemons in DAEMONS.items():
        units = (f"swift-{name}", *(f"swift-{name}-{daemon}" for daemon in daemons))
        yield Service(*units, reads=("/etc/swift/swift.conf", f"/etc/swift/{name}-server.conf"))
    for port in SERVERS.values():
        yield Answers(f"http://{node.address}:{port}/healthcheck")


def rsyncd_conf(node: Node) -> str:
    """The rsync configuration for replication: the guide's file, with the address of each node (erratum E71)."""
    lines = ["uid = swift", "gid = swift", "log file = /var/log/rsyncd.log", "pid file = /var/run/rsyncd.pid"]
    lines.append(f"address = {node.address}")
    for name in SERVERS:
        lines += ["", f"[{name}]", "max connections = 2", f"path = {DISKS}/", "read only = False"]
        lines.append(f"lock file = /var/lock/{name}.lock")
    return "\n".join(lines) + "\n"
