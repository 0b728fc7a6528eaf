"""Swift on the nodes: disks, rings, listeners, services."""

from __future__ import annotations

import re

import pytest

from stackspec.inventory import Node
from stackspec.plugin.testinfra_backend import HostOf, NodeHost
from stackspec.site import Site

SERVERS = {"account": 6202, "container": 6201, "object": 6200}


@pytest.fixture
def storage(site: Site) -> list[Node]:
    """Nodes with disks for swift."""
    nodes = [node for node in site.with_role("storage") if node.devices("swift")]
    return nodes or pytest.skip("the inventory gives swift no disks")


def test_disks_are_mounted_as_the_guide_has_them(swift_storage: object, storage: list[Node], node_host: HostOf) -> None:
    """Disks are XFS with noatime, owned by swift, and mounted by fstab with nofail."""
    for node in storage:
        host = node_host(node.name)
        for device in node.devices("swift"):
            mount = host.mount_point(f"/srv/node/{device.rsplit('/', 1)[1]}")
            assert mount.exists, f"{node.name}: {device} is not mounted"
            assert (mount.filesystem, "noatime" in mount.options) == ("xfs", True), f"{node.name}: {device}: {mount}"
            assert host.file(mount.path).user == "swift"
            line = next(line for line in host.file("/etc/fstab").content_string.splitlines() if mount.path in line)
            assert line.startswith("UUID="), line
            assert "nofail" in line, line


def test_servers_listen_on_the_management_address_only(
    swift_storage: object, storage: list[Node], node_host: HostOf
) -> None:
    """Storage servers and rsync, which have no authentication, listen only on the management address."""
    for node in storage:
        for name, port in {**SERVERS, "rsync": 873}.items():
            sockets = node_host(node.name).check_output("ss -H -t -l -n 'sport = :'%s", str(port)).splitlines()
            addresses = {line.split()[3].rsplit(":", 1)[0] for line in sockets}
            assert addresses == {node.address}, f"{node.name}: {name} listens on {addresses or 'nothing'}"


@pytest.mark.parametrize("name", SERVERS)
def test_rings_are_as_the_guide_builds_them(
    name: str, swift_storage: object, storage: list[Node], controller: NodeHost
) -> None:
    """1024 partitions, two replicas, a zone per node, equal weights, and all partitions are assigned."""
    out = controller.run("swift-ring-builder /etc/swift/%s.builder", name).stdout
    devices = [(node, device.rsplit("/", 1)[1]) for node in storage for device in node.devices("swift")]
    counts = f"1024 partitions, 2.000000 replicas, 1 regions, {len(storage)} zones, {len(devices)} devices, "
    assert counts in out, out
    (hours,) = re.findall(r"can be reassigned is (\d+)", out)
    assert hours == "1", f"/etc/swift/{name}.builder: a partition may move again after {hours} hours, wanted 1"
    rows = {tuple(line.split()[index] for index in (2, 3, 5)) for line in out.split("meta")[1].splitlines() if line}
    wanted = {(str(storage.index(node) + 1), f"{node.address}:{SERVERS[name]}", device) for node, device in devices}
    assert rows == wanted
    if len({len(node.devices("swift")) for node in storage}) == 1:
        assert ", 0.00 balance, 0.00 dispersion" in out, out


def test_all_nodes_have_the_same_rings_and_hashes(
    swift_storage: object, storage: list[Node], site: Site, node_host: HostOf
) -> None:
    """Rings are identical on all nodes, otherwise objects get lost."""
    for path in ("swift.conf", *(f"{name}.ring.gz" for name in SERVERS)):
        sums = {
            node.name: node_host(node.name).file(f"/etc/swift/{path}").sha256sum for node in [site.controller, *storage]
        }
        others = [name for name, digest in sums.items() if digest != sums[site.controller.name]]
        assert not others, f"{', '.join(others)}: /etc/swift/{path} differs from {site.controller.name}'s"


def test_hashes_are_secrets_of_their_own(swift: object, site: Site, controller: NodeHost) -> None:
    """Two long values, not the package's defaults (erratum E81), readable only by root and swift."""
    lines = [line.partition(" = ") for line in controller.file("/etc/swift/swift.conf").content_string.splitlines()]
    values = [value for key, _, value in lines if key in ("swift_hash_path_suffix", "swift_hash_path_prefix")]
    assert len(set(values)) == 2
    guessed = f"{site.controller.name}: /etc/swift/swift.conf: the paths of objects can be guessed"
    assert all(len(value) > 30 for value in values), guessed
    assert controller.file("/etc/swift").mode & 0o007 == 0


def test_nodes_report_no_error(swift_storage: object, storage: list[Node], controller: NodeHost) -> None:
    """swift-recon: all servers respond, no disk is unmounted, rings and swift.conf are identical."""
    done = controller.run("swift-recon object --unmounted --md5 --validate-servers")
    assert done.rc == 0, done.stderr
    assert done.stdout.count(f"{len(storage)}/{len(storage)} hosts matched, 0 error[s]") == 2, done.stdout
    assert f"{len(storage)}/{len(storage)} hosts ok, 0 error[s]" in done.stdout, done.stdout
    assert "Not mounted" not in done.stdout, done.stdout
