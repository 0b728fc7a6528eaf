"""Disks: file systems on blank disks, and mounts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..inventory import Node
from ..site import Site
from .actions import AppendLine, Execute
from .base import Action, Change, Context, Difference, Query, Resource, disk, file, refusal

WIPED = file("/var/lib/stackspec/wiped")
"""File on a node with the ids of disks whose `wipe` in the inventory is used up, one per line."""


def may_be_wiped(context: Context, device: str, wipe: Iterable[str]) -> bool:
    """Whether the inventory allows wiping this disk, and the permission has not been used yet."""
    found = context.facts[disk(device)].get("id", "")
    return found in wipe and found not in str(context.facts[WIPED]["content"]).splitlines()


def use_up(context: Context, device: str, wipe: Iterable[str]) -> list[Change]:
    """AppendLine that the `wipe` of a disk is used up: the service owns it now."""
    if not may_be_wiped(context, device, wipe):
        return []
    found = context.facts[disk(device)]["id"]
    difference = Difference(f"wipe of {device}", f"used up for {found}", "not used up")
    return [Change(f"note that wipe is used up for {device}", (difference,), "", (AppendLine(WIPED.args[0], found),))]


def disk_obstacle(found: dict[str, Any], device: str, where: str, *, ours: bool, path: str = "", wipe: bool) -> str:
    """Why a disk cannot be used, or "": it is missing, in use, or contains data.

    :param found: the node's facts about it
    :param device: the disk
    :param where: the inventory key that lists it
    :param ours: whether its content was created by this site
    :param path: where it may be mounted
    :param wipe: whether it may be wiped
    """
    if not found["exists"]:
        return f"no device {device}, configured in {where}"
    if not found["block"]:
        return f"{device} is not a block device; list a disk in {where}"
    if elsewhere := [each for each in found["mounted"] if each != path]:
        return f"{device} is mounted at {', '.join(elsewhere)}; unmount it, or list another disk in {where}"
    if ours:
        return ""
    if found["holders"]:
        return f"{device} is in use by {', '.join(found['holders'])}; list another disk in {where}"
    if found["content"] and not wipe:
        name = found.get("id", "")
        lost = (
            f'to allow wiping it once, set wipe: ["{name}"] there'
            if name
            else f"to wipe it, clear it manually, since it has no serial number for wipe: blkdiscard --zeroout {device}"
        )
        return (
            f"{device} contains data ({words_for(found['content'])}), which is not overwritten; list another disk in "
            f"{where}, or {lost}"
        )
    return ""


def words_for(content: dict[str, str]) -> str:
    """Description of a disk's content."""
    kind = content.get("TYPE") or f"partition table {content.get('PTTYPE', '')}".strip()
    return f"{kind} {content['LABEL']}" if "LABEL" in content else kind


@dataclass(frozen=True)
class Xfs(Resource):
    """XFS on a whole disk, identified by its UUID. Other data on a disk is never destroyed without permission.

    :param device: the disk
    :param uuid: UUID of the file system
    :param path: its mount point, the only place where it may be mounted
    :param wipe: ids (serial numbers) of disks that may be wiped, once
    """

    device: str
    uuid: str
    path: str
    wipe: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"XFS on {self.device}"

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [disk(self.device), WIPED]

    def obstacles(self, context: Context) -> list[str]:
        reason = self._forbidden(context)
        return [reason] if reason else []

    def _forbidden(self, context: Context) -> str:
        found = context.facts[disk(self.device)]
        where = f"nodes.{context.node.name}.disks"
        wipe = may_be_wiped(context, self.device, self.wipe)
        return disk_obstacle(found, self.device, where, ours=self._is_ours(found["content"]), path=self.path, wipe=wipe)

    def changes(self, context: Context) -> list[Change]:
        content = context.facts[disk(self.device)]["content"]
        if self._is_ours(content):
            return use_up(context, self.device, self.wipe)
        # Without -f, mkfs itself refuses known signatures.
        force = ("-f",) if content else ()
        argv = ("mkfs.xfs", *force, "-m", f"uuid={self.uuid}", self.device)
        difference = Difference(self.device, f"XFS {self.uuid}", words_for(content) if content else "blank")
        action: Action = Execute(argv)
        if content and (reason := self._forbidden(context)):
            action = refusal(reason)
        made = Change(f"format {self.device}", (difference,), "", (action,))
        return [made, *use_up(context, self.device, self.wipe)]

    def _is_ours(self, content: dict[str, str]) -> bool:
        return content.get("TYPE") == "xfs" and content.get("UUID") == self.uuid


@dataclass(frozen=True)
class Mounted(Resource):
    """A disk that is mounted according to /etc/fstab.

    :param device: the disk
    :param path: where
    """

    device: str
    path: str

    @property
    def title(self) -> str:
        return f"{self.device} on {self.path}"

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [disk(self.device)]

    def changes(self, context: Context) -> list[Change]:
        if self.path in context.facts[disk(self.device)]["mounted"]:
            return []
        actions = (Execute(("mkdir", "-p", self.path)), Execute(("mount", self.path)))
        difference = Difference(self.device, f"mounted at {self.path}", "not mounted there")
        return [Change(f"mount {self.path}", (difference,), "", actions)]
