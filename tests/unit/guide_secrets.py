"""The site's secrets behind the guide's 000000 (erratum E09: one password for everything)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

WRITTEN = r"0{6,7}|[A-Z]+_PASS"
"""How the guide writes a password."""
IN_URL = re.compile(rf"((?:mysql\S*?|(rabbit))://(\w+)):(?:{WRITTEN})@")
OF_A_USER = re.compile(r"(.*?)_?password", re.IGNORECASE)
BY_OPTION = {
    "metadata_proxy_shared_secret": "metadata",
    "secret_key": "skyline sessions",
    "swift_hash_path_suffix": "swift hash suffix",
    "swift_hash_path_prefix": "swift hash prefix",
    "server_certs_key_passphrase": "octavia server certificates",
    "ca_private_key_passphrase": "octavia authorities",
    "heartbeat_key": "octavia heartbeat",
}
"""Option -> the site's secret, for options without a related user."""
OF_ACCOUNTS = {"grant": "{user} database", "rabbit_user": "{name} rabbitmq", "keystone_user": "{name}"}
"""Kind of a fact about an account -> the secret that is its password."""
Fact = dict[str, Any]
Place = tuple[str, str, str]


def users_of(facts: Iterable[Fact]) -> dict[Place, str]:
    """Option (file, section, name) -> value, for the options that may name the user of a password."""
    found: dict[Place, str] = {}
    for fact in facts:
        if fact["kind"] == "ini":
            found[fact["file"], fact["section"], fact["key"].lower()] = str(fact.get("value"))
        elif fact["kind"] == "setting":
            section, _, key = fact["key"].rpartition(".")
            found[fact["file"], section, key] = str(fact["value"])
        elif fact["kind"] == "file":
            for line in fact["contains"]:
                if match := re.fullmatch(r"export (\w+)=(\w+)", line):
                    found[fact["path"], "", match[1].lower()] = match[2]
    return found


def with_secrets(fact: Fact, users: dict[Place, str], secret: Callable[[str], str]) -> Fact:
    """`fact` with a site's secrets instead of the guide's password.

    :param users: of all facts, `users_of`
    :param secret: name of a secret -> its value
    """

    def in_urls(text: str) -> str:
        def own(match: re.Match[str]) -> str:
            name = f"{match[3]} {'rabbitmq' if match[2] else 'database'}"
            return f"{match[1]}:{secret(name)}@"

        return IN_URL.sub(own, text)

    def alone(file: str, section: str, key: str, value: Any) -> Any:
        name = BY_OPTION.get(key)
        if name is None and (match := OF_A_USER.fullmatch(key)):
            start = match[1].lower()
            wanted = [start, *(f"{start}_{end}" for end in ("name", "username", "user")), "username"]
            name = next((users[file, section, each] for each in wanted if (file, section, each) in users), None)
        return secret(name) if name and re.fullmatch(WRITTEN, str(value)) else value

    fact = dict(fact)
    kind = fact["kind"]
    if kind in ("ini", "setting") and isinstance(fact.get("value"), str):
        section, _, key = fact["key"].rpartition(".") if kind == "setting" else (fact["section"], "", fact["key"])
        fact["value"] = alone(fact["file"], section, key, in_urls(fact["value"]))
    elif kind == "file":
        fact["contains"] = [
            _line(line, lambda key, value: alone(fact["path"], "", key, value)) for line in fact["contains"]
        ]
    elif kind in OF_ACCOUNTS and re.fullmatch(WRITTEN, fact["password"]):
        fact["password"] = secret(OF_ACCOUNTS[kind].format(**fact))
    elif kind == "command":
        fact["run"] = re.sub(rf"(--bootstrap-password) (?:{WRITTEN})\b", rf"\1 {secret('admin')}", fact["run"])
    return fact


def _line(line: str, value_of: Callable[[str, str], Any]) -> str:
    match = re.fullmatch(r"(export (\w+)=)(.*)", line)
    return f"{match[1]}{value_of(match[2].lower(), match[3])}" if match else line
