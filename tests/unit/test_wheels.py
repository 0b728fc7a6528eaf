"""Releases from wheels: the table, the packages of a step, and what is refused."""

from __future__ import annotations

import re
import shlex
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uv

from stackspec import wheels as wheels_module
from stackspec.cloud_inventory import CloudInventory
from stackspec.errors import ActionError, InputError
from stackspec.inventory import load_inventory
from stackspec.openstack import DbSync
from stackspec.plugin.evidence import write_versions
from stackspec.release import Wheels, load_release
from stackspec.resources import Packages, Resource, Service
from stackspec.resources import environment as environment_module
from stackspec.resources.base import Context, Query, file, package, run
from stackspec.resources.environment import _PYTHON, Environment
from stackspec.resources.files import File
from stackspec.resources.from_wheels import from_wheels
from stackspec.resources.ini import IniFile
from stackspec.resources.package_files import Defaults, Link, SystemUser
from stackspec.resources.packages import Packages as PackagesResource
from stackspec.site import Site
from stackspec.step import STEPS, load_steps
from stackspec.store import keep
from stackspec.task import Task

from . import conformity
from .bare import NamedSecrets, context
from .guide_order import order_problems
from .guide_plan import ROOT

RELEASE = load_release("caracal-bookworm")
FACTS = conformity.load_facts()
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
    return site_of(RELEASE.name)


@pytest.fixture(scope="module", params=SITES)
def each_site(request: pytest.FixtureRequest) -> Site:
    return site_of(request.param)


def declared(site: Site, step: str) -> list[Resource]:
    return STEPS[step].resources(site, STEPS[step].nodes(site)[0])


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


UV = """#!/bin/sh
while [ "$1" != --target ]; do shift; done
cd "$2" && mkdir -p bin etc/app app/tests app-1.0.dist-info && umask 0
printf '#!/usr/bin/python3.9\\nimport app\\n' >bin/app
touch app/code.py app/tests/test_code.py etc/app/app.conf
echo 'Tag: py3-none-any' >app-1.0.dist-info/WHEEL
echo 'bin/app,sha256=x,1' >app-1.0.dist-info/RECORD
"""
"""Installs a project with a command, a module, tests and a settings file, writable by everybody."""


class TestEnvironment:
    def test_different_applications_have_different_folders(self) -> None:
        more = WHEELS.model_copy(update={"libraries": (*WHEELS.libraries, "one-more")})
        assert wheels_module.folder_of(more) != wheels_module.folder_of(WHEELS)
        assert wheels_module.folder_of(WHEELS) == wheels_module.folder_of(WHEELS.model_copy())

    def facts(self, resource: Environment, site: Site, **given: Any) -> dict[Query, Any]:
        node = site.controller
        stamp = {"exists": False, "content": "", "mtime": 0.0, "ctime": 0.0}
        facts = {query: {"status": 0, "out": "", "err": ""} for query in resource.queries(site, node)}
        facts[file(resource.stamp)] = given.get("stamp", stamp)
        facts[run(*_PYTHON)] = {"status": 0, "out": given.get("python", "3.11 x86_64\n"), "err": ""}
        facts[resource._room()] = {"status": 0, "out": given.get("room", "Avail\n 9000\n"), "err": ""}
        facts[resource._astray()] = given.get("astray", {"status": 0, "out": "", "err": ""})
        return facts

    @pytest.fixture(autouse=True)
    def checked(self, monkeypatch: pytest.MonkeyPatch) -> list[Wheels]:
        """What was resolved."""
        found: list[Wheels] = []
        monkeypatch.setattr(environment_module, "check_requirements", found.append)
        return found

    @pytest.fixture
    def resource(self) -> Environment:
        return Environment(wheels_module.folder_of(WHEELS))

    def look(self, resource: Environment, site: Site, **given: Any) -> Context:
        found = context(site, site.controller)
        found.facts = self.facts(resource, site, **given)
        return found

    def test_bare_node(self, resource: Environment, site: Site, checked: list[Wheels]) -> None:
        found = self.look(resource, site)
        assert resource.obstacles(found) == []
        assert checked == [site.release.wheels]
        (change,) = resource.changes(found)
        assert change.touches == (resource.stamp,)

    def test_nothing_to_do(self, resource: Environment, site: Site) -> None:
        stamp = {"exists": True, "content": f"{resource.path}\n", "mtime": 0.0, "ctime": 0.0}
        assert resource.changes(self.look(resource, site, stamp=stamp)) == []

    def test_killed_before_the_stamp(self, resource: Environment, site: Site) -> None:
        stamp = {"exists": True, "content": "", "mtime": 0.0, "ctime": 0.0}
        assert len(resource.changes(self.look(resource, site, stamp=stamp))) == 1

    def test_deleted_command(self, resource: Environment, site: Site) -> None:
        stamp = {"exists": True, "content": f"{resource.path}\n", "mtime": 0.0, "ctime": 0.0}
        found = self.look(resource, site, stamp=stamp, astray={"status": 0, "out": "nova-manage\n", "err": ""})
        (change,) = resource.changes(found)
        assert "/usr/bin/nova-manage" in str(change.differences[0])

    @pytest.mark.parametrize("python", ["3.13 x86_64", "3.11 aarch64", ""])
    def test_node_with_another_python(self, resource: Environment, site: Site, python: str) -> None:
        (text,) = resource.obstacles(self.look(resource, site, python=f"{python}\n"))
        assert text == (f"python3 is {python or 'missing'}, but caracal-bookworm has wheels for Python 3.11 x86_64")

    def test_full_disk(self, resource: Environment, site: Site) -> None:
        (text,) = resource.obstacles(self.look(resource, site, room="Avail\n  300\n"))
        assert text.startswith("/opt: 300 MiB free")


class TestArchive:
    @pytest.mark.parametrize(
        "before",
        [
            pytest.param(b"#!/home/me/.venv/bin/python\nimport sys\n", id="short"),
            pytest.param(
                b"#!/bin/sh\n'''exec' '/a very/long path/python' \"$0\" \"$@\"\n' '''\nimport sys\n", id="long"
            ),
        ],
    )
    def test_scripts_run_with_the_node_s_python(self, before: bytes) -> None:
        assert (
            wheels_module._SCRIPT.sub(b"#!/opt/x/bin/python\n", before, count=1) == b"#!/opt/x/bin/python\nimport sys\n"
        )

    def test_shell_script_is_unchanged(self) -> None:
        assert wheels_module._SCRIPT.sub(b"x", b"#!/bin/sh\necho hi\n", count=1) == b"#!/bin/sh\necho hi\n"

    def wheel(self, library: Path, name: str, tag: str, commands: tuple[str, ...] = ()) -> None:
        folder = library / f"{name}-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "WHEEL").write_text(f"Wheel-Version: 1.0\nTag: {tag}\n")
        (folder / "RECORD").write_text("".join(f"bin/{each},sha256=x,1\n" for each in commands))
        (library / "bin").mkdir(exist_ok=True)
        for each in commands:
            (library / "bin" / each).touch()

    def test_compiled_wheel_is_refused(self, tmp_path: Path) -> None:
        self.wheel(tmp_path, "pure", "py3-none-any")
        self.wheel(tmp_path, "many", "cp311-cp311-manylinux_2_17_x86_64")
        wheels_module._refuse_compiled(tmp_path)
        self.wheel(tmp_path, "scrypt", "cp311-cp311-linux_x86_64")
        with pytest.raises(ActionError, match=r"scrypt-1\.0 is on the index only as source"):
            wheels_module._refuse_compiled(tmp_path)

    def test_commands_of_projects_and_listed_ones_are_linked(self, tmp_path: Path) -> None:
        self.wheel(tmp_path, "openstack_heat", "py3-none-any", ("heat-manage",))
        self.wheel(tmp_path, "oslo.privsep", "py3-none-any", ("privsep-helper",))
        self.wheel(tmp_path, "flask", "py3-none-any", ("flask",))
        described: dict[str, Any] = {"path": "/opt/x", "python": "3.11", "platform": "x", "constraints": "x"}
        made = Wheels(**described, projects=("openstack-heat==1.0",), commands=("privsep-helper", "not-there"))
        assert wheels_module._commands(made, tmp_path) == ["heat-manage", "privsep-helper"]

    @pytest.fixture
    def uv_says(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
        """Replaces uv by a program that fails with a message; returns the file with its arguments."""
        monkeypatch.setenv("STACKSPEC_CACHE", str(tmp_path))
        monkeypatch.setattr(wheels_module, "_CHECKED", {})

        def says(text: str) -> Path:
            false = tmp_path / "uv"
            false.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\necho {shlex.quote(text)} >&2\nexit 1\n')
            false.chmod(0o755)
            monkeypatch.setattr(uv, "find_uv_bin", lambda: str(false))
            return tmp_path / "asked"

        return says

    def test_unsolvable_requirements(self, tmp_path: Path, uv_says: Callable[[str], Path]) -> None:
        uv_says("No solution found: nova==29 and nova==30")
        with pytest.raises(ActionError, match="No solution found") as caught:
            wheels_module.archive(WHEELS)
        assert WHEELS.constraints in str(caught.value)
        assert not list((tmp_path / "environments").glob("*.tar.gz"))
        assert not list((tmp_path / "environments").glob(".make-*"))

    def test_unsolvable_requirements_are_found_before_nodes_are_changed(
        self, tmp_path: Path, uv_says: Callable[[str], Path]
    ) -> None:
        asked = uv_says("No solution found: nova==29 and nova==30")
        for _ in range(3):
            with pytest.raises(InputError, match="No solution found") as caught:
                wheels_module.check_requirements(WHEELS)
        assert WHEELS.constraints in str(caught.value)
        (once,) = asked.read_text().splitlines()
        assert "--dry-run" in once
        assert not list((tmp_path / "environments").glob(".check-*"))

    def test_cached_environment_is_not_resolved_again(self, tmp_path: Path, uv_says: Callable[[str], Path]) -> None:
        asked = uv_says("No solution found")
        kept = wheels_module._cached(WHEELS)
        kept.parent.mkdir()
        (tmp_path / "made").write_text("archive")
        keep(tmp_path / "made", kept)
        wheels_module.check_requirements(WHEELS)
        assert wheels_module.archive(WHEELS) == kept
        assert not asked.exists()
        kept.write_text("archiv")
        with pytest.raises(ActionError):
            wheels_module.archive(WHEELS)

    def test_archive(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """All of it belongs to root and only root may write; scripts run with the node's Python at their final path."""
        monkeypatch.setenv("STACKSPEC_CACHE", str(tmp_path))
        false = tmp_path / "uv"
        false.write_text(UV)
        false.chmod(0o755)
        monkeypatch.setattr(uv, "find_uv_bin", lambda: str(false))
        made = WHEELS.model_copy(update={"projects": ("app==1.0",), "commands": ()})
        folder = wheels_module.folder_of(made)
        with tarfile.open(wheels_module.archive(made)) as archive:
            members = {each.name.removeprefix("./"): each for each in archive}
            contents = {name: archive.extractfile(each) for name, each in members.items() if each.isfile()}
            texts = {name: file.read() for name, file in contents.items() if file}
        assert {(each.uid, each.gid, each.uname) for each in members.values()} == {(0, 0, "root")}
        assert {each.mode for each in members.values() if not each.issym()} == {0o755, 0o644}
        assert members["bin/app"].mode == members["etc"].mode == 0o755
        assert members["etc/app/app.conf"].mode == 0o644
        assert members["bin/python3"].linkname == "/usr/bin/python3.11"
        assert texts["bin/app"].splitlines()[0].decode() == f"#!{folder}/bin/python"
        assert texts["commands"] == b"app\n"
        assert "lib/python3.11/site-packages/app/code.py" in texts
        assert not [name for name in members if "tests" in name]

    def test_project_that_needs_a_compiler(self, uv_says: Callable[[str], Path]) -> None:
        """Where this machine has none, uv fails; the advice is the same as where it has one."""
        uv_says("  x Failed to build `scrypt==0.8.20`\n  error: command 'gcc' failed: No such file or directory")
        with pytest.raises(ActionError, match=r"scrypt==0\.8\.20[\s\S]*wheels\.excluded"):
            wheels_module.archive(WHEELS)


class TestUser:
    def look(self, site: Site, out: str) -> Context:
        found = context(site, site.controller)
        found.facts = {SystemUser("nova", ("kvm",))._look(): {"status": 0, "out": out, "err": ""}}
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


NOT_IN_APACHE = {
    "keystone.apache.ServerName",
    "keystone.unit.apache2.restart",
    "placement.unit.apache2.restart",
    "barbican.unit.apache2.restart",
    "cinder.unit.apache2.restart",
}
"""The guide's facts about Apache, which does not run these APIs here: each has its own unit."""
CONSOLE = {"nova.compute.conf.vnc.novncproxy_base_url"}
"""The guide's noVNC page shows a button first, like the noVNC of Debian 12."""
NO_MORE = {
    # Nova no longer has this option.
    "nova.conf.api.auth_strategy",
    "nova.compute.conf.api.auth_strategy",
    # Neutron's server is split into three units.
    "neutron.unit.neutron-server.restart",
}
"""Facts of the guide that differ in Gazpacho."""
CORE = ("keystone", "glance", "placement", "nova", "neutron")
OTHERWISE = {
    **{(RELEASE.name, name): NOT_IN_APACHE | CONSOLE for name in (*CORE, "cinder", "heat", "barbican")},
    **{("gazpacho-bookworm", name): NOT_IN_APACHE | CONSOLE | NO_MORE for name in CORE},
}
"""Release and chapter of the guide -> what differs there."""


class TestConformity:
    """The guide's facts and its order hold for these releases as well: the steps are the same."""

    @pytest.mark.parametrize(("release", "chapter"), OTHERWISE)
    def test_facts_of_the_guide(self, release: str, chapter: str) -> None:
        plan, deliberate = conformity.guide_plan(release), conformity.load_deliberate(release)
        verdicts = {each["id"]: conformity.judge(each, deliberate, plan) for each in FACTS if each["step"] == chapter}
        missing = {name for name, each in verdicts.items() if each.status == "missing"}
        packages = {name for name in missing if ".package." in name}
        assert {name.rsplit(".", 1)[1] for name in packages} <= wheels_of(plan.site).packages.keys()
        assert missing - packages == OTHERWISE[release, chapter] & verdicts.keys()

    @pytest.mark.parametrize("release", SITES)
    def test_order_and_guards_are_right(self, release: str) -> None:
        for here in conformity.guide_plan(release).nodes.values():
            assert list(order_problems(here, FACTS)) == [], here.node.name
            assert here.after.guards == [], here.node.name


def test_report_contains_the_versions_of_projects(site: Site) -> None:
    """For finished steps, as with packages."""
    task = Task(STEPS["glance"], site.controller, declared(site, "glance"), state="done")
    connections = SimpleNamespace(names=lambda: ["controller"])
    answers = SimpleNamespace(
        facts=lambda queries: {q: {"out": "Debian\n6.1\n"} if q.op == "run" else None for q in queries}
    )
    events: list[dict[str, Any]] = []
    engine: Any = SimpleNamespace(
        site=site, connections=_Nodes(connections, answers), on_node={"controller": {"glance": task}}
    )
    log: Any = SimpleNamespace(write=events.append)
    write_versions(engine, log)
    assert events[0]["packages"] == {"glance": "28.2.0"}
    task.state = "failed"
    write_versions(engine, log)
    assert events[1]["packages"] == {}


class _Nodes:
    """Connections to one simulated node."""

    def __init__(self, names: SimpleNamespace, answers: SimpleNamespace) -> None:
        self.names, self._answers = names.names, answers

    def __getitem__(self, name: str) -> SimpleNamespace:
        return self._answers
