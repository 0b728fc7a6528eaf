"""A tenant's object with the name of a step's object is never changed, used or counted."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from keystoneauth1.exceptions import ConnectFailure, EndpointNotFound

from stackspec import inventory
from stackspec.errors import ActionError, CannotTell
from stackspec.openstack import Image, Network, Project, SecurityGroup, ServiceNetwork, ServicePort, Subnet
from stackspec.openstack.cloud import SharedCloud
from stackspec.openstack.network import MARK
from stackspec.openstack.ovs import OvsNeutronPort
from stackspec.openstack.references import Id
from stackspec.resources import File, IniFile
from stackspec.resources.base import file
from stackspec.site import Site
from stackspec.step import Step
from stackspec.task import Task

from .bare import BareNode, FoundCloud, context, differences, found_in, project, text_file

PROJECTS = [
    SimpleNamespace(name="service", id="x", domain_id="other"),
    project("admin", "a"),
    project("service", "s"),
    project("tenant", "t"),
]
MISSING = ": wanted present, found absent"


class Recording:
    """Cloud services that record their calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        if name in ("image", "network", "identity"):
            return self

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append((name, args, kwargs))
            return SimpleNamespace(id="s" if name == "find_project" else "new", status="active")

        return call


def image(tmp_path: Any) -> inventory.Image:
    """An image of the inventory with an existing file."""
    (tmp_path / "guest.img").write_bytes(b"x" * 512)
    return inventory.Image(source=str(tmp_path / "guest.img"), disk_format="raw", visibility="public")


def in_glance(owner: str, **changed: Any) -> Any:
    """An image named `guest` in glance."""
    common: dict[str, Any] = {"id": f"of-{owner}", "name": "guest", "visibility": "private", "status": "active"}
    return SimpleNamespace(**(common | {"tags": [], "properties": {}, "owner_id": owner} | changed))


def make(site: Site, resource: Any, **lists: list[Any]) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """The API calls that create a resource."""
    cloud, connection = FoundCloud(site, projects=PROJECTS, **lists), Recording()
    cloud._connection = connection  # type: ignore[assignment]
    resource.make(cloud, context(site, site.controller))
    return connection.calls


def test_image_of_a_tenant_is_not_used(site: Site, tmp_path: Any) -> None:
    """It is not published, re-owned or deleted: the site's image is uploaded next to it, and belongs to its project."""
    tenants, resource = in_glance("t"), Image("guest", image(tmp_path), tags=("amphora",), project="service")
    assert found_in(site, resource, images=[tenants], projects=PROJECTS) == ["image guest" + MISSING]
    calls = make(site, resource, images=[tenants])
    assert not [name for name, *_ in calls if name in ("update_image", "delete_image")]
    (created,) = [given for name, _, given in calls if name == "create_image"]
    assert (created["owner"], created["tags"]) == ("s", ["amphora"])


def test_image_of_an_earlier_deployment_is_used(site: Site, tmp_path: Any) -> None:
    """Whatever precedes it in the list."""
    resource = Image("guest", image(tmp_path))
    ours = in_glance("a", visibility="public", properties={"stackspec_source": "guest.img"})
    assert found_in(site, resource, images=[in_glance("t"), ours], projects=PROJECTS) == []
    ours.visibility = "private"
    ((name, args, _),) = make(site, resource, images=[in_glance("t"), ours])
    assert (name, args[0].id) == ("update_image", "of-a")


def test_unmarked_image_of_the_project(site: Site, tmp_path: Any) -> None:
    """It is used if it is correct, and never changed."""
    resource = Image("guest", image(tmp_path))
    assert found_in(site, resource, images=[in_glance("a", visibility="public")], projects=PROJECTS) == []
    with pytest.raises(ActionError, match="was not created by a deployment"):
        make(site, resource, images=[in_glance("a")])


OBJECTS = pytest.mark.parametrize(
    ("resource", "kind", "owner"),
    [
        (Network("n", physical_network="provider"), "networks", "a"),
        (Subnet("n", network="n"), "subnets", "a"),
        (ServiceNetwork("n", "n", "172.16.0.0/22", ("172.16.0.100", "172.16.0.200")), "networks", "s"),
        (SecurityGroup("n", (("icmp", None),), "172.16.0.0/22"), "security_groups", "s"),
        (ServicePort("n", "n", "n", "172.16.0.2", "n", "Octavia:health-mgr", host="controller"), "ports", "s"),
    ],
    ids=lambda each: type(each).__name__,
)


@OBJECTS
def test_network_port_and_group_of_a_tenant_are_not_used(site: Site, resource: Any, kind: str, owner: str) -> None:
    """Nor those of a project with the same name in another domain."""
    theirs = [SimpleNamespace(id=f"of-{each}", name="n", project_id=each) for each in ("t", "x")]
    assert f"{resource.title}{MISSING}" in found_in(site, resource, projects=PROJECTS, **{kind: theirs})
    calls = make(site, resource, **{kind: theirs})
    assert not [name for name, *_ in calls if name.startswith(("update", "delete"))]
    for name, _, given in calls:
        if name.startswith("find_") and name != "find_project":
            assert given["project_id"] == "s"
    cloud = FoundCloud(site, projects=PROJECTS, **{kind: [*theirs, SimpleNamespace(name="n", project_id=owner)]})
    found = cloud.owned(f"network.{kind}", "n", "admin" if owner == "a" else "service")
    assert found is not None
    assert found.project_id == owner


@OBJECTS
def test_unmarked_object_of_the_project(site: Site, resource: Any, kind: str, owner: str) -> None:
    """It is neither changed nor deleted until somebody hands it over to deployments; the error says how."""
    there = SimpleNamespace(id="7", name="n", project_id=owner, description="", security_group_rules=[])
    command = f"openstack {kind[:-1].replace('_', ' ')} set --description '{MARK}' 7"
    with pytest.raises(ActionError, match="was not created by a deployment") as refused:
        make(site, resource, **{kind: [there]})
    assert command in str(refused.value)
    there.description = MARK
    assert make(site, resource, **{kind: [there]})


@OBJECTS
def test_created_object_is_marked(site: Site, resource: Any, kind: str, owner: str) -> None:
    """In the same call, so that a killed run leaves nothing that the next one refuses."""
    made = [given for name, _, given in make(site, resource) if name.startswith("create") and "rule" not in name]
    assert made
    assert {each["description"] for each in made} == {MARK}


def test_id_is_of_the_object_of_the_service(site: Site) -> None:
    """Octavia's security group, and the project that owns its images."""
    groups = [SimpleNamespace(id=f"of-{each}", name="g", project_id=each) for each in ("t", "s")]
    here = context(site, site.controller)
    here.shared._objects[SharedCloud] = FoundCloud(site, projects=PROJECTS, security_groups=groups)
    assert Id("security_group", "g").resolve(here) == "of-s"
    assert Id("project", "service").resolve(here) == "s"


class TestListThatFails:
    """Keystone answers, but the list fails."""

    def cloud(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> tuple[SharedCloud, list[str]]:
        """A cloud, and the objects created in it."""
        made: list[str] = []

        def projects() -> Any:
            raise ConnectFailure("reset by peer")

        identity = SimpleNamespace(projects=projects, create_project=lambda **given: made.append(given["name"]))
        cloud = SharedCloud(site)
        session = SimpleNamespace(get_endpoint=lambda **_: None)
        cloud._connection = SimpleNamespace(identity=identity, session=session)  # type: ignore[assignment]
        monkeypatch.setattr(cloud, "reachable", lambda: True)
        return cloud, made

    def test_failed_list_creates_nothing(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Otherwise a second object with the name would be created next to an invisible one."""
        cloud, made = self.cloud(site, monkeypatch)
        here = context(site, site.controller)
        here.shared._objects[SharedCloud] = cloud
        (change,) = Project("service", "Service Project").changes(here)
        (action,) = change.actions
        with pytest.raises(ActionError, match="reset by peer"):
            action()  # type: ignore[operator]
        assert made == []

    def test_failed_list_is_not_an_empty_list(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """A plan says that the state is unknown, and why."""
        cloud, _ = self.cloud(site, monkeypatch)
        with pytest.raises(CannotTell, match=r"identity\.projects cannot be listed: ConnectFailure: reset by peer"):
            cloud.list("identity.projects")
        with pytest.raises(ConnectFailure), cloud.certain():
            cloud.list("identity.projects")
        here = context(site, site.controller)
        here.shared._objects[SharedCloud] = cloud
        (change,) = Project("service", "Service Project").changes(here)
        assert differences(change) == [
            "project service: wanted present, found cannot tell: "
            "identity.projects cannot be listed: ConnectFailure: reset by peer"
        ]

    def test_service_missing_in_the_catalog(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """It cannot have any objects."""
        cloud, _ = self.cloud(site, monkeypatch)

        def images() -> Any:
            raise EndpointNotFound("image")

        cloud._connection.image = SimpleNamespace(images=images)  # type: ignore[union-attr]
        assert cloud.list("image.images") == []

    def test_keystone_does_not_answer(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """It may be down or not deployed yet: that cannot be decided from here."""
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            port = nobody.getsockname()[1]
        monkeypatch.setattr("stackspec.openstack.cloud.auth_url", lambda site: f"http://127.0.0.1:{port}/v3")
        with pytest.raises(CannotTell, match=rf"keystone at http://127\.0\.0\.1:{port}/v3 does not respond$"):
            SharedCloud(site).list("identity.projects")

    def test_service_that_does_not_run(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """The client is not used: it retries for 15 seconds, and a check reads many lists."""
        cloud, _ = self.cloud(site, monkeypatch)
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            address = f"127.0.0.1:{nobody.getsockname()[1]}"
        requests: list[dict[str, Any]] = []

        def endpoint(**wanted: Any) -> str:
            requests.append(wanted)
            return f"http://{address}/v2"

        cloud._connection.session.get_endpoint = endpoint  # type: ignore[union-attr,method-assign]
        for _ in range(2):
            with pytest.raises(CannotTell, match=f"the block storage service at {address} does not respond"):
                cloud.list("block_storage.types")
        assert requests[0]["service_type"] == "block-storage"

    def test_unknown_id_in_a_file(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """The current value is neither reported nor removed; writing it fails with the reason."""
        cloud, _ = self.cloud(site, monkeypatch)
        here = context(site, site.controller, {file("/etc/c"): text_file("[a]\nid = 7\nx = 1\n")})
        here.shared._objects[SharedCloud] = cloud
        (change,) = IniFile("/etc/c", {"a": {"id": Id("project", "service"), "x": 1}}, own=("a",)).changes(here)
        (found,) = differences(change)
        assert found.startswith("[a] id: wanted cannot tell: identity.projects cannot be listed")
        assert found.endswith(", found '7'")
        assert change.diff == ""
        (action,) = change.actions
        with pytest.raises(ActionError, match=r"id of /etc/c: cannot tell: .*reset by peer"):
            action()  # type: ignore[operator]

    def test_rest_of_the_step_is_checked(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """The check of the step's other resources continues."""
        cloud, _ = self.cloud(site, monkeypatch)
        port = OvsNeutronPort("br-int", "o-hm0", "p", "n")
        resources = [port, File("/etc/d", "")]
        task = Task(Step("s", "controller", (), None, lambda: resources), site.controller, resources)
        shared = context(site, site.controller).shared
        shared._objects[SharedCloud] = cloud
        first, second = task.look(site, BareNode(), shared)
        assert differences(first.changes[0])[0].startswith(
            "interface o-hm0: wanted known, found cannot tell: identity."
        )
        assert second.changes[0].title == "write /etc/d"
