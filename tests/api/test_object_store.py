"""Object storage: accounts, containers and objects, as an ordinary user."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import pytest
from openstack.connection import Connection

from stackspec.fixtures.connections import Tenants
from stackspec.fixtures.object_store import LISTED_WITHIN, listing
from stackspec.fixtures.owned import Owned
from stackspec.waiting import wait_for

SIZE = 3 * 1024 * 1024 + 17
"""Bytes: more than one chunk of the proxy, and not a multiple of it."""


@pytest.fixture(scope="module")
def container(object_store: Any, member: Connection, module_owned: Owned) -> str:
    """A container for tests that create their own objects in it."""
    return str(module_owned(member, "object_container", "shared").name)


def test_new_account_is_empty(object_store: Any, tenants: Tenants) -> None:
    """A new account is empty and belongs to the project, as shown in the guide."""
    tenant = tenants.get("new-account")
    answer = tenant.connection.object_store.head("")
    assert answer.status_code in (200, 204), f"account: {answer.status_code} {answer.text[:200]}"
    counts = {key: answer.headers[f"X-Account-{key}-Count"] for key in ("Container", "Object")}
    assert (counts, answer.headers["X-Account-Bytes-Used"]) == ({"Container": "0", "Object": "0"}, "0")
    assert str(tenant.connection.object_store.get_endpoint()).endswith(f"/v1/AUTH_{tenant.project_id}")


@pytest.mark.smoke
def test_upload_and_download_are_equal(object_store: Any, container: str) -> None:
    """Checksum and size match the data, the listing shows the object, and the download equals the upload."""
    data = os.urandom(SIZE)
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    object_store.put(f"{container}/upload", data=data, headers={"ETag": digest}).raise_for_status()
    listed = wait_for(
        "the container lists the upload",
        lambda: [each for each in object_store.get(f"{container}?format=json").json() if each["name"] == "upload"],
        LISTED_WITHIN,
    )
    assert (listed[0]["bytes"], listed[0]["hash"]) == (SIZE, digest)
    got = object_store.get(f"{container}/upload")
    assert got.status_code == 200, f"reading a new object failed with {got.status_code}: {got.reason}"
    assert got.headers["ETag"] == digest
    assert hashlib.sha256(got.content).digest() == hashlib.sha256(data).digest(), f"{len(got.content)} of {SIZE} bytes"


def test_upload_with_a_wrong_checksum_is_refused(object_store: Any, container: str) -> None:
    """An upload with a wrong checksum is refused and not stored."""
    answer = object_store.put(f"{container}/wrong", data=b"content", headers={"ETag": "0" * 32})
    assert answer.status_code == 422, f"wrong checksum: {answer.status_code}, expected 422"
    assert object_store.head(f"{container}/wrong").status_code == 404


def test_part_of_an_object(object_store: Any, container: str) -> None:
    """A range request returns that range; a range past the end is an error."""
    object_store.put(f"{container}/range", data=b"0123456789").raise_for_status()
    got = object_store.get(f"{container}/range", headers={"Range": "bytes=2-4"})
    assert (got.status_code, got.content, got.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    assert object_store.get(f"{container}/range", headers={"Range": "bytes=20-"}).status_code == 416


def test_conditions_of_a_read(object_store: Any, container: str) -> None:
    """If-None-Match and If-Match return 304 and 412 as appropriate."""
    etag = object_store.put(f"{container}/conditions", data=b"content").headers["ETag"].strip('"')
    assert object_store.get(f"{container}/conditions", headers={"If-None-Match": etag}).status_code == 304
    assert object_store.get(f"{container}/conditions", headers={"If-Match": "0" * 32}).status_code == 412


def test_metadata_is_kept_changed_and_removed(object_store: Any, container: str) -> None:
    """A POST replaces metadata and type of an object, but not the content."""
    headers = {"X-Object-Meta-Flower": "rose", "X-Object-Meta-Size": "big", "Content-Type": "text/x-poem"}
    object_store.put(f"{container}/metadata", data=b"content", headers=headers).raise_for_status()
    found = object_store.head(f"{container}/metadata").headers
    assert (found["X-Object-Meta-Flower"], found["X-Object-Meta-Size"]) == ("rose", "big")
    assert found["Content-Type"].startswith("text/x-poem")
    answer = object_store.post(f"{container}/metadata", headers={"X-Object-Meta-Flower": "tulip"})
    assert answer.status_code == 202, f"metadata: {answer.status_code} {answer.text[:200]}"
    found = object_store.head(f"{container}/metadata").headers
    assert found["X-Object-Meta-Flower"] == "tulip"
    assert "X-Object-Meta-Size" not in found
    assert object_store.get(f"{container}/metadata").content == b"content"


def test_copy(object_store: Any, container: str) -> None:
    """A server-side copy keeps the metadata, with the requested changes."""
    headers = {"X-Object-Meta-Flower": "rose"}
    object_store.put(f"{container}/original", data=b"content", headers=headers).raise_for_status()
    changed = {"X-Copy-From": f"{container}/original", "X-Object-Meta-Size": "big"}
    object_store.put(f"{container}/copy", headers=changed).raise_for_status()
    found = object_store.get(f"{container}/copy")
    assert found.content == b"content"
    assert (found.headers["X-Object-Meta-Flower"], found.headers["X-Object-Meta-Size"]) == ("rose", "big")


def test_listing_by_prefix_delimiter_and_page(object_store: Any, member: Connection, owned: Owned) -> None:
    """Listings support pseudo-folders and paging."""
    box = owned(member, "object_container", "listing").name
    for name in ("a/1", "a/2", "b/1", "top"):
        object_store.put(f"{box}/{name}", data=b"x").raise_for_status()
    listing(object_store, box, 4)
    top = object_store.get(f"{box}?format=json&delimiter=/").json()
    assert [each.get("subdir") or each["name"] for each in top] == ["a/", "b/", "top"]
    assert object_store.get(f"{box}?prefix=a/").text.split() == ["a/1", "a/2"]
    assert object_store.get(f"{box}?limit=2&marker=a/2").text.split() == ["b/1", "top"]


def test_container_with_objects_is_not_deleted(object_store: Any, member: Connection, owned: Owned) -> None:
    """A container can be deleted only when it is empty."""
    box = owned(member, "object_container", "full").name
    object_store.put(f"{box}/one", data=b"x").raise_for_status()
    assert object_store.delete(box).status_code == 409
    assert object_store.delete(f"{box}/one").status_code == 204
    assert object_store.delete(box).status_code == 204
    assert object_store.get(box).status_code == 404


def test_container_metadata(object_store: Any, member: Connection, owned: Owned) -> None:
    """Container metadata is set on creation, changed, and removed."""
    box = owned(member, "object_container", "metadata").name
    object_store.post(box, headers={"X-Container-Meta-Flower": "rose"}).raise_for_status()
    assert object_store.head(box).headers["X-Container-Meta-Flower"] == "rose"
    object_store.post(box, headers={"X-Remove-Container-Meta-Flower": "x"}).raise_for_status()
    assert "X-Container-Meta-Flower" not in object_store.head(box).headers


def test_quota_of_a_container(object_store: Any, member: Connection, owned: Owned) -> None:
    """An object over the quota is refused with 413."""
    box = owned(member, "object_container", "quota").name
    object_store.post(box, headers={"X-Container-Meta-Quota-Bytes": "10"}).raise_for_status()
    assert object_store.put(f"{box}/small", data=b"x" * 10).status_code == 201
    answer = object_store.put(f"{box}/big", data=b"x" * 11)
    assert answer.status_code == 413, f"11 bytes into a container of 10: {answer.status_code}, expected 413"


def test_another_project_is_refused(
    object_store: Any, member: Connection, other_member: Connection, cloud: Connection, container: str
) -> None:
    """Neither another project nor its administrator can read, list, write or delete."""
    object_store.put(f"{container}/mine", data=b"content").raise_for_status()
    url = object_store.get_endpoint()
    for name, stranger in (("another project", other_member), ("the administrator", cloud)):
        for method, path in (("GET", "/mine"), ("GET", ""), ("PUT", "/theirs"), ("DELETE", "/mine"), ("POST", "")):
            answer = stranger.session.request(f"{url}/{container}{path}", method, raise_exc=False)
            assert answer.status_code == 403, f"{name}: {method} {path or 'container'}: {answer.status_code}"
    assert object_store.get(f"{container}/mine").content == b"content"


def test_nobody_without_a_token(object_store: Any, member: Connection, container: str) -> None:
    """A private container cannot be read without a token."""
    answer = member.session.get(f"{object_store.get_endpoint()}/{container}", authenticated=False, raise_exc=False)
    assert answer.status_code == 401, f"listing without a token: {answer.status_code}, expected 401"


def test_capabilities(object_store: Any, member: Connection) -> None:
    """/info lists the features of the guide's pipeline."""
    root = object_store.get_endpoint().split("/v1/")[0]
    found = member.session.get(f"{root}/info", authenticated=False).json()
    wanted = {"swift", "slo", "bulk_upload", "bulk_delete", "container_quotas", "account_quotas"}
    assert wanted <= set(found), sorted(found)
    assert "tempauth" not in found, "tempauth is enabled, with well-known passwords (erratum E65)"
