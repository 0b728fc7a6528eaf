"""What other files must know about a step: one line for each place where a new service is missing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from os_service_types import ServiceTypes

from stackspec.cloud_inventory import CloudInventory
from stackspec.errors import InputError
from stackspec.inventory import load_inventory
from stackspec.openstack import Database, DbSync, Endpoint, OsloConfig
from stackspec.release import Release, load_release
from stackspec.resources import File, Resource, Service, YamlFile
from stackspec.resources.ini import IniFile
from stackspec.site import Site
from stackspec.step import STEPS, Step, closure

from .bare import NamedSecrets
from .guide_node import SCHEMAS
from .guide_plan import BESIDE_THE_GUIDE, CHAPTERS

NO_UPGRADE_CHECK = {
    "octavia": "it fails in 2025.1: it reads an option that it does not define",
    "skyline_apiserver": "it has none",
}
"""Step -> why no test runs the upgrade check of its service."""
NO_OSLO = {"skyline_apiserver": "its settings are in YAML; each login to its page uses the database"}
"""Step -> why no test of oslo's settings concerns it."""
INFRA, API = "tests/infra/**/*.py", "tests/api/**/*.py"
KINDS = "stackspec/openstack/kinds.py"
PAGES = ("docs/checks.md", "docs/support.md", "docs/zh/checks.md", "docs/zh/support.md")


def missing(root: Path) -> list[str]:
    """What is missing, with the place where it belongs.

    :param root: the project; its tests, faults, tables and pages are read as text
    """
    inventory = load_inventory(root / "inventories/lab", CloudInventory)
    tables = [load_release(path.stem) for path in sorted((root / "releases").glob("*.yaml"))]
    site = Site(inventory, load_release("epoxy-trixie"), NamedSecrets())
    from_wheels = [Site(inventory, table, NamedSecrets()) for table in tables if table.wheels]
    compared = {name for steps in CHAPTERS.values() for name in steps} | BESIDE_THE_GUIDE
    project, found = Project(root), dict[str, None]()
    for step in STEPS.values():
        if step.name not in compared:
            table = "tests/unit/guide_plan.py"
            found[f"step {step.name} is in no chapter of {table}: add it to CHAPTERS or BESIDE_THE_GUIDE"] = None
        found |= dict.fromkeys(_of_pages(step, project))
        if message := _absent(step, site):
            found[message] = None
            continue
        for node in step.nodes(site):
            resources = step.resources(site, node)
            for part in (_of_endpoints, _of_files, _of_databases, _of_queues, _of_schemas, _of_units):
                found |= dict.fromkeys(f"step {step.name} {message}" for message in part(step, resources, project))
        for other in from_wheels:
            for node in step.nodes(other):
                found |= dict.fromkeys(_of_wheels(step, step.resources(other, node), other.release))
    return list(found)


class Project:
    """The files of a project as text.

    :param root: its folder
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._texts: dict[str, list[str]] = {}

    def text(self, pattern: str, holding: str = "") -> str:
        """The contents of the matching files; only of those that contain `holding`."""
        if pattern not in self._texts:
            self._texts[pattern] = [path.read_text() for path in sorted(self._root.glob(pattern))]
        return "\n".join(text for text in self._texts[pattern] if holding in text)

    def names(self, pattern: str, word: str, holding: str = "") -> bool:
        """Whether one of the files contains this word."""
        return bool(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", self.text(pattern, holding)))


def _absent(step: Step, site: Site) -> str:
    """Why the step cannot be checked, or ""."""
    try:
        nodes, lacks = step.nodes(site), step.lacks(site)
    except (AttributeError, KeyError, InputError):
        sections = ", ".join(step.sections)
        return f"step {step.name} needs a section that stackspec/cloud_inventory.py lacks: {sections}: add it"
    lacks = lacks or "no node has its role"
    return "" if nodes else f"step {step.name} is not in the lab: {lacks}: add it to inventories/lab"


def _of_endpoints(step: Step, resources: list[Resource], project: Project) -> Iterator[str]:
    """Its clients, its object kinds, and its name in the dashboard."""
    for endpoint in (each for each in resources if isinstance(each, Endpoint)):
        declares, port = f"declares the endpoint {endpoint.type}", str(urlsplit(endpoint.url).port)
        if not project.names(INFRA, port):
            yield f"{declares}: tests/infra checks no port {port}: add it to the APIs that answer on every node"
        if step.name not in closure(["skyline"]):
            yield f"{declares}: skyline's nginx is configured before it: add it to what the step skyline needs"
        if endpoint.type != step.provides:
            continue
        proxy = (ServiceTypes().get_service_type(endpoint.type) or endpoint.type).replace("-", "_")
        if f'"{proxy}"' not in project.text(KINDS):
            yield f"{declares}: {KINDS} has no objects of it: add them to KINDS, before what they use"
        if not (project.names(API, step.name) or project.names("stackspec/fixtures/*.py", step.name)):
            yield f"{declares}: tests/api has no test for it: add one that takes {step.name}"
        if not project.names("deploy_steps/skyline.py", endpoint.type):
            yield f"{declares}: service_mapping in deploy_steps/skyline.py has no name for it: add it"
        if not project.names(INFRA, endpoint.type, holding="/api/openstack/"):
            yield f"{declares}: tests/infra does not check it behind skyline's nginx: add it to NAMES there"


def _of_files(step: Step, resources: list[Resource], project: Project) -> Iterator[str]:
    """Whether tests check who can read its passwords."""
    for each in resources:
        if isinstance(each, IniFile | YamlFile | File) and "secret-of-" in repr(each):
            if each.mode & 0o007:
                yield f"writes a secret into {each.path}, which is world-readable: mode {each.mode:04o}"
            if each.path not in project.text(INFRA):
                yield f"writes a secret into {each.path}: no test in tests/infra checks its mode: add it there"


def _of_databases(step: Step, resources: list[Resource], project: Project) -> Iterator[str]:
    """Whether a test logs in to its database, whether its options are looked up, and whether it may be overwritten."""
    if not any(isinstance(each, Database) for each in resources) or step.name in NO_OSLO:
        return
    if not project.names("tests/infra/test_mariadb.py", step.name):
        yield "declares a database: tests/infra/test_mariadb.py does not log in to it: add its file there"
    if not project.names("tests/infra/test_options.py", step.name):
        yield "declares a database: tests/infra/test_options.py does not look up its options: add it there"
    if not project.names("deploy_steps/base.py", step.name):
        yield "declares a database: deploy_steps/base.py has no file of it: add one to IN_USE"


def _of_queues(step: Step, resources: list[Resource], project: Project) -> Iterator[str]:
    """Whether tests check that it consumes its queue."""
    files = (each for each in resources if isinstance(each, OsloConfig))
    has_queue = any("transport_url" in each.options.get("DEFAULT", {}) for each in files)
    if has_queue and f'"{step.name}"' not in project.text(INFRA, holding="list_queues"):
        yield "declares a transport_url: tests/infra checks no queue of it: add it to QUEUES there"


def _of_schemas(step: Step, resources: list[Resource], project: Project) -> Iterator[str]:
    """The service's own check of schema and settings; support by the comparison's simulated machine."""
    for schema in (each for each in resources if isinstance(each, DbSync)):
        if not any(schema.argv[: len(start)] == start for start in SCHEMAS):
            yield f"declares a schema: SCHEMAS in tests/unit/guide_node.py has no {schema.argv[0]}: add it"
    command = f"{step.name}-status upgrade check"
    checked = step.name in NO_UPGRADE_CHECK or command in project.text(INFRA)
    if not checked and any(isinstance(each, DbSync) for each in resources):
        yield (
            f"declares a schema: tests/infra does not run {command!r}: add it there, or the reason to NO_UPGRADE_CHECK"
        )


def _of_units(step: Step, resources: list[Resource], project: Project) -> Iterator[str]:
    """Whether a fault makes its tests fail."""
    units = [name for each in resources if isinstance(each, Service) for name in each.names]
    if units and not re.search(
        rf"\b({'|'.join(map(re.escape, (step.name, *units)))})\b", project.text("faults/*.yaml")
    ):
        yield f"declares the service {units[0]}: no fault breaks it: add one to faults/"


def _of_wheels(step: Step, resources: list[Resource], release: Release) -> Iterator[str]:
    """If OpenStack comes as wheels, the distribution's packages belong to another release."""
    for each in resources:
        if isinstance(each, DbSync) and each.package and not release.wheel_version(each.package):
            table = f"releases/{release.name}.yaml"
            yield f"step {step.name}: {table} has no wheel of {each.package}: add one, or the step to without"


def _of_pages(step: Step, project: Project) -> Iterator[str]:
    """Its user documentation."""
    file = step.declare.__module__.rpartition(".")[2]
    for page in PAGES:
        if not re.search(rf"(?<![a-z]){file}(?![a-z])", project.text(page)):
            yield f"deploy_steps/{file}.py is not named in {page}: add it"
