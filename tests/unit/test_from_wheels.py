"""The steps of a release from wheels: its table makes environment, users, files and units of each package."""

from __future__ import annotations

import re

from stackspec.cloud_inventory import CloudInventory
from stackspec.inventory import load_inventory
from stackspec.openstack import DbSync
from stackspec.release import load_release
from stackspec.resources import Packages, Service
from stackspec.resources.base import Context, package
from stackspec.resources.environment import Environment
from stackspec.resources.files import File
from stackspec.resources.from_wheels import from_wheels
from stackspec.resources.ini import IniFile
from stackspec.resources.package_files import Defaults, Link, SystemUser
from stackspec.resources.packages import Packages as PackagesResource
from stackspec.site import Site
from stackspec.step import STEPS, load_steps

from . import wheels_sites
from .bare import NamedSecrets, answer, context
from .guide_plan import ROOT
from .wheels_sites import RELEASE, SITES, declared, site_of, wheels_of

site = wheels_sites.site
each_site = wheels_sites.each_site


class TestTable:
    def test_each_release_from_wheels_has_a_lab(self) -> None:
        tables = [path.stem for path in (ROOT / "releases").glob("*.yaml")]
        assert {name for name in tables if load_release(name).wheels} == SITES.keys()

    def test_each_package_has_a_version_and_a_known_owner(self, each_site: Site) -> None:
        wheels = wheels_of(each_site)
        for name, part in wheels.packages.items():
            assert re.fullmatch(r"[0-9.]+", wheels.version(name)), name
            assert not part.owner or part.owner in wheels.owners, name
            assert part.owner or not part.units, name

    def test_each_unit_is_one_command(self, each_site: Site) -> None:
        """An API has a port, if its step does not say where it listens."""
        by_its_step = each_site.release.values.get("nova_metadata_unit")
        for part in wheels_of(each_site).packages.values():
            for name, unit in part.units.items():
                assert bool(unit.run) != bool(unit.wsgi), name
                assert bool(unit.wsgi and name != by_its_step) == bool(unit.port), name

    def test_every_service_of_openstack_has_a_unit_from_the_table(self, each_site: Site) -> None:
        """Otherwise Debian 12's own packages, of another OpenStack release, would be mixed in."""
        units = {name for part in wheels_of(each_site).packages.values() for name in part.units}
        of_the_distribution = {"mariadb", "chrony", "memcached", "rabbitmq-server", "epmd.socket", "etcd", "tgt"}
        of_the_distribution |= {"openvswitch-switch", "ovsdb-server", "systemd-networkd", "iscsid.socket"}
        of_the_distribution |= {"apache2", "nginx", "rsync"}
        declared = [
            (step, step.resources(each_site, node)) for step in STEPS.values() for node in step.nodes(each_site)
        ]
        files = {each.path for _, resources in declared for each in resources if isinstance(each, File)}
        for step, resources in declared:
            for service in (each for each in resources if isinstance(each, Service)):
                for name in service.units(each_site):
                    ours = f"/etc/systemd/system/{name}.service" in files
                    assert name in units | of_the_distribution or ours, (
                        f"{step.name}: releases/{each_site.release.name}.yaml has no unit {name}: add it to "
                        "wheels.packages, or the step to without"
                    )

    def test_other_releases_are_unchanged(self) -> None:
        load_steps()
        for name in ("epoxy-trixie", "caracal-jammy"):
            release = load_release(name)
            guide = Site(load_inventory(ROOT / "inventories/guide", CloudInventory), release, NamedSecrets())
            resources = [Packages("glance"), Service("glance-api")]
            assert release.wheels is None
            assert from_wheels(guide, resources) == resources
            assert release.wheel_version("glance") == ""


class TestStep:
    def test_package_becomes_environment_user_files_and_unit(self, site: Site) -> None:
        found = declared(site, "glance")
        kinds = [type(each).__name__ for each in found]
        first = kinds.index("Packages")
        assert kinds[first : first + 6] == [
            "Packages",
            "Environment",
            "SystemUser",
            "Directory",
            "Directory",
            "Defaults",
        ]
        unit = next(each for each in found if isinstance(each, File) and each.path.endswith("glance-api.service"))
        assert kinds.index("File") < kinds.index("Service")
        assert "User=glance\n" in unit.content
        assert "NoNewPrivileges=true\n" in unit.content
        assert "ProtectSystem=full\n" in unit.content

    def test_unit_with_root_rights_is_not_sandboxed(self, site: Site) -> None:
        files = [each for each in declared(site, "nova_compute") if isinstance(each, File)]
        unit = next(each for each in files if each.path.endswith("compute.service"))
        assert "NoNewPrivileges" not in unit.content
        assert "KillMode=process\n" in unit.content
        assert "KillMode=mixed" not in unit.content

    def test_environment_is_the_same_for_all_steps(self, site: Site) -> None:
        found = {each for name in ("glance", "nova", "neutron") for each in declared(site, name) if each.with_packages}
        assert len(found) == 1

    def test_each_api_announces_that_it_closes_the_connection(self, site: Site) -> None:
        """Otherwise clients would reuse closed connections: cinder could not delete a key in barbican."""
        for name in ("keystone", "placement", "cinder", "barbican", "octavia"):
            files = [each for each in declared(site, name) if isinstance(each, IniFile)]
            uwsgi = [each.options["uwsgi"] for each in files if each.path.endswith("-uwsgi.ini")]
            assert [each["add-header"] for each in uwsgi] == ["Connection: close"], name

    def test_inventory_options_apply_to_uwsgi(self, site: Site) -> None:
        ini = [each for each in declared(site, "keystone") if isinstance(each, IniFile)]
        files = [each for each in ini if each.path.endswith("-uwsgi.ini")]
        assert len(files) == 1
        assert files[0].options["uwsgi"]["threads"] == 1
        assert str(files[0].options["uwsgi"]["wsgi-file"]).endswith("/bin/keystone-wsgi-public")

    def test_api_module_without_a_script(self) -> None:
        found = declared(site_of("gazpacho-bookworm"), "keystone")
        (settings,) = [each for each in found if isinstance(each, IniFile) and each.path.endswith("-uwsgi.ini")]
        assert settings.options["uwsgi"]["module"] == "keystone.wsgi.api:application"
        assert settings.options["uwsgi"]["http-socket"] == ":5000"
        assert "wsgi-file" not in settings.options["uwsgi"]

    def test_listening_address_from_the_step(self) -> None:
        """On all addresses, anybody could query nova's metadata."""
        found = declared(site_of("gazpacho-bookworm"), "nova")
        files = {each.path.removeprefix("/etc/"): each for each in found if isinstance(each, (File, IniFile))}
        settings = files["nova/nova-api-metadata-uwsgi.ini"]
        assert isinstance(settings, IniFile)
        assert "http-socket" not in settings.options["uwsgi"]
        unit, said = (files[f"systemd/system/nova-api-metadata.service{name}"] for name in ("", ".d/stackspec.conf"))
        assert isinstance(unit, File)
        assert isinstance(said, File)
        assert (
            "ExecStart=/usr/bin/uwsgi_python3 --ini /etc/nova/nova-api-metadata-uwsgi.ini $BIND_PARAMS\n"
            in unit.content
        )
        assert 'Environment="BIND_PARAMS=--freebind --http-socket 10.0.1.10:8775"\n' in said.content

    def test_files_with_secrets_are_created_before_they_are_written(self, each_site: Site) -> None:
        """A missing options file would be created for root only, or readable by everybody."""
        for name in ("keystone", "glance", "placement", "nova", "nova_compute", "neutron", "neutron_compute"):
            ready: set[str] = set()
            for each in declared(each_site, name):
                if isinstance(each, Defaults):
                    ready |= set(each.settings)
                if not isinstance(each, IniFile) or not each.path.startswith("/etc/") or "uwsgi" in each.path:
                    continue
                if each.path.split("/")[2] in wheels_of(each_site).owners:
                    assert each.path in ready, f"{name}: {each.path}"

    def test_distribution_packages_are_dependencies_of_the_code(self, site: Site) -> None:
        wanted = PackagesResource("nova-compute").real_names(site)
        assert "python3-libvirt" in wanted
        assert "sudo" in wanted
        assert "nova-compute" not in wanted

    def test_excluded_steps_are_not_part_of_the_site(self, site: Site) -> None:
        release = RELEASE.model_copy(update={"without": {"swift": "it was not tried"}})
        lacking = Site(site.inventory, release, NamedSecrets())
        assert STEPS["swift"].nodes(site)
        assert STEPS["swift"].nodes(lacking) == []
        assert "it was not tried" in STEPS["swift"].lacks(lacking)

    def test_other_content_of_a_package(self, site: Site) -> None:
        """Its files and links, with the environment's folders in content and path."""
        found = declared(site, "horizon")
        environment = next(each.path for each in found if isinstance(each, Environment))
        files = {each.path: each for each in found if isinstance(each, File)}
        apache = files["/etc/apache2/conf-available/openstack-dashboard.conf"]
        assert f"python-home={environment}\n" in apache.content
        links = {each.path: each.target for each in found if isinstance(each, Link)}
        local = f"{environment}/lib/python3.11/site-packages/openstack_dashboard/local/local_settings.py"
        assert links[local] == "/etc/openstack-dashboard/local_settings.py"


class TestUser:
    def look(self, site: Site, out: str) -> Context:
        found = context(site, site.controller)
        found.facts = {SystemUser("nova", ("kvm",))._look(): answer(out)}
        return found

    def test_existing_user(self, site: Site) -> None:
        assert SystemUser("nova", ("kvm",)).changes(self.look(site, "")) == []

    def test_missing_user(self, site: Site) -> None:
        (change,) = SystemUser("nova", ("kvm",)).changes(self.look(site, "user\nkvm\n"))
        assert [each.what for each in change.differences] == ["user nova", "group kvm of nova"]


def test_schema_is_due_when_the_version_changes(site: Site) -> None:
    sync = next(each for each in declared(site, "glance") if isinstance(each, DbSync))
    assert not any(query == package("glance") for query in sync.queries(site, site.controller))
    assert sync._known(site) == "28.2.0"
