"""Block storage on the nodes: volume groups, LVM filters, targets, initiators, services."""

from __future__ import annotations

import json

import pytest
from openstack.connection import Connection

from stackspec.cloud_inventory import inventory_of
from stackspec.fixtures.block_storage import default_type
from stackspec.inventory import Node
from stackspec.plugin.testinfra_backend import HostOf, NodeHost
from stackspec.site import Site

GROUP = "cinder-volumes"
SECRETS = ("/etc/cinder/cinder.conf", "/etc/iscsi/initiatorname.iscsi", "/var/lib/cinder")


@pytest.fixture
def storage(site: Site) -> list[Node]:
    """Nodes with disks for cinder."""
    return [node for node in site.with_role("storage") if node.devices("cinder")]


@pytest.fixture
def attaching(site: Site) -> list[Node]:
    """Nodes that attach volumes: compute nodes, and storage nodes for backups."""
    wanted = [node for node in inventory_of(site).nodes.values() if "compute" in node.roles and node.volumes]
    return wanted + [node for node in site.with_role("storage") if node.devices("cinder") and node not in wanted]


def physical_volumes(host: NodeHost, *options: str) -> dict[str, str]:
    """Physical volumes visible to LVM on a node: device -> volume group."""
    out = host.check_output(f"pvs --reportformat json --options pv_name,vg_name {' '.join(options)}")
    return {row["pv_name"]: row["vg_name"] for row in json.loads(out)["report"][0]["pv"]}


def test_volume_group_is_on_its_own_disks(cinder_volume: object, storage: list[Node], node_host: HostOf) -> None:
    """The volume group consists of exactly the disks of the inventory."""
    for node in storage:
        found = {device for device, group in physical_volumes(node_host(node.name)).items() if group == GROUP}
        wanted = {node_host(node.name).check_output("realpath %s", device) for device in node.devices("cinder")}
        assert found == wanted, f"{node.name}: {GROUP} is on {found or 'nothing'}"


def test_lvm_sees_only_what_is_the_node_s_own(cinder_volume: object, storage: list[Node], node_host: HostOf) -> None:
    """LVM ignores a physical volume inside a volume, which belongs to a server.

    It is created on a logical volume that is attached to the node as a loop device, like a volume over iSCSI.
    """
    for node in storage:
        host = node_host(node.name)
        file = host.check_output("mktemp /var/tmp/stackspec-XXXXXX")
        try:
            host.check_output("truncate --size 32M %s", file)
            device = host.check_output("losetup --find --show %s", file)
            try:
                unfiltered = '--config \'devices { filter = [ "a|.*|" ] global_filter = [ "a|.*|" ] }\''
                host.check_output(f"pvcreate {unfiltered} {device}")
                assert device in physical_volumes(host, unfiltered), "the volume is not seen without filters either"
                assert device not in physical_volumes(host), f"{node.name}: LVM sees {device}"
                refused = host.run(f"pvs --config 'devices {{ filter = [ \"a|.*|\" ] }}' {device}")
                assert refused.rc != 0, f"{node.name}: automatic activation sees {device}: no global_filter"
            finally:
                host.check_output("losetup --detach %s", device)
        finally:
            host.check_output("rm %s", file)


def test_own_system_is_seen_through_the_filter(
    cinder_volume: object, volume_attachment: object, attaching: list[Node], node_host: HostOf
) -> None:
    """LVM sees all mounted logical volumes, otherwise the node would not boot again (erratum E59)."""
    for node in attaching:
        host = node_host(node.name)
        rows = json.loads(host.check_output("lsblk --json --list --output NAME,TYPE,MOUNTPOINTS"))["blockdevices"]
        mounted = [row["name"] for row in rows if row["type"] == "lvm" and any(row["mountpoints"])]
        if not host.file("/etc/lvm/lvm.conf").exists:
            assert not mounted
            continue
        seen = host.check_output("lvs --noheadings --options lv_dm_path").split()
        assert {f"/dev/mapper/{name}" for name in mounted} <= set(seen), f"{node.name}: {mounted}, LVM sees {seen}"


def test_targets_listen_on_the_management_address_only(
    cinder_volume: object, storage: list[Node], node_host: HostOf
) -> None:
    """iSCSI targets listen only on the management address: CHAP passwords are weak protection."""
    for node in storage:
        sockets = node_host(node.name).check_output("ss -H -t -l -n 'sport = :3260'").splitlines()
        addresses = {line.split()[3].rsplit(":", 1)[0] for line in sockets}
        assert addresses == {node.address}, f"{node.name}: targets on {addresses or 'no address'}"


def test_targets_survive_a_restart(cinder_volume: object, storage: list[Node], node_host: HostOf) -> None:
    """The daemon loads cinder's targets at each start, with either file name of the distributions."""
    for node in storage:
        host = node_host(node.name)
        includes = host.check_output("cat /etc/tgt/conf.d/*.conf").splitlines()
        assert "include /var/lib/cinder/volumes/*" in includes, f"{node.name}: {includes}"
        assert host.service("tgt").is_enabled
        assert host.service("cinder-volume").is_enabled


def test_services_are_up(
    cinder_volume: object, cinder_backup: object, site: Site, storage: list[Node], cloud: Connection
) -> None:
    """`openstack volume service list`: every service of the inventory is enabled and up."""
    found = {(each.binary, each.host): (each.status, each.state) for each in cloud.block_storage.services()}
    wanted = {("cinder-scheduler", site.controller.name)}
    wanted |= {("cinder-volume", f"{node.name}@lvm") for node in storage}
    wanted |= {("cinder-backup", node.name) for node in storage}
    others = [f"{binary} of {host}: {' and '.join(state)}" for (binary, host), state in found.items()]
    others = [each for each in others if not each.endswith("enabled and up")]
    assert not others, f"wanted enabled and up, found {'; '.join(others)}"
    assert found.keys() == wanted


def test_default_type_means_the_backend(cinder_volume: object, storage: list[Node], cloud: Connection) -> None:
    """The default volume type is `lvm`, which all storage nodes' backends provide."""
    kind = next(each for each in cloud.block_storage.types() if each.name == "lvm")
    assert kind.extra_specs == {"volume_backend_name": "lvm"}
    assert default_type(cloud)["name"] == "lvm"
    pools = {pool.name: pool.capabilities["volume_backend_name"] for pool in cloud.block_storage.backend_pools()}
    assert {name.partition("#")[0]: backend for name, backend in pools.items()} == {
        f"{node.name}@lvm": "lvm" for node in storage
    }


def test_initiators_are_ready(
    volume_attachment: object, cinder_backup: object, attaching: list[Node], node_host: HostOf
) -> None:
    """The kernel module is loaded, now and at boot, and the daemon's socket is active."""
    for node in attaching:
        host = node_host(node.name)
        assert host.file("/sys/module/iscsi_tcp").exists, f"{node.name}: no iscsi_tcp"
        if "builtin" not in host.check_output("modinfo --field filename iscsi_tcp"):
            assert "iscsi_tcp" in host.check_output("cat /etc/modules-load.d/*.conf").splitlines()
        assert host.service("iscsid.socket").is_running, f"{node.name}: no iscsid.socket"
        assert host.service("iscsid.socket").is_enabled
        # The command starts the daemon; both "no session" and "sessions" are fine.
        done = host.run("iscsiadm --mode session")
        assert done.rc in (0, 21), done.stderr


def test_initiators_have_names_of_their_own(
    volume_attachment: object, cinder_backup: object, attaching: list[Node], node_host: HostOf
) -> None:
    """Initiator names are unique: a target could not distinguish nodes with the same name."""
    text = {node.name: node_host(node.name).file("/etc/iscsi/initiatorname.iscsi").content_string for node in attaching}
    names = {
        node: [line.partition("=")[2] for line in lines.splitlines() if line.startswith("InitiatorName=")]
        for node, lines in text.items()
    }
    assert all(len(each) == 1 and each[0].startswith("iqn.") for each in names.values()), names
    assert len({each[0] for each in names.values()}) == len(names), names


def test_nothing_secret_is_for_everybody(
    cinder: object, cinder_volume: object, volume_attachment: object, site: Site, node_host: HostOf
) -> None:
    """Files with passwords of services and of targets (one per volume) are not world-readable."""
    for name in site.nodes:
        for path in SECRETS:
            file = node_host(name).file(path)
            if file.exists:
                assert file.mode & 0o007 == 0, f"{name}: {path} has mode {file.mode:04o}"


def test_shipped_options_are_gone(cinder_volume: object, storage: list[Node], node_host: HostOf) -> None:
    """The backend section is ours: the package's default uses another volume group and old option names."""
    for node in storage:
        text = node_host(node.name).file("/etc/cinder/cinder.conf").content_string
        section = text.split("\n[lvm]\n")[1].split("\n[")[0].splitlines()
        names = {line.partition("=")[0].strip() for line in section if line and not line.startswith("#")}
        assert not names & {"iscsi_protocol", "iscsi_helper"}, names
        assert f"volume_group = {GROUP}" in section
