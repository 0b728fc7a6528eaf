"""Passwords of services are readable by nobody else: neither in files nor on command lines."""

from __future__ import annotations

import pytest

from stackspec.plugin.testinfra_backend import HostOf
from stackspec.secrets import redact
from stackspec.site import Site


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/etc/keystone/keystone.conf", marks=pytest.mark.steps("keystone")),
        pytest.param("/etc/glance/glance-api.conf", marks=pytest.mark.steps("glance")),
        pytest.param("/etc/placement/placement.conf", marks=pytest.mark.steps("placement")),
        pytest.param("/etc/nova/nova.conf", marks=pytest.mark.steps("nova", "nova_compute")),
        pytest.param("/etc/neutron/neutron.conf", marks=pytest.mark.steps("neutron", "neutron_compute")),
        pytest.param("/etc/neutron/metadata_agent.ini", marks=pytest.mark.steps("neutron")),
        pytest.param("/etc/barbican/barbican.conf", marks=pytest.mark.steps("barbican")),
        pytest.param("/etc/cinder/cinder.conf", marks=pytest.mark.steps("cinder", "cinder_volume")),
        pytest.param("/etc/heat/heat.conf", marks=pytest.mark.steps("heat")),
        pytest.param("/etc/magnum/magnum.conf", marks=pytest.mark.steps("magnum")),
        pytest.param("/etc/octavia/octavia.conf", marks=pytest.mark.steps("octavia")),
        pytest.param("/etc/swift/proxy-server.conf", marks=pytest.mark.steps("swift")),
        pytest.param("/etc/swift/swift.conf", marks=pytest.mark.steps("swift_storage")),
    ],
)
def test_files_with_passwords_are_not_world_readable(path: str, site: Site, node_host: HostOf) -> None:
    """Configuration files with passwords are not world-readable, on any node."""
    files = {name: node_host(name).file(path) for name in site.nodes}
    modes = {name: file.mode for name, file in files.items() if file.exists}
    assert modes, f"{path} is on no node"
    for name, mode in modes.items():
        assert mode & 0o007 == 0, f"{name}: {path} has mode {mode:04o}"


def test_no_password_on_a_command_line(
    nova_discover: object,
    neutron_compute: object,
    nova_networking: object,
    site: Site,
    node_host: HostOf,
) -> None:
    """No process on any node has one of the site's secrets on its command line (erratum E11)."""
    for name in site.nodes:
        lines = node_host(name).check_output("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' || true")
        assert redact(lines) == lines, f"a secret is in a process list of {name}"
