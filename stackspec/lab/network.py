"""The lab's network namespace: a bridge per network, connected to every node, without a route out."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .error import LabError, run
from .spec import LabSpec, Node, Port

T = TypeVar("T")

NAMESPACES = Path("/run/netns")
COUNTER = "left"
_CLONE_NEWNET = 0x40000000


def namespace(spec: LabSpec, node: Node | None = None) -> str:
    """Name of the network namespace of the lab, or of one of its nodes."""
    return f"{spec.prefix}-{node.name}" if node else spec.prefix


def setns(path: Path) -> None:
    """Move the calling thread into a network namespace.

    :param path: the namespace's file
    :raises LabError: when it is gone or this is not root
    """
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LabError(f"Cannot enter the network namespace {path.name}: {error.strerror}. Is the lab up?") from error
    try:
        if libc.setns(handle, _CLONE_NEWNET) != 0:
            raise LabError(f"Cannot enter the network namespace {path.name}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(handle)


def inside(path: Path, call: Callable[[], T]) -> T:
    """Call a function in a new thread inside a network namespace (namespaces are per thread).

    :param path: the namespace's file
    :param call: what to do there; its result or exception is handed on
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            setns(path)
            results.append(call())
        except BaseException as error:  # handed to the caller, who raises it
            errors.append(error)

    thread = threading.Thread(target=work, name=f"in-{path.name}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def bridge(index: int) -> str:
    """Name of the bridge of the network with that position in the lab."""
    return f"br{index}"


def render_lab(spec: LabSpec) -> str:
    """The `ip -batch` lines that fill the lab's empty namespace."""
    lines = ["link set lo up"]
    for index, network in enumerate(spec.networks):
        name = bridge(index)
        # Without a delay of 0 a bridge port forwards nothing during its first seconds.
        lines += [
            f"link add {name} type bridge stp_state 0 forward_delay 0",
            f"link set {name} addrgenmode none",
            f"address add {network.address} dev {name}",
            f"link set {name} up",
        ]
    return "\n".join(lines) + "\n"


def render_ports(spec: LabSpec, node: Node) -> str:
    """The `ip -batch` lines that join a node's namespace to the lab's bridges (run in the lab's namespace)."""
    there = namespace(spec, node)
    return _render_far_ends(
        spec, node, lambda here, port: f"link add {here} type veth peer name {port.interface} netns {there}"
    )


def render_firewall(spec: LabSpec) -> str:
    """The nftables ruleset of the lab's namespace.

    The namespace has no route out anyway; the rules reject such packets immediately and count them. They apply before
    routing, since a packet without a route never reaches the forward hook.
    """
    names = ", ".join(f'"{bridge(index)}"' for index in range(len(spec.networks)))
    cidrs = ", ".join(str(network.cidr) for network in spec.networks)
    return f"""\
table inet lab {{
  counter {COUNTER} {{ }}
  set bridges {{ type ifname; elements = {{ {names} }} }}
  set networks {{ type ipv4_addr; flags interval; elements = {{ {cidrs} }} }}
  chain prerouting {{
    type filter hook prerouting priority filter; policy accept;
    meta pkttype host iifname @bridges ip daddr != @networks counter name {COUNTER} goto refuse
    meta pkttype host iifname @bridges ip6 daddr != {{ fe80::/10, ff00::/8 }} counter name {COUNTER} goto refuse
  }}
  chain refuse {{
    reject with icmpx type admin-prohibited
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    iifname @bridges oifname @bridges accept
  }}
}}
"""


def make_lab(spec: LabSpec) -> None:
    """Create the lab's namespace with bridges and firewall, unless it is already complete.

    :raises LabError: when a step fails; what was made stays for `down` or the next `up`
    """
    name = namespace(spec)
    if drops(spec) is not None:
        return
    delete(name)
    run(["ip", "netns", "add", name], f"make the network namespace {name}")
    _settle(name)
    run(["ip", "-n", name, "-batch", "-"], f"make the networks of {name}", stdin=render_lab(spec))
    run(_nft(name, "-f", "-"), f"load the firewall of {name}", stdin=render_firewall(spec))


def make_node(spec: LabSpec, node: Node) -> None:
    """Recreate a stopped node's namespace, connected to the lab's bridges.

    :raises LabError: when a step fails
    """
    lab, name = namespace(spec), namespace(spec, node)
    for port in node.ports:
        # The kernel deletes the far end asynchronously, maybe after its name is needed again.
        _delete_link(spec, _far_end(spec, node, port))
    delete(name)
    run(["ip", "netns", "add", name], f"make the network namespace {name}")
    _settle(name)
    run(["ip", "-n", name, "link", "set", "lo", "up"], f"start the loopback of {name}")
    run(["ip", "-n", lab, "-batch", "-"], f"join {node.name} to the networks", stdin=render_ports(spec, node))


def render_taps(spec: LabSpec, node: Node) -> str:
    """The `ip -batch` lines that create the lab's ends of the interfaces of a UML node."""
    return _render_far_ends(spec, node, lambda here, port: f"tuntap add mode tap name {here}")


def make_taps(spec: LabSpec, node: Node) -> list[str]:
    """Connect a stopped UML node to the lab's bridges.

    :returns: names of the lab's ends, as the node's ports
    :raises LabError: when a step fails
    """
    delete_taps(spec, node)
    run(
        ["ip", "-n", namespace(spec), "-batch", "-"], f"join {node.name} to the networks", stdin=render_taps(spec, node)
    )
    return [_far_end(spec, node, port) for port in node.ports]


def delete_taps(spec: LabSpec, node: Node) -> None:
    """Delete the interfaces left by a UML node."""
    if (NAMESPACES / namespace(spec)).exists():
        for port in node.ports:
            _delete_link(spec, _far_end(spec, node, port))


def drops(spec: LabSpec) -> int | None:
    """Number of packets that tried to leave the lab, or None if its namespace is incomplete."""
    out = run(_nft(namespace(spec), "list", "counter", "inet", "lab", COUNTER), "read the counter", check=False)
    words = out.split()
    return int(words[words.index("packets") + 1]) if "packets" in words else None


def delete(name: str) -> None:
    """Delete a named network namespace and all that is in it; nothing happens if there is none."""
    if (NAMESPACES / name).exists():
        run(["ip", "netns", "delete", name], f"delete the network namespace {name}")


def delete_all(spec: LabSpec) -> None:
    """Delete every network namespace that carries the lab's prefix."""
    for path in sorted(NAMESPACES.glob(f"{spec.prefix}*")):
        if path.name == spec.prefix or path.name.startswith(f"{spec.prefix}-"):
            delete(path.name)


def _far_end(spec: LabSpec, node: Node, port: Port) -> str:
    """Name, in the lab's namespace, of the other end of a node's interface."""
    return f"n{spec.nodes.index(node)}-{port.interface}"


def _render_far_ends(spec: LabSpec, node: Node, add: Callable[[str, Port], str]) -> str:
    """The lines that make the far end of each interface, by the line that `add` gives, and put it on its bridge."""
    lines = []
    for port in node.ports:
        here = _far_end(spec, node, port)
        lines += [
            add(here, port),
            f"link set {here} addrgenmode none master {bridge(_position(spec, port))}",
            f"link set {here} up",
        ]
    return "\n".join(lines) + "\n"


def _position(spec: LabSpec, port: Port) -> int:
    """Position in the lab of a port's network."""
    return [network.name for network in spec.networks].index(port.network)


def _delete_link(spec: LabSpec, name: str) -> None:
    run(["ip", "-n", namespace(spec), "link", "delete", name], f"delete {name}", check=False)


def _nft(name: str, *words: str) -> list[str]:
    return ["nsenter", f"--net={NAMESPACES / name}", "nft", *words]


def _settle(name: str) -> None:
    """Route between the lab's networks; keep frames that stay on a bridge away from the firewall."""

    def write() -> None:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1" if name.count("-") == 1 else "0")
        for family in ("ip", "ip6", "arp"):
            # Absent without br_netfilter in the kernel, and shared by all namespaces before Linux 5.3.
            with contextlib.suppress(OSError):
                Path(f"/proc/sys/net/bridge/bridge-nf-call-{family}tables").write_text("0")

    inside(NAMESPACES / name, write)
