"""Services run with what they read as it is now: told by content, whatever the times say, also after a kill."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from stackspec import node_agent
from stackspec.resources import Change, Service, service
from stackspec.resources.actions import NodeAction
from stackspec.site import Site

from .bare import look

SYSTEMCTL = r"""#!/bin/sh
cd HERE || exit 1
echo "$*" >>log
case "$1" in
restart)
    echo x >>starts
    date -u +'%a %Y-%m-%d %H:%M:%S.%6N UTC' >since;;
daemon-reload)
    rm -f changed;;
show)
    echo LoadState=loaded; echo ActiveState=active; echo UnitFileState=enabled
    echo "InvocationID=$(grep -c x starts)"; echo "ExecMainStartTimestamp=$(cat since)"
    if [ -e changed ]; then echo NeedDaemonReload=yes; else echo NeedDaemonReload=no; fi;;
esac
"""
HOUR = 3600.0


class Machine:
    """A node with one service that reads two files, simulated by the node agent in this process and a fake systemctl.

    :param folder: what it is made of
    :param site: the site that it is looked at for
    """

    def __init__(self, folder: Path, site: Site) -> None:
        self.folder, self.site = folder, site
        self.conf, self.more = str(folder / "app.conf"), str(folder / "more.conf")
        self.service = Service("app", reads=(self.conf, self.more, "a change"))
        (folder / "more.conf").write_text("more\n")

    def write(self, text: str, path: str = "") -> None:
        """As the suite does it."""
        node_agent.write(path or self.conf, text)

    def edit(self, text: str) -> None:
        """As an operator does it."""
        Path(self.conf).write_text(text)

    def restart(self) -> None:
        """As the suite does it."""
        node_agent.systemctl("restart", ["app"], reads=self.service.reads or ())

    def restart_by_hand(self) -> None:
        """Or by systemd itself; a node that boots does the same."""
        subprocess.run(["systemctl", "restart", "app"], check=True, env=node_agent.ENVIRONMENT)

    def look(self) -> list[Change]:
        """What a run finds to do."""
        queries = [*self.service.queries(self.site, self.site.controller)]
        facts = node_agent.facts([(query.op, query.args) for query in queries])
        (finding,) = look(self.site, [self.service], dict(zip(queries, facts, strict=True)))
        return finding.changes

    def late(self) -> str:
        """The difference that a look finds, or ""."""
        return "; ".join(str(each) for change in self.look() for each in change.differences)

    def deploy(self) -> list[str]:
        """What a run calls for what the look finds."""
        changes = self.look()
        (self.folder / "log").write_text("")
        for change in changes:
            for action in change.actions:
                assert isinstance(action, NodeAction)
                arguments = action.message()
                operations: dict[str, Any] = node_agent.OPERATIONS
                operations[arguments.pop("op")](**arguments)
        return [line for line in (self.folder / "log").read_text().splitlines() if not line.startswith("show")]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site) -> Machine:
    """It was deployed: the file was written, and the service started after that."""
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin/systemctl"
    tool.write_text(SYSTEMCTL.replace("HERE", str(tmp_path)))
    tool.chmod(0o755)
    monkeypatch.setattr(node_agent, "ENVIRONMENT", {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})
    monkeypatch.setattr(node_agent, "STARTED", str(tmp_path / "started"))
    made = Machine(tmp_path, site)
    made.write("one\n")
    made.restart()
    return made


def at(path: str, seconds: float) -> None:
    """Give a file a time of change, in seconds from now."""
    os.utime(path, (time.time() + seconds, time.time() + seconds))


def test_nothing_to_do(machine: Machine) -> None:
    assert machine.late() == ""
    assert machine.deploy() == []


def test_a_file_that_was_touched_or_put_back_restarts_nothing(machine: Machine) -> None:
    """The content is what the service has read."""
    at(machine.conf, HOUR)
    assert machine.late() == ""
    machine.edit("two\n")
    machine.edit("one\n")
    assert machine.late() == ""


@pytest.mark.parametrize("seconds", [-HOUR, 0.0, HOUR])
def test_a_file_with_another_content_restarts(machine: Machine, seconds: float) -> None:
    """Also where it is older than the start: a backup was put back, or the clock was set."""
    machine.edit("two\n")
    at(machine.conf, seconds)
    assert f"started after {machine.conf} was written" in machine.late()
    assert machine.deploy() == ["reset-failed -- app", "restart -- app"]
    assert machine.late() == ""


def test_a_file_that_is_gone_restarts(machine: Machine) -> None:
    os.unlink(machine.more)
    assert machine.more in machine.late()


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
def test_a_kill_between_writing_and_restarting(machine: Machine, seconds: float) -> None:
    """The next run restarts, whatever the clock says; a service that was started in between has read the file."""
    machine.write("two\n")
    at(machine.conf, seconds)
    assert machine.conf in machine.late()
    at(machine.conf, -HOUR)
    machine.restart_by_hand()
    assert machine.late() == ""


def test_a_kill_between_anything_else_and_restarting(machine: Machine) -> None:
    """What leaves no file is noted before it is done."""
    node_agent.outdate(["a change", "another"])
    assert "a change" in machine.late()
    assert machine.deploy()[-1] == "restart -- app"
    assert machine.late() == ""


def test_who_reads_a_file_is_kept_over_restarts_for_another(machine: Machine) -> None:
    """Two steps say what one service reads; a restart for the one has read the other's, too."""
    node_agent.systemctl("restart", ["app"], reads=[machine.more])
    machine.edit("two\n")
    at(machine.conf, -HOUR)
    assert machine.conf in machine.late()


def test_started_by_somebody_else(machine: Machine) -> None:
    """After an operator's restart, or a boot, later writes and restored files are detected by their times."""
    machine.edit("two\n")
    machine.restart_by_hand()
    assert machine.late() == ""
    machine.edit("three\n")
    at(machine.conf, -HOUR)  # its inode has changed now
    assert machine.conf in machine.late()


def test_a_boot_and_a_touch(machine: Machine) -> None:
    machine.restart_by_hand()
    at(machine.conf, HOUR)
    assert machine.late() == ""


def test_what_an_operator_had_it_read_in_between(machine: Machine) -> None:
    """The content is as at our own start again, written by a run that was killed; the service has the operator's."""
    machine.edit("two\n")
    machine.restart_by_hand()
    machine.write("one\n")
    assert machine.conf in machine.late()


@pytest.mark.parametrize(("seconds", "due"), [(-HOUR, False), (HOUR, True)])
def test_deployed_by_a_version_that_kept_nothing(machine: Machine, seconds: float, due: bool) -> None:
    """By times, as that version did it; what is right stays untouched, and is written nothing about."""
    for each in (machine.folder / "started").iterdir():
        each.unlink()
    at(machine.more, -HOUR)
    at(machine.conf, seconds)
    assert bool(machine.late()) == due
    assert bool(machine.deploy()) == due
    assert [each.name for each in (machine.folder / "started").iterdir()] == (["app"] if due else [])
    at(machine.conf, 2 * HOUR)
    assert bool(machine.late()) != due


class TestUnitFiles:
    """Unit files, which systemd reads on daemon-reload."""

    def test_systemd_has_not_read_them(self, machine: Machine) -> None:
        """Changed by a package or an operator: systemd is reloaded, the service keeps running."""
        (machine.folder / "changed").touch()
        assert machine.late() == "app as loaded by systemd: wanted current unit files, found outdated"
        assert machine.deploy() == ["daemon-reload"]
        assert machine.late() == ""

    def test_of_the_step(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        """It was started since they were written, but as it was before."""
        monkeypatch.setattr(service, "UNITS", f"{machine.folder}/")
        machine.write("two\n")
        machine.restart_by_hand()
        (machine.folder / "changed").touch()
        assert machine.deploy() == ["daemon-reload", "reset-failed -- app", "restart -- app"]
        assert machine.late() == ""


def test_no_content_is_kept(machine: Machine) -> None:
    """Files hold passwords; only their owner can read even the digests."""
    machine.write("password = hunter2\n")
    machine.restart()
    (kept,) = (machine.folder / "started").iterdir()
    assert "hunter2" not in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_reload_by_somebody_else_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """During a daemon-reload a unit may briefly look outdated; it is reported only if it stays so."""
    looks = iter([True, True, False])
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(
        node_agent, "read_units", lambda names: {"a": {"active": "active", "outdated": next(looks, True)}}
    )
    assert not node_agent.settled_units(["a"])["a"]["outdated"]
    assert node_agent.settled_units(["a"], reloaded_within=0.0)["a"]["outdated"]
