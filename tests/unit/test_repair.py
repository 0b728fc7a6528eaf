"""Stuck objects are repaired at the end of a run, as by `stackspec cleanup`, before they are deleted."""

from __future__ import annotations

from typing import Any

import pytest
from openstack import exceptions

from stackspec.openstack import ownership
from stackspec.openstack.block_storage import TRANSITION_LIMIT
from stackspec.openstack.kind import Found
from stackspec.openstack.repair import repair

from .fake_cinder import RUN, BlockStorage, cloud, thing


def end_of_run(monkeypatch: pytest.MonkeyPatch, storage: BlockStorage, *, admin: bool) -> list[str]:
    """The messages at the end of a run that has left a volume."""
    monkeypatch.setattr(ownership, "leftovers", lambda *_, **__: [thing()])
    monkeypatch.setattr(ownership, "is_admin", lambda _: admin)
    monkeypatch.setattr(ownership, "destroy", lambda objects: [] if storage.log or not admin else ["it hangs"])
    return ownership.check_leftovers(cloud(storage), RUN, None)


def test_end_of_a_run_repairs_stuck_objects_before_deleting(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = BlockStorage("creating", TRANSITION_LIMIT + 1)
    left, repaired = end_of_run(monkeypatch, storage, admin=True)
    assert left.startswith("left by a test: volume")
    assert repaired.startswith("set to error: volume")


def test_recent_object_is_repaired_after_its_deletion_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the deletion was waited for, the object became old enough to count as stuck."""
    looks, deletions = iter([[], ["set to ERROR: it"]]), iter([["it hangs"], []])
    monkeypatch.setattr(ownership, "is_admin", lambda _: True)
    monkeypatch.setattr(ownership, "repair", lambda *_, **__: next(looks))
    monkeypatch.setattr(ownership, "destroy", lambda _: next(deletions))
    assert ownership.remove(None, [thing()], None) == (["set to ERROR: it"], [])


def test_end_of_an_ordinary_users_run_repairs_no_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = BlockStorage("creating", TRANSITION_LIMIT + 1)
    assert len(end_of_run(monkeypatch, storage, admin=False)) == 1
    assert storage.log == []


@pytest.mark.parametrize(
    ("answers", "lines"),
    [
        ([503, None], []),
        ([500], ["cannot look for leftovers of tests in the cloud: HttpException: it says 500"]),
    ],
)
def test_unavailable_service_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, answers: list[int | None], lines: list[str]
) -> None:
    def leftovers(*_: object, **__: object) -> list[Found]:
        if status := answers.pop(0):
            raise exceptions.HttpException(f"it says {status}", http_status=status)
        return []

    monkeypatch.setattr(ownership, "leftovers", leftovers)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    assert ownership.check_leftovers(cloud(BlockStorage("available", 0)), RUN, None) == lines
    assert answers == []


def test_refusal_of_the_cloud_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = BlockStorage("creating", TRANSITION_LIMIT + 1)

    def services() -> Any:
        raise exceptions.ForbiddenException("not yours")

    monkeypatch.setattr(storage, "services", services)
    (line,) = repair(cloud(storage), [thing()], None, admin=True)
    assert line.startswith("stuck objects could not be repaired: ForbiddenException")
