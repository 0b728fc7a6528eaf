"""Objects of a run: how they are recognised, in which order they are deleted, and what is reported."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from openstack import exceptions

from stackspec.openstack import ownership
from stackspec.openstack.kind import Found, Kind
from stackspec.openstack.kinds import BY_NAME, KINDS, RANK
from stackspec.openstack.ownership import destroy, leftovers, within
from stackspec.openstack.run_names import belongs, custom_name, run_of

RUN = "ss-20261125-001500-3f2a"


@pytest.mark.parametrize(
    ("label", "run"),
    [
        (RUN, RUN),
        (f"{RUN}-web-7", RUN),
        ("CUSTOM_SS_20261125_001500_3F2A_WIDGET_3", RUN),
        ("ss-production", None),
        ("ss-20261125-001500-3f2ab", None),
        (f"old-{RUN}", None),
        ("CUSTOM_WIDGET", None),
        ("", None),
        (None, None),
    ],
)
def test_run_of_a_label(label: str | None, run: str | None) -> None:
    assert run_of(label) == run


def test_label_matches_its_run_its_prefix_and_every_run() -> None:
    assert belongs(f"{RUN}-web", RUN)
    assert belongs(f"{RUN}-web", "ss-20261125")
    assert belongs(f"{RUN}-web")
    assert not belongs(f"{RUN}-web", "ss-20261125-001500-0000")
    assert not belongs("ss-something")


def test_custom_name_is_recognised() -> None:
    assert custom_name(f"{RUN}-gold.2") == "CUSTOM_SS_20261125_001500_3F2A_GOLD_2"
    assert belongs(custom_name(f"{RUN}-gold.2"), RUN)


@pytest.mark.parametrize(
    ("user", "used"),
    [
        ("server", "port"),
        ("floating_ip", "router"),
        ("floating_ip", "port"),
        ("router", "subnet"),
        ("port", "network"),
        ("port", "security_group"),
        ("subnet", "network"),
        ("server", "keypair"),
        ("cluster", "cluster_template"),
        ("cluster", "stack"),
        ("cluster_template", "image"),
        ("stack", "server"),
        ("stack", "floating_ip"),
        ("resource_provider", "resource_class"),
        ("resource_provider", "trait"),
        ("keypair", "user"),
        ("security_group", "project"),
        ("image", "project"),
        ("user", "domain"),
        ("project", "domain"),
        ("server", "volume"),
        ("stack", "volume"),
        ("volume_transfer", "volume"),
        ("volume_snapshot", "volume"),
        ("backup", "volume"),
        ("backup", "object_container"),
        ("volume", "volume_type"),
        ("volume_type", "qos_spec"),
        ("volume", "secret"),
        ("volume", "project"),
    ],
)
def test_users_are_deleted_before_what_they_use(user: str, used: str) -> None:
    assert RANK[user] < RANK[used]


def found(name: str, log: list[str], *, fails: Exception | None = None, connection: Any = None) -> Found:
    def delete(_connection: Any, key: str) -> None:
        log.append(f"{name} {key}")
        if fails is not None:
            raise fails

    kind = Kind(name, "any", lambda *_: [], delete, is_gone=BY_NAME[name].is_gone if connection else None)
    return Found(connection, kind, f"id-of-{name}", f"{RUN}-{name}")


def test_destroy_uses_the_right_order() -> None:
    log: list[str] = []
    assert destroy([found("network", log), found("router", log), found("image", log), found("port", log)]) == []
    assert log == ["router id-of-router", "port id-of-port", "network id-of-network", "image id-of-image"]


def test_destroy_accepts_missing_objects_and_continues_after_a_failure() -> None:
    log: list[str] = []
    gone = found("router", log, fails=exceptions.NotFoundException("gone"))
    refused = found("port", log, fails=exceptions.ForbiddenException("not yours"))
    problems = destroy([gone, refused, found("network", log)])
    assert len(log) == 3
    assert len(problems) == 1
    assert f"port {RUN}-port (id-of-port) could not be deleted" in problems[0]
    assert "not yours" in problems[0]


def test_destroy_waits_for_all_servers_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    answers = iter([SimpleNamespace(status="ACTIVE"), SimpleNamespace(status="DELETED")])

    def get_server(key: str) -> Any:
        log.append(f"get {key}")
        return next(answers)

    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
    connection = SimpleNamespace(compute=SimpleNamespace(get_server=get_server))
    assert destroy([found("port", log), found("server", log, connection=connection)]) == []
    assert log == ["server id-of-server", "get id-of-server", "get id-of-server", "port id-of-port"]


def test_destroy_retries_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    outcomes = iter([exceptions.ConflictException("in use"), None])

    def delete(_connection: Any, key: str) -> None:
        log.append(key)
        if outcome := next(outcomes):
            raise outcome

    monkeypatch.setattr("tenacity.nap.time.sleep", lambda seconds: None)
    group = Found(None, Kind("security_group", "network", lambda *_: [], delete), "id", RUN)
    assert destroy([group]) == []
    assert log == ["id", "id"]


def cloud(monkeypatch: pytest.MonkeyPatch, objects: dict[str, list[Any]], *, admin: bool) -> Any:
    """A cloud that lists `objects` by kind, and nothing of other kinds."""

    def listing(name: str) -> Any:
        def listed(_connection: Any, everyone: bool) -> list[Any]:
            assert everyone is admin
            if not admin and name in ("user", "project"):
                raise exceptions.ForbiddenException("for administrators")
            return objects.get(name, [])

        return listed

    kinds = tuple(
        Kind(kind.name, kind.service, listing(kind.name), kind.delete, kind.label, kind.key) for kind in KINDS
    )
    monkeypatch.setattr(ownership, "KINDS", kinds)
    answer = SimpleNamespace(status_code=200 if admin else 403)
    identity = SimpleNamespace(get=lambda *_, **__: answer, projects=lambda: objects.get("project", []))
    return SimpleNamespace(identity=identity, has_service=lambda name: name != "placement")


def thing(name: str | None, **more: Any) -> Any:
    return SimpleNamespace(id=f"id-{name}", name=name, **more)


def test_leftovers_have_the_run_id_or_are_in_its_project(monkeypatch: pytest.MonkeyPatch) -> None:
    project = thing(f"{RUN}-member")
    objects = {
        "project": [project, thing("customer")],
        "server": [thing(f"{RUN}-web", project_id="else"), thing("mail", project_id="else")],
        "security_group": [thing("default", project_id=project.id), thing("default", project_id="else")],
        "floating_ip": [thing(None, description=f"{RUN}-guest-1", project_id="else")],
        "user": [thing("ss-20250101-000000-0000-member")],
        "trait": [thing(custom_name(f"{RUN}-gold"))],
    }
    left = leftovers(cloud(monkeypatch, objects, admin=True), RUN)
    assert [(each.kind.name, each.label) for each in left] == [
        ("server", f"{RUN}-web"),
        ("floating_ip", f"{RUN}-guest-1"),
        ("security_group", "default"),
        ("project", f"{RUN}-member"),
    ]
    assert left[2].project == project.id


def test_leftovers_of_given_projects(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = {"server": [thing(f"{RUN}-web", project_id="a"), thing("nameless", project_id="b")]}
    left = leftovers(cloud(monkeypatch, objects, admin=True), RUN, projects=["b"])
    assert [each.label for each in left] == ["nameless"]


def test_leftovers_of_an_ordinary_user_need_no_admin_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = {"server": [thing(f"{RUN}-web", project_id="mine")]}
    left = leftovers(cloud(monkeypatch, objects, admin=False), RUN)
    assert [each.label for each in left] == [f"{RUN}-web"]


def test_connection_to_another_project_has_no_cached_endpoint() -> None:
    """openstacksdk caches the endpoint of the object storage, and would use it for another project."""
    cached = {"object_store_endpoint_override": "http://c/v1/AUTH_mine", "region_name": "r"}
    admin = MagicMock(current_user_id="admin")
    admin.connect_as.return_value = SimpleNamespace(config=SimpleNamespace(config=cached))
    scoped = within(admin, "theirs")
    assert scoped.config.config == {"region_name": "r"}
    admin.connect_as.assert_called_once_with(project_id="theirs")
