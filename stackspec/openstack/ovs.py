"""Open vSwitch: settings and bridges. Guide: neutron, `ovs-vsctl add-br`, netplan."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..inventory import Node
from ..resources.actions import AwaitCommand, Execute
from ..resources.base import Change, Context, Difference, Query, Resource, run
from ..site import Site
from .references import Id


def _table(name: str, *columns: str) -> Query:
    return run("ovs-vsctl", "--timeout=10", "--format=json", f"--columns={','.join(columns)}", "list", name)


def _rows(answer: dict[str, Any]) -> list[list[Any]]:
    """Rows of an `ovs-vsctl list`; empty if Open vSwitch is not running."""
    try:
        rows: list[list[Any]] = json.loads(answer["out"])["data"]
    except ValueError:
        return []
    return rows


@dataclass(frozen=True)
class OvsSetting(Resource):
    """A key of the switch's other_config, which it reads at startup."""

    key: str
    value: str

    @property
    def title(self) -> str:
        return f"Open vSwitch {self.key}"

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [_table("Open_vSwitch", "other_config")]

    def changes(self, context: Context) -> list[Change]:
        rows = _rows(context.facts[_table("Open_vSwitch", "other_config")])
        found = dict(rows[0][0][1]).get(self.key) if rows else None
        if found == self.value:
            return []
        option = f"other_config:{self.key}={self.value}"
        action = Execute(("ovs-vsctl", "--no-wait", "--timeout=10", "set", "Open_vSwitch", ".", option))
        difference = Difference(self.title, self.value, str(found))
        return [Change(f"set {self.title}", (difference,), "", (action,), marks=(self.title,))]


@dataclass(frozen=True)
class OvsBridge(Resource):
    """A bridge with a physical port, and the address that the node has on it.

    :param name: the bridge
    :param port: the interface in it
    :param datapath: system (the kernel's) or netdev (userspace)
    :param address: address with prefix length, set by the node's network configuration
    """

    name: str
    port: str
    datapath: str
    address: str

    @property
    def title(self) -> str:
        return f"bridge {self.name}"

    def _queries(self) -> tuple[Query, Query, Query]:
        address = run("ip", "-j", "address", "show", "dev", self.name)
        ports = run("ovs-vsctl", "--timeout=10", "list-ports", self.name)
        return _table("Bridge", "name", "datapath_type"), ports, address

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return self._queries()

    def changes(self, context: Context) -> list[Change]:
        bridges, ports, address = (context.facts[query] for query in self._queries())
        found = {row[0]: row[1] for row in _rows(bridges)}
        differences = []
        # "" in the switch's table means the default, the kernel's datapath.
        datapath = found.get(self.name, "absent") or "system"
        if datapath != self.datapath:
            differences.append(Difference(f"datapath of {self.name}", self.datapath, datapath))
        if self.port not in str(ports["out"]).split():
            differences.append(
                Difference(f"port of {self.name}", self.port, " ".join(str(ports["out"]).split()) or "none")
            )
        if self.address not in _addresses(address):
            differences.append(
                Difference(f"address of {self.name}", self.address, " ".join(_addresses(address)) or "none")
            )
        if not differences:
            return []
        argv = ["ovs-vsctl", "--timeout=20", "--may-exist", "add-br", self.name]
        argv += ["--", "set", "Bridge", self.name, f"datapath_type={self.datapath}"]
        argv += ["--", "--may-exist", "add-port", self.name, self.port]
        look = f"ip -o address show dev {self.name} | grep -qF ' {self.address} '"
        what = f"wait for {self.address} on {self.name}"
        actions = (
            # First: its link state is no longer checked once it is in the bridge.
            Execute(("ip", "link", "set", self.port, "up")),
            Execute(tuple(argv), units=("ovs-vswitchd",)),
            AwaitCommand(("sh", "-c", look), timeout=30.0, what=what, units=("systemd-networkd",)),
        )
        return [Change(f"create {self.title}", tuple(differences), "", actions)]


@dataclass(frozen=True)
class OvsNeutronPort(Resource):
    """An interface of the node for a neutron port.

    Open vSwitch stores it in its database and recreates the interface at each boot, so no script is needed (the
    guide's sleeps two minutes and contains the author's MAC, errata E124 to E126).

    :param bridge: the agent's bridge
    :param name: the interface
    :param port: neutron's port
    :param network: its network, which determines the MTU of the interface (erratum E122)
    """

    bridge: str
    name: str
    port: str
    network: str

    @property
    def title(self) -> str:
        return f"interface {self.name}"

    def _queries(self) -> tuple[Query, Query]:
        ports = run("ovs-vsctl", "--timeout=10", "list-ports", self.bridge)
        return _table("Interface", "name", "type", "mac", "mtu_request", "external_ids"), ports

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return self._queries()

    def changes(self, context: Context) -> list[Change]:
        interfaces, ports = (context.facts[query] for query in self._queries())
        mac = Id("port", self.port, "mac_address").resolve(context)
        mtu = Id("network", self.network, "mtu").resolve(context)
        identifiers = {
            "iface-status": "active",
            "attached-mac": str(mac),
            "iface-id": str(Id("port", self.port).resolve(context)),
            # Otherwise neutron-ovs-cleanup, which runs at boot, would remove it.
            "skip_cleanup": "true",
        }
        wanted = {"type": "internal", "mac": str(mac), "mtu_request": str(mtu), **identifiers}
        row = next((row for row in _rows(interfaces) if row[0] == self.name), None)
        found: dict[str, str] = {}
        if row is not None and self.name in str(ports["out"]).split():
            columns = dict(zip(("type", "mac", "mtu_request"), (str(value) for value in row[1:4]), strict=True))
            found = {**columns, **dict(row[4][1])}
        differences = [
            Difference(f"{key} of {self.title}", value, found.get(key, "none"))
            for key, value in wanted.items()
            if found.get(key) != value
        ]
        if not differences:
            return []
        argv = ["ovs-vsctl", "--timeout=20", "--may-exist", "add-port", self.bridge, self.name]
        argv += ["--", "set", "Interface", self.name, "type=internal", f'mac="{mac}"', f"mtu_request={mtu}"]
        for key, value in identifiers.items():
            argv += ["--", "set", "Interface", self.name, f'external-ids:{key}="{value}"']
        action = Execute(tuple(argv), units=("ovs-vswitchd",))
        return [Change(f"create {self.title}", tuple(differences), "", (action,), marks=(self.title,))]


def _addresses(answer: dict[str, Any]) -> list[str]:
    try:
        links = json.loads(answer["out"])
    except ValueError:
        return []
    return [f"{each['local']}/{each['prefixlen']}" for link in links for each in link.get("addr_info", ())]
