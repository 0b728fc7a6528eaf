"""Volumes and backups are deleted: after their operation has ended, and what depends on them first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from openstack import exceptions

from stackspec.openstack.kind import Found
from stackspec.openstack.kinds import BY_NAME
from stackspec.openstack.ownership import destroy


class Deleting:
    """A simulated cinder: an operation ends after one query, and deletion is refused like in the real one."""

    def __init__(self, **statuses: list[str]) -> None:
        self.statuses = statuses
        self.log: list[str] = []
        self.dependents: dict[str, str] = {}
        self.attachments: dict[str, list[Any]] = {}

    def get(self, key: str) -> Any:
        states = self.statuses.get(key)
        if not states:
            raise exceptions.NotFoundException(key)
        status = states[0]
        if len(states) > 1:
            states.pop(0)
        elif status == "deleting":
            del self.statuses[key]
        dependent = self.dependents.get(key) in self.statuses
        if dependent and self.statuses[self.dependents[key]] == ["deleting"]:
            del self.statuses[self.dependents[key]]
        attachments = self.attachments.get(key) if status == "in-use" else []
        return SimpleNamespace(status=status, has_dependent_backups=dependent, attachments=attachments)

    get_volume = get_snapshot = get_backup = get

    def delete(self, key: str, ignore_missing: bool) -> None:
        assert not ignore_missing
        assert self.statuses[key] in (["available"], ["error"]), f"{key} is {self.statuses[key]}"
        assert self.dependents.get(key) not in self.statuses
        self.log.append(f"delete {key}")
        self.statuses[key] = ["deleting"]

    delete_volume = delete_snapshot = delete_backup = delete

    def delete_volume_attachment(self, server: str, volume: str) -> None:
        self.log.append(f"detach {volume} from {server}")
        self.statuses[volume] = ["detaching", "available"]


@pytest.fixture(autouse=True)
def _no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)


def run(storage: Deleting, *objects: tuple[str, str]) -> list[str]:
    connection = SimpleNamespace(block_storage=storage, compute=storage)
    return destroy([Found(connection, BY_NAME[kind], key, key) for kind, key in objects])


def test_volume_is_deleted_after_its_operation_and_detachment() -> None:
    storage = Deleting(v=["attaching", "in-use"])
    storage.attachments["v"] = [{"server_id": "s"}]
    assert run(storage, ("volume", "v")) == []
    assert storage.log == ["detach v from s", "delete v"]


def test_incremental_backup_is_deleted_before_its_parent() -> None:
    storage = Deleting(full=["available"], incremental=["available"])
    storage.dependents["full"] = "incremental"
    assert run(storage, ("backup", "full"), ("backup", "incremental")) == []
    assert storage.log == ["delete incremental", "delete full"]


def test_volume_in_deletion_is_not_deleted_again() -> None:
    storage = Deleting(v=["deleting", "deleting"])
    assert run(storage, ("volume", "v")) == []
    assert storage.log == []


def test_failed_deletion_is_reported() -> None:
    storage = Deleting(v=["deleting", "error_deleting"])
    (problem,) = run(storage, ("volume", "v"))
    assert "its deletion ended in error_deleting" in problem
