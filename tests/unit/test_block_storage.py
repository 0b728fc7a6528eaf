"""Stuck volumes: how they are detected, and the status they are set to."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from openstack import exceptions

from stackspec.fixtures.volumes import zone_with_volumes
from stackspec.openstack import block_storage
from stackspec.openstack.block_storage import (
    BACKUP,
    COMPUTE,
    SCHEDULER,
    TRANSITION_LIMIT,
    VOLUME,
    repair,
    set_right,
    stuck,
)
from stackspec.openstack.kind import Found
from stackspec.openstack.kinds import BY_NAME
from stackspec.openstack.ownership import destroy

NOW = 1_800_000_000.0
RUN = "ss-20261125-001500-3f2a"


def at(seconds: float) -> str:
    """A timestamp as in the API, this many seconds ago."""
    moment = datetime.datetime.fromtimestamp(NOW - seconds, datetime.timezone.utc)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")


def started(**ago: float) -> Any:
    """Start times of services in seconds ago, by name with `_` for `-`; unknown for other services."""

    def when(service: str, host: str) -> float | None:
        seconds = ago.get(service.replace("-", "_"))
        return None if seconds is None else NOW - seconds

    return when


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
    return Found(None, BY_NAME[kind], key, f"{RUN}-{kind}")


def test_operation_is_stuck_after_its_service_restarted() -> None:
    # The scheduler runs all the time, but its part is done: the volume has a host.
    (left,) = stuck(cloud(BlockStorage("creating", 300)), [thing()], started(cinder_volume=100, cinder_scheduler=400))
    assert (left.status, left.truth) == ("creating", "error")
    assert str(left) == f"volume {RUN}-volume (v): creating, but no service is processing it"


@pytest.mark.parametrize(
    ("changed", "start"),
    [
        pytest.param(300, {"cinder_volume": 400}, id="the service has run all the time"),
        pytest.param(300, {"cinder_volume": 20}, id="started just now: it may find the order"),
        pytest.param(30, {"cinder_volume": 20}, id="asked for just now"),
        pytest.param(300, {"cinder_scheduler": 100}, id="nothing is known of the service"),
        pytest.param(TRANSITION_LIMIT - 60, {}, id="nothing is known at all"),
    ],
)
def test_recent_operation_may_be_in_progress(changed: float, start: dict[str, float]) -> None:
    assert stuck(cloud(BlockStorage("creating", changed)), [thing()], started(**start)) == []


def test_old_operation_is_stuck_even_without_a_restart() -> None:
    assert stuck(
        cloud(BlockStorage("creating", TRANSITION_LIMIT + 1)), [thing()], started(cinder_volume=2 * TRANSITION_LIMIT)
    )


@pytest.mark.parametrize("status", ["available", "in-use", "error", "error_extending", "awaiting-transfer"])
def test_stable_status_is_ignored(status: str) -> None:
    assert stuck(cloud(BlockStorage(status, 2 * TRANSITION_LIMIT)), [thing()], started()) == []


def test_other_kinds_and_deleted_objects_are_ignored() -> None:
    assert (
        stuck(cloud(BlockStorage("creating", 2 * TRANSITION_LIMIT)), [thing("network"), thing(key="gone")], started())
        == []
    )


def test_failed_deletion_is_not_in_progress() -> None:
    (left,) = stuck(cloud(BlockStorage("error_deleting", 1)), [thing()], started())
    assert left.truth == "error"


def test_detaching_volume_attached_in_nova_is_in_use() -> None:
    storage = BlockStorage("detaching", 300, attached=("s",))
    connection = cloud(storage, {"s": ["v"]})
    (left,) = stuck(connection, [thing()], started(nova_compute=100))
    assert (left.truth, left.dead) == ("in-use", ())
    assert repair(connection, left) == f"set to in-use: {left}"
    assert storage.log == [("/volumes/v/action", {"status": "in-use", "attach_status": "attached"})]


def test_detaching_waits_for_the_server_host() -> None:
    storage = BlockStorage("detaching", 300, attached=("s",))
    queried = []

    def when(service: str, host: str) -> float:
        queried.append((service, host))
        return NOW - 100

    assert stuck(cloud(storage, {"s": ["v"]}), [thing()], when)
    assert queried == [(COMPUTE, "compute1")]


@pytest.mark.parametrize("servers", [{}, {"s": ["another"]}])
def test_detaching_without_a_server_is_available(servers: dict[str, list[str]]) -> None:
    storage = BlockStorage("detaching", 300, attached=("s",))
    connection = cloud(storage, servers)
    (left,) = stuck(connection, [thing()], started(nova_compute=100))
    assert (left.truth, left.dead) == ("available", ("a-s",))
    repair(connection, left)
    assert storage.log == ["delete a-s", ("/volumes/v/action", {"status": "available", "attach_status": "detached"})]


def test_dead_attachment_is_removed_and_used_one_is_kept() -> None:
    storage = BlockStorage("detaching", 300, attached=("s", "gone"))
    connection = cloud(storage, {"s": ["v"]})
    (left,) = stuck(connection, [thing()], started(nova_compute=100))
    assert (left.truth, left.dead) == ("in-use", ("a-gone",))


def test_scheduler_is_responsible_for_volume_without_a_host() -> None:
    storage = BlockStorage("creating", 300, host="")
    assert stuck(cloud(storage), [thing()], started(cinder_scheduler=100))
    assert stuck(cloud(storage), [thing()], started(cinder_scheduler=400, cinder_volume=100)) == []


def test_every_responsible_service_counts() -> None:
    storage = BlockStorage("extending", 300, attached=("s",))
    connection = cloud(storage, {"s": ["v"]})
    assert stuck(connection, [thing()], started(nova_compute=100, cinder_volume=400)) == []
    assert stuck(connection, [thing()], started(nova_compute=400, cinder_volume=100)) == []
    assert stuck(connection, [thing()], started(nova_compute=100, cinder_volume=100))


@pytest.mark.parametrize(
    ("kind", "status", "start", "truth", "path"),
    [
        ("volume_snapshot", "deleting", {"cinder_volume": 100}, "error", "/snapshots/v/action"),
        ("volume_snapshot", "backing-up", {"cinder_backup": 100}, "available", "/snapshots/v/action"),
        ("backup", "creating", {"cinder_backup": 100}, "error", "/backups/v/action"),
        ("backup", "restoring", {"cinder_backup": 100}, "available", "/backups/v/action"),
        ("volume", "backing-up", {"cinder_backup": 100}, "available", "/volumes/v/action"),
        ("volume", "restoring-backup", {"cinder_backup": 100}, "error", "/volumes/v/action"),
    ],
)
def test_actual_status_of_other_operations(
    kind: str, status: str, start: dict[str, float], truth: str, path: str
) -> None:
    storage = BlockStorage(status, 300)
    (left,) = stuck(cloud(storage), [thing(kind)], started(**start))
    repair(cloud(storage), left)
    ((called, words),) = storage.log
    assert (called, words["status"]) == (path, truth)
    assert ("attach_status" in words) == (kind == "volume")


def test_unrepairable_object_is_reported() -> None:
    storage = BlockStorage("detaching", TRANSITION_LIMIT + 1, attached=("s",))
    storage.refuses = True
    (line,) = set_right(cloud(storage), [thing()], None)
    assert "detaching, but no service is processing it; it could not be set to available" in line


def test_caller_sets_the_age_limit() -> None:
    storage = BlockStorage("creating", 3)
    when = started(cinder_volume=1)
    assert stuck(cloud(storage), [thing()], when) == []
    assert stuck(cloud(storage), [thing()], when, patience=0)


# ---- where servers with volumes run


def compute(volumes: bool, zone: str | None = None) -> Any:
    return SimpleNamespace(volumes=volumes, availability_zone=zone)


@pytest.mark.parametrize(
    ("nodes", "zone"),
    [
        pytest.param([compute(True), compute(True, "a")], None, id="anywhere"),
        pytest.param([compute(False), compute(True, "b"), compute(True, "a")], "a", id="one of some"),
        pytest.param([compute(False, "a"), compute(True, "a"), compute(True, "b")], "b", id="not in a mixed one"),
    ],
)
def test_zone_of_servers_with_volumes(nodes: list[Any], zone: str | None) -> None:
    assert zone_with_volumes(nodes) == zone


def test_no_zone_for_servers_with_volumes() -> None:
    with pytest.raises(pytest.fail.Exception, match="--volume-zone"):
        zone_with_volumes([compute(False), compute(True)])
    with pytest.raises(pytest.skip.Exception, match="volumes: false"):
        zone_with_volumes([compute(False)])


# ---- deletion


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


def test_every_transient_status_has_responsible_services() -> None:
    for statuses in block_storage.AT_WORK.values():
        for services in statuses.values():
            assert set(services) <= {SCHEDULER, VOLUME, BACKUP, COMPUTE}
            assert services
