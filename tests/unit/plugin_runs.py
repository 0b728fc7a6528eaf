"""Runs of pytest with the real plugin, on simulated steps and nodes."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path
from typing import Any

import pytest

from . import fake_nodes

HERE = Path(__file__).parent
STEPS = """\
from pathlib import Path
import fake_nodes
fake_nodes.install(Path(__file__).with_name("nodes"))
from stackspec.resources import Command, File, IniFile, Packages, Service
from stackspec.step import step

@step(role="all")
def base(site, node):
    yield File("/etc/name", node.name)

@step(role="controller")
def database(site, base):
    yield Packages("database-server")
    yield IniFile("/etc/database.conf", {"server": {"bind": site.controller.address, "limit": 4096}})
    yield Service("database-server")

@step(role="controller")
def identity(site, database):
    yield Packages("identity")
    yield IniFile("/etc/identity.conf", {"DEFAULT": {"password": site.password("identity")}})
    yield Command(("identity-manage", "identity-sync"), unless=("look", "identity-sync"))
    yield Service("identity")

@step(role="controller")
def image(site, identity):
    yield Packages("image")
    yield Service("image")

@step(role="controller")
def compute(site, identity):
    yield Command(("compute-manage", "compute-sync"), unless=("look", "compute-sync"))
    yield Service("compute-api")

@step(role="compute")
def agent(site, node, compute):
    yield Packages("agent")
    yield Service("agent")
"""
TESTS = """\
def test_agents(agent): pass
def test_compute(compute): pass
def test_compute_again(compute): pass
def test_image(image): pass
def test_identity(identity): pass
def test_without_steps(): pass
"""


START = "systemctl restart identity"
BROKEN = {
    START: {
        "what": "restart identity",
        "command": "systemctl restart identity",
        "exit_status": 3,
        "output": "Job for identity.service failed",
        "journal": "identity[1]: no such database",
    }
}
"""For `Runs.prepare`: the service of the step identity does not start."""


class Runs:
    """A folder with an inventory, steps, tests and simulated nodes, and runs of pytest in it."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        (self.path / "site.yaml").write_text(fake_nodes.SITE)
        fake_nodes.write_release(self.path / "nodes")
        (self.path / "conftest.py").write_text(STEPS)
        # Simulated steps take no time: one process shows more, and is faster.
        (self.path / "pytest.ini").write_text("[pytest]\nlanes = 0\n")
        self.tests(TESTS)

    def pytest(self, *arguments: str, spawn: bool = False) -> pytest.RunResult:
        """Run pytest with the plugin, in this process unless a separate one is needed."""
        if spawn:
            return self.pytester.runpytest_subprocess("-ra", *arguments, timeout=240)
        return self.pytester.runpytest_inprocess("-ra", *arguments)

    def release(self, text: str) -> None:
        """Write the site's release table, instead of `fake_nodes.RELEASE`."""
        fake_nodes.write_release(self.path / "nodes", text)

    def tests(self, text: str, name: str = "test_cloud.py") -> None:
        """Write a file of tests."""
        (self.path / name).write_text(textwrap.dedent(text))

    def steps(self, text: str) -> None:
        """Define more steps after the existing ones."""
        with (self.path / "conftest.py").open("a") as stream:
            stream.write(textwrap.dedent(text))

    def add_drift_test(self) -> None:
        """Copy the suite's test for drift into the folder."""
        shutil.copy(HERE.parent / "infra" / "test_drift.py", self.path)

    def prepare(self, name: str, **data: Any) -> None:
        """Change the data of a node: see `fake_nodes.BARE`."""
        file = self.path / "nodes" / f"{name}.json"
        file.parent.mkdir(exist_ok=True)
        before = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(before | data))

    def drift(self, name: str, path: str, old: str, new: str) -> None:
        """Change a file on a node without telling the suite."""
        files = self.node(name)["files"]
        assert old in files[path]["content"]
        files[path]["content"] = files[path]["content"].replace(old, new)
        self.prepare(name, files=files)

    def node(self, name: str) -> dict[str, Any]:
        """The data of a node; empty if nobody has connected to it."""
        file = self.path / "nodes" / f"{name}.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def log(self) -> list[str]:
        """What was applied to the nodes since the last call, in order for each node."""
        found = []
        for name in ("one", "two", "three"):
            if node := self.node(name):
                found += [f"{name}: {entry}" for entry in node.get("log", [])]
                self.prepare(name, log=[])
        return found

    def files(self) -> set[str]:
        """Every file below the folder, except for pytest's own."""
        names = (str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file())
        return {name for name in names if ".pytest_cache" not in name and "__pycache__" not in name}


def only_message(result: pytest.RunResult) -> str:
    """The single message of a run that ends with status 4."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.stderr.lines if line.strip()]
    assert lines
    assert all(line.startswith("ERROR: ") for line in lines[:1])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    return "\n".join(lines).removeprefix("ERROR: ")
