"""Objects in use: large objects, expiry, access lists, and recovery from failures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openstack.connection import Connection
from swiftclient.client import Connection as SwiftConnection
from swiftclient.service import SwiftService, SwiftUploadObject

from stackspec.fixtures import programs
from stackspec.fixtures.object_store import ObjectStorage, listing
from stackspec.fixtures.owned import Owned
from stackspec.inventory import Node
from stackspec.openstack.cloud import API_TIMEOUT
from stackspec.waiting import wait_for

pytestmark = pytest.mark.disturbs("swift_storage")

MIB = 1024 * 1024
LARGE = 300 * MIB
SEGMENT = 50 * MIB
RIGHTS_WITHIN = 150
"""Timeout in seconds for new access rights: a slow replica of the container may still have the old ones when swift
confirms the change, and the proxy caches them for a minute."""


def access(user: Connection) -> dict[str, Any]:
    """Options of python-swiftclient: a token, since not every user has a password, and what it trusts."""
    url, token = user.object_store.get_endpoint(), user.session.get_token()
    assert url, "the catalog has no object storage"
    assert token, "keystone issues no token"
    trusted = user.session.verify
    return {
        "os_storage_url": url,
        "os_auth_token": token,
        "os_cacert": trusted if isinstance(trusted, str) else None,
        "insecure": not trusted,
    }


def client(user: Connection) -> SwiftConnection:
    """A connection of python-swiftclient."""
    words = access(user)
    return SwiftConnection(
        preauthurl=words["os_storage_url"],
        preauthtoken=words["os_auth_token"],
        cacert=words["os_cacert"],
        insecure=words["insecure"],
        retries=2,
        timeout=API_TIMEOUT,
    )


@pytest.fixture
def box(object_store: Any, member: Connection, owned: Owned) -> str:
    """The test's own container."""
    return str(owned(member, "object_container", "box").name)


def account(object_store: Any) -> str:
    """The account of the objects."""
    return str(object_store.get_endpoint().rpartition("/")[2])


def test_file_is_uploaded_and_downloaded(object_store: Any, member: Connection, box: str, tmp_path: Path) -> None:
    """Files uploaded with python-swiftclient are downloaded with it and with openstacksdk, with equal checksums."""
    content = os.urandom(5 * MIB + 3)
    (tmp_path / "there").write_bytes(content)
    with SwiftService(options=access(member)) as swift:
        (done,) = (
            each
            for each in swift.upload(box, [str(tmp_path / "there")], {"skip_container_put": True})
            if "object" in each
        )
        assert done["success"], done
        listing(object_store, box, 1)
        (listed,) = [each for page in swift.list(box) for each in page["listing"]]
        assert (listed["bytes"], listed["hash"]) == (
            len(content),
            hashlib.md5(content, usedforsecurity=False).hexdigest(),
        )
        options = {"out_file": str(tmp_path / "back")}
        (got,) = swift.download(box, [listed["name"]], options)
        assert got["success"], got
    assert (tmp_path / "back").read_bytes() == content
    assert member.object_store.download_object(listed["name"], container=box) == content


@pytest.fixture
def large_file(tmp_path: Path) -> Iterator[Path]:
    """A file of LARGE bytes without repeated parts."""
    path = tmp_path / "large"
    block = os.urandom(MIB - 8)
    with path.open("wb") as out:
        for number in range(LARGE // MIB):
            out.write(number.to_bytes(8, "big") + block)
    yield path
    path.unlink()


def digest_of(blocks: Any) -> str:
    """SHA-256 of data in blocks."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def test_large_object_in_segments(
    object_store: Any, member: Connection, owned: Owned, box: str, large_file: Path
) -> None:
    """300 MB in six segments read back as one file, even across segment borders; deletion removes all segments."""
    segments = owned(member, "object_container", "segments").name
    options = {"segment_size": str(SEGMENT), "use_slo": True, "segment_container": segments, "segment_threads": 2}
    with SwiftService(options=access(member)) as swift:
        upload = SwiftUploadObject(str(large_file), object_name="large")
        problems = [each for each in swift.upload(box, [upload], options) if not each["success"]]
        assert not problems, problems
        listing(object_store, segments, LARGE // SEGMENT)
        headers, body = client(member).get_object(box, "large", resp_chunk_size=MIB)
        assert (headers["content-length"], headers["x-static-large-object"]) == (str(LARGE), "True")
        with large_file.open("rb") as file:
            assert digest_of(body) == digest_of(iter(lambda: file.read(MIB), b"")), "the download differs from the file"
            file.seek(SEGMENT - 100)
            seam = file.read(200)
        part = object_store.get(f"{box}/large", headers={"Range": f"bytes={SEGMENT - 100}-{SEGMENT + 99}"})
        assert (part.status_code, part.content == seam) == (206, True), "the range across two segments differs"
        gone = [each for each in swift.delete(box, ["large"]) if not each["success"]]
        assert not gone, gone
    # Deleted with it, although a container may list them slightly longer.
    listing(object_store, segments, 0)


def test_object_expires(object_store: Any, box: str, object_storage: ObjectStorage) -> None:
    """An object with X-Delete-After disappears at that time, then also from the listing and the disks."""
    object_store.put(f"{box}/short", data=b"content", headers={"X-Delete-After": "4"}).raise_for_status()
    found = object_store.get(f"{box}/short")
    assert (found.status_code, found.content) == (200, b"content")
    assert int(found.headers["X-Delete-At"]) > 0
    copies = object_storage.copies(account(object_store), box, "short")["short"]
    assert object_storage.checksums(copies), "the object is on no disk"
    wait_for("the object has expired", lambda: object_store.get(f"{box}/short").status_code == 404, 30)

    def removed() -> bool:
        # Expiry times are stored in swift's own containers, whose account must list them.
        for node in object_storage.nodes:
            object_storage.once(node.name, "container-updater")
        expirer = "runuser -u swift -- swift-object-expirer /etc/swift/object-expirer.conf once"
        object_storage.controller.check_output(expirer)
        return object_store.get(box).text == "" and not object_storage.checksums(copies)

    wait_for("the expired object is gone from listing and disks", removed, 90)


def wait_answers(what: str, answers: Callable[[], Any], wanted: Any) -> None:
    """Wait until new access rights have reached all replicas of a container."""
    wait_for(
        f"{what}: {wanted}", lambda: answers() == wanted, RIGHTS_WITHIN, every=2, detail=lambda: f"now: {answers()}"
    )


def test_container_shared_with_another_project(
    object_store: Any, member: Connection, other_member: Connection, box: str
) -> None:
    """Read and write access are granted to another project one by one, and revoked."""
    object_store.put(f"{box}/mine", data=b"content").raise_for_status()
    other, url = other_member.session, f"{object_store.get_endpoint()}/{box}"
    who = f"{other_member.current_project_id}:*"

    def answers() -> tuple[int, int, int]:
        read = other.get(f"{url}/mine", raise_exc=False).status_code
        listing = other.get(url, raise_exc=False).status_code
        return read, listing, other.put(f"{url}/theirs", data=b"theirs", raise_exc=False).status_code

    assert answers() == (403, 403, 403)
    client(member).post_container(box, {"X-Container-Read": who})
    wait_answers("read, listing and write of the other project", answers, (200, 200, 403))
    client(member).post_container(box, {"X-Container-Write": who})
    wait_answers("read, listing and write of the other project", answers, (200, 200, 201))
    assert object_store.get(f"{box}/theirs").content == b"theirs"
    client(member).post_container(box, {"X-Container-Read": "", "X-Container-Write": ""})
    wait_answers("read, listing and write of the other project", answers, (403, 403, 403))


def test_public_container(object_store: Any, member: Connection, box: str) -> None:
    """A public container is readable but not writable without a token; a private one neither."""
    object_store.put(f"{box}/page", data=b"content").raise_for_status()
    url = f"{object_store.get_endpoint()}/{box}"

    def ask(method: str, path: str) -> Any:
        return member.session.request(f"{url}{path}", method, authenticated=False, raise_exc=False)

    assert ask("GET", "/page").status_code == 401
    object_store.post(box, headers={"X-Container-Read": ".r:*,.rlistings"}).raise_for_status()
    wait_answers(
        "the public container is readable",
        lambda: (ask("GET", "/page").content, ask("GET", "").text.split()),
        (b"content", ["page"]),
    )
    assert [ask(method, "/page").status_code for method in ("PUT", "DELETE", "POST")] == [401, 401, 401]
    object_store.post(box, headers={"X-Remove-Container-Read": "x"}).raise_for_status()
    wait_answers("the response without a token", lambda: ask("GET", "/page").status_code, 401)


@pytest.fixture
def storage_node_stops(object_store: Any, box: str, object_storage: ObjectStorage) -> Iterator[Callable[[Node], Any]]:
    """Stops a storage node's servers; at the end all run again, and the proxy uses them again."""
    yield object_storage.stopped

    def asked() -> bool:
        # A 404 requires responses from both nodes.
        return all(object_store.head(f"{box}/none-{number}").status_code == 404 for number in range(20))

    wait_for("the proxy uses all storage nodes again", asked, 120, every=2)


def test_corrupted_copy_is_quarantined_and_repaired(object_store: Any, box: str, object_storage: ObjectStorage) -> None:
    """The auditor quarantines a corrupted replica, and replication restores it."""
    content = os.urandom(MIB)
    object_store.put(f"{box}/precious", data=content).raise_for_status()
    whose, contents = account(object_store), {"precious": content}
    wait_for("all copies are on the disks", lambda: not object_storage.faults(whose, box, contents), 60)
    bad, *good = object_storage.copies(whose, box, "precious")["precious"]
    host, name = object_storage.host(bad.node), bad.folder.rpartition("/")[2]
    # In place, so that size and attributes are unchanged and only the checksum differs.
    host.check_output("printf spoilt | dd of=$(ls %s/*.data) bs=1 seek=1000 conv=notrunc status=none", bad.folder)
    assert object_storage.faults(whose, box, contents) == [f"precious on {bad.node} {bad.device}: differs"]
    aside = f"/srv/node/{bad.device}/quarantined/objects/{name}"

    def quarantined() -> bool:
        object_storage.once(bad.node, "object-auditor")
        return bool(host.file(aside).exists)

    wait_for(f"the auditor of {bad.node} quarantines the replica", quarantined, 120, every=2)
    assert object_store.get(f"{box}/precious").content == content, "the intact replica is not the one that is read"

    def repaired() -> bool:
        for copy in good:
            object_storage.once(copy.node, "object-replicator")
        return not object_storage.faults(whose, box, contents)

    wait_for("replication restores the replica", repaired, 120, every=2)
    host.check_output("rm -r %s", aside)


def test_storage_node_stops_and_comes_back(
    object_store: Any, box: str, object_storage: ObjectStorage, storage_node_stops: Callable[[Node], Any]
) -> None:
    """Reads and writes work without one node; when it is back, it receives the missed writes and deletions."""
    if len(object_storage.nodes) < 2:
        pytest.skip("needs two storage nodes")
    *others, stopped = object_storage.nodes
    whose = account(object_store)
    before = {f"before-{number}": os.urandom(1000) for number in range(8)}
    for name, content in before.items():
        object_store.put(f"{box}/{name}", data=content).raise_for_status()
    with storage_node_stops(stopped):
        for name, content in before.items():
            assert object_store.get(f"{box}/{name}").content == content, f"{name} cannot be read without {stopped.name}"
        after = {f"after-{number}": os.urandom(1000) for number in range(8)} | {"before-0": b"changed"}
        for name, content in after.items():
            answer = object_store.put(f"{box}/{name}", data=content)
            assert answer.status_code == 201, f"write without {stopped.name}: {answer.status_code} {answer.text[:200]}"
            assert object_store.get(f"{box}/{name}").content == content
        assert object_store.delete(f"{box}/before-1").status_code == 204
        assert set(object_store.get(box).text.split()) == (set(before) | set(after)) - {"before-1"}
        wanted: dict[str, bytes | None] = {**before, **after, "before-1": None}
        # Before its servers are back: the other replicators may restore everything at once.
        missed = object_storage.faults(whose, box, wanted)
    assert any(f" on {stopped.name} " in each for each in missed), "nothing was missed: was the node stopped?"

    def healed() -> bool:
        for node in others:
            object_storage.once(node.name, "object-replicator")
            object_storage.once(node.name, "container-replicator")
        return not object_storage.faults(whose, box, wanted)

    wait_for(
        "every replica is on its disk again",
        healed,
        180,
        detail=lambda: "\n".join(object_storage.faults(whose, box, wanted)),
    )
    # Query each server directly: the proxy may return another server's response.
    names = {name for name, content in wanted.items() if content is not None}
    for copy in object_storage.copies(whose, box)[""]:
        address = object_storage.site.nodes[copy.node].address
        url = f"http://{address}:6201/{copy.device}/{copy.partition}/{whose}/{box}"
        listed = programs.output(object_storage.controller, "http_body", url, 10).split()
        assert set(listed) == names, f"listing of {copy.node}: {sorted(set(listed) ^ names)}"
