"""The services' own checks of themselves, their ports, files and secrets."""

from __future__ import annotations

import ipaddress
import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

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
    **{port: f"the API of {name}" for name, port in APIS.items()},
    8000: "heat's API for what guests signal",
    6080: "pages of consoles, for users' browsers",
    80: "horizon",
    9999: "skyline",
}
"""What users and guests reach on the controller, by any of its addresses."""
EVERYWHERE = {5355: "names of the local network, which the distribution's resolver answers"}
"""What a node may have before anything is installed, beside ssh."""


def test_nothing_of_the_inside_is_reached_from_outside(
    rabbitmq, nova_networking, neutron_compute, nova_discover, site, node_host
):
    """What only services ask is neither on the provider network, which tenants reach, nor on all addresses."""
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

    # rabbitmqctl listens while it runs, and a step or another test may be calling it.
    wait_for(
        "nothing of the inside is reached from outside", lambda: not exposed(), 30, detail=lambda: "\n".join(exposed())
    )


@pytest.mark.parametrize("service", [pytest.param(name, marks=pytest.mark.steps(name)) for name in APIS])
def test_api_answers_on_every_node(service, site, node_host):
    """Whoever asks at the endpoint's name and port is answered, and not with an error, wherever he is."""
    host, port = site.controller.name, APIS[service]
    script = (
        f"import socket; s = socket.create_connection(('{host}', {port}), 30); "
        f"s.sendall(b'GET / HTTP/1.0\\r\\nHost: {host}:{port}\\r\\n\\r\\n'); print(s.makefile().readline())"
    )
    for name in site.nodes:
        asked = node_host(name).run("python3 -c %s", script)
        assert asked.rc == 0, f"{service} is not reached from {name}: {asked.stderr.strip().splitlines()[-1]}"
        assert re.match(r"HTTP/1\.[01] [1-4]\d\d ", asked.stdout), f"{service} answers {name}: {asked.stdout.strip()!r}"


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("keystone-status upgrade check", marks=pytest.mark.steps("keystone"), id="keystone"),
        pytest.param("placement-status upgrade check", marks=pytest.mark.steps("placement"), id="placement"),
        pytest.param("nova-status upgrade check", marks=pytest.mark.steps("nova_discover", "placement"), id="nova"),
        pytest.param("neutron-status upgrade check", marks=pytest.mark.steps("neutron"), id="neutron"),
        pytest.param("barbican-status upgrade check", marks=pytest.mark.steps("barbican"), id="barbican"),
        pytest.param("cinder-status upgrade check", marks=pytest.mark.steps("cinder"), id="cinder"),
        pytest.param("heat-status upgrade check", marks=pytest.mark.steps("heat"), id="heat"),
        pytest.param("magnum-status upgrade check", marks=pytest.mark.steps("magnum"), id="magnum"),
    ],
)
def test_upgrade_check(command, controller):
    """0: all is well; 1: warnings only, which the service itself allows."""
    service = command.split("-")[0]

    def check():
        return controller.run("setpriv --reuid %s --regid %s --init-groups env HOME=/tmp " + command, service, service)

    done = check()
    if service == "cinder" and "must have a service UUID" in done.stdout:
        # A volume that another test has just asked for gets its service's when it is made.
        done = wait_for("no volume is without a service", lambda: (again := check()).rc in (0, 1) and again, 120)
    assert done.rc in (0, 1), done.stdout + done.stderr


def test_credentials_are_the_owners_only(keystone, site, controller):
    """openrc and clouds.yaml hold the administrator's password (erratum E13)."""
    controller_name = site.controller.name
    for path in ("/etc/keystone/admin-openrc.sh", "/etc/openstack/clouds.yaml"):
        file = controller.file(path)
        assert file.exists, f"{controller_name}: {path} is not there"
        found = f"{file.user}, {file.mode:04o}"
        assert found == "root, 0600", f"{controller_name}: {path} is of {found}, wanted root, 0600"


def test_openrc_works(keystone, controller):
    """What the guide does after keystone: source the file, issue a token."""
    done = controller.run(". /etc/keystone/admin-openrc.sh && openstack token issue -f json -c project_id -c expires")
    assert done.rc == 0, done.stderr
    assert json.loads(done.stdout)["project_id"]


def test_clouds_yaml_works_for_the_member(keystone, site, controller):
    """The cloud `<site>-demo` of clouds.yaml logs in as an ordinary user."""
    done = controller.run("openstack --os-cloud %s token issue -f value -c project_id", f"{site.name}-demo")
    assert done.rc == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("folder", ["/etc/keystone/fernet-keys", "/etc/keystone/credential-keys"])
def test_keys_are_keystones_only(folder, keystone, controller):
    """Who can read the keys can forge tokens."""
    keys = controller.file(folder).listdir()
    assert {"0", "1"} <= set(keys), f"{folder} has no keys 0 and 1: {', '.join(sorted(keys)) or 'none'}"
    for path in (folder, *(f"{folder}/{key}" for key in keys)):
        file = controller.file(path)
        found = f"{file.user}, {file.mode & 0o077:03o}"
        assert found == "keystone, 000", f"{path} is of {found} for others, wanted keystone, 000"


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
def test_passwords_in_files_are_not_for_everybody(path, site, node_host):
    """Configuration files with passwords cannot be read by other users, on any node."""
    files = {name: node_host(name).file(path) for name in site.nodes}
    modes = {name: file.mode for name, file in files.items() if file.exists}
    assert modes, f"{path} is on no node"
    for name, mode in modes.items():
        assert mode & 0o007 == 0, f"{name}: {path} has mode {mode:04o}"


def test_no_password_on_a_command_line(nova_discover, neutron_compute, nova_networking, site, node_host):
    """No process of any node shows one of the site's secrets (erratum E11)."""
    from stackspec.secrets import redact

    for name in site.nodes:
        lines = node_host(name).check_output("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' || true")
        assert redact(lines) == lines, f"a secret is in a process list of {name}"


def test_cells(nova_discover, site, controller):
    """cell0 and cell1 exist, with the databases and the queue of the guide; every compute node is in cell1."""
    out = controller.check_output("setpriv --reuid nova --regid nova --init-groups nova-manage cell_v2 list_cells")
    for part in ("none:/", "nova_cell0", f"rabbit://openstack:****@{site.controller.name}:5672/", "cell1"):
        assert part in out, f"nova's cells (nova-manage cell_v2 list_cells) show no {part}:\n{out}"
    hosts = controller.check_output("mariadb -N -B -e 'SELECT host FROM nova_api.host_mappings'").split()
    computes = {node.name for node in site.with_role("compute")}
    assert set(hosts) == computes, (
        f"compute nodes without a cell: {', '.join(sorted(computes - set(hosts))) or 'none'}; "
        f"in a cell and no compute nodes: {', '.join(sorted(set(hosts) - computes)) or 'none'}"
    )


def test_console_proxy_serves(nova, site, controller):
    """The page that shows a server's screen is there."""
    script = (
        f"import urllib.request as r; print(r.urlopen('http://{site.controller.address}:6080/vnc_auto.html').status)"
    )
    assert controller.check_output("python3 -c %s", script) == "200"


def test_hypervisor_is_ready(nova_compute, site, computes):
    """libvirt answers and can run servers of the kind that nova asks for: kvm needs help of the processor."""
    kind = site.inventory.virt_type
    for name, host in computes.items():
        done = host.run("virsh --connect qemu:///system domcapabilities --virttype %s", kind)
        assert done.rc == 0, f"{name}: libvirt cannot run {kind} servers: {done.stderr.strip()}"
        assert f"<domain>{kind}</domain>" in done.stdout, f"{name}: libvirt has no {kind}"


def test_bridges(neutron_compute, site, node_host):
    """br-int, br-tun and br-provider exist on every node with the site's datapath, and br-provider has its address."""
    for node in site.nodes.values():
        host = node_host(node.name)
        missing = {"br-int", "br-tun", "br-provider"} - set(host.check_output("ovs-vsctl list-br").split())
        assert not missing, f"{node.name}: Open vSwitch has no bridge {', '.join(sorted(missing))}"
        for bridge in ("br-int", "br-tun", "br-provider"):
            kind = host.check_output("ovs-vsctl get Bridge %s datapath_type", bridge).strip('"') or "system"
            assert kind == site.inventory.datapath, f"{node.name}: {bridge} is {kind}, wanted {site.inventory.datapath}"
        shown = host.check_output("ip -4 -o address show dev br-provider")
        assert f" {node.provider.address}/" in shown, (
            f"{node.name}: br-provider has not {node.provider.address}: {shown.strip() or 'no address'}"
        )


def test_way_out_leads_over_the_bridge(neutron_compute, site, node_host):
    """Where the inventory says so, the node's default route is the bridge's. Guide: netplan of br-provider."""
    gateway = site.networks["provider"].gateway
    for node in site.nodes.values():
        found = json.loads(node_host(node.name).check_output("ip -j route show default"))
        here = [route["gateway"] for route in found if route["dev"] == "br-provider"]
        if node.provider.default_route:
            shown = f"{node.name}: the default route should be {gateway} over br-provider alone, found: {found}"
            assert (here, len(found)) == ([str(gateway)], 1), shown
        else:
            assert not here, f"{node.name}: a default route leads over br-provider, which the inventory does not say"


def test_nodes_reach_each_other_on_the_tunnel_network(neutron_compute, site, node_host):
    """Tunnels end at these addresses; a node that is not reached there has servers without a network."""
    for node in site.nodes.values():
        for other in site.nodes.values():
            if other is not node:
                done = node_host(node.name).run("ping -c 1 -W 3 %s", site.tunnel_address(other))
                assert done.rc == 0, f"{node.name} does not reach {site.tunnel_address(other)}"


HEARS = """
import socket, time
# What comes begins with the header of IP, 20 bytes.
raw, heard, until = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP), set(), time.time() + 10
while len(heard) < {1} and time.time() < until:
    raw.settimeout(max(0.1, until - time.time()))
    try:
        data, (address, _) = raw.recvfrom(2048)
    except OSError:
        break
    if data[22:24] == (4789).to_bytes(2, "big") and b"stackspec" in data:
        heard.add(address)
print(*heard)
"""
SAYS = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'stackspec', ('{0}', 4789))"


def test_packets_of_tunnels_arrive(neutron_compute, site, node_host):
    """No firewall keeps VXLAN (UDP, port 4789) from a node: a raw socket hears what has passed its rules."""
    problems = []
    for node in site.nodes.values():
        others = [other for other in site.nodes.values() if other is not node]
        here = site.tunnel_address(node)
        with ThreadPoolExecutor(1) as pool:
            hears = HEARS.format(here, len(others))
            hearing = pool.submit(node_host(node.name).check_output, "python3 -c %s", hears)
            while not hearing.done():
                for other in others:
                    node_host(other.name).check_output("python3 -c %s", SAYS.format(here))
        heard = hearing.result().split()
        problems += [
            f"{node.name}: no packet of a tunnel (UDP, port 4789) arrives from {other.name}"
            for other in others
            if site.tunnel_address(other) not in heard
        ]
    assert not problems, "\n".join(problems)


FOLDERS = {
    "/var/lib/glance/images": ("glance", "glance"),
    "/var/lib/nova/instances": ("nova", "nova_compute"),
    "/var/lib/nova/tmp": ("nova", "nova_compute"),
    "/var/lib/neutron/tmp": ("neutron", "neutron_compute"),
    "/var/lib/cinder/tmp": ("cinder", "cinder_volume"),
}
"""Folder -> who has to be able to write there, and the step that needs it."""


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=pytest.mark.steps(step)) for path, (_, step) in FOLDERS.items()]
)
def test_folders_can_be_written_to(path, site, node_host):
    """Images, disks of servers and locks are written by the service's own user."""
    user, here = FOLDERS[path][0], []
    for name in site.nodes:
        host = node_host(name)
        if host.run("test -d %s && getent passwd %s", path, user).rc == 0:
            here.append(name)
            can = host.run("setpriv --reuid %s --regid %s --init-groups test -w %s -a -x %s", user, user, path, path)
            assert can.rc == 0, f"{name}: {user} cannot write to {path}: {host.run('ls -ld %s', path).stdout.strip()}"
    assert here, f"{path} is on no node"


def test_images_are_whole(glance, site, controller):
    """Each image's file is as long as its record says."""
    query = "SELECT id, size, name FROM images WHERE status = 'active' AND deleted = 0"

    def complaints() -> list[str]:
        rows = controller.check_output("mariadb -N -B glance -e %s", query).splitlines()
        assert rows, "glance has no image"
        found = []
        for key, size, name in (row.split("\t") for row in rows):
            there = controller.run("stat -c %%s /var/lib/glance/images/%s", key).stdout.strip() or "no"
            if there != size:
                found.append(f"image {name} ({key}): its file has {there} bytes, its record says {size}")
        return found

    # One that another test has just deleted is in the list, and its file is gone.
    wait_for("images are whole", lambda: not complaints(), 15, detail=lambda: "\n".join(complaints()))


@pytest.mark.parametrize("port", [8000, 8004, 5000])
def test_guests_reach_what_heat_tells_them(port, heat, site, node_host):
    """On the provider network, to which routers lead, the controller answers where stacks send their guests (E87)."""
    for name in site.nodes:
        script = f"import socket; socket.create_connection(('{site.address_for_guests}', {port}), 10)"
        reached = node_host(name).run("python3 -c %s", script)
        assert reached.rc == 0, f"{site.address_for_guests}:{port} is not reached from {name}: {reached.stderr}"
