"""Users of the message queue. Guide: 安装消息队列."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..inventory import Node
from ..resources.actions import Execute, Remove, Write
from ..resources.base import Change, Context, Difference, Query, Resource, file, run
from ..site import Site

ASK = "systemctl -q is-active rabbitmq-server && exec env RABBITMQ_CTL_ERL_ARGS='-start_epmd false' rabbitmqctl -q"
"""Shell prefix of queries to the server, each of which takes seconds.

A query must not start Erlang's port mapper, as rabbitmqctl does if it is not running: its socket unit would then
fail.
"""
_DEFINITIONS = run("sh", "-c", f"{ASK} export_definitions - --format json")
_FILE = "/var/lib/rabbitmq/stackspec-definitions.json"
_PERMISSIONS = {"vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}


def password_hash(password: str, salt: bytes) -> str:
    """RabbitMQ's hash: four bytes of salt, then SHA-256 over salt and password (rabbitmq.com, Passwords)."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


@dataclass(frozen=True)
class RabbitUser(Resource):
    """A user with all permissions in /; its password is the site's secret `<name> rabbitmq`.

    Read and written as definitions: with a hash, no password is on a command line, and each rabbitmqctl call starts
    an Erlang VM. (`rabbitmqctl add_user` would read the password from stdin, but hangs if that is a pipe.)
    """

    name: str

    @property
    def title(self) -> str:
        return f"RabbitMQ user {self.name}"

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [_DEFINITIONS, file(_FILE)]

    def changes(self, context: Context) -> list[Change]:
        password = context.site.password(f"{self.name} rabbitmq")
        found = _parse(str(context.facts[_DEFINITIONS]["out"]))
        hashes = [each["password_hash"] for each in found.get("users", ()) if each["name"] == self.name]
        salts = [base64.b64decode(each)[:4] for each in hashes]
        differences = []
        if [password_hash(password, salt) for salt in salts] != hashes or not hashes:
            differences.append(Difference(self.title, "the site's password", "no such user, or another password"))
        permissions = {"user": self.name, **_PERMISSIONS}
        if permissions not in found.get("permissions", ()):
            differences.append(Difference(f"permissions of {self.name} in /", ".* .* .*", "others"))
        if context.facts[file(_FILE)]["exists"]:
            differences.append(Difference(_FILE, "absent", "left by a killed run"))
        if not differences:
            return []
        user = {
            "name": self.name,
            "password_hash": password_hash(password, os.urandom(4)),
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": [],
        }
        definitions = json.dumps({"users": [user], "permissions": [permissions]})
        actions = (
            Write(_FILE, definitions, 0o600, "rabbitmq", "rabbitmq"),
            Execute(("rabbitmqctl", "-q", "import_definitions", _FILE), units=("rabbitmq-server",)),
            Remove(_FILE),
        )
        return [Change(f"create {self.title}", tuple(differences), "", actions)]


@dataclass(frozen=True)
class NoRabbitUser(Resource):
    """A user that the package creates with a well-known password, and that is not needed."""

    name: str

    @property
    def title(self) -> str:
        return f"no RabbitMQ user {self.name}"

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [_DEFINITIONS]

    def changes(self, context: Context) -> list[Change]:
        found = _parse(str(context.facts[_DEFINITIONS]["out"]))
        # Unknown while the server is not running: the first start creates the user.
        if found and self.name not in [each["name"] for each in found.get("users", ())]:
            return []
        argv = ("rabbitmqctl", "-q", "delete_user", self.name)
        # 67: there is no such user.
        action = Execute(argv, expect=(0, 67), units=("rabbitmq-server",))
        difference = Difference(f"RabbitMQ user {self.name}", "absent", "present" if found else "unknown")
        return [Change(f"remove RabbitMQ user {self.name}", (difference,), "", (action,))]


def _parse(text: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        return {}
    return found
