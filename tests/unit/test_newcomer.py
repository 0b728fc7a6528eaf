"""Adding a service means writing its step and tests; everything else that must know it is reported with its place."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from stackspec import release
from stackspec.step import load_steps

from .guide_node import SCHEMAS
from .guide_plan import CHAPTERS, ROOT
from .newcomer import KINDS, PAGES, missing

READ = ("deploy_steps", "docs", "faults", "inventories/lab", "releases", "stackspec/fixtures", "tests")
STEP = '''
from stackspec.openstack import Database, DbSync, Endpoint, OsloConfig, ServiceUser
from stackspec.openstack import database_url, keystone_authtoken, transport_url
from stackspec.resources import Answers, Packages, Service
from stackspec.site import Site
from stackspec.step import Resources, Step, step


@step(role="controller", provides="dns")
def designate(site: Site, keystone: Step, mariadb: Step, rabbitmq: Step, memcached: Step) -> Resources:
    """Designate, which no site of ours has."""
    url = f"http://{site.controller.name}:9001"
    yield Database("designate")
    yield ServiceUser("designate")
    yield Endpoint("dns", name="designate", description="DNS service", url=url)
    yield Packages("designate")
    yield OsloConfig(
        "/etc/designate/designate.conf",
        {
            "DEFAULT": {"transport_url": transport_url(site)},
            "storage:sqlalchemy": {"connection": database_url(site, "designate")},
            "keystone_authtoken": {**keystone_authtoken(site, "designate")},
        },
    )
    yield DbSync(("designate-manage", "database", "sync"), database="designate", package="designate", user="designate")
    yield Service("designate-central")
    yield Answers(url, service="designate-central")
'''
ENDPOINT = "step designate declares the endpoint dns: "
TABLES: dict[str, tuple[Any, Any, Any, str]] = {
    "chapter": (
        CHAPTERS,
        "designate",
        ("designate",),
        "step designate is in no chapter of tests/unit/guide_plan.py: add it to CHAPTERS or BESIDE_THE_GUIDE",
    ),
    "schema": (
        SCHEMAS,
        ("designate-manage",),
        "designate",
        "step designate declares a schema: SCHEMAS in tests/unit/guide_node.py has no designate-manage: add it",
    ),
}
"""Tables of the comparison with the guide: key and value, and the message without them."""
ENTRIES = {
    **{
        page: (
            page,
            "",
            "\n| designate | API | zones | names |\n",
            f"deploy_steps/designate.py is not named in {page}: add it",
        )
        for page in PAGES
    },
    "port": (
        "tests/infra/test_names.py",
        "",
        'APIS = {"designate": 9001}\n',
        f"{ENDPOINT}tests/infra checks no port 9001: add it to the APIs that answer on every node",
    ),
    "nginx": (
        "deploy_steps/skyline.py",
        "    magnum: Step,\n",
        "    magnum: Step,\n    designate: Step,\n",
        f"{ENDPOINT}skyline's nginx is configured before it: add it to what the step skyline needs",
    ),
    "kinds": (
        KINDS,
        "KINDS: tuple[Kind, ...] = (\n",
        'KINDS: tuple[Kind, ...] = (\n    _kind("dns", "zone"),\n',
        f"{ENDPOINT}{KINDS} has no objects of it: add them to KINDS, before what they use",
    ),
    "api": (
        "tests/api/test_dns.py",
        "",
        "def test_zone(designate, owned): pass\n",
        f"{ENDPOINT}tests/api has no test for it: add one that takes designate",
    ),
    "mapping": (
        "deploy_steps/skyline.py",
        '                "identity": "keystone",\n',
        '                "identity": "keystone",\n                "dns": "designate",\n',
        f"{ENDPOINT}service_mapping in deploy_steps/skyline.py has no name for it: add it",
    ),
    "behind nginx": (
        "tests/infra/test_dashboard.py",
        "",
        'NAMES = {"dns": "designate"}  # asked for at /api/openstack/\n',
        f"{ENDPOINT}tests/infra does not check it behind skyline's nginx: add it to NAMES there",
    ),
    "passwords": (
        "tests/infra/test_secrets.py",
        "",
        'FILES = ["/etc/designate/designate.conf"]\n',
        "step designate writes a secret into /etc/designate/designate.conf: no test in tests/infra checks its mode: "
        "add it there",
    ),
    "login": (
        "tests/infra/test_mariadb.py",
        "",
        '\nSECTIONS = {"designate": "storage:sqlalchemy"}\n',
        "step designate declares a database: tests/infra/test_mariadb.py does not log in to it: add its file there",
    ),
    "options": (
        "tests/infra/test_options.py",
        "COMMANDS = {\n",
        'COMMANDS = {\n    "designate": "designate-manage",\n',
        "step designate declares a database: tests/infra/test_options.py does not look up its options: add it there",
    ),
    "in use": (
        "deploy_steps/base.py",
        '"/etc/glance/glance-api.conf",\n',
        '"/etc/glance/glance-api.conf",\n    "/etc/designate/designate.conf",\n',
        "step designate declares a database: deploy_steps/base.py has no file of it: add one to IN_USE",
    ),
    "queue": (
        "tests/infra/test_queues.py",
        "",
        'QUEUES = {"designate": {"central.{}": "controller"}}  # looked up with list_queues\n',
        "step designate declares a transport_url: tests/infra checks no queue of it: add it to QUEUES there",
    ),
    "upgrade check": (
        "tests/infra/test_upgrade.py",
        "",
        'COMMAND = "designate-status upgrade check"\n',
        "step designate declares a schema: tests/infra does not run 'designate-status upgrade check': add it there, "
        "or the reason to NO_UPGRADE_CHECK",
    ),
    "fault": (
        "faults/units.yaml",
        "",
        "dns-stopped:\n  do: [{stop: designate-central}]\n",
        "step designate declares the service designate-central: no fault breaks it: add one to faults/",
    ),
    "wheels": (
        "releases/caracal-bookworm.yaml",
        "unwanted:\n",
        "without: {designate: it was not tried}\nunwanted:\n",
        "step designate: releases/caracal-bookworm.yaml has no wheel of designate: add one, or the step to without",
    ),
    "wheels of the core": (
        "releases/gazpacho-bookworm.yaml",
        "without:\n",
        "without:\n  designate: it was not tried\n",
        "step designate: releases/gazpacho-bookworm.yaml has no wheel of designate: add one, or the step to without",
    ),
}
"""Places for a new service: the file, a text in it (none: append), its replacement, and the message without it."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_traces: None) -> Path:
    """The project with a step for a new service."""
    load_steps()
    for folder in READ:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / KINDS).parent.mkdir(parents=True)
    shutil.copy(ROOT / KINDS, tmp_path / KINDS)
    monkeypatch.setattr(release, "_folder", lambda: tmp_path / "releases")
    # The guide's table of the dashboard has a name for each existing service.
    dashboard = tmp_path / "deploy_steps/skyline.py"
    dashboard.write_text(dashboard.read_text().replace('                "dns": "designate",\n', ""))
    (tmp_path / "deploy_steps/designate.py").write_text(STEP)
    for table, key, value, _ in TABLES.values():
        monkeypatch.setitem(table, key, value)
    return tmp_path


def report_without(project: Path, *forget: str) -> list[str]:
    """The report if the service is registered everywhere except there."""
    for path, old, new, _ in (entry for name, entry in ENTRIES.items() if name not in forget):
        file = project / path
        text = file.read_text() if file.exists() else ""
        assert text.count(old) == 1 or not old, f"{path}: {old}"
        file.write_text(text.replace(old, new) if old else text + new)
    for name in ("designate", "skyline"):
        spec = importlib.util.spec_from_file_location(name, project / f"deploy_steps/{name}.py")
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return missing(project)


def test_real_services_are_complete() -> None:
    load_steps()
    assert missing(ROOT) == []


def test_complete_service_has_no_report(project: Path) -> None:
    assert report_without(project) == []


@pytest.mark.parametrize("name", ENTRIES)
def test_one_missing_place_is_reported(project: Path, name: str) -> None:
    assert report_without(project, name) == [ENTRIES[name][-1]]


@pytest.mark.parametrize("name", TABLES)
def test_one_missing_table_is_reported(project: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    table, key, _, message = TABLES[name]
    monkeypatch.delitem(table, key)
    assert report_without(project) == [message]


def test_everything_missing_is_reported_at_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for table, key, *_ in TABLES.values():
        monkeypatch.delitem(table, key)
    messages = {entry[-1] for entry in (*ENTRIES.values(), *TABLES.values())}
    assert set(report_without(project, *ENTRIES)) == messages


def test_world_readable_secret_is_reported(project: Path) -> None:
    file = project / "deploy_steps/designate.py"
    file.write_text(STEP.replace("        },\n    )\n", "        },\n        mode=0o644,\n    )\n"))
    assert report_without(project) == [
        "step designate writes a secret into /etc/designate/designate.conf, which is world-readable: mode 0644"
    ]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            "dns",
            "step designate needs a section that stackspec/cloud_inventory.py lacks: dns: add it",
        ),
        (
            "disks.designate",
            "step designate is not in the lab: its inventory has no section 'disks.designate': add it to "
            "inventories/lab",
        ),
    ],
)
def test_section_missing_in_the_lab_is_reported(project: Path, section: str, message: str) -> None:
    """For a step that no site has, nothing else could be checked."""
    file = project / "deploy_steps/designate.py"
    file.write_text(STEP.replace('provides="dns"', f'provides="dns", section="{section}"'))
    assert report_without(project, "wheels") == [message]


def test_message_in_the_docs_is_real() -> None:
    (message,) = re.findall(r"^step designate .*$", (ROOT / "docs/extending.md").read_text(), re.MULTILINE)
    assert message == ENTRIES["api"][-1]
