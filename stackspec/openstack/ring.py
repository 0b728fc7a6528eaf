"""Swift's rings: the mapping of partitions to disks. Guide: Swift / 创建和分发初始环."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..inventory import Node
from ..resources.actions import Execute
from ..resources.base import Change, Context, Difference, ManagedFile, Query, file, run
from ..site import Site

_ROW = re.compile(
    r"(?m)^ *\d+ +\d+ +(?P<zone>\d+) +(?P<ip>\S+):(?P<port>\d+) +\S+ +(?P<name>\S+) +[\d.]+ +(?P<parts>\d+) "
    r"+\S+ *(?P<flags>\S*)"
)
"""A device as swift-ring-builder lists it: id, region, zone, addresses, name, weight, partitions, balance, flags."""
CURRENT = "is up-to-date"
"""Its output if the ring file matches the builder file."""


@dataclass(frozen=True)
class RingDevice:
    """A disk in a ring.

    :param zone: failure zone
    :param ip: address of the node
    :param port: port of the node's server
    :param name: name of the mount point's directory
    """

    zone: int
    ip: str
    port: int
    name: str
    weight: int = 100

    @property
    def words(self) -> tuple[str, ...]:
        """The device in swift-ring-builder's notation."""
        options = {"region": 1, "zone": self.zone, "ip": self.ip, "port": self.port, "device": self.name}
        return tuple(w for key, value in {**options, "weight": self.weight}.items() for w in (f"--{key}", str(value)))

    def __str__(self) -> str:
        return f"z{self.zone}-{self.ip}:{self.port}/{self.name}"


@dataclass(frozen=True)
class Ring(ManagedFile):
    """A ring file and its builder file, on this node.

    The builder file stores all placements: it is created once; later only disks are added and removed.

    :param path: the ring file, NAME.ring.gz; NAME.builder is next to it
    :param devices: the disks
    :param part_power: the number of partitions is two to this power, and cannot be changed
    :param replicas: number of replicas
    :param min_part_hours: minimum hours between two moves of a partition
    """

    devices: tuple[RingDevice, ...]
    part_power: int = 10
    replicas: int = 2
    min_part_hours: int = 1

    @property
    def builder(self) -> str:
        """The builder file."""
        return str(PurePosixPath(self.path).with_name(PurePosixPath(self.path).name.replace(".ring.gz", ".builder")))

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [run("swift-ring-builder", self.builder), file(self.path), file(self.builder)]

    def changes(self, context: Context) -> list[Change]:
        out = context.facts[run("swift-ring-builder", self.builder)]["out"]
        there = context.facts[file(self.builder)]["exists"]
        rows = {_device(row): row for row in _ROW.finditer(out)}
        found = {each for each, row in rows.items() if row["flags"] != "DEL"}
        gone = sorted(found - set(self.devices), key=str)
        new = [each for each in self.devices if each not in found]
        # After a kill, or if partitions may not move yet.
        idle = [each for each in self.devices if each in found and rows[each]["parts"] == "0"]
        if there and CURRENT in out and not (gone or new or idle):
            return []
        calls: list[tuple[str, ...]] = []
        if not there:
            calls.append(("create", str(self.part_power), str(self.replicas), str(self.min_part_hours)))
        calls += [("add", *each.words) for each in new]
        calls += [("remove", *each.words) for each in gone]
        moves = gone or new or idle or len(found) < len(rows)
        calls.append(("rebalance",) if moves else ("write_ring",))
        differences = [Difference(f"{self.builder}: {each}", "present", "absent") for each in new]
        differences += [Difference(f"{self.builder}: {each}", "absent", "present") for each in gone]
        hours = f"none; they may move {self.min_part_hours} h after the last move"
        differences += [Difference(f"{self.builder}: partitions of {each}", "some", hours) for each in idle]
        if not differences:
            differences = [Difference(self.path, "made from the current builder file", "missing or older")]
        # Status 1 is a warning, for example about disks of different sizes.
        actions = tuple(Execute(("swift-ring-builder", self.builder, *call), expect=(0, 1)) for call in calls)
        return [Change(f"build {self.path}", tuple(differences), "", actions, (self.path,))]


def _device(row: re.Match[str]) -> RingDevice:
    return RingDevice(int(row["zone"]), row["ip"], int(row["port"]), row["name"])
