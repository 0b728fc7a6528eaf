"""What nova holds: availability zones, flavors, key pairs and quotas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from stackspec.openstack import AvailabilityZone, Flavor, Keypair, NoQuota
from stackspec.openstack.cloud import SharedCloud
from stackspec.secrets import Secrets, redact
from stackspec.site import Site

from .bare import FoundCloud, context, found_in, recorded, stand_in


def aggregate(name: str, *hosts: str, zone: str | None = None) -> SimpleNamespace:
    """A host aggregate of the cloud."""
    return SimpleNamespace(name=name, availability_zone=zone or name, hosts=[*hosts])


class TestAvailabilityZone:
    """A zone with exactly the nodes that the inventory assigns to it."""

    zone = AvailabilityZone("rack1", ("compute01", "compute02"))

    @pytest.mark.parametrize(
        ("aggregates", "found"),
        [
            ([], ["availability zone rack1: wanted present, found absent"]),
            ([aggregate("rack1", "compute02", "compute01")], []),
            (
                [aggregate("rack1", "compute01", "compute03")],
                ["nodes of availability zone rack1: wanted compute01 compute02, found compute01 compute03"],
            ),
            (
                [aggregate("rack1", "compute01", "compute02", zone="other")],
                ["availability zone rack1 availability_zone: wanted 'rack1', found 'other'"],
            ),
        ],
        ids=["none", "right", "other nodes", "aggregate of another zone"],
    )
    def test_differences(self, site: Site, aggregates: list[SimpleNamespace], found: list[str]) -> None:
        """According to the list of aggregates."""
        assert found_in(site, self.zone, aggregates=aggregates) == found

    def calls(self, site: Site, *aggregates: SimpleNamespace) -> list[Any]:
        """The requests to nova."""
        cloud = FoundCloud(site, aggregates=[*aggregates])
        asked = []

        def note(name: str) -> Callable[..., SimpleNamespace]:
            def call(*args: Any, **kwargs: Any) -> SimpleNamespace:
                asked.append((name, *[getattr(each, "name", each) for each in args]))
                return aggregate("rack1")

            return call

        cloud._connection = stand_in(
            compute=SimpleNamespace(
                **{name: note(name) for name in ("create_aggregate", "update_aggregate")},
                add_host_to_aggregate=note("add"),
                remove_host_from_aggregate=note("remove"),
            )
        )
        self.zone.make(cloud, context(site, site.controller))
        return asked

    def test_zone_is_created(self, site: Site) -> None:
        """Its nodes leave any other zone first, because a node can only be in one."""
        both = [("add", "rack1", "compute01"), ("add", "rack1", "compute02")]
        assert self.calls(site) == [("create_aggregate",), *both]
        old = [aggregate("old", "compute02"), SimpleNamespace(name="ssd", availability_zone=None, hosts=["compute02"])]
        moved = [("remove", "old", "compute02"), both[1]]
        assert self.calls(site, aggregate("rack1", "compute01"), *old) == moved

    def test_unlisted_nodes_leave_the_zone(self, site: Site) -> None:
        """The inventory is complete."""
        found = aggregate("rack1", "compute01", "compute02", "compute03")
        assert self.calls(site, found) == [("remove", "rack1", "compute03")]


def test_flavor_with_a_fixed_id(site: Site) -> None:
    """Id and access are compared."""
    flavor = Flavor("amphora", 1, 512, 2, id="200", public=False)
    there = SimpleNamespace(name="amphora", vcpus=1, ram=512, disk=2, id="200", is_public=True)
    assert found_in(site, flavor, flavors=[there]) == ["flavor amphora is_public: wanted False, found True"]


def test_key_pair_is_created_by_its_user(site: Site) -> None:
    """Only with the public key; the private key is a secret of the site."""
    site = replace(site, secrets=Secrets())
    here = context(site, site.controller)
    Keypair("k", user="octavia").make(here.shared.get(SharedCloud), here)
    made = [kwargs for name, _, kwargs in recorded(here).calls if name == "create_keypair"]
    assert [each["public_key"].split()[0] for each in made] == ["ssh-ed25519"]
    private = site.secrets.document("k private key", str, bool)
    assert "OPENSSH PRIVATE KEY" in private
    assert private.splitlines()[1] in redact.values()


def test_quotas_without_a_project(site: Site) -> None:
    """Keystone is not up."""
    assert found_in(site, NoQuota("service")) == ["quotas of project service: wanted present, found absent"]
