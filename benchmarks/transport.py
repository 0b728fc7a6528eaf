#!/usr/bin/env python3
"""Compare our connection to a node with testinfra's ssh backend, in the same rounds.

Three operations: the mode of a file, a command, and 50 facts (files, packages, units). testinfra is measured with its
default, one ssh session per command, and with an OpenSSH control socket that keeps the session. Both sides must return
the same answers.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import testinfra
from common import arguments, machine, main, site_of

from stackspec.errors import InputError
from stackspec.inventory import Node
from stackspec.plugin.testinfra_backend import ConnectionBackend
from stackspec.reach import reach
from stackspec.resources.base import file, package, unit
from stackspec.site import Site
from stackspec.transport import NodeConnection, ssh_arguments

FILES = [
    *("/etc/hostname", "/etc/hosts", "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/fstab", "/etc/os-release"),
    *("/etc/ssh/sshd_config", "/etc/apt", "/etc/nsswitch.conf", "/etc/machine-id", "/etc/profile", "/etc/issue"),
    *("/etc/pam.d", "/etc/security", "/etc/systemd/system", "/usr/bin/python3", "/var/lib/dpkg/status", "/var/log"),
    *("/etc/no-such-file", "/etc/nova/nova.conf", "/etc/keystone/keystone.conf", "/root", "/tmp", "/run"),
]
PACKAGES = [
    *("bash", "dpkg", "apt", "systemd", "openssh-server", "python3", "coreutils", "sudo", "procps", "udev"),
    *("iproute2", "ca-certificates", "no-such-package", "nova-compute", "keystone"),
]
UNITS = [
    *("ssh", "dbus", "systemd-journald", "systemd-networkd", "systemd-udevd", "systemd-logind", "chrony"),
    *("nova-compute", "keystone", "no-such-unit"),
]


@dataclass
class Side:
    """One kind of connection to the node.

    :param host: its testinfra host
    :param stat: returns the mode of a file
    :param facts: returns the 50 answers
    """

    host: Any
    stat: Callable[[], int]
    facts: Callable[[], list[bool]]


def ours(connection: NodeConnection) -> Side:
    """The engine's connection."""
    files, packages, units = [file(p) for p in FILES], [package(p) for p in PACKAGES], [unit(u) for u in UNITS]

    def facts() -> list[bool]:
        found = connection.facts([*files, *packages, *units])
        answers = [found[query]["exists"] for query in files]
        answers += [found[query] is not None for query in packages]
        return answers + [found[query]["active"] == "active" for query in units]

    def stat() -> int:
        query = file(FILES[0])
        return int(connection.facts([query])[query]["mode"])

    return Side(testinfra.host.Host(ConnectionBackend(connection)), stat, facts)


def peer(site: Site, node: Node, control: Path | None) -> Side:
    """testinfra's ssh backend.

    :param control: control socket that keeps the session; None: testinfra's default
    """
    ssh = site.inventory.ssh
    address = node.ssh_host or node.address
    spec = f"ssh://{ssh.user + '@' if ssh.user else ''}{address}{f':{ssh.port}' if ssh.port else ''}"
    options: dict[str, Any] = {"ssh_extra_args": "-o BatchMode=yes"}
    if ssh.config:
        options["ssh_config"] = str(ssh.config)
    if ssh.key:
        options["ssh_identity_file"] = str(ssh.key)
    if control is not None:
        options["controlpath"] = str(control)
    # Its modules have no annotations.
    host: Any = testinfra.get_host(spec, **options)
    if host.check_output("id -u") != "0":
        host = testinfra.get_host(spec, sudo=True, **options)

    def facts() -> list[bool]:
        answers = [host.file(path).exists for path in FILES]
        answers += [host.package(name).is_installed for name in PACKAGES]
        return answers + [host.service(name).is_running for name in UNITS]

    return Side(host, lambda: int(host.file(FILES[0]).mode), facts)


OPERATIONS: dict[str, Callable[[Side], object]] = {
    "mode of a file": lambda side: side.stat(),
    "command": lambda side: side.host.run("echo hello").stdout,
    "50 facts": lambda side: side.facts(),
}


def run() -> int:
    """Measure, and print a row for each operation."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--node", help="default: the first compute node")
    chosen = parser.parse_args()
    site = site_of(chosen.inventory)
    name = chosen.node or site.with_role("compute")[0].name
    if name not in site.nodes:
        raise InputError(f"--node {name}: the inventory has {', '.join(site.nodes)}")
    site, _ = reach(site)
    node = site.nodes[name]
    with tempfile.TemporaryDirectory(prefix="ss-bench-") as folder:
        control = Path(folder) / "c"
        began = time.perf_counter()
        connection = NodeConnection(node, site.inventory.ssh)
        opened = time.perf_counter() - began
        try:
            sides = {
                "ours": ours(connection),
                "peer": peer(site, node, None),
                "kept": peer(site, node, control),
            }
            times = measure(sides, chosen.rounds)
        finally:
            connection.close()
            end = ["ssh", "-O", "exit", "-o", f"ControlPath={control}", *ssh_arguments(site.inventory.ssh, node)]
            subprocess.run(end, capture_output=True)
    print(f"node {name}, median of {chosen.rounds} rounds; {machine()}")
    print(f"ours: connecting takes {opened * 1000:.0f} ms, once")
    print(f"{'':16}{'ours':>10}{'testinfra ssh':>16}{'ratio':>8}{'control socket':>16}{'ratio':>8}")
    for operation in OPERATIONS:
        row = {side: times[operation, side] for side in sides}
        text = f"{operation:16}{median(row['ours']) * 1000:7.2f} ms"
        for side, width in (("peer", 13), ("kept", 13)):
            ratio = median(theirs / mine for theirs, mine in zip(row[side], row["ours"], strict=True))
            text += f"{median(row[side]) * 1000:{width}.1f} ms{ratio:8.1f}"
        print(text)
    return 0


def measure(sides: dict[str, Side], rounds: int) -> dict[tuple[str, str], list[float]]:
    """Seconds of each operation on each side, one entry per round; the first use is not counted.

    :raises InputError: the answers differ
    """
    times: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):
        for operation, call in OPERATIONS.items():
            answers = {}
            for name, side in sides.items():
                began = time.perf_counter()
                answers[name] = call(side)
                if number:
                    times.setdefault((operation, name), []).append(time.perf_counter() - began)
            if any(answer != answers["ours"] for answer in answers.values()):
                raise InputError(f"{operation}: the answers differ, so the times are meaningless: {answers}")
    return times


if __name__ == "__main__":
    main(run)
