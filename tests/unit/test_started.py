"""Services run with the current content of their files: detected by content, whatever the times, also after a kill."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from stackspec.node_agent import loop, shell, systemd
from stackspec.resources import Change, Service, service
from stackspec.site import Site

from . import fake_systemctl
from .bare import carry_out, look

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

    :param folder: holds its files
    :param site: the site that it belongs to
    """

    def __init__(self, folder: Path, site: Site) -> None:
        self.folder, self.site = folder, site
        self.conf, self.more = str(folder / "app.conf"), str(folder / "more.conf")
        self.service = Service("app", reads=(self.conf, self.more, "a change"))
        (folder / "more.conf").write_text("more\n")

    def write(self, text: str, path: str = "") -> None:
        """Write like the suite does."""
        systemd.write(path or self.conf, text)

    def edit(self, text: str) -> None:
        """Edit like an operator does."""
        Path(self.conf).write_text(text)

    def restart(self) -> None:
        """Restart like the suite does."""
        systemd.systemctl("restart", ["app"], reads=self.service.reads or ())

    def restart_by_hand(self) -> None:
        """Restart without the suite: by hand, by systemd or at boot."""
        subprocess.run(["systemctl", "restart", "app"], check=True, env=shell.ENVIRONMENT)

    def look(self) -> list[Change]:
        """The changes that a run finds."""
        queries = [*self.service.queries(self.site, self.site.controller)]
        facts = loop.facts([(query.op, query.args) for query in queries])
        (finding,) = look(self.site, [self.service], dict(zip(queries, facts, strict=True)))
        return finding.changes

    def late(self) -> str:
        """The difference that a check finds, or ""."""
        return "; ".join(str(each) for change in self.look() for each in change.differences)

    def deploy(self) -> list[str]:
        """The systemctl calls of a run for these changes."""
        changes = self.look()
        (self.folder / "log").write_text("")
        carry_out(changes)
        return [line for line in (self.folder / "log").read_text().splitlines() if not line.startswith("show")]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site) -> Machine:
    """After a deployment: the file was written, and the service started after that."""
    fake_systemctl.install(tmp_path, monkeypatch, SYSTEMCTL)
    monkeypatch.setattr(systemd, "RELOADED_WITHIN", 0.0)
    made = Machine(tmp_path, site)
    made.write("one\n")
    made.restart()
    return made


def at(path: str, seconds: float) -> None:
    """Set a file's modification time, in seconds from now."""
    os.utime(path, (time.time() + seconds, time.time() + seconds))


def test_nothing_to_do(machine: Machine) -> None:
    assert machine.late() == ""
    assert machine.deploy() == []


def test_touched_or_restored_file_restarts_nothing(machine: Machine) -> None:
    """The content is what the service has read."""
    at(machine.conf, HOUR)
    assert machine.late() == ""
    machine.edit("two\n")
    machine.edit("one\n")
    assert machine.late() == ""


@pytest.mark.parametrize("seconds", [-HOUR, 0.0, HOUR])
def test_changed_content_restarts(machine: Machine, seconds: float) -> None:
    """Even if the file is older than the start: a backup was restored, or the clock was set."""
    machine.edit("two\n")
    at(machine.conf, seconds)
    assert f"started after {machine.conf} was written" in machine.late()
    assert machine.deploy() == ["reset-failed -- app", "restart -- app"]
    assert machine.late() == ""


def test_deleted_file_restarts(machine: Machine) -> None:
    os.unlink(machine.more)
    assert machine.more in machine.late()


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
def test_kill_between_writing_and_restarting(machine: Machine, seconds: float) -> None:
    """The next run restarts, whatever the clock says; a service started in between has read the file."""
    machine.write("two\n")
    at(machine.conf, seconds)
    assert machine.conf in machine.late()
    at(machine.conf, -HOUR)
    machine.restart_by_hand()
    assert machine.late() == ""


def test_kill_between_another_change_and_restarting(machine: Machine) -> None:
    """Changes that leave no file are recorded before they are made."""
    systemd.outdate(["a change", "another"])
    assert "a change" in machine.late()
    assert machine.deploy()[-1] == "restart -- app"
    assert machine.late() == ""


def test_readers_are_kept_across_restarts_for_another_file(machine: Machine) -> None:
    """Two steps declare files of one service; a restart for one of them also loads the other's."""
    systemd.systemctl("restart", ["app"], reads=[machine.more])
    machine.edit("two\n")
    at(machine.conf, -HOUR)
    assert machine.conf in machine.late()


def test_started_by_somebody_else(machine: Machine) -> None:
    """After an operator's restart, or a boot, later writes and restored files are detected by their times."""
    machine.edit("two\n")
    machine.restart_by_hand()
    assert machine.late() == ""
    machine.edit("three\n")
    at(machine.conf, -HOUR)  # now its inode has changed
    assert machine.conf in machine.late()


def test_boot_and_touch(machine: Machine) -> None:
    machine.restart_by_hand()
    at(machine.conf, HOUR)
    assert machine.late() == ""


def test_operator_change_between_two_of_ours(machine: Machine) -> None:
    """The content equals that of our own start, written again by a killed run; the service has the operator's."""
    machine.edit("two\n")
    machine.restart_by_hand()
    machine.write("one\n")
    assert machine.conf in machine.late()


@pytest.mark.parametrize(("seconds", "due"), [(-HOUR, False), (HOUR, True)])
def test_deployment_of_a_version_without_records(machine: Machine, seconds: float, due: bool) -> None:
    """By times, as that version did; a correct state is not changed or recorded."""
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

    def test_systemd_is_reloaded(self, machine: Machine) -> None:
        """Changed by a package or an operator: systemd is reloaded, the service keeps running."""
        (machine.folder / "changed").touch()
        assert machine.late() == "app as loaded by systemd: wanted current unit files, found outdated"
        assert machine.deploy() == ["daemon-reload"]
        assert machine.late() == ""

    def test_unit_file_of_the_step_restarts(self, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
        """It started after they were written, but with the old unit."""
        monkeypatch.setattr(service, "UNITS", f"{machine.folder}/")
        machine.write("two\n")
        machine.restart_by_hand()
        (machine.folder / "changed").touch()
        assert machine.deploy() == ["daemon-reload", "reset-failed -- app", "restart -- app"]
        assert machine.late() == ""


def test_no_content_is_stored(machine: Machine) -> None:
    """Files contain passwords; only the owner can read even the digests."""
    machine.write("password = hunter2\n")
    machine.restart()
    (kept,) = (machine.folder / "started").iterdir()
    assert "hunter2" not in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_reload_by_another_process_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """During a daemon-reload a unit may briefly look outdated; it is reported only if it stays so."""
    looks = iter([True, True, False])
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(systemd, "read_units", lambda names: {"a": {"active": "active", "outdated": next(looks, True)}})
    assert not systemd.settled_units(["a"])["a"]["outdated"]
    monkeypatch.setattr(systemd, "RELOADED_WITHIN", 0.0)
    assert systemd.settled_units(["a"])["a"]["outdated"]
