"""What a node needs beside its services: room on its disks, whole packages, the right time, networks of full size."""

from __future__ import annotations

import json
import re
import time

import pytest

from stackspec.waiting import wait_for

# A node whose power another test cuts is not looked at meanwhile: that test disturbs nova_compute.
pytestmark = pytest.mark.steps("nova_compute")

FULL = 95
"""Per cent of a file system, or of its inodes, from which on services fail that write there."""
YOUNG = 60
"""Seconds since its start for which a service may be one that ends each time."""
MONTH = 30 * 24 * 3600
RESTARTS_WITHIN = 10
"""Seconds in which a service that ends each time has been started again."""
CONNECTS = """
import concurrent.futures as futures, socket
def closed(port):
    for wait in (2, 5):
        try:
            socket.create_connection(({0!r}, port), wait).close()
            return False
        except OSError:
            pass
    return True
ports = {1!r}
with futures.ThreadPoolExecutor(16) as pool:
    print(*(port for port, shut in zip(ports, pool.map(closed, ports)) if shut))
"""
"""Prints the ports of an address that take no connection."""
NOT_DISKS = ("tmpfs", "devtmpfs", "squashfs", "iso9660", "efivarfs", "fuse.snapfuse")
BRIDGED = {"controller", "compute"}
"""Roles of nodes that have the provider's bridge."""
OFFSET = 1.0
"""Seconds that a node's clock may differ from the controller's; tokens and heartbeats bear more."""


def test_disks_have_room(base, site, node_host):
    """No file system is full, or out of inodes, or read-only: databases, queues and images stop there."""
    problems = []
    for name in site.nodes:
        for what, option in (("room", ""), ("inodes", "-i")):
            options = " ".join(f"-x {kind}" for kind in NOT_DISKS)
            rows = node_host(name).check_output(f"df -lP {option} {options}").splitlines()[1:]
            for *_, used, mount in (row.split(maxsplit=5) for row in rows):
                if used != "-" and int(used.rstrip("%")) >= FULL:
                    problems.append(f"{name}: {mount} has no {what}: {used} used")
        for folder in ("/etc", "/var/lib", "/var/log", "/tmp"):
            if node_host(name).run("test -w %s", folder).rc != 0:
                problems.append(f"{name}: {folder} is read-only")
    assert not problems, "\n".join(problems)


def test_packages_are_whole(deployed, base, site, node_host):
    """dpkg has finished everything, and apt's dependencies hold."""
    problems = []
    for name in site.nodes:
        host = node_host(name)
        listed = host.check_output("dpkg-query -W -f '${Status} ${Package}\\n'").splitlines()
        states = {line.split()[3]: line.split()[2] for line in listed}
        half = [each for each, state in states.items() if state not in ("installed", "config-files", "not-installed")]
        if half:
            problems.append(f"{name}: dpkg has not finished {', '.join(half)}; run: dpkg --configure -a")
        check = host.run("apt-get check -qq")
        problems += [f"{name}: apt-get check: {line}" for line in check.stderr.splitlines() if check.rc != 0]
        if re.search(r"^\s*exit 101", host.run("cat /usr/sbin/policy-rc.d").stdout, re.MULTILINE):
            problems.append(f"{name}: /usr/sbin/policy-rc.d holds back the starts of services; remove it")
    assert not problems, "\n".join(problems)


def test_certificates_last(deployed, base, site, node_host):
    """No certificate that a service has in /etc ends within a month; those of the distribution are its own affair."""
    find = (
        "grep -rlsI -e '-----BEGIN CERTIFICATE' --include='*.pem' --include='*.crt' --include='*.cert'"
        " --exclude-dir=ssl --exclude-dir=ca-certificates /etc"
    )
    problems = []
    for name in site.nodes:
        host = node_host(name)
        for path in host.run(find).stdout.splitlines():
            date = host.check_output("openssl x509 -noout -enddate -in %s", path).partition("=")[2]
            if host.run("openssl x509 -noout -checkend %s -in %s", str(MONTH), path).rc != 0:
                problems.append(f"{name}: the certificate in {path} ends on {date}")
    assert not problems, "\n".join(problems)


def test_clocks_agree(chrony, chrony_client, site, node_host):
    """Each node's clock shows what the controller's does; within the time that asking takes nobody can tell."""

    def complaints() -> list[str]:
        found = {}
        for name in site.nodes:
            host = node_host(name)
            before = time.time()
            there = float(host.check_output("date +%s.%N"))
            after = time.time()
            # Between the two looks at ours: the middle is wrong by half of them at most.
            found[name] = (there - (before + after) / 2, (after - before) / 2)
        own, doubt = found[site.controller.name]
        return [
            f"{name}: its clock is {offset - own:+.1f} s from the controller's; see chronyc sources there"
            for name, (offset, unsure) in found.items()
            if abs(offset - own) > OFFSET + unsure + doubt
        ]

    # What is far off is corrected by and by: that takes minutes, and each look shows less.
    wait_for("clocks agree", lambda: not complaints(), 60, detail=lambda: "; ".join(complaints()))


def test_time_comes_from_where_the_inventory_says(chrony, site, controller):
    """The controller has chosen a source of the inventory's; without one it serves its own clock."""

    def chosen() -> list[list[str]]:
        rows = [line.split(",") for line in controller.check_output("chronyc -n -c sources").splitlines()]
        return [row for row in rows if row[1] == "*"]

    if not site.inventory.time_servers:
        assert not chosen(), f"the inventory names no time server: {chosen()}"
        return

    what = f"the controller follows one of {', '.join(site.inventory.time_servers)}"
    wait_for(what, chosen, 60, detail=lambda: str(controller.run("chronyc sources").stdout))


def test_no_service_is_frozen(deployed, base, site, node_host):
    """A process that SIGSTOP holds keeps its connections, and systemd and its peers call it alive."""
    problems = []
    for name in site.nodes:
        for line in node_host(name).check_output("ps -e -o stat=,unit=,pid=,args=").splitlines():
            state, unit, pid, command = line.split(maxsplit=3)
            if state.startswith("T"):
                problems.append(f"{name}: {unit} is stopped by a signal (SIGSTOP): process {pid}, {command[:60]}")
    assert not problems, "\n".join(problems)


def test_no_service_restarts_over_and_over(deployed, base, site, node_host):
    """systemd starts again what ends; one that ends each time looks alive whenever somebody looks."""

    def restarts(name: str) -> dict[str, int]:
        host, what = node_host(name), "Id,NRestarts,ExecMainStartTimestampMonotonic"
        shown = host.check_output("systemctl show --type=service --property=%s '*'", what)
        now = float(host.check_output("cut -d' ' -f1 /proc/uptime"))
        found = [dict(line.split("=", 1) for line in each.splitlines()) for each in shown.split("\n\n") if each]
        return {
            each["Id"]: int(each["NRestarts"])
            for each in found
            if int(each.get("NRestarts", 0)) > 1 and now - int(each[what.split(",")[2]]) / 1e6 < YOUNG
        }

    problems, first = [], {name: restarts(name) for name in site.nodes}
    if any(first.values()):
        time.sleep(RESTARTS_WITHIN)
    for name, before in first.items():
        for unit, count in restarts(name).items() if before else ():
            if count > before.get(unit, count):
                since = count - before[unit]
                problems.append(
                    f"{name}: {unit} restarts over and over: started again {count} times by systemd, {since} of them "
                    f"in {RESTARTS_WITHIN} s; see journalctl -u {unit} there"
                )
    assert not problems, "\n".join(problems)


def test_no_firewall_keeps_nodes_from_each_other(deployed, base, site, node_host):
    """Whatever rules a node has, what its services listen for on the management network reaches them."""

    def listening(node) -> set[int]:
        sockets = [line.split()[3] for line in node_host(node.name).check_output("ss -H -t -l -n").splitlines()]
        found = [socket.rpartition(":") for socket in sockets]
        return {int(port) for address, _, port in found if address in (node.address, "0.0.0.0", "*", "[::]")}

    problems = []
    for node in site.nodes.values():
        ports, closed = sorted(listening(node)), []
        for other in site.nodes.values():
            if other is not node:
                shut = node_host(other.name).check_output("python3 -c %s", CONNECTS.format(node.address, ports))
                closed += [(int(port), other.name) for port in shut.split()]
        # What has stopped meanwhile, such as a guest's screen, is no firewall's doing.
        still = listening(node) if closed else set()
        problems += [
            f"{node.name}: port {port} is open and not reached from {other}: a firewall's rule (nft list ruleset)?"
            for port, other in closed
            if port in still
        ]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("network", ["management", "provider"])
def test_full_packets_reach_every_node(network, base, neutron_compute, site, node_host):
    """A packet as large as the interface allows arrives whole: a switch or tunnel between that takes less loses it."""
    nodes = [node for node in site.nodes.values() if network == "management" or set(node.roles) & BRIDGED]
    problems = []
    for node in nodes:
        host = node_host(node.name)
        for other in nodes:
            if other is node:
                continue
            address = str(getattr(other, network).address)
            (route,) = json.loads(host.check_output("ip -j route get %s", address))
            (link,) = json.loads(host.check_output("ip -j link show dev %s", route["dev"]))
            size = link["mtu"] - 28
            if host.run("ping -q -c 2 -i 0.2 -W 3 -M do -s %s %s", str(size), address).rc != 0:
                problems.append(
                    f"{node.name}: no packet of {link['mtu']} bytes from {route['dev']} reaches {other.name}, {address}"
                )
    assert not problems, "\n".join(problems)
