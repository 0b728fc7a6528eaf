"""Stuck volumes: how they are detected, and the status they are set to."""

from __future__ import annotations

from typing import Any

import pytest

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

from .fake_cinder import NOW, RUN, BlockStorage, cloud, thing


def started(**ago: float) -> Any:
    """Start times of services in seconds ago, by name with `_` for `-`; unknown for other services."""

    def when(service: str, host: str) -> float | None:
        seconds = ago.get(service.replace("-", "_"))
        return None if seconds is None else NOW - seconds

    return when


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


def test_every_transient_status_has_responsible_services() -> None:
    for statuses in block_storage.AT_WORK.values():
        for services in statuses.values():
            assert set(services) <= {SCHEDULER, VOLUME, BACKUP, COMPUTE}
            assert services
