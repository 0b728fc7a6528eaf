"""Detects and repairs stuck volumes, snapshots and backups, which no service is processing any more."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openstack import exceptions

from ..inventory import Node
from ..resources.base import Query, run, unit
from ..transport import NodeConnection
from .kind import Found

if TYPE_CHECKING:
    from ..site import Site

Started = Callable[[str, str], "float | None"]
"""When a service (first argument) of a host (second) was started, in seconds since the epoch; None if not known."""
SCHEDULER, VOLUME, BACKUP, COMPUTE = "cinder-scheduler", "cinder-volume", "cinder-backup", "nova-compute"
AT_WORK: dict[str, dict[str, tuple[str, ...]]] = {
    "volume": {
        "creating": (SCHEDULER, VOLUME),
        "downloading": (VOLUME,),
        "uploading": (VOLUME,),
        "deleting": (VOLUME,),
        "extending": (VOLUME, COMPUTE),
        "retyping": (SCHEDULER, VOLUME, COMPUTE),
        "reserved": (COMPUTE,),
        "attaching": (COMPUTE,),
        "detaching": (COMPUTE,),
        "backing-up": (BACKUP,),
        "restoring-backup": (BACKUP,),
        "reverting": (VOLUME,),
    },
    "volume_snapshot": {
        "creating": (VOLUME,),
        "deleting": (VOLUME,),
        "backing-up": (BACKUP,),
        "restoring": (VOLUME,),
    },
    "backup": {"creating": (BACKUP,), "restoring": (BACKUP,), "deleting": (BACKUP,)},
}
"""kind -> status -> the services that may be processing an object in that status: those that own the operation, not
those that they call for parts of it."""
FAILED = {"error_deleting": "error", "error_backing-up": "available"}
"""Final statuses in which the API refuses deletion -> the status to set instead."""
WHOLE = ("uploading", "reserved", "attaching", "detaching", "backing-up", "error_backing-up")
"""Statuses of a volume whose content is unchanged, however the operation ended."""
NOW = run("date", "+%s.%N")
PATIENCE = 60
"""Seconds after a change, and after the start of the processing service, in which it may still be in progress."""
TRANSITION_LIMIT = 3600
"""Seconds after which it is stuck in any case."""
_COLLECTIONS = {"volume": "volumes", "volume_snapshot": "snapshots", "backup": "backups"}


@dataclass(frozen=True)
class Stuck:
    """An object in a status in which it cannot be deleted, and which no service is processing.

    :param found: the object
    :param status: its status in the API
    :param truth: the correct status
    :param dead: attachments of a volume to servers that do not have it
    """

    found: Found
    status: str
    truth: str
    dead: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.found}: {self.status}, but no service is processing it"


class NodeClock:
    """Start times of services, from the nodes of a site, converted to the controller's clock.

    The cloud's timestamps are the controller's; the clock of a node may differ.

    :param site: None if nodes are not accessible
    """

    def __init__(self, site: Site | None) -> None:
        self._site = site
        self._known: dict[tuple[str, str], float | None] = {}
        self._ahead: float | None = None

    def __call__(self, service: str, host: str) -> float | None:
        """Seconds since the epoch; None if the host is not a node of the site, or the service is not running there."""
        node = self._site.nodes.get(host.split(".")[0]) if self._site is not None else None
        if self._site is None or node is None:
            return None
        if (service, node.name) not in self._known:
            queries = [unit(name) for name in self._site.release.unit(service)]
            facts, ahead = self._look(node, queries)
            runs = all(facts[query]["active"] == "active" for query in queries)
            started = max(float(facts[query]["started"]) for query in queries) - ahead + self._controller_ahead()
            self._known[service, node.name] = started if runs else None
        return self._known[service, node.name]

    def _controller_ahead(self) -> float:
        assert self._site is not None
        if self._ahead is None:
            _, self._ahead = self._look(self._site.controller, [])
        return self._ahead

    def _look(self, node: Node, queries: list[Query]) -> tuple[dict[Query, Any], float]:
        """A node's answer, and how many seconds its clock is ahead of this machine's."""
        assert self._site is not None
        connection = NodeConnection(node, self._site.inventory.ssh)
        try:
            facts = connection.facts(queries)
            before = time.time()
            there = float(connection.facts([NOW])[NOW]["out"])
            return facts, there - (before + time.time()) / 2
        finally:
            connection.close()


def stuck(connection: Any, objects: Iterable[Found], started: Started, *, patience: float = PATIENCE) -> list[Stuck]:
    """The stuck ones among `objects`.

    :param connection: an administrator's
    :param objects: of any kind; only volumes, snapshots and backups are considered
    :param started: when services were started
    :param patience: seconds for which a change, or the start of a service, is too recent to decide
    """
    wanted = [each for each in objects if each.kind.name in _COLLECTIONS]
    if not wanted:
        return []
    services = list(connection.block_storage.services())
    # The cloud's own clock: each service that is up has reported within the last minute.
    now = max((_moment(each.updated_at) for each in services), default=0.0)
    backups = {str(each.host) for each in services if each.binary == BACKUP}
    schedulers = {str(each.host) for each in services if each.binary == SCHEDULER}
    left = []
    for each in wanted:
        try:
            found = _read(connection, each)
        except exceptions.NotFoundException:
            continue
        workers = AT_WORK[each.kind.name].get(found.status)
        if found.status not in FAILED:
            if workers is None:
                continue
            hosts = {BACKUP: backups, VOLUME: _volume_hosts(connection, each.kind.name, found)}
            hosts[COMPUTE] = _compute_hosts(connection, each.kind.name, found)
            # An object with a host has left the scheduler.
            hosts[SCHEDULER] = set() if hosts[VOLUME] and found.status == "creating" else schedulers
            times = [started(service, host) for service in workers for host in hosts[service]]
            changed = _moment(found.updated_at or found.created_at)
            if not _left(changed, now, times, patience):
                continue
        left.append(_truth(connection, each, found))
    return left


def repair(connection: Any, each: Stuck) -> str:
    """Set a stuck object to its correct status, so that it can be deleted, or detached by nova.

    :param connection: an administrator's
    :returns: a line about it
    """
    service = connection.block_storage
    for attachment in each.dead:
        # Also removes the target. If that fails, the record is removed with the status below.
        try:
            service.delete_attachment(attachment, ignore_missing=True)
        except exceptions.SDKException:
            continue
    words = {"status": each.truth}
    if each.found.kind.name == "volume":
        words["attach_status"] = "attached" if each.truth == "in-use" else "detached"
    path = f"/{_COLLECTIONS[each.found.kind.name]}/{each.found.key}/action"
    exceptions.raise_from_response(service.post(path, json={"os-reset_status": words}))
    return f"set to {each.truth}: {each}"


def set_right(connection: Any, objects: Iterable[Found], site: Site | None) -> Iterator[str]:
    """Repair stuck `objects`; yield a line for each.

    :param connection: an administrator's; for other users, inaccessible objects are left unchanged
    :param site: provides the start times of services; without it only objects an hour old count as stuck
    """
    for each in stuck(connection, objects, NodeClock(site)):
        try:
            yield repair(connection, each)
        except exceptions.SDKException as error:
            yield f"{each}; it could not be set to {each.truth}: {error}"


def _read(connection: Any, each: Found) -> Any:
    name = "snapshot" if each.kind.name == "volume_snapshot" else each.kind.name
    return getattr(connection.block_storage, f"get_{name}")(each.key)


def _moment(text: str | None) -> float:
    """Seconds since the epoch for a UTC time of the API."""
    if not text:
        return 0.0
    moment = datetime.datetime.fromisoformat(text.removesuffix("Z"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp()


def _left(changed: float, now: float, started: Iterable[float | None], patience: float) -> bool:
    """Whether all services that may have processed a change made at `changed` have restarted since and abandoned it."""
    if now - changed >= TRANSITION_LIMIT:
        return True
    anew = all(start is not None and changed < start and now - start >= patience for start in started)
    return anew and now - changed >= patience


def _volume_hosts(connection: Any, kind: str, found: Any) -> set[str]:
    """The host of the cinder-volume that owns a volume or snapshot; none until the scheduler has chosen one."""
    try:
        volume = found if kind == "volume" else connection.block_storage.get_volume(found.volume_id)
    except exceptions.NotFoundException:
        return set()
    return {str(volume.host).split("@")[0]} if volume.host else set()


def _compute_hosts(connection: Any, kind: str, found: Any) -> set[str]:
    """The hosts of the servers to which a volume is, or is being, attached."""
    hosts = set()
    for each in _attachments(connection, found) if kind == "volume" else ():
        try:
            hosts.add(str(connection.compute.get_server(each.instance).compute_host))
        except exceptions.NotFoundException:
            continue
    return hosts


def _attachments(connection: Any, volume: Any) -> list[Any]:
    """The volume's attachments to servers, including incomplete ones, which the volume does not show."""
    found = connection.block_storage.attachments(volume_id=volume.id, all_projects=True)
    return [each for each in found if each.instance]


def _truth(connection: Any, each: Found, found: Any) -> Stuck:
    if each.kind.name == "backup":
        return Stuck(each, found.status, "available" if found.status == "restoring" else "error")
    if each.kind.name == "volume_snapshot":
        return Stuck(each, found.status, "available" if found.status == "backing-up" else "error")
    attachments = _attachments(connection, found)
    dead = tuple(one.id for one in attachments if not _has(connection, one.instance, found.id))
    if len(dead) < len(attachments):
        return Stuck(each, found.status, "in-use", dead)
    return Stuck(each, found.status, "available" if found.status in WHOLE else "error", dead)


def _has(connection: Any, server: str, volume: str) -> bool:
    """Whether nova has attached the volume to the server."""
    try:
        return any(each.volume_id == volume for each in connection.compute.volume_attachments(server))
    except exceptions.NotFoundException:
        return False
