"""Disks: a file system made on a blank one, and mounted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..inventory import Node
from ..site import Site
from .base import Change, Context, Difference, Query, Resource, disk


def what_forbids(found: dict[str, Any], device: str, where: str, *, ours: bool, path: str = "", wipe: bool) -> str:
    """Why a disk cannot be taken, or "": it is not there, in use, or holds what may not be lost.

    :param found: what the node says of it
    :param device: the disk
    :param where: the key of the inventory that names it
    :param ours: whether what is on it was made by this site
    :param path: where it may be mounted
    :param wipe: whether what is on it may be lost
    """
    if not found["exists"]:
        return f"no device {device}, which the inventory names at {where}"
    if not found["block"]:
        return f"{device} is no block device; name a disk at {where}"
    if elsewhere := [each for each in found["mounted"] if each != path]:
        return f"{device} is mounted at {', '.join(elsewhere)}; unmount it, or name another disk at {where}"
    if ours:
        return ""
    if found["holders"]:
        return f"{device} is in use by {', '.join(found['holders'])}; name another disk at {where}"
    if found["content"] and not wipe:
        return (
            f"{device} holds data ({words_for(found['content'])}), which is not overwritten; name another disk at "
            f"{where}, or say wipe: true there if all of it may be lost"
        )
    return ""


def words_for(content: dict[str, str]) -> str:
    """What is on a disk, in words."""
    kind = content.get("TYPE") or f"partition table {content.get('PTTYPE', '')}".strip()
    return f"{kind} {content['LABEL']}" if "LABEL" in content else kind


@dataclass(frozen=True)
class Xfs(Resource):
    """An XFS on a whole disk, known again by its UUID. What a disk holds otherwise is never lost unasked.

    :param device: the disk
    :param uuid: UUID of the file system
    :param path: where it is to be mounted: only there it may be in use
    :param wipe: whether what is on the disk may be lost
    """

    device: str
    uuid: str
    path: str
    wipe: bool = False

    @property
    def title(self) -> str:
        return f"XFS on {self.device}"

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [disk(self.device)]

    def obstacles(self, context: Context) -> list[str]:
        found = context.facts[disk(self.device)]
        where = f"nodes.{context.node.name}.disks"
        ours = self._is_ours(found["content"])
        reason = what_forbids(found, self.device, where, ours=ours, path=self.path, wipe=self.wipe)
        return [reason] if reason else []

    def changes(self, context: Context) -> list[Change]:
        content = context.facts[disk(self.device)]["content"]
        if self._is_ours(content):
            return []
        # Without -f, mkfs itself refuses what is not blank.
        force = ("-f",) if self.wipe and content else ()
        argv = ("mkfs.xfs", *force, "-m", f"uuid={self.uuid}", self.device)
        difference = Difference(self.device, f"XFS {self.uuid}", words_for(content) if content else "blank")
        action = {"op": "command", "argv": argv, "timeout": 600.0}
        return [Change(f"format {self.device}", (difference,), "", (action,))]

    def _is_ours(self, content: dict[str, str]) -> bool:
        return content.get("TYPE") == "xfs" and content.get("UUID") == self.uuid


@dataclass(frozen=True)
class Mounted(Resource):
    """A disk that is mounted as /etc/fstab says.

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
        calls = (("mkdir", "-p", self.path), ("mount", self.path))
        difference = Difference(self.device, f"mounted at {self.path}", "not mounted there")
        return [
            Change(f"mount {self.path}", (difference,), "", tuple({"op": "command", "argv": argv} for argv in calls))
        ]
