"""Services and waits: which state is a difference, and what a changed file means for them."""

from __future__ import annotations

from typing import Any

import pytest

from stackspec.resources import Answers, Await, IniFile, Service
from stackspec.resources.actions import AwaitActive, AwaitCommand, Systemctl
from stackspec.resources.base import file, http, run, unit
from stackspec.resources.service import Unwanted
from stackspec.site import Site

from .bare import NO_UNIT, RUNNING, ChangeOf, answer, differences, look, made, text_file


class TestService:
    """Units that run, start at boot, and use their current files."""

    conf = IniFile("/etc/c", {"a": {"x": 1}})
    right = text_file("[a]\nx = 1\n", mtime=50.0)

    def test_correct_state(self, change: ChangeOf) -> None:
        """Running, enabled, started."""
        assert change(Service("etcd"), {unit("etcd"): RUNNING}) is None

    def test_missing_unit(self, change: ChangeOf) -> None:
        """Enabled and started, under the release's names."""
        found = change(Service("neutron-server"))
        both = ("neutron-api", "neutron-rpc-server")
        calls = (Systemctl("unmask", both), Systemctl("enable", both), Systemctl("restart", both))
        assert found.actions == (*calls, AwaitActive(both))
        known = {unit(name): NO_UNIT for name in both}
        assert change(Service("neutron-server"), made(known, found)) is None

    @pytest.mark.parametrize(
        ("state", "verbs"),
        [
            pytest.param({"active": "failed"}, ["restart"], id="failed"),
            pytest.param({"active": "activating"}, ["restart"], id="starting over and over"),
            pytest.param({"enabled": "disabled"}, ["unmask", "enable"], id="not at boot"),
            pytest.param({"enabled": "masked", "active": "inactive"}, ["unmask", "enable", "restart"], id="masked"),
            pytest.param({"enabled": "static"}, [], id="needs no enabling"),
        ],
    )
    def test_state(self, change: ChangeOf, state: dict[str, Any], verbs: list[str]) -> None:
        """Only what is wrong is repaired: a running unit is not restarted to enable it."""
        known = {unit("etcd"): {**RUNNING, **state}}
        found = change(Service("etcd"), known)
        assert [a.verb for a in (found.actions if found else ()) if isinstance(a, Systemctl)] == verbs
        assert found is None or change(Service("etcd"), made(known, found)) is None

    def test_changed_file_restarts(self, site: Site) -> None:
        """The file is about to be written."""
        known = {file("/etc/c"): text_file("", mtime=50.0), unit("etcd"): RUNNING}
        _, service = look(site, [self.conf, Service("etcd")], known)
        assert differences(service.changes[0]) == [
            "etcd: wanted started after /etc/c was written, found started before"
        ]

    def test_file_written_after_the_start_restarts(self, site: Site) -> None:
        """A run was killed between writing and restarting; the next one detects it."""
        known = {file("/etc/c"): {**self.right, "mtime": 150.0}, unit("etcd"): RUNNING}
        conf, service = look(site, [self.conf, Service("etcd")], known)
        assert conf.changes == []
        assert [a.verb for a in service.changes[0].actions if isinstance(a, Systemctl)] == ["restart"]
        after = made(known, service.changes[0])
        assert [each.changes for each in look(site, [self.conf, Service("etcd")], after)] == [[], []]

    def test_file_written_before_the_start_does_not_restart(self, site: Site) -> None:
        """Nothing to do."""
        known = {file("/etc/c"): self.right, unit("etcd"): RUNNING}
        assert [each.changes for each in look(site, [self.conf, Service("etcd")], known)] == [[], []]

    def test_file_declared_after_the_service_does_not_restart(self, site: Site) -> None:
        """A service reads what the step wrote before it."""
        known = {file("/etc/c"): text_file(""), unit("etcd"): RUNNING}
        service, conf = look(site, [Service("etcd"), self.conf], known)
        assert (service.changes, len(conf.changes)) == ([], 1)

    def test_only_declared_files_restart(self, site: Site) -> None:
        """A switch must not restart for its agent's file."""
        known = {
            file("/etc/c"): text_file("", mtime=150.0),
            file("/etc/links"): text_file("", mtime=150.0),
            unit("etcd"): RUNNING,
        }
        findings = look(site, [self.conf, Service("etcd", reads=())], known)
        assert findings[1].changes == []
        (service,) = look(site, [Service("etcd", reads=("/etc/links",))], known)
        assert "/etc/links" in differences(service.changes[0])[0]


class TestUnwanted:
    """Units that a package installs and nobody wants."""

    @pytest.mark.parametrize(
        ("state", "due"),
        [
            pytest.param(NO_UNIT, False, id="not there"),
            pytest.param({**RUNNING}, True, id="running"),
            pytest.param({**RUNNING, "active": "inactive"}, True, id="starts at boot"),
            pytest.param({**RUNNING, "active": "inactive", "enabled": "disabled"}, False, id="off"),
            pytest.param({**RUNNING, "active": "inactive", "enabled": "masked"}, False, id="masked"),
        ],
    )
    def test_state(self, change: ChangeOf, state: dict[str, Any], due: bool) -> None:
        """Stopped and masked if it runs or would start."""
        known = {unit("haproxy"): state}
        found = change(Unwanted(("haproxy",)), known)
        assert (found is not None) == due
        if found:
            assert [a.verb for a in found.actions] == ["stop", "mask"]
            assert change(Unwanted(("haproxy",)), made(known, found)) is None


class TestAwait:
    """A state that is reached without action."""

    def test_waits(self, change: ChangeOf, site: Site) -> None:
        """Until the check exits with 0; the error shows the journal of the release's units."""
        resource = Await(("test", "x"), what="all there", service="nova-api", timeout=5.0)
        found = change(resource)
        (action,) = found.actions
        assert isinstance(action, AwaitCommand)
        assert action.timeout == 5.0
        assert action.units == ("nova-api", "nova-api-metadata")
        (query,) = resource.queries(site, site.controller)
        assert change(resource, {query: answer()}) is None


class TestAnswers:
    """A URL that must answer."""

    url = "http://controller:9292/"

    @pytest.mark.parametrize(("found", "due"), [(200, False), (300, False), (503, True), ("connection refused", True)])
    def test_status(self, change: ChangeOf, found: int | str, due: bool) -> None:
        """With one of the accepted statuses."""
        known = {http(self.url): found}
        assert (change(Answers(self.url, (200, 300)), known) is not None) == due

    def test_message(self, change: ChangeOf) -> None:
        """Expected and actual status."""
        assert differences(change(Answers(self.url, (200, 300)), {http(self.url): 503})) == [
            f"{self.url}: wanted HTTP 200 or 300, found HTTP 503"
        ]

    def test_checked_again_after_a_restart(self, site: Site) -> None:
        """An answer from before the change does not count after it."""
        known = {http(self.url): 200, unit("etcd"): RUNNING}
        resources = [IniFile("/etc/c", {"a": {"x": 1}}), Service("etcd"), Answers(self.url)]
        assert [len(each.changes) for each in look(site, resources, known)] == [1, 1, 1]
        after = {**known, file("/etc/c"): text_file("[a]\nx = 1\n", mtime=50.0)}
        assert [len(each.changes) for each in look(site, resources, after)] == [0, 0, 0]

    @pytest.mark.parametrize("state", [{"active": "failed"}, {"started": 10.0}])
    def test_restart_for_what_was_there_before(self, site: Site, state: dict[str, Any]) -> None:
        """An earlier run was killed before it, or somebody else wrote the file: what answered is ended now."""
        known = {
            http(self.url): 200,
            unit("etcd"): {**RUNNING, **state},
            file("/etc/c"): text_file("[a]\nx = 1\n", mtime=50.0),
            run("look"): answer(),
        }
        listens = Await(("look",), what="it listens", service="etcd")
        resources = [IniFile("/etc/c", {"a": {"x": 1}}), Service("etcd"), Answers(self.url), listens]
        found = look(site, resources, known)
        titles = ["restart etcd", f"wait for {self.url}", "wait for it listens"]
        assert [change.title for each in found for change in each.changes] == titles
        assert [change.follows for each in found[2:] for change in each.changes] == [True, True]
