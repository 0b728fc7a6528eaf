"""Rings of swift: created once, and changed when disks are added or removed."""

from __future__ import annotations

from typing import Any

import pytest

from stackspec.openstack import Ring, RingDevice
from stackspec.resources.base import file, run

from .bare import ChangeOf, answer, text_file

DEVICES = tuple(RingDevice(zone, f"10.0.0.{zone}0", 6200, name) for zone in (1, 2) for name in ("sdb", "sdc"))
HEAD = """\
object.builder, build version 5, id 96fe5b559334413c908129725f29dbaa
1024 partitions, 2.000000 replicas, 1 regions, 2 zones, 4 devices, 0.00 balance, 0.00 dispersion
The minimum number of hours before a partition can be reassigned is 1 (0:59:16 remaining)
The overload factor is 0.00% (0.000000)
"""


def shown(devices: Any, state: str = "is up-to-date", **tails: Any) -> Any:
    """Output of swift-ring-builder; `tails` are weight, partitions, balance and flags by device name."""
    text = (
        f"{HEAD}Ring file object.ring.gz {state}\nDevices:   id region zone ip address:port replication ip:port  name"
    )
    text += " weight partitions balance flags meta\n"
    for number, each in enumerate(devices):
        place, tail = f"{each.ip}:{each.port}", tails.get(each.name, "100.00        512    0.00       ")
        text += f"            {number}      1    {each.zone}  {place}      {place}   {each.name} {tail}\n"
    return answer(text)


class TestRing:
    """The builder file has the state; the ring file is generated from it."""

    resource = Ring("/etc/swift/object.ring.gz", DEVICES)

    def calls(self, change: ChangeOf, devices: Any, state: str = "is up-to-date", **tails: Any) -> Any:
        known = {
            run("swift-ring-builder", self.resource.builder): shown(devices, state, **tails),
            file(self.resource.builder): text_file(""),
        }
        made = change(self.resource, known)
        return [action.argv[2:] for action in made.actions] if made else []

    def test_ring_is_created(self, change: ChangeOf) -> None:
        """Created as in the guide, each disk added once, and balanced."""
        made = change(self.resource)
        assert {action.argv[:2] for action in made.actions} == {("swift-ring-builder", "/etc/swift/object.builder")}
        first, *added, last = [action.argv[2:] for action in made.actions]
        assert (first, last) == (("create", "10", "2", "1"), ("rebalance",))
        assert [words[0] for words in added] == ["add"] * 4
        assert " ".join(added[2]) == "add --region 1 --zone 2 --ip 10.0.0.20 --port 6200 --device sdb --weight 100"
        assert made.touches == ("/etc/swift/object.ring.gz",)

    def test_current_ring_is_unchanged(self, change: ChangeOf) -> None:
        """The same disks in any order, and a current ring file."""
        assert self.calls(change, DEVICES[::-1]) == []

    @pytest.mark.parametrize(
        "state", ["is obsolete", "not found, probably it hasn't been written yet", "is invalid, reason"]
    )
    def test_killed_before_the_ring_file_was_written(self, change: ChangeOf, state: str) -> None:
        """The builder file is complete and the ring file is outdated: nothing has to be rebalanced."""
        assert self.calls(change, DEVICES, state) == [("write_ring",)]

    def test_killed_before_the_rebalance(self, change: ChangeOf) -> None:
        """The builder file has a new or removed disk, and nothing has been moved yet."""
        new = self.calls(change, DEVICES, "is obsolete", sdc="100.00          0 -100.00       ")
        leaving = RingDevice(2, "10.0.0.20", 6200, "sdz")
        gone = self.calls(change, (*DEVICES, leaving), "is obsolete", sdz="  0.00        512  999.99   DEL ")
        assert new == gone == [("rebalance",)]

    def test_partitions_that_may_not_move_yet(self, change: ChangeOf) -> None:
        """The ring file is current, but a disk has no partitions: the step is not done."""
        assert self.calls(change, DEVICES, sdc="100.00          0 -100.00       ") == [("rebalance",)]

    def test_disks_are_added_and_removed(self, change: ChangeOf) -> None:
        """Placements are preserved: the ring is changed, not recreated."""
        old = RingDevice(2, "10.0.0.20", 6200, "sdz")
        found = self.calls(change, (*DEVICES[:3], old))
        calls = [" ".join(words[:1] + words[1:][-4:]) for words in found]
        assert calls == ["add --device sdc --weight 100", "remove --device sdz --weight 100", "rebalance"]
