"""The labs of the releases from wheels, and the oldest of these releases."""

from __future__ import annotations

import pytest

from stackspec.cloud_inventory import CloudInventory
from stackspec.inventory import load_inventory
from stackspec.release import Wheels, load_release
from stackspec.resources import Resource
from stackspec.site import Site
from stackspec.step import STEPS, load_steps

from .bare import NamedSecrets
from .guide_plan import ROOT

RELEASE = load_release("caracal-bookworm")
assert RELEASE.wheels is not None
WHEELS: Wheels = RELEASE.wheels
SITES = {"caracal-bookworm": "caracal", "gazpacho-bookworm": "gazpacho"}
"""Release from wheels -> the inventory of its lab."""


def site_of(release: str) -> Site:
    """The lab of a release from wheels."""
    load_steps()
    inventory = load_inventory(ROOT / "inventories" / SITES[release], CloudInventory)
    assert inventory.release == release
    return Site(inventory, load_release(release), NamedSecrets())


def wheels_of(site: Site) -> Wheels:
    """The release's wheels."""
    assert site.release.wheels is not None
    return site.release.wheels


@pytest.fixture(scope="module")
def site() -> Site:
    """The lab of the oldest release from wheels."""
    return site_of(RELEASE.name)


@pytest.fixture(scope="module", params=SITES)
def each_site(request: pytest.FixtureRequest) -> Site:
    """The lab of each release from wheels."""
    return site_of(request.param)


def declared(site: Site, step: str) -> list[Resource]:
    """What a step declares on its first node."""
    return STEPS[step].resources(site, STEPS[step].nodes(site)[0])
