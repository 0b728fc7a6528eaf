"""What hangs is repaired by the run's own end, as by `stackspec cleanup`, before it is deleted."""

from __future__ import annotations

from typing import Any

import pytest
from openstack import exceptions

from stackspec.openstack import ownership
from stackspec.openstack.block_storage import LONGEST
from stackspec.openstack.repair import repair

from .test_block_storage import RUN, BlockStorage, cloud, thing


def end_of_run(monkeypatch: pytest.MonkeyPatch, storage: BlockStorage, *, admin: bool) -> list[str]:
    """What the end of a run says that has left a volume."""
    monkeypatch.setattr(ownership, "leftovers", lambda *_: [thing()])
    monkeypatch.setattr(ownership, "is_admin", lambda _: admin)
    monkeypatch.setattr(ownership, "destroy", lambda objects: [] if storage.log or not admin else ["it hangs"])
    return ownership.check_leftovers(cloud(storage), RUN, None)


def test_end_of_a_run_mends_what_hangs_before_it_deletes(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = BlockStorage("creating", LONGEST + 1)
    left, repaired = end_of_run(monkeypatch, storage, admin=True)
    assert left.startswith("left by a test: volume")
    assert repaired.startswith("set to error: volume")


def test_what_was_too_young_to_be_called_stuck_is_mended_when_it_could_not_be_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the deletion was waited for, time has passed in which somebody could have been at work on it."""
    looks, deletions = iter([[], ["set to ERROR: it"]]), iter([["it hangs"], []])
    monkeypatch.setattr(ownership, "is_admin", lambda _: True)
    monkeypatch.setattr(ownership, "repair", lambda *_, **__: next(looks))
    monkeypatch.setattr(ownership, "destroy", lambda _: next(deletions))
    assert ownership.remove(None, [thing()], None) == (["set to ERROR: it"], [])


def test_end_of_an_ordinary_users_run_mends_no_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = BlockStorage("creating", LONGEST + 1)
    assert len(end_of_run(monkeypatch, storage, admin=False)) == 1
    assert storage.log == []


def test_cloud_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = BlockStorage("creating", LONGEST + 1)

    def services() -> Any:
        raise exceptions.ForbiddenException("not yours")

    monkeypatch.setattr(storage, "services", services)
    (line,) = repair(cloud(storage), [thing()], None, admin=True)
    assert line.startswith("stuck objects could not be repaired: ForbiddenException")
