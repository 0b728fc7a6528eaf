"""Databases, schemas, the switch and the queue: what is read and what is changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from stackspec import inventory
from stackspec.errors import ActionError
from stackspec.openstack import (
    AvailabilityZone,
    Bootstrap,
    Database,
    DbSync,
    Domain,
    DomainAdmin,
    Endpoint,
    Image,
    OvsBridge,
    OvsSetting,
    Project,
    RoleAssignment,
    ServiceUser,
    VolumeService,
    VolumeType,
)
from stackspec.openstack.cloud import SharedCloud
from stackspec.openstack.database import native_hash
from stackspec.openstack.rabbitmq import NoRabbitUser, RabbitUser, password_hash
from stackspec.resources import Service
from stackspec.resources.actions import Remove
from stackspec.resources.base import Change, Query, file, package, unit
from stackspec.site import Site

from .bare import (
    RUNNING,
    ChangeOf,
    FoundCloud,
    actions,
    change_of,
    context,
    differences,
    found_in,
    look,
    made,
    project,
    recorded,
    text_file,
)


def answer(out: str = "", status: int = 0) -> dict[str, object]:
    """Output and status of a command."""
    return {"status": status, "out": out, "err": ""}


def stand_in(**services: SimpleNamespace) -> Any:
    """A connection with these services."""
    return SimpleNamespace(**services)


class TestDatabase:
    """A database and its user."""

    right = (
        "database\tglance\t\t",
        f"user\tglance\tlocalhost\t{native_hash('pass-1')}",
        f"user\tglance\t10.0.0.0/255.255.255.0\t{native_hash('pass-1')}",
        "grant\tglance\tlocalhost\tglance",
        "grant\tglance\t10.0.0.0/255.255.255.0\tglance",
    )

    def known(self, site: Site, rows: Iterable[str]) -> dict[Query, Any]:
        """A server with these rows."""
        (survey,) = Database("glance").queries(site, site.controller)
        return {survey: answer("".join(f"{row}\n" for row in rows))}

    def test_hash_matches_the_server(self) -> None:
        """As `SELECT PASSWORD('password')` returns it: two rounds of SHA-1."""
        assert native_hash("password") == "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"

    def test_correct_state(self, site: Site, change: ChangeOf) -> None:
        """All rows exist; those of other services do not matter."""
        rows = ("user\tnova\t%\t*0", *self.right, "database\tnova\t\t")
        assert change(Database("glance"), self.known(site, rows)) is None

    def test_bare_server(self, site: Site, change: ChangeOf) -> None:
        """No server, no rows: everything is created in one call."""
        sql = change(Database("glance")).actions[0].stdin
        assert "CREATE DATABASE IF NOT EXISTS `glance`;" in sql
        for host in ("localhost", "10.0.0.0/255.255.255.0"):
            assert f"GRANT ALL PRIVILEGES ON `glance`.* TO 'glance'@'{host}';" in sql

    @pytest.mark.parametrize("gone", range(len(right)))
    def test_one_row_is_missing(self, site: Site, change: ChangeOf, gone: int) -> None:
        """One difference, which names it."""
        rows = [row for place, row in enumerate(self.right) if place != gone]
        assert len(differences(change(Database("glance"), self.known(site, rows)))) == 1

    def test_wrong_password(self, site: Site, change: ChangeOf) -> None:
        """It is set to the site's; neither is shown or put on the command line."""
        rows = [row.replace(native_hash("pass-1"), native_hash("other")) for row in self.right]
        found = change(Database("glance"), self.known(site, rows))
        assert differences(found) == [
            f"user glance@{host}: wanted the site's password, found no such user, or another password"
            for host in ("localhost", "10.0.0.0/255.255.255.0")
        ]
        assert "pass-1" not in found.title + " ".join(found.actions[0].argv)
        assert "IDENTIFIED BY 'pass-1'" in found.actions[0].stdin

    def test_grant_to_everybody_is_not_enough(self, site: Site, change: ChangeOf) -> None:
        """The guide's '%' (erratum E10) is another account."""
        rows = [row.replace("10.0.0.0/255.255.255.0", "%") for row in self.right]
        assert len(differences(change(Database("glance"), self.known(site, rows)))) == 2

    def test_user_with_another_name(self, site: Site, change: ChangeOf) -> None:
        """Nova has three databases and one user."""
        assert "ON `nova_api`.* TO 'nova'@'localhost'" in change(Database("nova_api", user="nova")).actions[0].stdin


class TestDbSync:
    """A schema: due if it is empty, unfinished, or was created by another version of the package."""

    resource = DbSync(("glance-manage", "db_sync"), database="glance", package="glance", user="glance")
    stamp = file("/var/lib/stackspec/db/glance")

    def known(
        self, site: Site, *, version: str = "", made_for: str = "", installed: str = "2:29.0"
    ) -> dict[Query, Any]:
        """A node whose database has the schema `version`, created by a package of `made_for`."""
        schema, installed_query, *_ = self.resource.queries(site, site.controller)
        assert installed_query == package("glance-api")
        return {
            schema: answer(f"{version}\n") if version else answer(status=1),
            installed_query: installed,
            self.stamp: text_file(f"{made_for}\n") if made_for else {"exists": False, "content": "", "mtime": 0.0},
        }

    @pytest.mark.parametrize(
        ("state", "due"),
        [
            pytest.param({}, True, id="no schema"),
            pytest.param({"made_for": "2:29.0"}, True, id="schema was dropped"),
            pytest.param({"version": "glance_1", "made_for": "2:29.0"}, False, id="made for this package"),
            pytest.param({"version": "glance_1", "made_for": "2:28.0"}, True, id="package is newer"),
            pytest.param({"version": "glance_1", "made_for": "unfinished"}, True, id="killed half way"),
            pytest.param({"version": "glance_1"}, False, id="made by hand"),
        ],
    )
    def test_due(self, site: Site, change: ChangeOf, state: dict[str, Any], due: bool) -> None:
        """The tool itself takes seconds to report it."""
        assert (change(self.resource, self.known(site, **state)) is not None) == due

    def test_version_from_the_application(self, site: Site, change: ChangeOf) -> None:
        """An application that is not a distribution package provides its own version."""
        resource = DbSync(("app", "sync"), database="glance", package="", user="app", version="app==2")
        schema, *_ = resource.queries(site, site.controller)
        for made_for, due in (("app==2", False), ("app==1", True)):
            known = {schema: answer("1\n"), self.stamp: text_file(f"{made_for}\n")}
            assert (change(resource, known) is not None) == due

    def test_empty_version_table_is_not_a_schema(self, site: Site, change: ChangeOf) -> None:
        """The tool was killed after its first statement."""
        known = self.known(site, version="x")
        schema, *_ = self.resource.queries(site, site.controller)
        assert change(self.resource, {**known, schema: answer("\n")}) is not None

    def test_schema_is_marked_before_and_after(self, site: Site, change: ChangeOf) -> None:
        """First marked as unfinished, last as finished: the next run detects a kill in between."""
        known = self.known(site)
        found = change(self.resource, known)
        begin, sync, end = found.actions
        assert (begin.content, end.content) == ("unfinished\n", "2:29.0\n")
        assert (sync.argv, sync.user) == (("glance-manage", "db_sync"), "glance")
        after = made(known, found) | {next(iter(known)): answer("glance_1\n")}
        assert change(self.resource, after) is None

    def test_services_restart(self, site: Site) -> None:
        """They have read the old schema."""
        _, service = look(site, [self.resource, Service("etcd")], {**self.known(site), unit("etcd"): RUNNING})
        assert len(service.changes) == 1


class TestOvsSetting:
    """A key of the switch's other_config."""

    resource = OvsSetting("userspace-tso-enable", "true")

    @pytest.mark.parametrize(
        ("config", "due"),
        [
            ([], True),
            ([["userspace-tso-enable", "false"]], True),
            ([["a", "b"], ["userspace-tso-enable", "true"]], False),
        ],
    )
    def test_due(self, site: Site, change: ChangeOf, config: list[list[str]], due: bool) -> None:
        """According to the switch's own table."""
        (table,) = self.resource.queries(site, site.controller)
        out = json.dumps({"data": [[["map", config]]], "headings": ["other_config"]})
        assert (change(self.resource, {table: answer(out)}) is not None) == due

    def test_switch_is_not_running(self, change: ChangeOf) -> None:
        """Set without waiting for the switch, which reads it when it starts."""
        assert "--no-wait" in change(self.resource).actions[0].argv

    def test_switch_restarts(self, site: Site) -> None:
        """It reads the key only at its start; the service refers to the setting."""
        service = Service("etcd", reads=(self.resource.title,))
        assert len(look(site, [self.resource, service], {unit("etcd"): RUNNING})[1].changes) == 1


class TestOvsBridge:
    """A bridge with a port and an address."""

    resource = OvsBridge("br-provider", "eth1", "netdev", "192.168.35.10/24")

    def known(
        self,
        site: Site,
        *,
        bridges: Iterable[tuple[str, str]] = (("br-provider", "netdev"),),
        ports: str = "eth1\n",
        address: str = "192.168.35.10",
    ) -> dict[Query, Any]:
        """A switch with these bridges."""
        table, listed, shown = self.resource.queries(site, site.controller)
        addresses = [{"addr_info": [{"family": "inet", "local": address, "prefixlen": 24}]}]
        return {
            table: answer(json.dumps({"data": [list(each) for each in bridges]})),
            listed: answer(ports),
            shown: answer(json.dumps(addresses)),
        }

    def test_correct_state(self, site: Site, change: ChangeOf) -> None:
        """Other bridges and ports do not matter."""
        known = self.known(site, bridges=(("br-int", "system"), ("br-provider", "netdev")), ports="eth1\nphy-br\n")
        assert change(self.resource, known) is None

    @pytest.mark.parametrize(
        ("state", "message"),
        [
            ({"bridges": ()}, "datapath of br-provider: wanted netdev, found absent"),
            ({"bridges": (("br-provider", ""),)}, "datapath of br-provider: wanted netdev, found system"),
            ({"ports": ""}, "port of br-provider: wanted eth1, found none"),
            ({"ports": "eth10\n"}, "port of br-provider: wanted eth1, found eth10"),
            ({"address": "192.168.35.11"}, "address of br-provider: wanted 192.168.35.10/24, found 192.168.35.11/24"),
        ],
    )
    def test_one_thing_is_wrong(self, site: Site, change: ChangeOf, state: dict[str, Any], message: str) -> None:
        """It is named, and one repeatable call repairs it (erratum E42)."""
        found = change(self.resource, self.known(site, **state))
        assert differences(found) == [message]
        up, make = (action.argv for action in found.actions[:2])
        assert up == ("ip", "link", "set", "eth1", "up")
        assert make.count("--may-exist") == 2
        assert "datapath_type=netdev" in make

    def test_kernel_datapath_has_no_name(self, site: Site, change: ChangeOf) -> None:
        """The switch's table has an empty value for it."""
        resource = OvsBridge("br-provider", "eth1", "system", "192.168.35.10/24")
        assert change(resource, self.known(site, bridges=(("br-provider", ""),))) is None

    def test_no_switch(self, change: ChangeOf) -> None:
        """Not installed yet: everything has to be created."""
        assert len(differences(change(self.resource))) == 3


class TestRabbitUser:
    """A RabbitMQ user, according to the broker's definitions."""

    resource = RabbitUser("openstack")
    permissions = {"user": "openstack", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}  # noqa: RUF012

    def known(
        self, site: Site, *, password: str | None = "pass-1", permissions: dict[str, str] | None = None
    ) -> dict[Query, Any]:
        """A broker with the user guest and, unless its password is None, this user."""
        exported, _ = self.resource.queries(site, site.controller)
        users = [{"name": "guest", "password_hash": password_hash("guest", b"salt")}]
        if password is not None:
            users.append({"name": "openstack", "password_hash": password_hash(password, b"\0\1\2\3")})
        given = self.permissions if permissions is None else permissions
        return {exported: answer(json.dumps({"users": users, "permissions": [given]}))}

    def test_hash_matches_the_broker(self) -> None:
        """The example from RabbitMQ's documentation: password test12, salt 908D C60A."""
        salt = bytes.fromhex("908DC60A")
        assert password_hash("test12", salt) == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"

    def test_correct_state(self, site: Site, change: ChangeOf) -> None:
        """With any salt; other users do not matter."""
        assert change(self.resource, self.known(site)) is None

    @pytest.mark.parametrize(
        ("state", "count"),
        [
            pytest.param({"password": None, "permissions": {}}, 2, id="no user"),
            pytest.param({"password": "other"}, 1, id="another password"),
            pytest.param({"permissions": {**permissions, "read": ""}}, 1, id="may not read"),
            pytest.param({"permissions": {**permissions, "vhost": "/other"}}, 1, id="elsewhere"),
        ],
    )
    def test_wrong_user_is_imported_again(
        self, site: Site, change: ChangeOf, state: dict[str, Any], count: int
    ) -> None:
        """The imported definitions match what is checked."""
        found = change(self.resource, self.known(site, **state))
        assert len(differences(found)) == count
        exported, _ = self.resource.queries(site, site.controller)
        assert change(self.resource, {exported: answer(found.actions[0].content)}) is None

    def test_file_left_by_a_killed_run(self, site: Site, change: ChangeOf) -> None:
        """It contains the password's hash."""
        _, left = self.resource.queries(site, site.controller)
        found = change(self.resource, {**self.known(site), left: text_file("{}")})
        assert found.actions[-1] == Remove(left.args[0])

    def test_no_broker(self, change: ChangeOf) -> None:
        """Not installed yet."""
        assert len(differences(change(self.resource))) == 2

    def test_password_is_never_written(self, site: Site, change: ChangeOf) -> None:
        """Only its hash goes to the node, in a file that only the broker can read and that is deleted afterwards."""
        write, load, remove = change(self.resource).actions
        assert "pass-1" not in repr([each.message() for each in (write, load, remove)])
        assert (write.mode, write.owner, write.path) == (0o600, "rabbitmq", remove.path)
        assert load.argv[-1] == write.path
        assert isinstance(remove, Remove)


class TestNoRabbitUser:
    """The user guest with its well-known password."""

    resource = NoRabbitUser("guest")

    def known(self, site: Site, users: list[str]) -> dict[Query, Any]:
        """A broker with these users."""
        (exported,) = self.resource.queries(site, site.controller)
        return {exported: answer(json.dumps({"users": [{"name": name} for name in users]}))}

    def test_user_is_absent(self, site: Site, change: ChangeOf) -> None:
        """Other users stay."""
        assert change(self.resource, self.known(site, ["openstack"])) is None

    def test_user_is_deleted(self, site: Site, change: ChangeOf) -> None:
        """Only this user is deleted; it is no error if it is already gone."""
        found = change(self.resource, self.known(site, ["guest", "openstack"]))
        assert differences(found) == ["RabbitMQ user guest: wanted absent, found present"]
        (action,) = found.actions
        assert action.argv[-2:] == ("delete_user", "guest")
        assert 67 in action.expect

    def test_broker_does_not_run(self, change: ChangeOf) -> None:
        """The user is created at the first start, so an empty list proves nothing."""
        assert differences(change(self.resource)) == ["RabbitMQ user guest: wanted absent, found unknown"]


class TestApiObjects:
    """Objects of an empty cloud: everything is created, in the site's region and with its secrets."""

    def calls(self, site: Site, resource: Any) -> list[Any]:
        """The calls that create it."""
        here = context(site, site.controller)
        resource.make(here.shared.get(SharedCloud), here)
        return recorded(here).calls

    def test_missing(self, site: Site, change: ChangeOf) -> None:
        """Described in words; the plan uses the change's title."""
        found = change(Project("service", "Service Project"))
        assert (found.title, differences(found)) == (
            "create project service",
            ["project service: wanted present, found absent"],
        )

    def test_endpoints(self, site: Site) -> None:
        """A service and three endpoints."""
        made_calls = self.calls(site, Endpoint("image", "glance", "OpenStack Image", "http://controller:9292"))
        assert [name for name, _, _ in made_calls] == ["create_service"] + ["create_endpoint"] * 3
        assert {kwargs["region_id"] for _, _, kwargs in made_calls[1:]} == {"RegionOne"}

    @pytest.mark.parametrize(
        ("endpoints", "found", "asked"),
        [
            ([("http://controller:9292", True)], None, []),
            ([("http://old:9292", True)], "http://old:9292", ["update_endpoint"]),
            ([("http://controller:9292", False)], "http://controller:9292 (disabled)", ["update_endpoint"]),
            (
                [("http://old:9292", True), ("http://controller:9292", True)],
                "http://controller:9292 and http://old:9292",
                ["delete_endpoint"],
            ),
            ([], "none", ["create_endpoint"]),
        ],
    )
    def test_existing_endpoint(
        self, site: Site, endpoints: list[tuple[str, bool]], found: str | None, asked: list[str]
    ) -> None:
        """A wrong URL, a disabled endpoint and an extra one are differences, and are repaired."""
        service = SimpleNamespace(
            id="s", type="image", name="glance", description="OpenStack Image", is_enabled=True, region_id="RegionOne"
        )
        others = [("http://controller:9292", True)]
        rows = [
            SimpleNamespace(service_id="s", region_id="RegionOne", interface=interface, url=url, is_enabled=enabled)
            for interface, several in (("public", endpoints), ("internal", others), ("admin", others))
            for url, enabled in several
        ]
        cloud, calls = FoundCloud(site, services=[service], endpoints=rows), list[str]()
        names = ("create_endpoint", "update_endpoint", "delete_endpoint")
        noting = {name: lambda *_args, name=name, **_more: calls.append(name) for name in names}
        cloud._connection = stand_in(identity=SimpleNamespace(**noting))
        cloud.renew = lambda: None  # type: ignore[method-assign]
        resource = Endpoint("image", "glance", "OpenStack Image", "http://controller:9292")
        here = context(site, site.controller)
        assert [each.found for each in resource.differences(cloud, here)] == ([found] if found else [])
        resource.make(cloud, here)
        assert calls == asked

    def test_disabled_user_is_enabled(self, site: Site) -> None:
        """Its password fails while the user is disabled, although the password is correct."""
        user = SimpleNamespace(id="u", name="glance", domain_id="default", is_enabled=False)
        role = SimpleNamespace(id="r", name="admin")
        project = SimpleNamespace(id="p", name="service", domain_id="default")
        given = SimpleNamespace(user={"id": "u"}, role={"id": "r"}, scope={"project": {"id": "p"}})
        cloud = FoundCloud(site, users=[user], roles=[role], projects=[project], role_assignments=[given])
        calls: list[dict[str, object]] = []
        cloud.admits = lambda *_args: user.is_enabled  # type: ignore[method-assign]
        cloud._connection = stand_in(
            identity=SimpleNamespace(
                update_user=lambda _user, **more: calls.append(more), find_project=lambda *_args, **_more: project
            )
        )
        resource, here = ServiceUser("glance", roles=("admin",)), context(site, site.controller)
        first, *_ = resource.differences(cloud, here)
        assert (first.what, first.found) == ("user glance is_enabled", "False")
        resource.make(cloud, here)
        assert calls == [{"password": "pass-1", "is_enabled": True}]

    def test_public_endpoints_have_their_own_host(self, site: Site) -> None:
        """If the inventory names one, users and their servers use it, and services do not (E137)."""
        site = replace(site, inventory=site.inventory.model_copy(update={"public_host": "cloud.example.org"}))
        made_calls = self.calls(site, Endpoint("image", "glance", "OpenStack Image", "http://controller:9292"))
        urls = {kwargs["interface"]: kwargs["url"] for _, _, kwargs in made_calls[1:]}
        inside = "http://controller:9292"
        assert urls == {"public": "http://cloud.example.org:9292", "internal": inside, "admin": inside}
        argv = actions(change_of(Bootstrap(), site))[0].argv
        assert argv[argv.index("--bootstrap-public-url") + 1] == "http://cloud.example.org:5000/v3/"
        assert argv[argv.index("--bootstrap-internal-url") + 1] == "http://controller:5000/v3/"

    def test_service_user(self, site: Site) -> None:
        """Role admin as in the guide, and service, which the guide forgets (erratum E14)."""
        made_calls = self.calls(site, ServiceUser("glance", system_roles=("reader",)))
        roles = [
            (name, args[-1] if args[-1] != "all" else args[1].name) for name, args, _ in made_calls if "assign" in name
        ]
        assert [(name, getattr(role, "name", role)) for name, role in roles] == [
            ("assign_project_role_to_user", "admin"),
            ("assign_project_role_to_user", "service"),
            ("assign_system_role_to_user", "reader"),
        ]

    def test_role_assignment(self, site: Site, change: ChangeOf) -> None:
        """The user gets the role on the project; it is missing until the cloud lists it."""
        resource = RoleAssignment("creator", user="demo", project="work")
        assert differences(change(resource)) == ["role creator of demo on project work: wanted given, found not given"]
        name, args, _ = self.calls(site, resource)[-1]
        found = [each.name for each in args]
        assert (name, found) == ("assign_project_role_to_user", ["work", "demo", "creator"])

    def test_domain_and_its_administrator(self, site: Site) -> None:
        """The role is on the user's own domain, and nowhere else."""
        ((name, _, given),) = self.calls(site, Domain("heat", "Stack projects and users"))
        assert (name, given) == ("create_domain", {"name": "heat", "description": "Stack projects and users"})
        made_calls = self.calls(site, DomainAdmin("heat_domain_admin", domain="heat"))
        user = next(kwargs for name, _, kwargs in made_calls if name == "create_user")
        assert (user["name"], user["domain_id"], user["password"]) == ("heat_domain_admin", "heat", "pass-1")
        name, args, _ = made_calls[-1]
        assert (name, args[0].name, args[1].name) == ("assign_domain_role_to_user", "heat", "heat_domain_admin")

    def test_domain_administrator_belongs_to_the_domain(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """A user of the same name in another domain does not count; without the role the password is not even tried."""
        monkeypatch.setattr(SharedCloud, "admits", lambda *_, domain: domain == "magnum")
        resource = DomainAdmin("a", domain="heat")
        domains = [SimpleNamespace(id="h", name="heat")]
        roles = [SimpleNamespace(id="r", name="admin")]
        user = SimpleNamespace(id="u", name="a", domain_id="h", is_enabled=True)
        elsewhere = SimpleNamespace(id="v", name="a", domain_id="other")
        given = SimpleNamespace(user={"id": "u"}, role={"id": "r"}, scope={"domain": {"id": "h"}})
        common = {"domains": domains, "roles": roles}
        assert found_in(site, resource, **common, users=[elsewhere]) == ["user a: wanted present, found absent"]
        assert found_in(site, resource, **common, users=[user]) == [
            "role of a on domain heat: wanted admin, found not given"
        ]
        assert found_in(site, resource, **common, users=[user], role_assignments=[given]) == [
            "password of a: wanted the site's, found a different one"
        ]

    def test_image_with_properties(self, site: Site) -> None:
        """Properties of the inventory are compared, whether or not the client has attributes for them."""
        wanted = inventory.Image(
            source="https://example.org/a.qcow2", properties={"os_distro": "fedora-coreos", "a": "1"}
        )
        common = {"id": "i", "name": "coreos", "visibility": "public", "status": "active", "tags": []}
        right = SimpleNamespace(**common, owner_id="p", os_distro="fedora-coreos", properties={"a": "1"})
        wrong = SimpleNamespace(**common, owner_id="p", os_distro=None, properties={})
        projects = [project("admin", "p")]
        assert found_in(site, Image("coreos", wanted), images=[right], projects=projects) == []
        assert found_in(site, Image("coreos", wanted), images=[wrong], projects=projects) == [
            "os_distro of image coreos: wanted 'fedora-coreos', found None",
            "a of image coreos: wanted '1', found None",
        ]


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
