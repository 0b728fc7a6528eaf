"""Images: upload and download, properties, states, visibility, limits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from openstack import exceptions
from openstack.connection import Connection

from stackspec.cloud_inventory import inventory_of
from stackspec.fixtures.connections import Tenants, project_of
from stackspec.fixtures.images import RAW
from stackspec.fixtures.owned import Owned
from stackspec.openstack.versions import identity_v3, image_v2
from stackspec.plugin.session import RUN

if TYPE_CHECKING:
    from openstack.image.v2.image import Image

SIZE = 3 * 1024 * 1024 + 17
"""Bytes: more than one chunk of the client, and not a multiple of it."""


@pytest.fixture(scope="module")
def data() -> bytes:
    """The data to upload."""
    return os.urandom(SIZE)


@pytest.fixture(scope="module")
def image(glance: object, member: Connection, module_owned: Owned, data: bytes) -> Image:
    """An image with data for tests that do not modify it."""
    made: Image = module_owned(member, "image", "shared", data=data, **RAW)
    return made


@pytest.mark.smoke
def test_upload_and_download_are_equal(glance: object, member: Connection, image: Image, data: bytes) -> None:
    """Size and checksum match the data, and the download equals the upload."""
    found = image_v2(member).get_image(image.id)
    shown = f"the image is {found.status} with {found.size} bytes, after an upload of {SIZE} it should be active"
    assert (found.status, found.size) == ("active", SIZE), shown
    digest = hashlib.new(found.hash_algo, data).hexdigest()
    assert found.checksum == hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert found.hash_value == digest, f"{found.hash_algo} of the image differs from that of the data"
    got = image_v2(member).download_image(found).content
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest(), f"{len(got)} of {SIZE} bytes, changed"


def test_image_without_data_is_queued(glance: object, member: Connection, owned: Owned) -> None:
    """An image is created first, and its data uploaded later."""
    made = owned(member, "image", "queued", **RAW)
    assert image_v2(member).get_image(made.id).status == "queued"
    answer = image_v2(member).put(
        f"/images/{made.id}/file", data=b"x" * 100, headers={"Content-Type": "application/octet-stream"}
    )
    assert answer.status_code == 204, f"upload: {answer.status_code} {answer.text[:200]}"
    found = image_v2(member).get_image(made.id)
    assert (found.status, found.size) == ("active", 100)


def test_properties_are_added_changed_and_removed(glance: object, member: Connection, owned: Owned) -> None:
    """Custom properties, minimum sizes and tags."""
    made = owned(member, "image", "properties", **RAW)
    image_v2(member).update_image(made, min_ram=64, min_disk=1, hw_disk_bus="virtio", flower="rose")
    found = image_v2(member).get_image(made.id)
    assert (found.min_ram, found.min_disk, found.hw_disk_bus) == (64, 1, "virtio")
    assert found.properties["flower"] == "rose"
    image_v2(member).add_tag(made, "red")
    assert image_v2(member).get_image(made.id).tags == ["red"]
    image_v2(member).remove_tag(made, "red")
    patch = [{"op": "remove", "path": "/flower"}]
    headers = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    answer = image_v2(member).patch(f"/images/{made.id}", json=patch, headers=headers)
    assert answer.status_code == 200, f"removal of a property: {answer.status_code} {answer.text[:200]}"
    found = image_v2(member).get_image(made.id)
    assert "flower" not in found.properties
    assert found.tags == []


def test_deactivated_image_gives_no_data(glance: object, cloud: Connection, member: Connection, owned: Owned) -> None:
    """Users cannot download a deactivated image until an administrator reactivates it."""
    made = owned(member, "image", "deactivated", data=b"content", **RAW)
    image_v2(cloud).deactivate_image(made.id)
    assert image_v2(member).get_image(made.id).status == "deactivated"
    answer = image_v2(member).get(f"/images/{made.id}/file")
    assert answer.status_code == 403, f"data of a deactivated image: status {answer.status_code}, expected 403"
    image_v2(cloud).reactivate_image(made.id)
    assert image_v2(member).download_image(made.id).content == b"content"


def test_private_image_is_seen_by_its_project_only(
    glance: object, member: Connection, other_member: Connection, image: Image
) -> None:
    """Another project cannot list, read, download or delete it."""
    assert image.id in {each.id for each in image_v2(member).images()}
    assert image.id not in {each.id for each in image_v2(other_member).images()}
    with pytest.raises(exceptions.NotFoundException):
        image_v2(other_member).get_image(image.id)
    assert image_v2(other_member).get(f"/images/{image.id}/file").status_code == 404
    assert image_v2(other_member).delete(f"/images/{image.id}").status_code == 404
    assert image_v2(member).get_image(image.id).status == "active"


def test_shared_image_is_seen_by_the_members_it_names(
    glance: object, member: Connection, other_member: Connection, owned: Owned
) -> None:
    """An image is shared, accepted, used, and unshared."""
    made = owned(member, "image", "lent", data=b"content", visibility="shared", **RAW)
    guest = project_of(other_member)
    image_v2(member).add_member(made.id, member_id=guest)
    assert image_v2(other_member).get_image(made.id).id == made.id
    assert made.id not in {each.id for each in image_v2(other_member).images()}, "listed before it was accepted"
    image_v2(other_member).update_member(guest, made.id, status="accepted")
    assert made.id in {each.id for each in image_v2(other_member).images()}
    assert image_v2(other_member).download_image(made.id).content == b"content"
    assert image_v2(other_member).delete(f"/images/{made.id}").status_code == 403
    image_v2(member).remove_member(guest, image=made.id)
    with pytest.raises(exceptions.NotFoundException):
        image_v2(other_member).get_image(made.id)


def test_public_image_is_an_administrators(
    glance: object, cloud: Connection, member: Connection, other_member: Connection, owned: Owned
) -> None:
    """Only administrators can publish images; everybody can read, but not change a public image."""
    mine = owned(member, "image", "unpublished", **RAW)
    with pytest.raises(exceptions.ForbiddenException):
        image_v2(member).update_image(mine, visibility="public")
    public = owned(cloud, "image", "public", data=b"content", visibility="public", **RAW)
    assert image_v2(other_member).download_image(public.id).content == b"content"
    with pytest.raises(exceptions.ForbiddenException):
        image_v2(other_member).update_image(public.id, min_ram=1)


def test_protected_image_is_not_deleted(glance: object, member: Connection, owned: Owned) -> None:
    """A protected image cannot be deleted until it is unprotected."""
    made = owned(member, "image", "protected", data=b"content", **RAW)
    image_v2(member).update_image(made.id, is_protected=True)
    assert image_v2(member).delete(f"/images/{made.id}").status_code == 403
    image_v2(member).update_image(made.id, is_protected=False)
    image_v2(member).delete_image(made.id, ignore_missing=False)
    with pytest.raises(exceptions.NotFoundException):
        image_v2(member).get_image(made.id)


@pytest.fixture
def limit_of_images(request: pytest.FixtureRequest, glance: object, cloud: Connection) -> Any:
    """The registered limit for the number of images, if the cloud has limits in keystone."""
    for each in identity_v3(cloud).registered_limits():
        if each.resource_name == "image_count_total":
            return each
    site = request.config.stash[RUN].site
    if site is not None and inventory_of(site).keystone_limits:
        pytest.fail("the inventory has keystone_limits, but keystone has no registered limit image_count_total")
    return pytest.skip("this cloud has no image limits in keystone")


@pytest.fixture
def limited_member(tenants: Tenants, cloud: Connection, limit_of_images: Any, owned: Owned) -> Iterator[Connection]:
    """A project with a limit of one image."""
    tenant = tenants.get("few-images")
    region = {"region_id": limit_of_images.region_id} if limit_of_images.region_id else {}
    made = identity_v3(cloud).create_limit(
        project_id=tenant.project_id,
        service_id=limit_of_images.service_id,
        resource_name="image_count_total",
        resource_limit=1,
        description=owned.name("one-image"),
        **region,
    )
    yield tenant.connection
    identity_v3(cloud).delete_limit(made.id)


def test_limit_of_images_is_enforced(glance: object, limited_member: Connection, owned: Owned) -> None:
    """An image over the project's limit is refused with 413, and accepted once there is room again."""
    first = owned(limited_member, "image", "first", **RAW)
    answer = image_v2(limited_member).post("/images", json={"name": owned.name("second"), **RAW})
    assert answer.status_code == 413, f"second image of a project limited to 1: {answer.status_code}, expected 413"
    usage = image_v2(limited_member).get("/info/usage").json()["usage"]["image_count_total"]
    assert usage == {"limit": 1, "usage": 1}, f"/info/usage says {usage}"
    image_v2(limited_member).delete_image(first.id)
    owned(limited_member, "image", "third", **RAW)
