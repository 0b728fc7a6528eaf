"""Faults: the catalogue is valid, and a fault's changes on a node are undone."""

from __future__ import annotations

import datetime
import fnmatch
import importlib.resources
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from stackspec.cloud_inventory import load_site
from stackspec.commands.faults import some_of
from stackspec.errors import InputError
from stackspec.fault_injection import agent
from stackspec.fault_injection import run as fault_run
from stackspec.fault_injection.fault import Fault, catalogue, chosen, filled
from stackspec.fault_injection.run import (
    Case,
    Nodes,
    Outcome,
    Verdict,
    Verdicts,
    _cases,
    digest,
    selection,
    try_fault,
)
from stackspec.site import Site

ROOT = Path(__file__).parents[2]
SYSTEMCTL = """#!/bin/sh
echo "$@" >>{log}
[ "$1" != is-active ] || [ "$2" != absent ]
"""


class Machine:
    """A folder that simulates a node: files, and a systemctl that records its calls."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "systemctl.log"
        self.kept = folder / "kept"
        tools = folder / "bin"
        tools.mkdir()
        (tools / "systemctl").write_text(SYSTEMCTL.format(log=self.log))
        (tools / "systemctl").chmod(0o755)
        self.log.touch()
        self._path = f"{tools}:{os.environ['PATH']}"

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def _agent(self, message: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        code = Path(agent.__file__).read_text().replace("/var/lib/stackspec/faults", str(self.kept))
        script = f"{code}\nmain(json.loads({json.dumps(message)!r}))\n"
        return subprocess.run(
            [sys.executable, "-"], input=script, capture_output=True, text=True, env={"PATH": self._path}
        )

    def broken(self, *operations: dict[str, Any], name: str = "seeded") -> subprocess.CompletedProcess[str]:
        return self._agent({"do": "break", "name": name, "operations": list(operations)})

    def undone(self, name: str = "seeded") -> list[str]:
        done = self._agent({"do": "undo", "name": name})
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    def systemctl_calls(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_catalogue_is_valid() -> None:
    """Every fault names existing tests that detect it, and a word of the cause to look for."""
    faults = catalogue()
    assert len(faults) >= 100
    assert {each.kind for each in faults.values()} == {
        *("units", "configuration", "cloud", "files", "network", "storage", "time", "code", "guide")
    }
    for each in faults.values():
        assert each.says, each.name
        assert each.only, each.name
        for path in each.shows:
            assert (ROOT / path).is_file(), f"{each.name}: {path}"


def test_placeholders_of_the_site_are_filled_in() -> None:
    site = load_site(ROOT / "inventories" / "lab")
    for each in catalogue().values():
        node = each.node_of(site)
        assert node in site.nodes
        text = json.dumps([filled(operation, site, node) for operation in each.do])
        for word in ("<node>", "<controller>", "<controller_address>", "<interface>", "<region>"):
            assert word not in text, each.name


@pytest.mark.parametrize(
    ("inventory", "module", "settings"),
    [
        ("lab", "/usr/lib/python3/dist-packages/keystone/api/users.py", "local_settings.d/_0100_stackspec.py"),
        ("caracal", "/opt/openstack-*/lib/python3.11/site-packages/keystone/api/users.py", "local_settings.py"),
    ],
)
def test_paths_are_those_of_the_release(inventory: str, module: str, settings: str) -> None:
    """The modules of packages or of the environment, and the distribution's path for the guide's, in each operation."""
    site = load_site(ROOT / "inventories" / inventory)
    (path,) = filled({"remove": "keystone/api/users.py"}, site, "controller").values()
    assert fnmatch.fnmatch(path, module)
    replaced = filled({"replace": {"file": "keystone/api/users.py", "old": "a", "new": "b"}}, site, "controller")
    assert replaced == {"replace": {"file": path, "old": "a", "new": "b"}}
    (path,) = filled({"remove": "/etc/openstack-dashboard/local_settings.py"}, site, "controller").values()
    assert path == f"/etc/openstack-dashboard/{settings}"


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        pytest.param(
            "{what: x, do: [{explode: all}], says: [x]}", "unknown operation 'explode'", id="unknown operation"
        ),
        pytest.param("{what: x, do: [{option: {file: /f}}], says: [x]}", "option lacks section", id="key missing"),
        pytest.param("{what: x, do: [{stop: [a]}], says: [x]}", "stop takes a text", id="list for text"),
        pytest.param("{what: x, do: [], says: [x], colour: red}", "colour", id="unknown key"),
    ],
)
def test_invalid_entry_is_refused_with_its_line(
    entry: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "units.yaml").write_text(f"# a comment\nbad: {entry}\n")
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    with pytest.raises(InputError) as raised:
        catalogue()
    assert f"{tmp_path}/units.yaml:2: bad: " in str(raised.value)
    assert complaint in str(raised.value)


def test_faults_are_chosen_by_name_and_kind() -> None:
    faults = catalogue()
    assert [each.name for each in chosen(faults, ["nova-conductor-stopped"])] == ["nova-conductor-stopped"]
    assert {each.kind for each in chosen(faults, ["time", "storage"])} == {"time", "storage"}
    with pytest.raises(InputError, match="no fault 'nonsense'"):
        chosen(faults, ["nonsense"])


def test_daily_sample_covers_all_faults_over_time() -> None:
    faults = list(catalogue().values())
    seen: set[str] = set()
    for day in range(len(faults)):
        today = some_of(faults, 10, datetime.date(2024, 4, 3) + datetime.timedelta(days=day))
        assert len(today) == 10
        seen |= {each.name for each in today}
    assert seen == {each.name for each in faults}


def test_option_is_set_and_restored(machine: Machine) -> None:
    text = "# ours\n[a]\nx = 1\n\n[b]\n#x = 0\nx=2\ny = 3\n"
    file = machine.file("some.conf", text)
    file.chmod(0o640)
    operation = {"file": str(file), "section": "b", "option": "x", "value": "9"}
    assert machine.broken({"option": operation}, {"restart": "some"}).returncode == 0
    assert file.read_text() == "# ours\n[a]\nx = 1\n\n[b]\n#x = 0\nx = 9\ny = 3\n"
    machine.undone()
    assert (file.read_text(), file.stat().st_mode & 0o777) == (text, 0o640)
    did = [line for line in machine.systemctl_calls() if not line.startswith("show ")]
    assert did == ["restart --no-block some", "is-active some", "reset-failed some", "restart some"]


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("x", None, "[a]\ny = 2\n[b]\n"),
        ("z", "3", "[a]\nx = 1\ny = 2\nz = 3\n[b]\n"),
    ],
)
def test_option_is_dropped_or_added_in_its_section(
    option: str, value: str | None, wanted: str, machine: Machine
) -> None:
    file = machine.file("some.conf", "[a]\nx = 1\ny = 2\n[b]\n")
    operation = {"file": str(file), "section": "a", "option": option, "value": value}
    assert machine.broken({"option": operation}).returncode == 0
    assert file.read_text() == wanted


def test_missing_section_is_created() -> None:
    assert agent.set_option("[a]\nx = 1\n", "b", "y", "2") == "[a]\nx = 1\n[b]\ny = 2\n"


def test_folder_is_removed_and_restored(machine: Machine) -> None:
    folder = machine.folder / "keys"
    folder.mkdir(mode=0o700)
    (folder / "0").write_text("secret")
    assert machine.broken({"remove": str(folder)}).returncode == 0
    assert not folder.exists()
    machine.undone()
    assert ((folder / "0").read_text(), folder.stat().st_mode & 0o777) == ("secret", 0o700)


def test_new_file_is_removed_again(machine: Machine) -> None:
    path = machine.folder / "policy.yaml"
    assert machine.broken({"write": {"file": str(path), "text": "no", "mode": "0600"}}).returncode == 0
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("no", 0o600)
    machine.undone()
    assert not path.exists()


def test_statement_is_inserted_at_the_start_of_a_function(machine: Machine) -> None:
    code = 'class Manager:\n    def look(self):\n        """Doc."""\n        return 1\n\n'
    code += "    def other(self):\n        return 2\n"
    file = machine.file("module.py", code)
    change = {"file": str(file), "function": "Manager.look", "with": "raise RuntimeError('seeded')"}
    assert machine.broken({"begins": change}).returncode == 0
    found: dict[str, Any] = {}
    exec(file.read_text(), found)
    assert found["Manager"]().other() == 2
    with pytest.raises(RuntimeError, match="seeded"):
        found["Manager"]().look()
    machine.undone()
    assert file.read_text() == code


@pytest.mark.parametrize(
    ("operation", "complaint"),
    [
        ({"replace": {"file": "{file}", "old": "absent", "new": "x"}}, "does not have 'absent'"),
        ({"option": {"file": "{file}", "section": "a", "option": "absent", "value": None}}, "no option absent"),
        ({"begins": {"file": "{file}", "function": "absent", "with": "return"}}, "has no absent"),
        ({"remove": "{file}.absent"}, "does not exist"),
        ({"stop": "absent"}, "absent is not running"),
    ],
)
def test_operation_that_does_not_apply_is_an_error(operation: dict[str, Any], complaint: str, machine: Machine) -> None:
    """Otherwise a fault that broke nothing would count as undetected."""
    file = machine.file("module.py", "x = 1\n")
    done = machine.broken(json.loads(json.dumps(operation).replace("{file}", str(file))))
    assert done.returncode == 1
    assert complaint in done.stderr
    assert file.read_text() == "x = 1\n"


def test_operations_before_an_error_are_undone(machine: Machine) -> None:
    file = machine.file("some.conf", "one\n")
    first = {"replace": {"file": str(file), "old": "one", "new": "two"}}
    assert machine.broken(first, {"run": {"do": "false", "undo": f"echo back >{file}.undone"}}).returncode == 1
    assert file.read_text() == "two\n"
    machine.undone()
    assert file.read_text() == "one\n"
    assert Path(f"{file}.undone").exists()


def test_undo_of_a_failed_operation_may_fail(machine: Machine) -> None:
    """A rule that could not be added cannot be removed; the fault is undone all the same."""
    assert machine.broken({"run": {"do": "false", "undo": "false"}}).returncode == 1
    assert machine.undone() == ["seeded"]


def test_failed_undo_does_not_stop_others(machine: Machine) -> None:
    file = machine.file("some.conf", "one\n")
    assert machine.broken({"run": {"do": "true", "undo": "false"}}, name="a").returncode == 0
    change = {"replace": {"file": str(file), "old": "one", "new": "two"}}
    assert machine.broken(change, name="b").returncode == 0
    done = machine._agent({"do": "undo", "name": ""})
    assert (done.returncode, done.stdout.split()) == (1, ["b"])
    assert "a cannot be undone, see " in done.stderr
    assert file.read_text() == "one\n"


def test_file_changed_twice_is_restored_to_its_first_content(machine: Machine) -> None:
    file = machine.file("some.conf", "one\n")
    change = {"file": str(file), "old": "o", "new": "0"}
    assert machine.broken({"replace": change}, {"append": {"file": str(file), "text": "two\n"}}).returncode == 0
    assert file.read_text() == "0ne\ntwo\n"
    machine.undone()
    assert file.read_text() == "one\n"


def test_units_start_after_their_files_are_restored(machine: Machine) -> None:
    file = machine.file("some.conf", "one\n")
    script = f"echo undone >>{machine.log}"
    operations: list[dict[str, Any]] = [
        {"stop": "first"},
        {"freeze": "second"},
        {"mask": "third"},
        {"run": {"do": "true", "undo": script}},
    ]
    assert machine.broken(*operations, {"replace": {"file": str(file), "old": "one", "new": "two"}}).returncode == 0
    machine.log.write_text("")
    machine.undone()
    assert machine.systemctl_calls() == [
        "undone",
        "kill --signal=SIGCONT second",
        "unmask third",
        "reset-failed first third",
        "start first third",
    ]


def test_all_remaining_faults_are_undone(machine: Machine) -> None:
    files = [machine.file(name, "one\n") for name in ("a", "b")]
    for file in files:
        change = {"file": str(file), "old": "one", "new": "two"}
        assert machine.broken({"replace": change}, name=f"fault-{file.name}").returncode == 0
    assert machine.broken({"stop": "x"}, name="fault-a").returncode == 1, "it is there already"
    assert machine.undone("") == ["fault-a", "fault-b"]
    assert [file.read_text() for file in files] == ["one\n", "one\n"]
    assert machine.undone("") == []


JUNIT = """<testsuites><testsuite time="5.5">
<testcase classname="tests.infra.test_nodes" name="test_a" time="1.5"/>
<testcase classname="tests.infra.test_nodes" name="test_b" time="2">
<failure message="AssertionError: controller: it is off&#10;assert 1">long</failure></testcase>
</testsuite></testsuites>"""


def test_first_lines_are_read_from_junit(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text(JUNIT)
    cases, seconds = _cases(tmp_path / "junit.xml")
    assert seconds == 5.5
    assert cases == [
        Case("tests/infra/test_nodes.py::test_a", 1.5, ""),
        Case("tests/infra/test_nodes.py::test_b", 2.0, "controller: it is off"),
    ]


def test_record_keeps_the_latest_verdict(tmp_path: Path) -> None:
    verdicts = Verdicts(tmp_path / "state" / "faults.jsonl")
    assert verdicts.read() == {}
    verdicts.add(Verdict("a", "1"))
    good = Verdict("a", "2", ("t",), "controller: it is off", True, 3.0, True)
    verdicts.add(good)
    assert verdicts.read() == {"a": good}
    assert good.good
    assert "caught, after 3 s by t" in str(good)


def test_verdict_names_the_problem() -> None:
    assert "NOT CAUGHT" in str(Verdict("a", "1", clean=True))
    assert "CAUSE NOT NAMED" in str(Verdict("a", "1", ("t",), "assert 1", clean=True))
    assert "NOT CLEAN" in str(Verdict("a", "1", ("t",), "a line", True))
    assert "could not be tried: no such node" in str(Verdict("a", "1", trouble="no such node"))


class Trial:
    """A trial of a fault whose runs of tests end as given; records whether the node was touched."""

    def __init__(self, *outcomes: Outcome) -> None:
        self._outcomes = list(outcomes)
        self.touched: list[str] = []

    def run_tests(self, site: Site, tests: Sequence[str]) -> Outcome:
        return self._outcomes.pop(0)

    def break_it(self, node: str, fault: Fault, site: Site) -> None:
        self.touched.append(f"broken {node}")

    def undo(self, node: str, name: str = "") -> list[str]:
        self.touched.append(f"undone {node}")
        return [name]

    def verdict(self, monkeypatch: pytest.MonkeyPatch) -> Verdict:
        monkeypatch.setattr(fault_run, "run_tests", self.run_tests)
        fault = Fault(name="a", kind="units", what="x", do=[{"stop": "a"}], says=["<node>", "off"], only="a")
        site = load_site(ROOT / "inventories" / "lab")
        return try_fault(site, cast("Nodes", self), fault, False, lambda text: None)


PASSED = Outcome(0, 1.0, (), "")
FAILED = Outcome(1, 1.0, (Case("t", 0.5, "controller: a is off"),), "")


def test_fault_is_tried_once_its_tests_pass_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the last fault, services may still be starting: the failure would be taken for this fault's."""
    trial = Trial(FAILED, PASSED, FAILED, FAILED, PASSED)
    assert trial.verdict(monkeypatch).good
    assert trial.touched == ["broken controller", "undone controller"]


def test_fault_is_not_tried_where_its_tests_fail_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault_run, "SETTLED_WITHIN", 0)
    trial = Trial(FAILED)
    assert trial.verdict(monkeypatch).trouble == "its tests fail without it: controller: a is off"
    assert not trial.touched


def test_changed_fault_has_another_digest() -> None:
    one = Fault(name="a", kind="units", what="x", do=[{"stop": "a"}], says=["a"], only="a")
    two = one.model_copy(update={"what": "y"})
    assert len({digest(one, False), digest(two, False), digest(one, True)}) == 3
    assert selection(one, True) == ["tests/infra"]
    assert selection(one, False) == ["tests/infra/test_drift.py", "-k", "a"]
