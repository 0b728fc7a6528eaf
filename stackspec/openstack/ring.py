"""Swift's rings: which disk has which part of the names. Guide: Swift / 创建和分发初始环."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..inventory import Node
from ..resources.base import Change, Context, Difference, ManagedFile, Query, file, run
from ..site import Site

_ROW = re.compile(r"(?m)^\s*\d+\s+(\d+)\s+(\d+)\s+(\S+):(\d+)\s+\S+\s+(\S+)\s+([\d.]+)\s+\d+\s")
"""A device as swift-ring-builder lists it: id, region, zone, address, replication address, name, weight, partitions."""
CURRENT = "is up-to-date"
"""What it says of a ring file that holds what the builder file says."""


@dataclass(frozen=True)
class RingDevice:
    """A disk in a ring.

    :param zone: disks of one zone fail together
    :param ip: address of the node
    :param port: where the node's server listens
    :param name: of the directory where the disk is mounted
    """

    zone: int
    ip: str
    port: int
    name: str
    weight: int = 100

    @property
    def words(self) -> tuple[str, ...]:
        """As swift-ring-builder is told."""
        options = {"region": 1, "zone": self.zone, "ip": self.ip, "port": self.port, "device": self.name}
        return tuple(w for key, value in {**options, "weight": self.weight}.items() for w in (f"--{key}", str(value)))

    def __str__(self) -> str:
        return f"z{self.zone}-{self.ip}:{self.port}/{self.name}"


@dataclass(frozen=True)
class Ring(ManagedFile):
    """A ring file and the builder file from which it is made, on this node.

    The builder remembers where everything is: it is made once, and then only told which disks come and go.

    :param path: the ring file, NAME.ring.gz; NAME.builder is beside it
    :param devices: the disks
    :param part_power: two to the power of it is the number of partitions, for ever
    :param replicas: copies of everything
    :param min_part_hours: hours before a partition may move again
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
        found = {RingDevice(int(z), ip, int(p), n, round(float(w))) for _, z, ip, p, n, w in _ROW.findall(out)}
        gone = sorted(found - set(self.devices), key=str)
        new = [each for each in self.devices if each not in found]
        if there and not gone and not new and CURRENT in out:
            return []
        calls: list[tuple[str, ...]] = []
        if not there:
            calls.append(("create", str(self.part_power), str(self.replicas), str(self.min_part_hours)))
        calls += [("add", *each.words) for each in new]
        calls += [("remove", *each.words) for each in gone]
        differences = [Difference(f"{self.builder}: {each}", "there", "not there") for each in new]
        differences += [Difference(f"{self.builder}: {each}", "not there", "there") for each in gone]
        if not differences:
            differences = [Difference(self.path, "made of the builder file as it is", "missing or older")]
        # Status 1 is a warning, for example that the disks are not of one size.
        actions = [
            {"op": "command", "argv": ("swift-ring-builder", self.builder, *call), "expect": (0, 1)}
            for call in [*calls, ("rebalance",)]
        ]
        return [Change(f"build {self.path}", tuple(differences), "", tuple(actions), (self.path,))]
