"""Volume types, and volume services that are waited for."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from stackspec.errors import ActionError
from stackspec.openstack import VolumeService, VolumeType
from stackspec.openstack.cloud import SharedCloud
from stackspec.resources.base import Change
from stackspec.site import Site

from .bare import FoundCloud, actions, context, differences, found_in, stand_in


def test_volume_type(site: Site) -> None:
    """For every project, on the given backend; its other keys belong to the operator."""
    kind = VolumeType("lvm", {"volume_backend_name": "lvm"})

    def found(**changed: Any) -> list[str]:
        there = {"name": "lvm", "is_public": True, "extra_specs": {"volume_backend_name": "lvm", "x": "y"}, **changed}
        return found_in(site, kind, types=[SimpleNamespace(**there)])

    assert found() == []
    assert found_in(site, kind, types=[]) == ["volume type lvm: wanted present, found absent"]
    assert found(is_public=False) == ["volume type lvm is_public: wanted True, found False"]
    assert found(extra_specs={}) == ["volume_backend_name of volume type lvm: wanted lvm, found None"]


class TestVolumeService:
    """A service that is up, and a backend that the scheduler knows."""

    def changes(
        self,
        site: Site,
        monkeypatch: pytest.MonkeyPatch,
        binary: str = "cinder-volume",
        state: str = "up",
        pools: Sequence[str] = ("compute01@lvm#lvm",),
    ) -> list[Change]:
        """The changes, without waiting."""
        cloud = FoundCloud(site)
        host = "compute01@lvm" if binary == "cinder-volume" else "compute01"
        services = [SimpleNamespace(binary=binary, host=host, state=state)] if state else []
        cloud._connection = stand_in(
            block_storage=SimpleNamespace(
                services=lambda: services, backend_pools=lambda: [SimpleNamespace(name=name) for name in pools]
            )
        )
        cloud._reachable = True
        here = context(site, site.controller)
        here.shared._objects[SharedCloud] = cloud
        monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
        monkeypatch.setattr("stackspec.openstack.volume.SETTLED", 0.0)
        return VolumeService(binary, host, seconds=0.0).changes(here)

    @pytest.mark.parametrize("binary", ["cinder-volume", "cinder-backup"])
    def test_service_is_up(self, site: Site, monkeypatch: pytest.MonkeyPatch, binary: str) -> None:
        """Nothing to do; a backup service has no pool."""
        assert self.changes(site, monkeypatch, binary, pools=["compute01@lvm#lvm"] * (binary == "cinder-volume")) == []

    @pytest.mark.parametrize(
        ("state", "pools", "found"),
        [
            ("", (), "not known"),
            ("down", (), "down"),
            ("up", (), "without a pool"),
            ("up", ("compute01@lvm2#lvm",), "without a pool"),
        ],
        ids=["not there", "down", "the scheduler has not heard of it", "another's pool"],
    )
    def test_service_is_waited_for(
        self, site: Site, monkeypatch: pytest.MonkeyPatch, state: str, pools: Sequence[str], found: str
    ) -> None:
        """If it does not come up, the error says what the API reports."""
        (change,) = self.changes(site, monkeypatch, state=state, pools=pools)
        assert differences(change) == [f"cinder-volume at compute01@lvm: wanted up, found {found}"]
        with pytest.raises(ActionError) as raised:
            actions(change)[0]()
        assert f"the API says {found}" in str(raised.value)
