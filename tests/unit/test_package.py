"""The wheel, installed with its dependencies only, does the same in an empty folder as a clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import fake_nodes
from .plugin_runs import STEPS

ROOT = Path(__file__).parents[2]
PARTS = {
    "stackspec": ".",
    "deploy_steps": "steps",
    "releases": "releases",
    "inventories": "inventories",
    "faults": "faults",
    "tests": "tests",
}
"""Folder of the clone -> its place in the package."""
BUILD = "from setuptools import build_meta; build_meta.build_wheel('..')"
REAL_STEPS = """\
from pathlib import Path
import fake_nodes
from stackspec import engine
from stackspec.plugin import evidence

class Nodes(fake_nodes.FakeConnections):
    folder = Path(__file__).with_name("nodes")

engine.NodeConnections = evidence.NodeConnections = Nodes
"""
"""A conftest for the package's steps on simulated nodes."""


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel, and an empty folder to use it in."""

    environment: Path
    folder: Path

    @property
    def package(self) -> Path:
        """The package's folder in it."""
        (found,) = self.environment.glob("lib/python*/site-packages/stackspec")
        return found

    def run(self, program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in the folder, isolated from this machine's clouds and sites."""
        hidden = ("OS_", "STACKSPEC_", "PYTEST_", "PYTHONPATH", "VIRTUAL_ENV")
        known = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        return subprocess.run(
            [self.environment / "bin" / program, *arguments],
            cwd=self.folder,
            env={**known, "STACKSPEC_STATE": str(self.environment / "state"), "COLUMNS": "200", **variables},
            capture_output=True,
            text=True,
        )


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel but nothing else of this clone; its dependencies are linked from this one."""
    base = tmp_path_factory.mktemp("wheel")
    source = base / "source"
    for name in (*PARTS, "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-W", "ignore", "-c", BUILD], cwd=source, check=True, capture_output=True)
    (wheel,) = base.glob("*.whl")
    made = base / "environment"
    venv.create(made, symlinks=True)
    (packages,) = made.glob("lib/python*/site-packages")
    for here in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(here).iterdir():
            if "stackspec" not in entry.name and not (packages / entry.name).exists():
                (packages / entry.name).symlink_to(entry)
    pip = [sys.executable, "-m", "pip", "--python", str(made / "bin/python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True)
    return made


@pytest.fixture
def installed(environment: Path, tmp_path: Path) -> Installed:
    folder = tmp_path / "empty"
    folder.mkdir()
    return Installed(environment, folder)


def ids(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The tests that a collection lists."""
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr
    return [line for line in result.stdout.splitlines() if "::" in line]


def expected_files() -> dict[str, Path]:
    """The files that the package must contain: place in it -> the clone's file."""
    found = {}
    for name, place in PARTS.items():
        for path in (ROOT / name).rglob("*"):
            inside = path.relative_to(ROOT / name)
            left_out = "__pycache__" in path.parts or (name == "tests" and inside.parts[0] == "unit")
            if path.is_file() and not left_out:
                found[(Path(place) / inside).as_posix()] = path
    return found


def test_package_contains_exactly_the_files_of_the_clone(installed: Installed) -> None:
    """Image recipes hash files with their modes: a file changed by an installer would mean another image."""
    wanted, package = expected_files(), installed.package
    assert len(wanted) > 250
    for place, path in wanted.items():
        assert (package / place).read_bytes() == path.read_bytes(), place
        assert os.access(package / place, os.X_OK) == os.access(path, os.X_OK), f"{place}: executable or not"
    there = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sorted(path.relative_to(package).as_posix() for path in there) == sorted(wanted)
    own = [path.name for path in package.parent.iterdir() if not path.is_symlink()]
    assert sorted(own) == ["stackspec", "stackspec-0.1.0.dist-info"]


HELP = """
from stackspec.commands.cli import main
for name in ("init", "test", "lab", "report", "compare", "cleanup", "faults"):
    try:
        main([name, "--help"])
    except SystemExit as end:
        print(name, "ended with", end.code)
"""


def test_commands_explain_themselves(installed: Installed) -> None:
    output = installed.run("python", "-c", HELP).stdout
    for name in ("init", "test", "lab", "report", "compare", "cleanup", "faults"):
        assert f"usage: stackspec {name} " in output or f"usage: -c {name} " in output, output
        assert f"\n{name} ended with 0\n" in output


def test_tests_have_the_same_names_as_in_the_clone(installed: Installed) -> None:
    """One folder is enough: `test_package_contains_exactly_the_files_of_the_clone` checks the files of all.

    Includes a file of the same name from another folder: by default pytest would give both the same name.
    """
    options = ("--collect-only", "-q")
    modules = ("stackspec.tests.api.test_horizon", "stackspec.tests.e2e")
    found = ids(installed.run("python", "-m", "pytest", "--pyargs", *modules, *options))
    clone = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/api/test_horizon.py", "tests/e2e"]
    environment = {**os.environ, "STACKSPEC_STATE": str(installed.environment / "state")}
    there = subprocess.run([*clone, *options], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert found == ids(there)
    assert {each.split("::")[0] for each in found} >= {"tests/api/test_horizon.py", "tests/e2e/test_horizon.py"}
    assert len(found) > 50


def test_example_inventory_is_written_once_and_loads(installed: Installed) -> None:
    assert installed.run("stackspec", "init").returncode == 0
    written = installed.folder / "site.yaml"
    assert written.read_bytes() == (ROOT / "inventories/example/site.yaml").read_bytes()
    # A test by its short name, as in reports.
    name = "tests/infra/test_node_network.py::test_every_node_knows_every_name"
    loaded = installed.run("stackspec", "test", name, "--inventory", "site.yaml", "--collect-only", "-q")
    assert ids(loaded) == [name]
    written.write_text("mine\n")
    result = installed.run("stackspec", "init")
    assert (result.returncode, written.read_text()) == (4, "mine\n")
    assert result.stderr.startswith("stackspec: site.yaml: ")


def test_steps_create_a_plan(installed: Installed) -> None:
    """The package's steps, release and inventory create a plan for bare nodes."""
    prepare(installed.folder, REAL_STEPS)
    result = installed.run(
        "stackspec", "test", "infra", "-k", "memcached or etcd", "--plan", "--inventory", "site.yaml"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for wanted in ("~ install memcached", "+10.99.0.2 two", "changes on 3 nodes; nothing was touched"):
        assert wanted in result.stdout


def test_validation_names_the_problem(installed: Installed) -> None:
    """A site without drift passes; then a drift is one failure, with the command that shows it again."""
    prepare(installed.folder, STEPS)
    drift = ("test", "infra/test_drift.py", "--inventory", "site.yaml")
    result = installed.run("stackspec", *drift, "--deploy", "-n0")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "18 passed" in result.stdout
    node = installed.folder / "nodes/one.json"
    assert "limit = 4096" in node.read_text()
    node.write_text(node.read_text().replace("limit = 4096", "limit = 151"))
    result = installed.run("stackspec", *drift)
    assert result.returncode == 1
    assert "one: /etc/database.conf: [server] limit: wanted '4096', found '151'" in result.stdout
    assert "1 failed, 17 passed" in result.stdout
    again = "'tests/infra/test_drift.py::test_as_declared[one-database-/etc/database.conf]' --inventory site.yaml"
    assert f"stackspec test {again}" in result.stdout


def prepare(folder: Path, conftest: str) -> None:
    """Three simulated bare nodes and their inventory."""
    shutil.copy(fake_nodes.__file__, folder)
    (folder / "site.yaml").write_text(fake_nodes.SITE)
    fake_nodes.write_release(folder / "nodes")
    (folder / "conftest.py").write_text(conftest)
