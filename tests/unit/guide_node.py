"""A simulated machine of the guide: its state after all steps, and the order of operations."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from stackspec.inventory import Node
from stackspec.openstack import DbSync, Image, RegisteredLimit
from stackspec.openstack.api_object import ApiObject
from stackspec.openstack.cloud import SharedCloud
from stackspec.openstack.database import CLIENT
from stackspec.resources import Command, Resource
from stackspec.resources.actions import NodeAction, Write
from stackspec.resources.base import Context, Query
from stackspec.site import Site

from .bare import ANSWERS, NO_UNIT, RUNNING, RecordingCloud, context, text_file

BARE_FILES = ("/etc/passwd", "/etc/hostname", "/etc/hosts", "/etc/fstab", "/etc/os-release")
"""Content of every machine; a guard that checks for one of them is always satisfied."""
PACKAGE_FILES = ("/etc/apache2/sites-enabled/default-ssl.conf", "/etc/nginx/sites-enabled/default")
"""What packages create and steps remove."""
TABLES = """
CREATE TABLE mysql__global_priv (User, Host);
INSERT INTO mysql__global_priv VALUES ('', 'localhost'), ('root', 'localhost'), ('root', '%');
CREATE TABLE information_schema__schemata (schema_name);
INSERT INTO information_schema__schemata VALUES ('mysql'), ('test');
CREATE TABLE information_schema_tables (table_schema);
CREATE TABLE nova_api__cell_mappings (name);
CREATE TABLE nova_api__host_mappings (host);
CREATE TABLE nova__compute_nodes (uuid, host, deleted);
CREATE TABLE placement__resource_providers (uuid);
"""
"""A database server in the worst state that its package leaves it in, with the tables that guards read."""
_TABLE = re.compile(r"\b(FROM|JOIN|INTO) `?(\w+)`?\.(\w+)")
"""A table of a database; its name for SQLite is one word, because SQLite can attach only ten databases."""
FUNCTIONS = """
mariadb() { test -z "$MARIADB_FAILS" && printf '%s' "$MARIADB_SAYS"; }
hostname() { echo "$HOSTNAME_IS"; }
"""
"""Commands that a guard's shell may call; no other is found, so that no guard reads the machine that runs the tests."""
_STATEMENT = re.compile(r"(?:[^;'`]|'[^']*'|`[^`]*`)+")


@dataclass(frozen=True)
class Done:
    """An operation on the node or a call of an API.

    :param place: its position in the order of all operations
    :param step: the step that requested it
    :param resource: the resource
    :param action: the operation; for a call {op: call, name, args, kwargs}
    """

    place: int
    step: str
    resource: Resource
    action: dict[str, Any]


@dataclass
class Sql:
    """State of the database server after the statements it received.

    :param accounts: 'user'@'host' -> password
    :param grants: (privileges, object, account)
    :param others: statements of unknown kinds, which the guide does not have
    :param made: name of a database -> position in the order
    """

    accounts: dict[str, str] = field(default_factory=dict)
    grants: set[tuple[str, str, str]] = field(default_factory=set)
    others: list[str] = field(default_factory=list)
    made: dict[str, int] = field(default_factory=dict)

    def run(self, text: str, place: int) -> None:
        """Execute the statements of `text`."""
        for statement in filter(None, (" ".join(each.split()) for each in _STATEMENT.findall(text))):
            if match := re.fullmatch(r"CREATE DATABASE IF NOT EXISTS `(\w+)`", statement):
                self.made.setdefault(match[1], place)
            elif match := re.fullmatch(r"DROP DATABASE (?:IF EXISTS )?`(\w+)`", statement):
                self.made.pop(match[1], None)
            elif match := re.fullmatch(r"CREATE USER IF NOT EXISTS ('[^']+'@'[^']+')", statement):
                self.accounts.setdefault(match[1], "")
            elif match := re.fullmatch(r"ALTER USER ('[^']+'@'[^']+') IDENTIFIED BY '([^']*)'", statement):
                self.accounts[match[1]] = match[2]
            elif match := re.fullmatch(r"GRANT (.+) PRIVILEGES ON (\S+) TO ('[^']+'@'[^']+')", statement):
                self.grants.add((match[1], match[2], match[3]))
            elif match := re.fullmatch(r"REVOKE (.+) PRIVILEGES ON (\S+) FROM ('[^']+'@'[^']+')", statement):
                self.grants.discard((match[1], match[2], match[3]))
            else:
                self.others.append(statement)


class GuideNode(Mapping[Query, Any]):
    """Facts of a machine, updated by what is done on it.

    :param files: initial files: path -> content
    """

    def __init__(self, site: Site, node: Node, files: Mapping[str, str]) -> None:
        self.site, self.node = site, node
        there = {**dict.fromkeys((*BARE_FILES, *PACKAGE_FILES), ""), **files}
        self.files = {path: text_file(text) for path, text in there.items()}
        self.units: dict[str, dict[str, Any]] = {}
        self.packages: set[str] = set()
        self.users = {"root"}
        self.hostname = "bare"
        self.sql = Sql()
        self.done: list[Done] = []
        self.guards: list[str] = []
        """Commands that are not due on a bare machine, or are still due after they ran."""
        self.tables = sqlite3.connect(":memory:", isolation_level=None)
        self.tables.executescript(TABLES)

    def __getitem__(self, query: Query) -> Any:
        name = query.args[0] if query.args else ""
        if query.op == "file":
            return self.files.get(name, ANSWERS["file"])
        if query.op == "unit":
            return self.units.get(name, {**NO_UNIT, "load": "loaded"})
        if query.op == "package":
            return "1.0" if name in self.packages else None
        if query.op == "run":
            return self._answer(*query.args)
        return ANSWERS[query.op]

    def __iter__(self) -> Iterator[Query]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def run(self, step: str, resources: list[Resource]) -> None:
        """Do what a step's resources request, one after the other."""
        here = context(self.site, self.node)
        here.facts = self
        for resource in resources:
            if isinstance(resource, ApiObject):
                self._call(step, resource, here)
            else:
                self._change(step, resource, here)
            here.watched += resource.paths(self.site)

    def _change(self, step: str, resource: Resource, here: Context) -> None:
        changes = resource.changes(here)
        if isinstance(resource, Command) and not changes:
            self.guards.append(f"{step}: {resource.title}: is not due on a bare machine")
        for change in changes:
            here.pending.update((*change.touches, *change.marks))
            for action in change.actions:
                if isinstance(action, Write) and callable(action.content):
                    action = replace(action, content=b"")  # Nothing is fetched for a plan.
                if isinstance(action, NodeAction):
                    self._note(step, resource, action.message())
        if isinstance(resource, Command | DbSync) and changes and resource.changes(here):
            self.guards.append(f"{step}: {resource.title}: is due again when it has run")

    def _call(self, step: str, resource: ApiObject, here: Context) -> None:
        cloud = here.shared.get(SharedCloud)
        assert isinstance(cloud, RecordingCloud)
        # Images (files) and limits (of existing services) make no calls in an empty cloud.
        if not isinstance(resource, Image | RegisteredLimit):
            before = len(cloud.calls)
            resource.make(cloud, here)
            for name, args, kwargs in cloud.calls[before:]:
                self._note(step, resource, {"op": "call", "name": name, "args": args, "kwargs": kwargs})

    def _note(self, step: str, resource: Resource, action: dict[str, Any]) -> None:
        place = len(self.done) + 1
        self.done.append(Done(place, step, resource, action))
        op = action["op"]
        if op in ("write", "directory"):
            path = action["path"]
            given: dict[str, Any] = {key: action[key] for key in ("mode", "owner", "group") if key in action}
            kept = {key: value for key, value in self.files.get(path, {}).items() if key in ("mode", "owner", "group")}
            now: dict[str, Any] = {**kept, **given, **({"kind": "directory"} if op == "directory" else {})}
            self.files[path] = text_file(action.get("content", ""), float(place), **now)
        elif op == "remove":
            self.files.pop(action["path"], None)
        elif op == "apt":
            self.packages.update(action["packages"])
        elif op == "systemctl":
            self._systemctl(action["verb"], action["units"], place)
        elif op == "command":
            self._command([str(word) for word in action["argv"]], str(action.get("stdin") or ""), place)

    def _systemctl(self, verb: str, names: list[str], place: int) -> None:
        verbs: dict[str, dict[str, Any]] = {
            "restart": {"active": "active", "sub": "running", "started": float(place)},
            "enable": {"enabled": "enabled"},
            "unmask": {"enabled": "disabled"},
            "stop": {"active": "inactive", "sub": "dead"},
            "mask": {"enabled": "masked"},
        }
        for name in names:
            before = self.units.get(name, {**RUNNING, "active": "inactive", "enabled": "", "started": 0.0})
            self.units[name] = {**before, **verbs[verb]}

    def _command(self, argv: list[str], stdin: str, place: int) -> None:
        if tuple(argv) == CLIENT:
            self.sql.run(stdin, place)
            for statement in _STATEMENT.findall(stdin):
                if match := re.fullmatch(r"\s*DROP DATABASE IF EXISTS (\w+)", statement):
                    self._query(f"DELETE FROM information_schema.schemata WHERE schema_name='{match[1]}'")
                else:
                    self._query(statement)
        for start, effect in EFFECTS.items():
            if argv[: len(start)] == list(start):
                effect(self, argv)
        for start, database in SCHEMAS.items():
            if argv[: len(start)] == list(start):
                self.tables.execute(f"CREATE TABLE IF NOT EXISTS {database}__alembic_version (version_num)")
                self.tables.execute(f"INSERT INTO {database}__alembic_version VALUES ('1')")

    def _query(self, statement: str) -> tuple[bool, str]:
        try:
            rows = self.tables.execute(_TABLE.sub(r"\1 \2__\3", statement)).fetchall()
        except sqlite3.Error:
            return False, ""
        return True, "".join("\t".join(map(str, row)) + "\n" for row in rows)

    def _answer(self, argv: tuple[str, ...], stdin: str = "", user: str = "") -> dict[str, Any]:
        """Output of a read-only command: a database query, a test of a file, a user, or a shell script of these."""
        if argv == CLIENT:
            fine, out = self._query(stdin)
            return {"status": 0 if fine else 1, "out": out, "err": ""}
        if argv[:2] == ("sh", "-c") and len(argv) > 2:
            fine, out = self._query(stdin) if stdin else (False, "")
            status = _shell(argv[2], out, not fine, self.hostname)
        elif argv[0] == "test":
            status = self._test(argv[1:])
        elif argv[:2] == ("getent", "passwd"):
            status = 0 if argv[2] in self.users else 2
        else:
            status = {"true": 0, "false": 1}.get(argv[0], 127)
        return {"status": status, "out": "", "err": ""}

    def _test(self, words: tuple[str, ...]) -> int:
        """`test` of one file, and its negation."""
        if words[:1] == ("!",):
            return 1 - self._test(words[1:])
        if len(words) != 2:
            return 2
        option, path = words
        there = path in self.files and (option != "-s" or bool(self.files[path]["content"]))
        return 0 if there else 1


@cache
def _shell(script: str, says: str, fails: bool, hostname: str) -> int:
    """Exit status of a guard's script."""
    known = {"MARIADB_SAYS": says, "MARIADB_FAILS": "1" if fails else "", "HOSTNAME_IS": hostname, "PATH": "/nowhere"}
    done = subprocess.run(["/bin/sh", "-c", FUNCTIONS + script], env=known, capture_output=True, check=False)
    return done.returncode


def _makes(path: str) -> Callable[[GuideNode, list[str]], None]:
    def effect(node: GuideNode, argv: list[str]) -> None:
        node.files[path] = text_file("made")

    return effect


def _maps(cell: str) -> Callable[[GuideNode, list[str]], None]:
    def effect(node: GuideNode, argv: list[str]) -> None:
        node.tables.execute("INSERT INTO nova_api__cell_mappings VALUES (?)", (cell,))

    return effect


def _adds_a_user(node: GuideNode, argv: list[str]) -> None:
    node.users.add(argv[-1])


def _removes(node: GuideNode, argv: list[str]) -> None:
    node.files.pop(argv[-1], None)


def _disables_a_site(node: GuideNode, argv: list[str]) -> None:
    node.files.pop(f"/etc/apache2/sites-enabled/{argv[-1]}.conf", None)


def _discovers(node: GuideNode, argv: list[str]) -> None:
    for each in node.site.with_role("compute"):
        node.tables.execute("INSERT INTO nova_api__host_mappings VALUES (?)", (each.name,))


def _sets_hostname(node: GuideNode, argv: list[str]) -> None:
    node.hostname = argv[-1]


EFFECTS: dict[tuple[str, ...], Callable[[GuideNode, list[str]], None]] = {
    ("hostname",): _sets_hostname,
    ("useradd",): _adds_a_user,
    ("rm",): _removes,
    ("a2dissite",): _disables_a_site,
    ("add-apt-repository", "-y", "cloud-archive:caracal"): _makes("/etc/apt/sources.list.d/cloudarchive-caracal.list"),
    ("keystone-manage", "fernet_setup"): _makes("/etc/keystone/fernet-keys/0"),
    ("keystone-manage", "credential_setup"): _makes("/etc/keystone/credential-keys/0"),
    ("python3", "/usr/share/openstack-dashboard/manage.py", "compress"): _makes(
        "/var/lib/openstack-dashboard/static/dashboard/manifest.json"
    ),
    ("nova-manage", "cell_v2", "map_cell0"): _maps("cell0"),
    ("nova-manage", "cell_v2", "create_cell", "--name=cell1"): _maps("cell1"),
    ("nova-manage", "cell_v2", "discover_hosts"): _discovers,
}
"""Command -> its effect."""
SCHEMAS = {
    ("keystone-manage", "db_sync"): "keystone",
    ("glance-manage", "db_sync"): "glance",
    ("placement-manage", "db", "sync"): "placement",
    ("nova-manage", "api_db", "sync"): "nova_api",
    ("nova-manage", "db", "sync"): "nova",
    ("neutron-db-manage",): "neutron",
    ("cinder-manage", "db", "sync"): "cinder",
    ("heat-manage", "db_sync"): "heat",
    ("barbican-manage", "db", "upgrade"): "barbican",
    ("octavia-db-manage",): "octavia",
    ("magnum-db-manage",): "magnum",
    ("/opt/skyline/bin/alembic",): "skyline",
}
"""Command -> the database whose schema it creates."""


def ovs_calls(argv: list[str]) -> set[tuple[str, ...]]:
    """The calls of one `ovs-vsctl`, without their options: `add-port br-int o-hm0`, `set Interface ...`."""
    calls: list[list[str]] = [[]]
    for word in argv[1:]:
        if word == "--":
            calls.append([])
        elif not word.startswith("--"):
            calls[-1].append(word)
    return {tuple(call) for call in calls if call}
