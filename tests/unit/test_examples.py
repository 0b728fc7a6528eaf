"""The worked examples of docs/extending.md do what the page says: each block is extracted from the page and run."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stackspec.cloud_inventory import load_site
from stackspec.fault_injection.fault import catalogue, filled
from stackspec.release import load_release
from stackspec.release_check import check_release
from stackspec.resources.base import Resource
from stackspec.site import Site
from stackspec.step import STEPS, load_steps

from . import guide_plan
from .agent_here import connect
from .plugin_runs import Runs

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/extending.md"
NODES = """
from node_exporter import node_exporter
from types import SimpleNamespace
import pytest
from stackspec.fixtures.report import report
from stackspec.plugin.session import RUN

@pytest.fixture(scope="session")
def site(pytestconfig):
    return pytestconfig.stash[RUN].site

@pytest.fixture(scope="session")
def node_host(site):
    def answer(name):
        listening = "LISTEN 0 4096 {address}:9100 0.0.0.0:*" if {there} else ""
        said = {{"ss": listening.replace("ADDRESS", site.nodes[name].address), "curl": {metrics!r}}}
        return SimpleNamespace(check_output=lambda command: said[command.split()[0]])
    return answer
"""
"""Fixtures for simulated nodes that answer the commands of the page's tests."""


def block(name: str, page: Path = PAGE) -> str:
    """The code block of the page whose first line names this file."""
    found = re.findall(rf"^```\w+\n(# {re.escape(name)}\n.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"{page.name} has {len(found)} blocks of {name}"
    return str(found[0])


@pytest.fixture
def exporter(runs: Runs) -> Runs:
    """Simulated nodes with the page's step and its test."""
    runs.pytester.syspathinsert()
    (runs.path / "node_exporter.py").write_text(block("deploy_steps/node_exporter.py"))
    runs.tests(block("tests/infra/test_node_exporter.py"), "test_node_exporter.py")
    shutil.copy(ROOT / "tests/infra/test_drift.py", runs.path)
    return runs


def answers(runs: Runs, address: str = "ADDRESS", *, there: bool = True, metrics: str = "") -> None:
    """The nodes as the tests see them: what listens on the port, and its metrics."""
    runs.steps(NODES.format(address=address, there=there, metrics=metrics))


def test_service_is_deployed_and_tested(exporter: Runs) -> None:
    answers(exporter)
    exporter.pytest("--deploy", "test_node_exporter.py").assert_outcomes(passed=1)
    for number, name in enumerate(("one", "two", "three"), 1):
        node = exporter.node(name)
        assert node["units"]["prometheus-node-exporter"]["active"] == "active"
        settings = node["files"]["/etc/default/prometheus-node-exporter"]["content"]
        assert settings == f'ARGS="--web.listen-address=10.99.0.{number}:9100"\n'
    exporter.pytest("test_drift.py", "-k", "node_exporter").assert_outcomes(passed=12, deselected=18)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"address": "0.0.0.0"}, "one: port 9100 listens on {'0.0.0.0'}", id="everywhere"),
        pytest.param({"there": False}, "one: port 9100 listens on nothing", id="not at all"),
    ],
)
def test_service_test_fails(exporter: Runs, given: dict[str, Any], message: str) -> None:
    answers(exporter, **given)
    result = exporter.pytest("--deploy", "test_node_exporter.py")
    result.assert_outcomes(failed=1)
    assert message in result.stdout.str()


@pytest.mark.parametrize(("name", "least"), [("placement", 10), ("nova", 3)])
def test_shortened_step_matches_the_real_one(name: str, least: int) -> None:
    lines = block(f"deploy_steps/{name}.py, shortened").splitlines()[1:]
    real = (ROOT / f"deploy_steps/{name}.py").read_text().splitlines()
    assert len(lines) >= least
    assert [line.strip() for line in lines if line not in real] == ["..."]


def test_release_loads_and_creates_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "epoxy-noble.yaml").write_text(block("releases/epoxy-noble.yaml"))
    with monkeypatch.context() as patched:
        patched.setattr("importlib.resources.files", lambda package: tmp_path)
        table = load_release("epoxy-noble")
        load_steps()
        check_release("epoxy-noble", STEPS)
    site = guide_plan.site_with(table)
    plan = guide_plan.declared(site, site.controller)
    assert {"keystone", "nova", "magnum"} <= plan.keys()
    assert table.unit("keystone") == ("apache2",)
    # An option beyond the guide is in the step's own file.
    nova = [each for each in plan["nova"] if "/etc/nova/nova.conf" in each.paths(site)]
    assert any(getattr(each, "options", {}).get("DEFAULT", {}).get("osapi_compute_workers") == 2 for each in nova)


@pytest.fixture
def symlink(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Resource]:
    """The page's resource, loaded as a module."""
    name = "stackspec.resources.symlink"
    file = tmp_path / "symlink.py"
    file.write_text(block("stackspec/resources/symlink.py"))
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    made: type[Resource] = module.Symlink
    return made


def test_resource_passes_its_own_test(symlink: type[Resource], change: Callable[..., Any]) -> None:
    there: dict[str, Any] = {"__package__": __package__}
    exec(compile(block("tests/unit/test_symlink.py"), "test_symlink.py", "exec"), there)
    there["test_wrong_target_is_a_difference"](change)


@pytest.mark.parametrize("before", ["", "elsewhere", "target"])
def test_resource_is_created_on_a_node(
    symlink: Callable[..., Resource], change: Callable[..., Any], site: Site, tmp_path: Path, before: str
) -> None:
    """By the real agent, in a temporary folder."""
    link = tmp_path / "link"
    if before:
        link.symlink_to(before)
    resource = symlink(str(link), "target")
    queries = list(resource.queries(site, site.controller))
    connection = connect()
    try:
        wanted = change(resource, connection.facts(queries))
        assert (wanted is None) == (before == "target")
        if wanted:
            connection.apply(wanted.actions)
        assert change(resource, connection.facts(queries)) is None
    finally:
        connection.close()
    assert link.readlink() == Path("target")


def test_evidence_is_in_the_report(exporter: Runs) -> None:
    answers(exporter, metrics="node_load1 0.42\n")
    exporter.tests(block("tests/infra/test_load.py"), "test_load.py")
    exporter.pytest("--deploy", "test_load.py").assert_outcomes(passed=1)
    (page,) = exporter.path.glob("state/sites/*/runs/*/report.html")
    assert "load of three: 0.42" in page.read_text()
    assert "metrics on three</summary><pre>node_load1 0.42" in page.read_text()


def test_missing_evidence(exporter: Runs) -> None:
    answers(exporter)
    exporter.tests(block("tests/infra/test_load.py"), "test_load.py")
    result = exporter.pytest("--deploy", "test_load.py")
    result.assert_outcomes(failed=1)
    assert "one: the exporter has no load" in result.stdout.str()


def test_fault_loads_and_its_tests_detect_it(
    exporter: Runs, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "units.yaml").write_text(block("faults/units.yaml"))
    with monkeypatch.context() as patched:
        patched.setattr("importlib.resources.files", lambda package: folder)
        entry = catalogue()["node-exporter-stopped"]
    assert entry.kind == "units"
    answers(exporter)
    exporter.pytest("--deploy", "test_node_exporter.py").assert_outcomes(passed=1)
    # The fault's effect on a machine, applied to a simulated one.
    (unit,) = (each["stop"] for each in entry.do)
    site = load_site(exporter.path / "site.yaml")
    name = entry.node_of(site)
    units = exporter.node(name)["units"]
    exporter.prepare(name, units={**units, unit: {**units[unit], "active": "inactive"}})
    assert entry.shows == ["tests/infra/test_drift.py"]
    result = exporter.pytest("test_drift.py", "-k", entry.only)
    result.assert_outcomes(passed=11, failed=1, deselected=18)
    first = next(line for line in result.stdout.lines if line.startswith(f"{name}: "))
    for word in entry.says:
        assert filled(word, site, name) in first
