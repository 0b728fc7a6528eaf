"""Checks common to all services: reachable ports, upgrade checks, files and passwords."""

from __future__ import annotations

import ipaddress
import re

import pytest
from testinfra.backend.base import CommandResult

from stackspec.fixtures import programs
from stackspec.plugin.testinfra_backend import HostOf, NodeHost
from stackspec.secrets import redact
from stackspec.site import Site
from stackspec.waiting import wait_for

APIS = {
    "keystone": 5000,
    "glance": 9292,
    "placement": 8778,
    "nova": 8774,
    "neutron": 9696,
    "barbican": 9311,
    "cinder": 8776,
    "heat": 8004,
    "magnum": 9511,
    "octavia": 9876,
    "swift": 8080,
}
PUBLIC = {
    **{port: f"API of {name}" for name, port in APIS.items()},
    8000: "heat's API for signals of guests",
    6080: "console pages for users' browsers",
    80: "horizon",
    9999: "skyline",
}
"""Ports of the controller that are open to users and guests on all its addresses."""
EVERYWHERE = {5355: "LLMNR, answered by the distribution's resolver"}
"""Ports that may be open on a node before the installation, besides ssh."""


@pytest.mark.parametrize("service", [pytest.param(name, marks=pytest.mark.steps(name)) for name in APIS])
def test_api_answers_on_every_node(service: str, site: Site, node_host: HostOf) -> None:
    """The endpoint's name and port respond without an error, from every node."""
    host, port = site.controller.name, APIS[service]
    for name in site.nodes:
        asked = programs.run(node_host(name), "http_first_line", host, port)
        assert asked.rc == 0, f"{service} is not reachable from {name}: {asked.stderr.strip().splitlines()[-1]}"
        assert re.match(r"HTTP/1\.[01] [1-4]\d\d ", asked.stdout), f"{service} answers {name}: {asked.stdout.strip()!r}"


def test_internal_ports_are_not_exposed(
    rabbitmq: object,
    nova_networking: object,
    neutron_compute: object,
    nova_discover: object,
    site: Site,
    node_host: HostOf,
) -> None:
    """Internal ports listen neither on the provider network, which tenants can reach, nor on all addresses."""
    outside = site.networks["provider"].cidr

    def exposed() -> list[str]:
        found = []
        for node in site.nodes.values():
            allowed = {site.inventory.ssh.port or 22, *EVERYWHERE, *(PUBLIC if "controller" in node.roles else ())}
            for line in node_host(node.name).check_output("ss -H -l -t -n -p").splitlines():
                address, _, port = line.split()[3].rpartition(":")
                address = address.partition("%")[0].strip("[]")
                wide = address in ("*", "0.0.0.0", "::")
                if (wide or ipaddress.ip_address(address.removeprefix("::ffff:")) in outside) and int(
                    port
                ) not in allowed:
                    found.append(f"{node.name}: {address}:{port} {' '.join(line.split()[5:])}")
        return found

    # rabbitmqctl listens while it runs, and a step or another test may be running it.
    wait_for(
        "no internal port is exposed",
        lambda: not exposed(),
        30,
        detail=lambda: "\n".join(exposed()),
    )


@pytest.mark.parametrize(
    ("port", "step"),
    [
        pytest.param(3306, "mariadb", marks=pytest.mark.steps("mariadb"), id="mariadb"),
        pytest.param(11211, "memcached", marks=pytest.mark.steps("memcached"), id="memcached"),
        pytest.param(5672, "rabbitmq", marks=pytest.mark.steps("rabbitmq"), id="rabbitmq"),
        pytest.param(25672, "rabbitmq", marks=pytest.mark.steps("rabbitmq"), id="rabbitmq-nodes"),
        pytest.param(8775, "nova", marks=pytest.mark.steps("nova"), id="nova-metadata"),
        pytest.param(2379, "etcd", marks=pytest.mark.steps("etcd"), id="etcd"),
        pytest.param(2380, "etcd", marks=pytest.mark.steps("etcd"), id="etcd-peers"),
    ],
)
def test_listens_on_the_management_address_only(port: int, step: str, site: Site, controller: NodeHost) -> None:
    """Tokens, passwords and keys are behind these ports (errata E08, E18, E20, E21)."""
    sockets = controller.check_output("ss -H -t -l -n 'sport = :'%s", str(port)).splitlines()
    addresses = {line.split()[3].rsplit(":", 1)[0] for line in sockets}
    assert addresses == {site.controller.address}, f"{step}: port {port} listens on {addresses or 'nothing'}"


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("keystone-status upgrade check", marks=pytest.mark.steps("keystone"), id="keystone"),
        pytest.param("glance-status upgrade check", marks=pytest.mark.steps("glance"), id="glance"),
        pytest.param("placement-status upgrade check", marks=pytest.mark.steps("placement"), id="placement"),
        pytest.param("nova-status upgrade check", marks=pytest.mark.steps("nova_discover", "placement"), id="nova"),
        pytest.param("neutron-status upgrade check", marks=pytest.mark.steps("neutron"), id="neutron"),
        pytest.param("barbican-status upgrade check", marks=pytest.mark.steps("barbican"), id="barbican"),
        pytest.param("cinder-status upgrade check", marks=pytest.mark.steps("cinder"), id="cinder"),
        pytest.param("heat-status upgrade check", marks=pytest.mark.steps("heat"), id="heat"),
        pytest.param("magnum-status upgrade check", marks=pytest.mark.steps("magnum"), id="magnum"),
    ],
)
def test_upgrade_check(command: str, controller: NodeHost) -> None:
    """The service's upgrade check passes (0), or has only warnings (1)."""
    service = command.split("-")[0]

    def check() -> CommandResult:
        return controller.run("setpriv --reuid %s --regid %s --init-groups env HOME=/tmp " + command, service, service)

    done = check()
    if service == "cinder" and "must have a service UUID" in done.stdout:
        # A volume that another test has just requested gets its service UUID when it is created.
        done = wait_for(
            "every volume has a service UUID", lambda: again if (again := check()).rc in (0, 1) else None, 120
        )
    assert done.rc in (0, 1), done.stdout + done.stderr


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


FOLDERS = {
    "/var/lib/glance/images": ("glance", "glance"),
    "/var/lib/nova/instances": ("nova", "nova_compute"),
    "/var/lib/nova/tmp": ("nova", "nova_compute"),
    "/var/lib/neutron/tmp": ("neutron", "neutron_compute"),
    "/var/lib/cinder/tmp": ("cinder", "cinder_volume"),
}
"""Folder -> user that must be able to write there, and the step that needs it."""


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=pytest.mark.steps(step)) for path, (_, step) in FOLDERS.items()]
)
def test_folders_can_be_written_to(path: str, site: Site, node_host: HostOf) -> None:
    """The service's user can write to its folders of images, server disks and locks."""
    user, here = FOLDERS[path][0], []
    for name in site.nodes:
        host = node_host(name)
        if host.run("test -d %s && getent passwd %s", path, user).rc == 0:
            here.append(name)
            can = host.run("setpriv --reuid %s --regid %s --init-groups test -w %s -a -x %s", user, user, path, path)
            assert can.rc == 0, f"{name}: {user} cannot write to {path}: {host.run('ls -ld %s', path).stdout.strip()}"
    assert here, f"{path} is on no node"
