"""LVM: device filters, and volume groups on whole disks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..inventory import Node
from ..site import Site
from .actions import Execute, NodeAction, Write
from .base import (
    Action,
    Change,
    Context,
    Difference,
    ManagedFile,
    Query,
    Resource,
    disk,
    file,
    refusal,
    run,
    unified_diff,
)
from .disks import WIPED, disk_obstacle, may_be_wiped, use_up, words_for

FILTERS = ("filter", "global_filter")
"""One applies to commands, the other also to automatic activation at boot and when a disk appears."""
_SETTING = (
    rf'(?m)^[ \t]*(?:devices/)?({"|".join(FILTERS)})[ \t]*=[ \t]*((?:\[(?:[^\]"]|"[^"]*")*\]|"[^"]*"))[^\n]*(?:\n|\Z)'
)
NO_COMMAND = 127
"""Exit status if the command does not exist."""
TREE = run("lsblk", "--json", "--paths", "--output", "NAME,TYPE,TRAN,FSTYPE,MOUNTPOINTS")
_ALL = 'devices { filter = [ "a|.*|" ] global_filter = [ "a|.*|" ] }'
PHYSICAL = run("pvs", "--config", _ALL, "--reportformat", "json", "--options", "pv_name,vg_name")


@dataclass(frozen=True)
class LvmFilter(ManagedFile):
    """LVM sees only these devices and those of the node's own system.

    Servers create volume groups inside their volumes. A node with such a volume as a disk must ignore them, while a
    filter without the system's own disks would keep the node from booting (erratum E59).

    :param path: LVM's configuration; if it is missing there is no LVM, and nothing to do
    :param devices: devices used by services
    """

    devices: tuple[str, ...] = ()

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [*super().queries(site, node), TREE, *(disk(device) for device in self.devices)]

    def obstacles(self, context: Context) -> list[str]:
        problem = failure(context.facts[TREE])
        return [problem] if problem and context.facts[file(context.site.release.path(self.path))]["exists"] else []

    def changes(self, context: Context) -> list[Change]:
        path = context.site.release.path(self.path)
        found = context.facts[file(path)]
        before = str(found["content"])
        if not found["exists"]:
            return []
        if problem := failure(context.facts[TREE]):
            difference = Difference(path, "the node's own physical volumes in the filter", problem)
            return [Change(f"write {path}", (difference,), "", (refusal(problem),))]
        named = {context.facts[disk(device)].get("path", device) for device in self.devices}
        own = [name for name in local_volumes(context.facts[TREE]) if name not in named]
        value = filter_of([*self.devices, *own])
        settings = [(match[1], " ".join(match[2].split())) for match in re.finditer(_SETTING, before)]
        if sorted(settings) == sorted((name, value) for name in FILTERS):
            return []
        differences = []
        for name in FILTERS:
            now = ", ".join(value for key, value in settings if key == name) or "not set"
            if now != value:
                differences.append(Difference(f"devices/{name}", value, now))
        after = with_filter(before, value)
        actions: list[NodeAction] = []
        if own:
            # Tested before it is written: the system's own devices must pass it.
            trial = f"devices {{ {' '.join(f'{name} = {value}' for name in FILTERS)} }}"
            actions.append(Execute(("pvs", "--config", trial, *own)))
        actions.append(Write(path, after))
        return [Change(f"write {path}", tuple(differences), unified_diff(path, before, after), tuple(actions), (path,))]


def filter_of(devices: Iterable[str]) -> str:
    """A filter that accepts only `devices`. Anchored, since the guide's also matches any other path with sdb in it."""
    patterns = [*(f"a|^{device}$|" for device in devices), "r|.*|"]
    return "[ " + ", ".join(f'"{pattern}"' for pattern in patterns) + " ]"


def with_filter(text: str, value: str) -> str:
    """lvm.conf with this filter as `filter` and `global_filter`, and no other."""
    text = re.sub(_SETTING, "", text)
    lines = "".join(f"\t{name} = {value}\n" for name in FILTERS)
    section = re.search(r"(?m)^[ \t]*devices[ \t]*\{[^\n]*\n", text)
    if section is None:
        return f"{text.rstrip()}\n\ndevices {{\n{lines}}}\n".lstrip()
    return text[: section.end()] + lines + text[section.end() :]


def failure(answer: dict[str, Any]) -> str:
    """Why the output of a JSON command is unusable, or ""."""
    try:
        json.loads(answer["out"])
    except ValueError:
        pass
    else:
        if answer["status"] == 0:
            return ""
    said = " ".join(str(answer["err"]).split()) or "it printed no JSON"
    return f"its disks are unknown: listing them failed with status {answer['status']}: {said}"


def local_volumes(answer: dict[str, Any]) -> list[str]:
    """Physical volumes of the node itself, according to lsblk.

    Excludes those inside logical volumes, and those on iSCSI disks, unless the system is on one.
    """

    def used(device: dict[str, Any]) -> bool:
        mounted = any(device.get("mountpoints") or ())
        return mounted or any(used(child) for child in device.get("children", ()))

    def walk(devices: list[dict[str, Any]]) -> Iterator[str]:
        for device in devices:
            remote = device.get("tran") == "iscsi" and not used(device)
            if device["type"] == "lvm" or remote:
                continue
            # If the type is unknown, its holders tell.
            on_top = any(child["type"] == "lvm" for child in device.get("children", ()))
            if device.get("fstype") == "LVM2_member" or on_top:
                yield device["name"]
            yield from walk(device.get("children", []))

    return sorted(set(walk(json.loads(answer["out"])["blockdevices"])))


@dataclass(frozen=True)
class VolumeGroup(Resource):
    """A volume group on whole disks, identified by its name. Other data is never destroyed without permission.

    :param name: its name
    :param devices: the disks
    :param where: the inventory key that lists them
    :param wipe: ids (serial numbers) of disks that may be wiped, once
    """

    name: str
    devices: tuple[str, ...]
    where: str
    wipe: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"volume group {self.name}"

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [PHYSICAL, WIPED, *(disk(device) for device in self.devices)]

    def obstacles(self, context: Context) -> list[str]:
        if problem := _problem(context.facts[PHYSICAL]):
            return [problem]
        groups = _groups(context.facts[PHYSICAL])
        reasons = [self._forbidden(context, device, groups) for device in self.devices]
        named = {context.facts[disk(device)].get("path", device) for device in self.devices}
        for device, group in groups.items():
            if group == self.name and device not in named:
                reasons.append(
                    f"{device} is also in the volume group {self.name}; list it in {self.where}, or remove it "
                    f"from the group (pvmove {device}; vgreduce {self.name} {device})"
                )
        return [reason for reason in reasons if reason]

    def _forbidden(self, context: Context, device: str, groups: dict[str, str]) -> str:
        found = context.facts[disk(device)]
        # A physical volume without a group is empty: it was created by a killed run.
        group = groups.get(found.get("path", device))
        ours, wipe = group in (self.name, ""), may_be_wiped(context, device, self.wipe)
        reason = disk_obstacle(found, device, self.where, ours=ours, wipe=wipe)
        return f"{reason} ({device} is in the volume group {group})" if reason and group else reason

    def changes(self, context: Context) -> list[Change]:
        if problem := _problem(context.facts[PHYSICAL]):
            return [
                Change(f"create {self.title}", (Difference(self.title, "present", problem),), "", (refusal(problem),))
            ]
        groups = _groups(context.facts[PHYSICAL])
        used = [change for device in self.devices for change in use_up(context, device, self.wipe)]
        differences = []
        actions: list[Action] = []
        new = []
        for device in self.devices:
            found = context.facts[disk(device)]
            group = groups.get(found.get("path", device))
            if group == self.name:
                continue
            new.append(device)
            content = words_for(found["content"]) if found["content"] else "blank"
            differences.append(Difference(device, f"in {self.title}", content))
            if group != "":
                if found["content"] and (reason := self._forbidden(context, device, groups)):
                    actions.append(refusal(reason))
                elif found["content"]:
                    actions.append(Execute(("wipefs", "--all", device)))
                # Without --yes it refuses disks that are not blank, since nobody answers its prompt.
                actions.append(Execute(("pvcreate", device)))
        if not new:
            return used
        grown = self.name in groups.values()
        actions.append(Execute(("vgextend" if grown else "vgcreate", self.name, *new)))
        made = Change(f"{'extend' if grown else 'create'} {self.title}", tuple(differences), "", tuple(actions))
        return [made, *used]


def _problem(answer: dict[str, Any]) -> str:
    """Why the physical volumes are unknown, or ""; without LVM on the node there are none."""
    return "" if answer["status"] == NO_COMMAND else failure(answer)


def _groups(answer: dict[str, Any]) -> dict[str, str]:
    """Device of each physical volume -> its group, "" for none. Empty if the node has no LVM."""
    if answer["status"] == NO_COMMAND:
        return {}
    rows = json.loads(answer["out"])["report"][0]["pv"]
    return {row["pv_name"]: row["vg_name"] for row in rows}
