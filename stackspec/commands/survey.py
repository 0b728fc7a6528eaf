"""Collects data from machines over ssh, before there is an inventory: interfaces, disks, processors, system."""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..inventory import Node, Ssh
from ..node_connections import OPENED_AT_ONCE
from ..transport import OPEN_TIMEOUT, ssh_arguments

# The script writes nothing and needs no root; if a tool is missing, its part is empty.
_SCRIPT = r"""
PATH=$PATH:/usr/sbin:/sbin LC_ALL=C; export PATH LC_ALL
part() { echo; echo "== $1"; }
kernel=/lib/modules/$(uname -r)
has_module() { [ -d "/sys/module/$1" ] || grep -q "/$1\.ko" "$kernel/modules.dep" "$kernel/modules.builtin"; }
part name; uname -n
part came; echo "$SSH_CONNECTION"
part system; cat /etc/os-release
part addresses; ip -details -json address
part routes; ip -json -4 route show default
part resolvers; cat /run/systemd/resolve/resolv.conf || cat /etc/resolv.conf
part disks; lsblk --json --bytes --output NAME,TYPE,SIZE,FSTYPE,MOUNTPOINT,MODEL,SERIAL,RO,RM
part blocks; for disk in /sys/block/*; do [ ! -b "/dev/${disk##*/}" ] || echo "${disk##*/}"; done
part modules; for module in iscsi_tcp openvswitch; do ! has_module $module || echo $module; done
part processors; grep -E -o -w -m 1 'vmx|svm' /proc/cpuinfo
part python; command -v python3
part end
"""

_WIRED = (None, "veth", "bond", "vlan", "macvlan")
"""Kinds of interfaces that connect nodes to networks; None is a device of the machine."""
_WHOLE_DISK = re.compile("(sd|vd|xvd|ubd|nvme)")


@dataclass(frozen=True)
class Card:
    """A network interface: name, addresses, and whether it is physical or similar, not a bridge."""

    name: str
    addresses: tuple[ipaddress.IPv4Interface, ...]
    is_wired: bool


@dataclass(frozen=True)
class Disk:
    """A whole disk that is blank, as far as an ordinary user can see: its path, bytes, model."""

    path: str
    size: int
    model: str


@dataclass(frozen=True)
class Machine:
    """The data from a machine.

    :param host: its name for ssh
    :param name: its host name, without the domain
    :param system: ID, VERSION_ID and PRETTY_NAME of its /etc/os-release
    :param came: the address to which ssh connected, "" if unknown
    :param cards: its interfaces, without the loopback
    :param default_route: interface and gateway of its default route, None if it has none
    :param resolvers: addresses of its resolvers, without local ones
    :param disks: its unused disks
    :param modules: which of iscsi_tcp and openvswitch its kernel has
    :param has_kvm: whether its processors support virtualization
    :param has_python: whether it has python3
    """

    host: str
    name: str
    system: dict[str, str]
    came: str
    cards: tuple[Card, ...]
    default_route: tuple[str, str] | None
    resolvers: tuple[str, ...]
    disks: tuple[Disk, ...]
    modules: tuple[str, ...]
    has_kvm: bool
    has_python: bool


def survey(hosts: Sequence[str], ssh: Ssh) -> list[Machine]:
    """Query machines over ssh, in parallel.

    :param hosts: their names for ssh
    :param ssh: user, port, key and configuration, where they differ from the user's own
    :raises InputError: naming every machine that could not be queried
    """
    errors: list[str] = []
    found: dict[str, Machine] = {}

    def ask(host: str) -> None:
        try:
            found[host] = read(host, _answer(host, ssh))
        except InputError as error:
            errors.append(str(error))

    with ThreadPoolExecutor(OPENED_AT_ONCE) as pool:
        list(pool.map(ask, hosts))
    if errors:
        raise InputError("\n".join(sorted(errors)))
    return [found[host] for host in hosts]


def _answer(host: str, ssh: Ssh) -> str:
    arguments = ssh_arguments(ssh, Node.model_construct(name=host, ssh_host=host))
    try:
        done = subprocess.run(
            ["ssh", *arguments, "sh -s"],
            input=_SCRIPT,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=OPEN_TIMEOUT,
        )
    except FileNotFoundError:
        raise InputError("no ssh on this machine; install it (apt install openssh-client)") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"{host}: no answer within {OPEN_TIMEOUT} s; try: ssh {arguments[-1]}") from None
    if "\n== end" not in done.stdout:
        error = " ".join((done.stderr or done.stdout).split()[-40:])
        raise InputError(f"{host}: ssh failed: {error}; try: ssh {arguments[-1]}")
    return done.stdout


def read(host: str, text: str) -> Machine:
    """Parse a machine's answer.

    :param host: its name for ssh
    :param text: the output of the script
    """
    parts = {name: body.strip() for name, _, body in (part.partition("\n") for part in text.split("\n== ")[1:])}
    system = dict(" ".join(word.split()).split("=", 1) for word in shlex.split(parts["system"]) if "=" in word)
    came, blocks = parts["came"].split(), parts["blocks"].split()
    cards = []
    for each in _json(parts["addresses"], []):
        name = str(each.get("ifname"))
        inet = [info for info in each.get("addr_info", []) if info.get("family") == "inet"]
        found = tuple(ipaddress.IPv4Interface(f"{info['local']}/{info['prefixlen']}") for info in inet)
        if name != "lo":
            cards.append(Card(name, found, each.get("linkinfo", {}).get("info_kind") in _WIRED))
    routes = [each for each in _json(parts["routes"], []) if "gateway" in each]
    words = [line.split()[1] for line in parts["resolvers"].splitlines() if line.startswith("nameserver ")]
    return Machine(
        host,
        parts["name"].split(".")[0].lower(),
        system,
        came[2] if len(came) == 4 else "",
        tuple(cards),
        (routes[0]["dev"], routes[0]["gateway"]) if routes else None,
        tuple(word for word in words if _is_resolver(word)),
        # A container sees its host's disks, which it cannot use.
        tuple(_unused([each for each in _json(parts["disks"], {}).get("blockdevices", []) if each["name"] in blocks])),
        tuple(parts["modules"].split()),
        bool(parts["processors"]),
        bool(parts["python"]),
    )


def _json(text: str, otherwise: Any) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return otherwise


def _is_resolver(text: str) -> bool:
    try:
        return not ipaddress.IPv4Address(text).is_loopback
    except ValueError:
        return False


def _unused(devices: Sequence[dict[str, Any]]) -> list[Disk]:
    free = []
    for each in devices:
        size = int(each.get("size") or 0)
        taken = any(each.get(key) for key in ("children", "fstype", "mountpoint"))
        fixed = not any(str(each.get(key)) in ("True", "1") for key in ("ro", "rm"))  # older versions write "0" and "1"
        if each.get("type") == "disk" and _WHOLE_DISK.match(str(each.get("name"))) and size and fixed and not taken:
            free.append(Disk(f"/dev/{each['name']}", size, " ".join(str(each.get("model") or "").split())))
    return free
