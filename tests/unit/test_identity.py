"""What keystone holds: endpoints, projects, domains, users and their roles."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from stackspec.openstack import Bootstrap, Domain, DomainAdmin, Endpoint, Project, RoleAssignment, ServiceUser
from stackspec.openstack.cloud import SharedCloud
from stackspec.site import Site

from .bare import ChangeOf, FoundCloud, actions, change_of, context, differences, found_in, recorded, stand_in


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
