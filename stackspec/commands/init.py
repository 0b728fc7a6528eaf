"""`stackspec init`: write an inventory to edit, from what the machines report over ssh."""

from __future__ import annotations

import argparse
import importlib.resources
import ipaddress
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..cloud_inventory import CloudInventory
from ..errors import InputError
from ..inventory import Ssh, load_inventory
from ..release import Release, load_release
from ..suite import command as run_command
from .survey import Card, Disk, Machine, survey

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

EDIT = "# EDIT: "
"""Prefix of a comment that asks for a value which could not be detected."""
UNKNOWN_CARD = "NOT-FOUND"
"""Placeholder for an interface: no machine has this name, so a deployment refuses it before it changes anything."""
_NAME = re.compile("[a-z][a-z0-9-]{0,30}")
_PLACEHOLDER = ipaddress.IPv4Network("203.0.113.0/24")
"""A documentation network, never used by a machine."""
_BRIDGES = ("br-provider", "br-ex")
"""Bridges that may contain the provider interface after an earlier deployment."""
_SMALLEST = 29
"""Prefix length of a network with room for nodes, a router and some floating IPs."""


def add_parser(subparsers: Subparsers) -> None:
    """Add `stackspec init [HOST ...]` to a command line."""
    text = "write an inventory to edit: from machines inspected over ssh, or an example that explains every key"
    parser = subparsers.add_parser("init", help=text, description=f"{text}. Nothing is changed on the machines.")
    parser.add_argument("host", nargs="*", metavar="HOST", help="host name for ssh; the first becomes the controller")
    parser.add_argument(
        "--output", type=Path, default=Path("site.yaml"), metavar="FILE", help="default: %(default)s, never overwritten"
    )
    parser.add_argument("--name", default="cloud", help="name of the site (default: %(default)s)")
    parser.add_argument("--user", help="login user: root, or a user with passwordless sudo")
    parser.add_argument("--port", type=int, help="port of the ssh servers")
    parser.add_argument("--key", type=Path, metavar="FILE", help="private key")
    parser.add_argument("--config", type=Path, metavar="FILE", help="ssh configuration to use instead of your own")
    parser.set_defaults(func=command)


def command(arguments: argparse.Namespace) -> int:
    """Run `stackspec init` and return the exit status.

    :raises InputError: the file exists or cannot be written, a machine is unreachable or does not fit the others
    """
    target: Path = arguments.output
    if target.exists() or target.is_symlink():
        raise InputError(f"{target}: already exists and is not overwritten; choose another file: --output FILE")
    if not _NAME.fullmatch(arguments.name):
        raise InputError(f"--name {arguments.name}: use lower case letters, digits and hyphens, starting with a letter")
    if repeated := [host for host in arguments.host if arguments.host.count(host) > 1]:
        raise InputError(f"{repeated[0]}: named twice; each machine can be one node only")
    if arguments.host:
        ssh = _ssh(arguments)
        text = describe(arguments.name, survey(arguments.host, ssh), ssh)
    else:
        example = Path(str(importlib.resources.files("stackspec.inventories"))) / "example/site.yaml"
        text = example.read_text(encoding="utf-8")
    try:
        with target.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise InputError(f"{target}: {error.strerror}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if EDIT in line:
            print(f"{target}:{number}: {line.partition(EDIT)[2]}")
    try:
        load_inventory(target, CloudInventory)
    except InputError as error:
        raise InputError(f"{target} was written, but is inconsistent: {error}") from None
    print(f"{target} written; edit it, then preview the changes: {run_command()} --plan --inventory {target}")
    return 0


def _ssh(arguments: argparse.Namespace) -> Ssh:
    """How to reach the machines, from the command line."""
    for option in ("key", "config"):
        path = getattr(arguments, option)
        if path is not None and not path.expanduser().is_file():
            raise InputError(f"--{option} {path}: no such file")
    if arguments.port is not None and not 1 <= arguments.port <= 65535:
        raise InputError(f"--port {arguments.port}: expected 1 to 65535")
    wrong = [host for host in arguments.host if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_.:%-]*", host)]
    if wrong:
        hint = "; set the user with --user" if "@" in wrong[0] else ""
        raise InputError(f"{wrong[0]!r} is not the name or address of a machine{hint}")
    try:
        return Ssh(user=arguments.user, port=arguments.port, key=arguments.key, config=arguments.config)
    except ValueError:
        raise InputError(f"--user {arguments.user}: not a user name such as ubuntu") from None


@dataclass
class _Place:
    """A machine's place on the two networks.

    :param management: interface and address on the management network
    :param card: the interface for the provider network; None if the machine has only one interface
    :param current: its current address there; None if it has none
    :param address: its address there for the inventory
    """

    machine: Machine
    name: str
    roles: tuple[str, ...]
    management: tuple[Card, ipaddress.IPv4Interface]
    card: Card | None
    current: ipaddress.IPv4Interface | None
    address: ipaddress.IPv4Address | None = None

    @property
    def has_default_route(self) -> bool:
        """Whether its default route uses the provider network."""
        return bool(
            self.machine.default_route and self.card and self.machine.default_route[0] in (self.card.name, *_BRIDGES)
        )


def describe(name: str, machines: Sequence[Machine], ssh: Ssh) -> str:
    """The text of an inventory of machines: the first is the controller, the others compute.

    :param name: of the site
    :param machines: what they reported
    :param ssh: how they were reached
    :raises InputError: they have no network in common
    """
    places = _places(machines)
    release, notes = _release(machines)
    lines = [
        "# A cloud on these machines, as detected over ssh. `stackspec init --output example.yaml` writes an",
        "# example that explains every key, including those not used here.",
        f"site: {name}",
        "",
        *notes,
        f"release: {release.name}  # {release.title}",
        "",
        "networks:",
        "  # Services listen and communicate on this network.",
        f"  management: {{cidr: {places[0].management[1].network}}}",
        "  # Becomes the cloud's external network, through which servers reach the outside.",
        *_provider(places),
        "",
        "nodes:",
        *(line for place in places for line in _node(place)),
        "",
        *_reached_by(ssh),
        "# Passwords are generated at the first deployment and stored with the site's state, never in this file.",
        "secrets: generated",
        "",
        "# NTP servers of the controller; the other nodes synchronise with the controller.",
        "# time_servers: [time1.example.org, time2.example.org]",
        "",
        "# Image of the test servers: a URL, or a file relative to this one.",
        "images:",
        "  cirros:",
        "    source: https://download.cirros-cloud.net/0.6.2/cirros-0.6.2-x86_64-disk.img",
        "    checksum: sha256:07e44a73e54c94d988028515403c1ed762055e01b83a767edf3c2b387f78ce00",
        "",
        "# Load balancers: without this section the site has no octavia.",
        "# octavia:",
        '#   image: {source: "https://images.example.org/amphora-x64-haproxy.qcow2"}',
        "#   network: 172.16.0.0/22",
        "",
        *_hypervisor([place.machine for place in places if "compute" in place.roles]),
    ]
    return "\n".join(lines) + "\n"


def _places(machines: Sequence[Machine]) -> list[_Place]:
    """Each machine's interfaces on the two networks; ssh reached the first machine over the management network."""
    first = machines[0]
    reached = [each for card in first.cards for each in card.addresses]
    if not reached:
        raise InputError(f"{first.host}: no IPv4 address; nodes need one in a common network")
    network = next((each for each in reached if str(each.ip) == first.came), reached[0]).network
    names, places = set[str](), []
    for number, machine in enumerate(machines):
        inside = [(card, each) for card in machine.cards for each in card.addresses if each.ip in network]
        if not inside:
            has = ", ".join(str(each) for card in machine.cards for each in card.addresses) or "no IPv4 address"
            raise InputError(f"{machine.host}: not in {network}, the network of {first.host}; it has {has}")
        management = next((each for each in inside if str(each[1].ip) == machine.came), inside[0])
        name = machine.name
        if not _NAME.fullmatch(name) or name in names or name == "localhost":
            name = f"compute{number:02}" if number else "controller"
        names.add(name)
        roles = ("compute",) if number else ("controller",) if len(machines) > 1 else ("controller", "compute")
        card = _second(machine, management[0])
        # If the interface is already in a bridge, the bridge has the address.
        bridges = [each for each in machine.cards if each.name in _BRIDGES]
        found = [each for bearer in (card, *bridges) if bearer for each in bearer.addresses]
        current = next((each for each in found if each.network.prefixlen <= _SMALLEST), None)
        places.append(_Place(machine, name, roles, management, card, current))
    return places


def _second(machine: Machine, management: Card) -> Card | None:
    """The interface for the provider network: the one with the default route, or with an address, or the first."""
    rest = [card for card in machine.cards if card.is_wired and card.name != management.name]
    out = machine.default_route[0] if machine.default_route else ""
    return min(rest, key=lambda card: (card.name != out, not card.addresses, card.name), default=None)


def _provider(places: Sequence[_Place]) -> list[str]:
    """The provider network: detected values and proposals for the rest; sets each place's address there."""
    network = next((place.current.network for place in places if place.current), _PLACEHOLDER)
    ways = [
        ipaddress.IPv4Address(place.machine.default_route[1])
        for place in places
        if place.has_default_route and place.machine.default_route
    ]
    gateway = next((way for way in ways if way in network), None)
    taken = {gateway or network[1]}
    for place in places:
        if place.current and place.current.ip in network:
            place.address = place.current.ip
            taken.add(place.address)
    pool = _pool(network, taken)
    for place in places:
        if place.address is None:
            free = (each for each in network.hosts() if each not in taken and not (pool and pool[0] <= each <= pool[1]))
            place.address = next(free, network[1])
            taken.add(place.address)
    if network == _PLACEHOLDER:
        ask = f"  {EDIT}no machine has an address on a second interface; which network and router does it have?"
        lines = ["  provider:" + ask, f"    cidr: {network}", f"    gateway: {network[1]}"]
    else:
        lines = ["  provider:", f"    cidr: {network}"]
        lines.append(f"    gateway: {gateway}" if gateway else f"    # gateway: {network[1]}  {EDIT}its router, if any")
    if pool:
        lines.append(
            f"    pool: [{pool[0]}, {pool[1]}]  {EDIT}first and last floating IP; no machine may use these addresses"
        )
    resolvers = places[0].machine.resolvers
    if resolvers:
        lines.append(f"    dns: [{', '.join(resolvers)}]  # DNS resolvers for servers")
    else:
        lines.append(f"    # dns: [{network[2]}, {network[3]}]  {EDIT}DNS resolvers for servers")
    return lines


def _pool(
    network: ipaddress.IPv4Network, taken: set[ipaddress.IPv4Address]
) -> tuple[ipaddress.IPv4Address, ipaddress.IPv4Address] | None:
    """The upper half of the largest gap between used addresses; None if it is too small."""
    edges = sorted({int(network[0]), int(network[-1]), *(int(each) for each in taken)})
    size, start = max((after - before - 1, before + 1) for before, after in itertools.pairwise(edges))
    if size < 4:
        return None
    return ipaddress.IPv4Address(start + size // 2), ipaddress.IPv4Address(start + size - 1)


def _node(place: _Place) -> list[str]:
    """A node: its place on the networks, and notes for the user."""
    machine, card = place.machine, place.card
    lines = [f"  {place.name}:", f"    # {_system(machine)}"]
    if not machine.has_python:
        lines.append(f"    {EDIT}{machine.host} has no python3; install it")
    lines.append(f"    roles: [{', '.join(place.roles)}]")
    lines.append(f"    management: {{address: {place.management[1].ip}, interface: {place.management[0].name}}}")
    words = [f"address: {place.address}", f"interface: {card.name if card else UNKNOWN_CARD}"]
    words += ["default_route: true"] if place.has_default_route else []
    asks = [] if card else [f"{machine.host} has only one interface; it needs a second one for the bridge"]
    asks += (
        [] if place.current and place.current.ip == place.address else [f"its address there; {machine.host} has none"]
    )
    lines.append(f"    provider: {{{', '.join(words)}}}" + (f"  {EDIT}{'; '.join(asks)}" if asks else ""))
    if machine.host != str(place.management[1].ip):
        lines.append(f"    ssh_host: {machine.host}")
    if machine.disks:
        lines.append(
            "    # These disks look blank. A storage service uses whole disks: to use them, add storage to the"
        )
        lines.append("    # roles and list disks here; swift needs two in the site.")
        lines += [f"    #   {_shown(disk)}" for disk in machine.disks]
        lines.append(f"    # disks: {{swift: {{devices: [{', '.join(disk.path for disk in machine.disks)}]}}}}")
    if "compute" in place.roles and "iscsi_tcp" not in machine.modules:
        lines += ["    # The kernel has no iSCSI initiator (module iscsi_tcp).", "    volumes: false"]
    return lines


def _shown(disk: Disk) -> str:
    return f"{disk.path}: {disk.size / 2**30:.0f} GiB {disk.model}".rstrip()


def _system(machine: Machine) -> str:
    return machine.system.get("PRETTY_NAME", "an unknown system")


def _reached_by(ssh: Ssh) -> list[str]:
    """The ssh settings. Paths are absolute, since relative ones would start at the inventory's folder."""
    files = {
        name: str(path.expanduser().absolute()) for name, path in (("key", ssh.key), ("config", ssh.config)) if path
    }
    told = {name: value for name, value in (("user", ssh.user), ("port", ssh.port)) if value is not None}
    lines = [f"  {name}: {json.dumps(value)}" for name, value in {**told, **files}.items()]
    return ["ssh:", *lines, ""] if lines else []


def _release(machines: Sequence[Machine]) -> tuple[Release, list[str]]:
    """The release for the first machine's distribution, and notes about it."""
    folder = Path(str(importlib.resources.files("stackspec.releases")))
    known = [load_release(path.stem) for path in sorted(folder.glob("*.yaml"))]

    def runs(machine: Machine) -> tuple[str | None, str | None]:
        return machine.system.get("ID"), machine.system.get("VERSION_ID")

    fits = [each for each in known if (each.distribution.id, each.distribution.version) == runs(machines[0])]
    notes = []
    if not fits:
        there = ", ".join(f"{each.name} ({each.distribution.id} {each.distribution.version})" for each in known)
        notes.append(f"{EDIT}no release supports {_system(machines[0])}; available: {there}")
    if len(fits) > 1:
        notes.append(f"# Other releases for this distribution: {', '.join(each.name for each in fits[1:])}.")
    for machine in machines:
        if runs(machine) != runs(machines[0]):
            notes.append(f"{EDIT}{machine.host} runs {_system(machine)}; all nodes need the release's distribution")
    return (fits or known)[0], notes


def _hypervisor(computes: Sequence[Machine]) -> list[str]:
    """Settings that depend on the compute nodes' processors and kernels."""
    weak = ", ".join(machine.host for machine in computes if not machine.has_kvm)
    lines = ["virt_type: kvm"]
    if weak:
        lines = [
            f"# The processors of {weak} have no virtualization support (neither vmx nor svm).",
            "virt_type: qemu",
        ]
    if not all("openvswitch" in machine.modules for machine in computes):
        lines.append(
            "# A kernel lacks the module openvswitch: use the userspace datapath, with tunnels on the provider network."
        )
        lines += ["datapath: netdev", "tunnel: provider"]
    return lines
