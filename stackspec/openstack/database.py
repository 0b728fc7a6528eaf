"""Databases of services, their users, and their schema. Guide: each service's chapter, its first paragraph."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from ..inventory import Node
from ..resources.actions import Execute, Write
from ..resources.base import Change, Context, Difference, Query, Resource, file, package, run
from ..site import Site

CLIENT = ("mariadb", "--batch", "--skip-column-names")
STAMPS = "/var/lib/stackspec/db"
"""Folder on a node that records the package version of each schema."""
FIRST = "first sync unfinished"
"""Recorded instead while the schema of an empty database is being created."""
_SURVEY = (
    "SELECT 'database', schema_name, '', '' FROM information_schema.schemata;"
    "SELECT 'user', user, host, authentication_string FROM mysql.user;"
    "SELECT 'grant', user, host, db FROM mysql.db WHERE Select_priv='Y' AND Create_priv='Y';"
)


def native_hash(password: str) -> str:
    """The hash stored by mysql_native_password, to compare a password without sending it."""
    return "*" + hashlib.sha1(hashlib.sha1(password.encode()).digest()).hexdigest().upper()


@dataclass(frozen=True)
class Database(Resource):
    """A database and its user, with access from this node and from the management network.

    The guide grants to every host ('%', erratum E10); services connect only through the management address.

    :param name: the database
    :param user: its user, whose password is the site's secret `<user> database`
    """

    name: str
    user: str = ""

    @property
    def title(self) -> str:
        return f"database {self.name}"

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [run(*CLIENT, stdin=_SURVEY)]

    def hosts(self, site: Site) -> tuple[str, str]:
        """Hosts from which the user may connect."""
        cidr = site.networks["management"].cidr
        return "localhost", f"{cidr.network_address}/{cidr.netmask}"

    def changes(self, context: Context) -> list[Change]:
        found = context.facts[run(*CLIENT, stdin=_SURVEY)]
        rows = {tuple(line.split("\t")) for line in str(found["out"]).splitlines()}
        user = self.user or self.name
        password = context.site.password(f"{user} database")
        differences = []
        if ("database", self.name, "", "") not in rows:
            differences.append(Difference(f"database {self.name}", "present", "absent"))
        for host in self.hosts(context.site):
            if ("user", user, host, native_hash(password)) not in rows:
                differences.append(
                    Difference(f"user {user}@{host}", "the site's password", "no such user, or another password")
                )
            if ("grant", user, host, self.name) not in rows:
                differences.append(Difference(f"grant on {self.name} to {user}@{host}", "ALL", "none"))
        if not differences:
            return []
        sql = f"CREATE DATABASE IF NOT EXISTS `{self.name}`;\n"
        for host in self.hosts(context.site):
            account = f"'{user}'@'{host}'"
            sql += f"CREATE USER IF NOT EXISTS {account}; ALTER USER {account} IDENTIFIED BY '{password}';\n"
            sql += f"GRANT ALL PRIVILEGES ON `{self.name}`.* TO {account};\n"
        action = Execute(CLIENT, sql, what=f"create database {self.name}", units=("mariadb",))
        return [Change(f"create database {self.name}", tuple(differences), "", (action,))]


@dataclass(frozen=True)
class DbSync(Resource):
    """The schema of a database, created or migrated by the service's own tool.

    Whether a sync is due is decided from the database and from the package version of the last sync; the tool itself
    takes seconds to find out.

    :param argv: the tool
    :param database: the database that it fills
    :param package: the package, by the guide's name, whose version change requires a sync
    :param user: who runs it
    :param version: that version, if it is not from a package of the distribution
    :param fills: other databases that the tool fills
    """

    argv: tuple[str, ...]
    database: str
    package: str
    user: str
    version: str = ""
    fills: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"schema of {self.database}"

    def _version(self) -> Query:
        return run(*CLIENT, stdin=f"SELECT version_num FROM `{self.database}`.alembic_version")

    def _tables(self) -> Query:
        return run(
            *CLIENT, stdin=f"SELECT COUNT(*) FROM information_schema.tables WHERE table_schema='{self.database}'"
        )

    def _known(self, site: Site) -> str:
        """The version, if it is not read from a package of the distribution."""
        return self.version or site.release.wheel_version(self.package)

    def _package(self, site: Site) -> Query:
        return package(site.release.package(self.package)[0])

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        installed = () if self._known(site) else (self._package(site),)
        return [self._version(), *installed, file(f"{STAMPS}/{self.database}"), self._tables()]

    def changes(self, context: Context) -> list[Change]:
        stamp = f"{STAMPS}/{self.database}"
        made_for = str(context.facts[file(stamp)]["content"]).strip()
        installed = self._known(context.site) or context.facts[self._package(context.site)] or ""
        found = context.facts[self._version()]
        empty = found["status"] != 0 or not str(found["out"]).strip()
        if not empty and made_for in ("", installed):
            return []
        difference = Difference(self.title, f"made for {installed or 'the package'}", made_for or "empty")
        # The tables of a killed first sync have no data yet, but may block the next sync.
        first = made_for == FIRST or str(context.facts[self._tables()]["out"]).strip() == "0"
        word = FIRST if first else "unfinished"
        begin, end = Write(stamp, f"{word}\n", 0o644), Write(stamp, f"{installed}\n", 0o644)
        repair: tuple[Execute, ...] = ()
        if made_for == FIRST:
            sql = "".join(f"DROP DATABASE `{name}`; CREATE DATABASE `{name}`;" for name in (self.database, *self.fills))
            repair = (Execute(CLIENT, sql, what=f"empty {self.database}"),)
        sync = Execute(self.argv, user=self.user, timeout=900.0, repair=repair)
        return [Change(" ".join(self.argv), (difference,), "", (begin, sync, end), marks=(self.title,))]
