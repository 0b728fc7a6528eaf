"""Nova on the nodes: cells, the console proxy, hypervisors."""

from __future__ import annotations

from stackspec.cloud_inventory import inventory_of
from stackspec.fixtures import programs
from stackspec.plugin.testinfra_backend import NodeHost
from stackspec.site import Site


def test_cells(nova_discover: object, site: Site, controller: NodeHost) -> None:
    """cell0 and cell1 exist, with the databases and the queue of the guide; every compute node is in cell1."""
    out = controller.check_output("setpriv --reuid nova --regid nova --init-groups nova-manage cell_v2 list_cells")
    for part in ("none:/", "nova_cell0", f"rabbit://openstack:****@{site.controller.name}:5672/", "cell1"):
        assert part in out, f"nova's cells (nova-manage cell_v2 list_cells) show no {part}:\n{out}"
    hosts = controller.check_output("mariadb -N -B -e 'SELECT host FROM nova_api.host_mappings'").split()
    computes = {node.name for node in site.with_role("compute")}
    assert set(hosts) == computes, (
        f"compute nodes without a cell: {', '.join(sorted(computes - set(hosts))) or 'none'}; "
        f"in a cell, but not compute nodes: {', '.join(sorted(set(hosts) - computes)) or 'none'}"
    )


def test_console_proxy_serves(nova: object, site: Site, controller: NodeHost) -> None:
    """The console page of servers is available."""
    page = f"http://{site.controller.address}:6080/vnc_auto.html"
    assert programs.output(controller, "http_status", page) == "200"


def test_hypervisor_is_ready(nova_compute: object, site: Site, computes: dict[str, NodeHost]) -> None:
    """libvirt responds and supports the configured virt_type: kvm needs hardware support."""
    kind = inventory_of(site).virt_type
    for name, host in computes.items():
        done = host.run("virsh --connect qemu:///system domcapabilities --virttype %s", kind)
        assert done.rc == 0, f"{name}: libvirt cannot run {kind} servers: {done.stderr.strip()}"
        assert f"<domain>{kind}</domain>" in done.stdout, f"{name}: libvirt does not support {kind}"
