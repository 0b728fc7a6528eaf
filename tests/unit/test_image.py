"""Images in the cloud: what is compared with the inventory, and whose images count."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import NoReturn

import pytest

from stackspec import inventory
from stackspec.cloud_inventory import Octavia, inventory_of
from stackspec.openstack import Image
from stackspec.site import ImageBuilder, Site

from .bare import SERVICE, found_in, project


def octavia_of(site: Site) -> Octavia:
    """The inventory's section octavia."""
    found = inventory_of(site).octavia
    assert found is not None
    return found


def test_image_with_properties(site: Site) -> None:
    """Properties of the inventory are compared, whether or not the client has attributes for them."""
    wanted = inventory.Image(source="https://example.org/a.qcow2", properties={"os_distro": "fedora-coreos", "a": "1"})
    common = {"id": "i", "name": "coreos", "visibility": "public", "status": "active", "tags": []}
    right = SimpleNamespace(**common, owner_id="p", os_distro="fedora-coreos", properties={"a": "1"})
    wrong = SimpleNamespace(**common, owner_id="p", os_distro=None, properties={})
    projects = [project("admin", "p")]
    assert found_in(site, Image("coreos", wanted), images=[right], projects=projects) == []
    assert found_in(site, Image("coreos", wanted), images=[wrong], projects=projects) == [
        "os_distro of image coreos: wanted 'fedora-coreos', found None",
        "a of image coreos: wanted '1', found None",
    ]


def test_image_with_a_tag(site: Site) -> None:
    """A service finds it by its tag; a tenant's image with the same name is ignored."""
    wanted = octavia_of(site).image
    image = Image("amphora", wanted, tags=("amphora",), project="service")
    common = {"id": "i", "name": "amphora", "visibility": "private", "status": "active", "properties": {}}
    tenants = SimpleNamespace(**common, tags=["amphora"], owner_id="q")
    there = SimpleNamespace(**common, tags=["other"], owner_id="p")
    assert found_in(site, image, images=[tenants, there], projects=SERVICE) == [
        "tags of image amphora: wanted amphora, found absent",
    ]


def test_image_is_not_waited_for(site: Site) -> None:
    """A check asks the builder only for the name; the image may still be in the making."""

    def build() -> NoReturn:
        pytest.fail("waited for the image")

    site = replace(site, image_builders={"test-amphora": ImageBuilder("test-amphora-2.qcow2", build)})
    common = {"id": "i", "name": "a", "visibility": "private", "status": "active", "tags": []}
    there = SimpleNamespace(**common, owner_id="p", properties={"stackspec_source": "test-amphora-1.qcow2"})
    image = Image("a", octavia_of(site).image, project="service")
    assert found_in(site, image, images=[there], projects=SERVICE) == [
        "source of image a: wanted test-amphora-2.qcow2, found test-amphora-1.qcow2"
    ]
