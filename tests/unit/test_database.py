"""Databases and their schemas: what is read from the server, and when a schema is due."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from stackspec.openstack import Database, DbSync
from stackspec.openstack.database import native_hash
from stackspec.resources import Service
from stackspec.resources.base import Query, file, package, unit
from stackspec.site import Site

from .bare import RUNNING, ChangeOf, answer, differences, lab_site, look, made, text_file


class TestDatabase:
    """A database and its user."""

    right = (
        "database\tglance\t\t",
        f"user\tglance\tlocalhost\t{native_hash('pass-1')}",
        f"user\tglance\t10.0.0.0/255.255.255.0\t{native_hash('pass-1')}",
        "grant\tglance\tlocalhost\tglance",
        "grant\tglance\t10.0.0.0/255.255.255.0\tglance",
    )

    def known(self, site: Site, rows: Iterable[str]) -> dict[Query, Any]:
        """A server with these rows."""
        (survey,) = Database("glance").queries(site, site.controller)
        return {survey: answer("".join(f"{row}\n" for row in rows))}

    def test_hash_matches_the_server(self) -> None:
        """As `SELECT PASSWORD('password')` returns it: two rounds of SHA-1."""
        assert native_hash("password") == "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"

    def test_correct_state(self, site: Site, change: ChangeOf) -> None:
        """All rows exist; those of other services do not matter."""
        rows = ("user\tnova\t%\t*0", *self.right, "database\tnova\t\t")
        assert change(Database("glance"), self.known(site, rows)) is None

    def test_bare_server(self, site: Site, change: ChangeOf) -> None:
        """No server, no rows: everything is created in one call."""
        sql = change(Database("glance")).actions[0].stdin
        assert "CREATE DATABASE IF NOT EXISTS `glance`;" in sql
        for host in ("localhost", "10.0.0.0/255.255.255.0"):
            assert f"GRANT ALL PRIVILEGES ON `glance`.* TO 'glance'@'{host}';" in sql

    @pytest.mark.parametrize("gone", range(len(right)))
    def test_one_row_is_missing(self, site: Site, change: ChangeOf, gone: int) -> None:
        """One difference, which names it."""
        rows = [row for place, row in enumerate(self.right) if place != gone]
        assert len(differences(change(Database("glance"), self.known(site, rows)))) == 1

    def test_wrong_password(self, site: Site, change: ChangeOf) -> None:
        """It is set to the site's; neither is shown or put on the command line."""
        rows = [row.replace(native_hash("pass-1"), native_hash("other")) for row in self.right]
        found = change(Database("glance"), self.known(site, rows))
        assert differences(found) == [
            f"user glance@{host}: wanted the site's password, found no such user, or another password"
            for host in ("localhost", "10.0.0.0/255.255.255.0")
        ]
        assert "pass-1" not in found.title + " ".join(found.actions[0].argv)
        assert "IDENTIFIED BY 'pass-1'" in found.actions[0].stdin

    def test_grant_to_everybody_is_not_enough(self, site: Site, change: ChangeOf) -> None:
        """The guide's '%' (erratum E10) is another account."""
        rows = [row.replace("10.0.0.0/255.255.255.0", "%") for row in self.right]
        assert len(differences(change(Database("glance"), self.known(site, rows)))) == 2

    def test_user_with_another_name(self, site: Site, change: ChangeOf) -> None:
        """Nova has three databases and one user."""
        assert "ON `nova_api`.* TO 'nova'@'localhost'" in change(Database("nova_api", user="nova")).actions[0].stdin


class TestDbSync:
    """A schema: due if it is empty, unfinished, or was created by another version of the package."""

    resource = DbSync(("glance-manage", "db_sync"), database="glance", package="glance", user="glance")
    stamp = file("/var/lib/stackspec/db/glance")

    def known(
        self, site: Site, *, version: str = "", made_for: str = "", installed: str = "2:29.0"
    ) -> dict[Query, Any]:
        """A node whose database has the schema `version`, created by a package of `made_for`."""
        schema, installed_query, *_ = self.resource.queries(site, site.controller)
        assert installed_query == package("glance-api")
        return {
            schema: answer(f"{version}\n") if version else answer(status=1),
            installed_query: installed,
            self.stamp: text_file(f"{made_for}\n") if made_for else {"exists": False, "content": "", "mtime": 0.0},
        }

    @pytest.mark.parametrize(
        ("state", "due"),
        [
            pytest.param({}, True, id="no schema"),
            pytest.param({"made_for": "2:29.0"}, True, id="schema was dropped"),
            pytest.param({"version": "glance_1", "made_for": "2:29.0"}, False, id="made for this package"),
            pytest.param({"version": "glance_1", "made_for": "2:28.0"}, True, id="package is newer"),
            pytest.param({"version": "glance_1", "made_for": "unfinished"}, True, id="killed half way"),
            pytest.param({"version": "glance_1"}, False, id="made by hand"),
        ],
    )
    def test_due(self, site: Site, change: ChangeOf, state: dict[str, Any], due: bool) -> None:
        """The tool itself takes seconds to report it."""
        assert (change(self.resource, self.known(site, **state)) is not None) == due

    def test_version_from_the_application(self, site: Site, change: ChangeOf) -> None:
        """An application that is not a distribution package provides its own version."""
        resource = DbSync(("app", "sync"), database="glance", package="", user="app", version="app==2")
        schema, *_ = resource.queries(site, site.controller)
        for made_for, due in (("app==2", False), ("app==1", True)):
            known = {schema: answer("1\n"), self.stamp: text_file(f"{made_for}\n")}
            assert (change(resource, known) is not None) == due

    def test_empty_version_table_is_not_a_schema(self, site: Site, change: ChangeOf) -> None:
        """The tool was killed after its first statement."""
        known = self.known(site, version="x")
        schema, *_ = self.resource.queries(site, site.controller)
        assert change(self.resource, {**known, schema: answer("\n")}) is not None

    def test_schema_is_marked_before_and_after(self, site: Site, change: ChangeOf) -> None:
        """First marked as unfinished, last as finished: the next run detects a kill in between."""
        known = self.known(site)
        found = change(self.resource, known)
        begin, sync, end = found.actions
        assert (begin.content, end.content) == ("unfinished\n", "2:29.0\n")
        assert (sync.argv, sync.user) == (("glance-manage", "db_sync"), "glance")
        after = made(known, found) | {next(iter(known)): answer("glance_1\n")}
        assert change(self.resource, after) is None

    def test_services_restart(self, site: Site) -> None:
        """They have read the old schema."""
        _, service = look(site, [self.resource, Service("etcd")], {**self.known(site), unit("etcd"): RUNNING})
        assert len(service.changes) == 1


class TestFirstSync:
    """A schema whose first sync did not finish."""

    resource = DbSync(("nova-manage", "db", "sync"), "nova", "nova-api", "nova", "1", ("nova_cell0",))

    def actions(self, change: ChangeOf, stamp: str, tables: str) -> Any:
        """The actions for an empty version table, with this stamp and this number of tables."""
        site = lab_site()
        version, kept, count = self.resource.queries(site, site.controller)
        answers = {version: answer(), count: answer(tables)}
        known = {**answers, kept: text_file(stamp)} if stamp else answers
        return change(self.resource, known).actions

    def test_first_sync_in_an_empty_database(self, change: ChangeOf) -> None:
        """The stamp tells the next run that no data can be lost; this run drops nothing."""
        begin, sync, end = self.actions(change, "", "0\n")
        assert (begin.content, end.content) == ("first sync unfinished\n", "1\n")
        assert sync.repair == ()

    def test_first_sync_is_restarted(self, change: ChangeOf) -> None:
        """It resumes if possible; otherwise its tables and those of the other database are recreated."""
        begin, sync, _ = self.actions(change, "first sync unfinished\n", "7\n")
        assert begin.content == "first sync unfinished\n"
        (repair,) = sync.repair
        for name in ("nova", "nova_cell0"):
            assert f"DROP DATABASE `{name}`; CREATE DATABASE `{name}`;" in repair.stdin

    @pytest.mark.parametrize("stamp", ["", "unfinished\n", "0.9\n"])
    def test_tables_that_may_contain_data_are_never_dropped(self, change: ChangeOf, stamp: str) -> None:
        """An interrupted upgrade, or somebody else's tables."""
        begin, sync, _ = self.actions(change, stamp, "7\n")
        assert begin.content == "unfinished\n"
        assert sync.repair == ()
