"""Another list of wheels makes another environment: everything moves to it, and the old one is removed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from stackspec.node_agent import in_use, loop, shell
from stackspec.release import load_release
from stackspec.resources import Change, Command, Service
from stackspec.resources.actions import Execute, Write
from stackspec.resources.base import Context, file
from stackspec.resources.command import MADE
from stackspec.resources.environment import Environment, Superseded
from stackspec.resources.package_files import Defaults
from stackspec.site import Site
from stackspec.step import STEPS
from stackspec.task import plan_of
from stackspec.wheels import COMMANDS

from . import engine_runs
from .bare import BareShared, answer, carry_out, change_of, context, differences, lab_site, text_file
from .engine_runs import Prepared, declare, deploy, log
from .plugin_runs import Runs
from .wheels_sites import SITES, site_of, wheels_of

OLD, CURRENT = "0123456789ab", "ba9876543210"
USES = {
    "its command line": "",
    "an open file": "kept = open(path)",
    "a mapped file": "with open(path) as opened: ctypes.CDLL(None).mmap(None, 4, 1, 2, opened.fileno(), 0)",
    "its folder": "os.chdir(os.path.dirname(path))",
}
"""How a process uses an environment -> what it does with the path of a file there."""


class Machine:
    """Folders of a node, which the agent looks at in this process, with the real processes of this machine.

    :param folder: what is a node's root folder
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.site = folder, lab_site()
        self.opt, self.commands, self.etc = (folder / name for name in ("opt", "bin", "etc"))
        for each in (self.opt, self.commands, self.etc):
            each.mkdir()
        self.current = self.environment(CURRENT)
        self.resource = Superseded(str(self.current))

    def environment(self, name: str, commands: str = "tool\n") -> Path:
        """An environment with one module."""
        made = self.opt / f"openstack-{name}"
        (made / "lib").mkdir(parents=True)
        (made / "lib/module.so").write_text("code")
        (made / COMMANDS).write_text(commands)
        (made / ".stackspec").write_text(f"{made}\n")
        return made

    def context(self) -> Context:
        """What a run finds."""
        queries = [*self.resource.queries(self.site, self.site.controller)]
        answers = loop.facts([(query.op, query.args) for query in queries])
        facts = dict(zip(queries, answers, strict=True))
        return Context(self.site, self.site.controller, facts, BareShared(self.site))

    def changes(self) -> list[Change]:
        """What a run finds to do."""
        return self.resource.changes(self.context())

    def kept(self) -> str:
        """What a run says of what it leaves."""
        return "\n".join(self.resource.kept(self.context()))

    def deploy(self) -> list[str]:
        """Do what the look finds; the titles of it."""
        changes = self.changes()
        carry_out(changes)
        return [each.title for each in changes]

    def left(self) -> set[str]:
        """Names that are left next to the current environment."""
        return {each.name for each in self.opt.iterdir()} - {self.current.name}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A node with its current environment."""
    made = Machine(tmp_path)
    monkeypatch.setattr(in_use, "COMMANDS", str(made.commands))
    monkeypatch.setattr(in_use, "ETC", str(made.etc))
    monkeypatch.setattr("stackspec.resources.environment._LINKS", str(made.commands))
    return made


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes of a test, which end with it."""
    found: list[subprocess.Popen[str]] = []
    yield found
    for each in found:
        each.kill()
        each.communicate()


def start(how: str, module: Path) -> subprocess.Popen[str]:
    """A process that uses a file; only the first way has its path on the command line."""
    program = f"import ctypes, os, time\npath = input()\n{USES[how]}\nprint(flush=True)\ntime.sleep(60)"
    argv = [sys.executable, "-c", program, *([] if USES[how] else [str(module)])]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{module}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "\n"
    return process


class TestRemoval:
    def test_only_the_current_one(self, machine: Machine) -> None:
        assert machine.changes() == []
        assert machine.kept() == ""

    def test_nothing_is_asked_of_processes_then(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each look for drift would read all their maps."""
        monkeypatch.setattr(in_use, "_processes", lambda: pytest.fail("all processes were looked at"))
        assert machine.changes() == []

    def test_old_one_that_nothing_uses(self, machine: Machine) -> None:
        old = machine.environment(OLD)
        assert machine.deploy() == [f"remove {old}"]
        assert machine.left() == set()
        assert machine.deploy() == []

    def test_what_a_killed_run_left(self, machine: Machine) -> None:
        """An archive, and an environment that is unpacked or removed in part."""
        (machine.opt / f"openstack-{OLD}.part/lib").mkdir(parents=True)
        (machine.opt / f"openstack-{OLD}.tar.gz").touch()
        assert machine.deploy() == [f"remove {machine.opt}/openstack-{OLD}"]
        assert machine.left() == set()

    def test_what_is_the_operators(self, machine: Machine) -> None:
        for name in ("openstack", "openstack-mine", f"openstack-{OLD}.kept", f"other-{OLD}"):
            (machine.opt / name).mkdir()
        assert machine.changes() == []

    def test_killed_half_way(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        """Half an environment never has the name of a whole one, under which it would be used again."""
        old = machine.environment(OLD)
        bin = machine.folder / "tools"
        bin.mkdir()
        (bin / "rm").write_text("#!/bin/sh\nfor each; do [ ! -d $each ] || exit 9; done\n")
        (bin / "rm").chmod(0o755)
        with monkeypatch.context() as patched:
            patched.setitem(shell.ENVIRONMENT, "PATH", f"{bin}:{os.environ['PATH']}")
            with pytest.raises(shell.Failed):
                machine.deploy()
        assert machine.left() == {f"{old.name}.part"}
        assert machine.deploy() == [f"remove {old}"]
        assert machine.left() == set()

    @pytest.mark.parametrize("how", USES)
    def test_a_process_uses_it(self, machine: Machine, running: list[subprocess.Popen[str]], how: str) -> None:
        """It stays as long as the process lives, and is no difference meanwhile."""
        old = machine.environment(OLD)
        running.append(start(how, old / "lib/module.so"))
        assert machine.deploy() == []
        assert f"{old} is kept: used by " in machine.kept()
        assert f"(process {running[0].pid})" in machine.kept()
        running[0].kill()
        running[0].communicate()
        assert machine.deploy() == [f"remove {old}"]
        assert machine.left() == set()

    def test_a_file_of_the_node_names_it(self, machine: Machine) -> None:
        """A unit that does not run now would not start any more."""
        old = machine.environment(OLD)
        unit = machine.etc / "systemd/system/app.service"
        unit.parent.mkdir(parents=True)
        unit.write_text(f"[Service]\nExecStart={old}/bin/app\n")
        assert machine.deploy() == []
        assert machine.kept() == f"{old} is kept: used by {unit}"

    @pytest.mark.parametrize("where", ["etc/app.conf", "etc/app.d", "bin/tool"])
    def test_a_link_leads_into_it(self, machine: Machine, where: str) -> None:
        old = machine.environment(OLD)
        (machine.folder / where).symlink_to(old / "lib")
        assert machine.deploy() == []
        assert str(machine.folder / where) in machine.kept()

    def test_command_that_the_current_one_has_not_got(self, machine: Machine) -> None:
        """No step would ever set its link to the current one: it goes with the environment."""
        old = machine.environment(OLD)
        gone = machine.commands / "gone"
        gone.symlink_to(old / "bin/gone")
        (change,) = machine.changes()
        assert differences(change)[0] == f"{gone}: wanted absent, found a link into {old}"
        machine.deploy()
        assert not gone.is_symlink()
        assert machine.left() == set()

    def test_before_the_current_one_is_there(self, machine: Machine) -> None:
        """The plan has it, though steps still have to move what uses the old one."""
        (machine.current / ".stackspec").unlink()
        old = machine.environment(OLD)
        (machine.etc / "app.conf").write_text(f"home = {old}\n")
        (change,) = machine.changes()
        assert change.title == f"remove {old}"
        assert differences(change) == [f"{old}: wanted absent, found used by {machine.etc}/app.conf"]


# ---- in the plan, and in a deployment


class Tidied(Command):
    """A command that comes after all steps of a node."""

    last: ClassVar[bool] = True

    def kept(self, context: Context) -> list[str]:
        return ["the rest stays"]


TIDY = Tidied(("do", "tidy"), unless=("look", "tidy"))
site = engine_runs.site
"""Made-up nodes, without steps."""


@pytest.mark.parametrize("release", SITES)
def test_each_node_has_it_once_in_the_plan(release: str) -> None:
    made_of = site_of(release)
    found = [task.node.name for task in plan_of(made_of) for each in task.resources if isinstance(each, Superseded)]
    assert sorted(found) == sorted(made_of.nodes)


@pytest.mark.usefixtures("no_traces")
class TestEngine:
    def test_it_comes_after_all_steps_of_the_node(self, site: Site) -> None:
        declare("first", TIDY, Command(("do", "first"), unless=("look", "first")))
        declare("second", Command(("do", "second"), unless=("look", "second")), TIDY, needs=("first",))
        said: list[dict[str, Any]] = []
        engine = deploy(site, listen=said.append)
        assert log(engine) == ["command do first", "command do second", "command do tidy"]
        assert said[-1]["changes"] == 3
        told = [each for each in said if each["event"] == "step" and each["step"] == "first"][-1]
        assert [each["title"] for each in told["changes"]] == ["run do first", "run do tidy"]
        assert "run do tidy; the rest stays" in [each["text"] for each in said if each["event"] == "says"]

    def test_a_second_deployment_has_nothing_to_do(self, site: Site) -> None:
        declare("first", TIDY)
        Prepared.prepared = {"one": {"effects": ["tidy"]}}
        engine = deploy(site)
        assert log(engine) == []
        assert [task.made for task in engine.tasks] == [[]]

    def test_part_of_the_steps(self, site: Site) -> None:
        """It is for the resource to tell what others still use; the engine makes it."""
        declare("first", TIDY)
        declare("second", Command(("do", "second"), unless=("look", "second")), needs=("first",))
        assert log(deploy(site, "first")) == ["command do tidy"]

    def test_not_where_a_step_has_failed(self, site: Site) -> None:
        declare("first", TIDY)
        declare("second", Command(("do", "second"), unless=("look", "second")), needs=("first",))
        Prepared.prepared = {"one": {"broken": {"command do second": {"what": "no"}}}}
        assert log(deploy(site)) == ["command do second"]

    def test_its_failure_is_told_and_no_step_s(self, site: Site) -> None:
        declare("first", TIDY)
        Prepared.prepared = {"one": {"broken": {"command do tidy": {"what": "it is busy"}}}}
        said: list[dict[str, Any]] = []
        engine = deploy(site, listen=said.append)
        assert [task.state for task in engine.tasks] == ["done"]
        assert "first on one: it is busy" in [each["text"] for each in said if each["event"] == "says"]


def test_it_is_in_the_plan_and_no_drift(runs: Runs) -> None:
    """What used an old environment at the end of the deployment may end before the look for drift."""
    runs.steps(
        """
        class Tidied(Command):
            last = True

        @step(role="controller")
        def tidy(site, base):
            yield Tidied(("do", "tidy"), unless=("look", "tidy"))
        """
    )
    runs.add_drift_test()
    runs.tests("def test_tidy(tidy): pass", "test_tidy.py")
    runs.pytest("--plan").stdout.fnmatch_lines(["  tidy: 1 change", "    ~ run do tidy"])
    runs.pytest("--deploy").assert_outcomes(passed=6 + 18 + 1)
    assert runs.log().count("one: command do tidy") == 1
    runs.prepare("one", effects=[each for each in runs.node("one")["effects"] if each != "tidy"])
    runs.pytest("test_drift.py", "test_tidy.py").assert_outcomes(passed=18 + 1)
    runs.pytest("--deploy", "test_tidy.py").stdout.fnmatch_lines(["stackspec: 1 changes; 4 done"])
    assert runs.log() == ["one: command do tidy"]


# ---- what moves


@pytest.mark.parametrize("release", SITES)
def test_each_unit_is_started_again_by_a_step(release: str) -> None:
    """Also one whose step says what it reads: it would go on from the old environment."""
    made_of, told = site_of(release), set()
    wheels = wheels_of(made_of)
    units = {name for part in wheels.packages.values() for name in part.units}
    for task in plan_of(made_of):
        watched: list[str] = []
        for each in task.resources:
            watched += each.paths(made_of)
            if isinstance(each, Service) and any(
                path.endswith("/.stackspec") for path in (watched if each.reads is None else each.reads)
            ):
                told |= {(task.node.name, name) for name in each.units(made_of)}
    declared = {
        (task.node.name, name)
        for task in plan_of(made_of)
        for each in task.resources
        if isinstance(each, Service)
        for name in units.intersection(each.units(made_of))
    }
    assert declared
    assert declared - told == set()


def test_back_to_an_environment_that_is_still_there() -> None:
    """Services of the other one have to start again: the stamp that they watch is written anew, and first."""
    resource = Environment("/opt/openstack-0123456789ab")
    known: dict[Any, Any] = {file(resource.stamp): text_file(f"{resource.path}\n")}
    known[resource._astray()] = answer("tool /opt/openstack-ba9876543210/bin/tool\n")
    change = change_of(resource, lab_site(), known)
    assert change is not None
    assert change.touches == (resource.stamp,)
    assert [type(each) for each in change.actions] == [Write, Execute]
    known[resource._astray()] = answer("tool \n")
    change = change_of(resource, lab_site(), known)
    assert change is not None
    assert change.touches == ()
    assert [type(each) for each in change.actions] == [Execute]


class TestBuilt:
    """Static files of the dashboard are made from the code of its environment."""

    COMMAND = Command(("make",), creates="/var/lib/app/list.json", restarts=True, made_from="/opt/x-1")
    STAMP = f"{MADE}/var-lib-app-list.json"

    def look(self, stamp: str | None, exists: bool = True) -> Change | None:
        known = {file("/var/lib/app/list.json"): text_file("{}")} if exists else {}
        known |= {file(self.STAMP): text_file(stamp)} if stamp is not None else {}
        return change_of(self.COMMAND, lab_site(), known)

    def test_made_from_this_one(self) -> None:
        assert self.look("/opt/x-1\n") is None

    @pytest.mark.parametrize("stamp", [None, "", "/opt/x-0\n"])
    def test_made_from_another_one(self, stamp: str | None) -> None:
        change = self.look(stamp)
        assert "wanted made from /opt/x-1, found " in differences(change)[0]
        assert change is not None
        assert change.marks == ("make",)
        command, written = change.actions
        assert isinstance(command, Execute)
        assert isinstance(written, Write)
        assert (written.path, written.content) == (self.STAMP, "/opt/x-1\n")

    def test_gone(self) -> None:
        """The stamp of an earlier one proves nothing."""
        assert differences(self.look("/opt/x-1\n", exists=False)) == [
            "/var/lib/app/list.json: wanted present, found absent"
        ]

    @pytest.mark.parametrize("release", SITES)
    def test_what_a_table_calls_built_is_made_by_a_step(self, release: str) -> None:
        made_of = site_of(release)
        wheels = wheels_of(made_of)
        commands = [each for task in plan_of(made_of) for each in task.resources if isinstance(each, Command)]
        found = {each.creates: each.made_from for each in commands if each.made_from}
        (path,) = {each.path for task in plan_of(made_of) for each in task.resources if isinstance(each, Environment)}
        assert found == dict.fromkeys(wheels.built, path)

    def test_packages_of_the_distribution_do_it_themselves(self) -> None:
        site = lab_site()
        site_of("caracal-bookworm")  # loads the steps
        assert load_release(site.inventory.release).wheels is None
        resources = STEPS["horizon"].resources(site, site.controller)
        (command,) = [each for each in resources if isinstance(each, Command) and each.creates]
        assert command.made_from == ""
        assert list(command.queries(site, site.controller)) == [file(command.creates)]


class TestDefaults:
    """A project's files in /etc, in a real tree of two environments."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        for name, text in ((OLD, "old"), (CURRENT, "new")):
            folder = tmp_path / f"openstack-{name}/etc/app"
            (folder / "rules.d").mkdir(parents=True)
            (folder / "paste.ini").write_text(text)
            (folder / "rules.d/some").write_text("same")
        (tmp_path / "etc/app/rules.d").mkdir(parents=True)
        (tmp_path / "etc/app/rules.d/some").write_text("same")
        return tmp_path

    def deploy(self, tree: Path) -> list[str]:
        """The differences of a look, after which they are mended."""
        resource = Defaults(f"{tree}/openstack-{CURRENT}/etc/app", f"{tree}/etc/app", "root", ())
        here = context(lab_site(), lab_site().controller)
        look = resource._look()
        here.facts = {look: loop.facts([(look.op, look.args)])[0]}
        changes = resource.changes(here)
        for change in changes:
            for action in change.actions:
                assert isinstance(action, Execute)
                shell.command(action.argv)
        return [each.what for change in changes for each in change.differences]

    @pytest.mark.parametrize(
        ("found", "after"),
        [
            pytest.param("old", "new", id="as the other environment had it"),
            pytest.param(None, "new", id="missing"),
            pytest.param("mine", "mine", id="the operator's"),
            pytest.param("new", "new", id="current"),
        ],
    )
    def test_after_a_change_of_the_list(self, tree: Path, found: str | None, after: str) -> None:
        path = tree / "etc/app/paste.ini"
        if found is not None:
            path.write_text(found)
        due = [str(path)] if found != after else []
        assert self.deploy(tree) == due
        assert path.read_text() == after
        assert self.deploy(tree) == []
