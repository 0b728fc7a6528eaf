"""Block storage for administrators: services, pools, zones."""

from __future__ import annotations

import pytest
from openstack.connection import Connection

from stackspec.fixtures.block_storage import ask
from stackspec.fixtures.services import REPORTED_WITHIN, all_work
from stackspec.fixtures.volumes import Volumes
from stackspec.plugin.session import RUN


def test_services_are_up(request: pytest.FixtureRequest, cinder_volume: object, cloud: Connection) -> None:
    """A scheduler, and cinder-volume on each node that has disks for it: all enabled and up."""
    site = request.config.stash[RUN].site
    nodes = {node.name for node in site.nodes.values() if node.devices("cinder")} if site is not None else set()

    wanted = {"cinder-scheduler": (), "cinder-volume": nodes}
    services = cloud.block_storage.services
    all_work("cinder", lambda: list(services()), wanted, ours=site is not None, seconds=REPORTED_WITHIN)


def test_backups_have_a_service(cinder_backup: object, cloud: Connection) -> None:
    """If there is object storage, cinder-backup is up."""
    states = [each.state for each in cloud.block_storage.services(binary="cinder-backup")]
    assert states, "no cinder-backup has registered"
    assert set(states) == {"up"}, states


def test_pools_have_room(volumes: Volumes, cloud: Connection) -> None:
    """The scheduler knows the storage nodes' pools."""
    pools = {each.name: each.capabilities for each in cloud.block_storage.backend_pools(detail=True)}
    assert pools, "the scheduler knows no pool"
    for name, found in pools.items():
        assert float(found["total_capacity_gb"]) > 0, f"{name}: {found}"
        assert 0 < float(found["free_capacity_gb"]) <= float(found["total_capacity_gb"]), f"{name}: {found}"


def test_zone_is_available(volumes: Volumes) -> None:
    """Users see the availability zones, but not the hosts."""
    answer = ask(volumes.connection, "GET", "/os-availability-zone").json()["availabilityZoneInfo"]
    assert any(each["zoneState"]["available"] for each in answer), answer
    assert all(not each.get("hosts") for each in answer), answer
