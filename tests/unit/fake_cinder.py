"""A simulated cinder with one object, and a cloud that has it together with the servers of nova."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any

from openstack import exceptions

from stackspec.openstack.block_storage import BACKUP, SCHEDULER, VOLUME
from stackspec.openstack.kind import Found
from stackspec.openstack.kinds import BY_NAME

NOW = 1_800_000_000.0
"""The time at cinder's services."""
RUN = "ss-20261125-001500-3f2a"


def at(seconds: float) -> str:
    """A timestamp as in the API, this many seconds ago."""
    moment = datetime.datetime.fromtimestamp(NOW - seconds, datetime.timezone.utc)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")


class BlockStorage:
    """A simulated cinder that records its calls."""

    def __init__(
        self, status: str, ago: float, *, attached: tuple[str, ...] = (), host: str = "storage1@lvm#lvm"
    ) -> None:
        self.log: list[Any] = []
        self.refuses = False
        self.attached = attached
        self.found = SimpleNamespace(
            id="v", status=status, updated_at=at(ago), created_at=at(ago), host=host, volume_id="v"
        )

    def services(self) -> Any:
        names = {SCHEDULER: "controller", VOLUME: "storage1@lvm", BACKUP: "storage1"}
        return [SimpleNamespace(binary=name, host=host, updated_at=at(0)) for name, host in names.items()]

    def get_volume(self, key: str) -> Any:
        if key == "gone":
            raise exceptions.NotFoundException("gone")
        return self.found

    get_snapshot = get_backup = get_volume

    def attachments(self, *, volume_id: str, all_projects: bool) -> Any:
        assert (volume_id, all_projects) == ("v", True)
        return [SimpleNamespace(id=f"a-{server}", instance=server) for server in self.attached]

    def delete_attachment(self, key: str, ignore_missing: bool) -> None:
        self.log.append(f"delete {key}")
        if self.refuses:
            raise exceptions.ConflictException("in use")

    def post(self, path: str, json: Any) -> Any:
        self.log.append((path, json["os-reset_status"]))
        return SimpleNamespace(
            status_code=403 if self.refuses else 202,
            headers={},
            content=b"",
            reason="Forbidden",
            url=path,
            request=None,
        )


def cloud(storage: BlockStorage, servers: dict[str, list[str]] | None = None) -> Any:
    """A cloud where nova has these servers, each with its volumes."""

    def get_server(key: str) -> Any:
        if key not in (servers or {}):
            raise exceptions.NotFoundException("no such server")
        return SimpleNamespace(compute_host="compute1")

    def volume_attachments(key: str) -> Any:
        get_server(key)
        return [SimpleNamespace(volume_id=volume) for volume in (servers or {})[key]]

    compute = SimpleNamespace(get_server=get_server, volume_attachments=volume_attachments)
    return SimpleNamespace(block_storage=storage, compute=compute)


def thing(kind: str = "volume", key: str = "v") -> Found:
    """An object of the run."""
    return Found(None, BY_NAME[kind], key, f"{RUN}-{kind}")
