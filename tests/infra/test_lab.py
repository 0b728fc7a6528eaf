"""The lab is isolated: traffic of its nodes to other addresses is rejected and counted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from stackspec.fixtures import programs
from stackspec.plugin.testinfra_backend import HostOf
from stackspec.site import Site

if TYPE_CHECKING:
    from stackspec.lab import Lab


def test_nothing_leaves_the_lab(base: object, site: Site, node_host: HostOf, lab: Lab) -> None:
    """A connection to a documentation address (RFC 5737) is rejected immediately on every node, and counted."""
    for name in site.nodes:
        before = lab.drops()
        assert programs.output(node_host(name), "connect_outside") == "refused"
        assert lab.drops() > before, f"{name}: the packet was not counted"


def test_packages_come_through_the_proxy(base: object, site: Site, node_host: HostOf, lab: Lab) -> None:
    """apt on a node asks the lab's proxy, the only way to packages."""
    own = site.networks["management"].cidr[1]
    for name in site.nodes:
        proxy = node_host(name).check_output("apt-config dump Acquire::http::Proxy")
        assert f"http://{own}:3142" in proxy, f"{name}: {proxy}"


def test_kernel_of_its_own(base: object, node_host: HostOf, lab: Lab) -> None:
    """A UML node runs its own kernel, within the memory of the inventory."""
    own = [process for process in lab.nodes if process.node.kind == "uml"]
    if not own:
        pytest.skip("all nodes of this lab are containers")
    for process in own:
        host = node_host(process.node.name)
        assert host.check_output("uname -r") != os.uname().release
        total = int(host.check_output("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")) // 1024
        assert total <= process.node.memory, f"{process.node.name} has {total} MiB"
        assert "Linux version" in process.console.read_text(errors="replace"), f"{process.console} has no boot messages"
