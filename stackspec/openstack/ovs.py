"""Open vSwitch: settings and bridges. Guide: neutron, `ovs-vsctl add-br`, netplan."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..inventory import Node
from ..resources.base import Change, Context, Difference, NodeAction, Query, Resource, run
from ..site import Site


def _table(name: str, *columns: str) -> Query:
    return run("ovs-vsctl", "--timeout=10", "--format=json", f"--columns={','.join(columns)}", "list", name)


def _rows(answer: dict[str, Any]) -> list[list[Any]]:
    """Rows of an `ovs-vsctl list`; none while Open vSwitch does not run."""
    try:
        rows: list[list[Any]] = json.loads(answer["out"])["data"]
    except ValueError:
        return []
    return rows


@dataclass(frozen=True)
class OvsSetting(Resource):
    """A key of other_config of the whole switch, which it reads when it starts."""

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
        argv = ["ovs-vsctl", "--no-wait", "--timeout=10", "set", "Open_vSwitch", "."]
        action: NodeAction = {"op": "command", "argv": [*argv, f"other_config:{self.key}={self.value}"]}
        return [
            Change(f"set {self.title}", (Difference(self.title, self.value, str(found)),), "", (action,), (self.title,))
        ]


@dataclass(frozen=True)
class OvsBridge(Resource):
    """A bridge with a physical port, and the address that the node has on it.

    :param name: the bridge
    :param port: the interface in it
    :param datapath: system (the kernel's) or netdev (userspace)
    :param address: address with prefix length which the node's network configuration gives it
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
        actions: tuple[NodeAction, ...] = (
            {"op": "command", "argv": argv, "units": ["ovs-vswitchd"]},
            {"op": "command", "argv": ["ip", "link", "set", self.port, "up"]},
            {
                "op": "await_command",
                "argv": ["sh", "-c", look],
                "timeout": 30.0,
                "what": f"wait for {self.address} on {self.name}",
                "units": ["systemd-networkd"],
            },
        )
        return [Change(f"make {self.title}", tuple(differences), "", actions)]


def _addresses(answer: dict[str, Any]) -> list[str]:
    try:
        links = json.loads(answer["out"])
    except ValueError:
        return []
    return [f"{each['local']}/{each['prefixlen']}" for link in links for each in link.get("addr_info", ())]
