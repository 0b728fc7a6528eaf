"""Looks options up in OpenStack's own code. Run by the Python of an environment that has the code, not by pytest's.

Reads JSON on standard input: {"service": name, "options": [[section, option, value], ...]}; prints a JSON list of what
is wrong. A service's options are those that its package and its libraries list for its sample configuration.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from typing import Any

from keystoneauth1 import loading

SERVICES = (
    *("nova", "keystone", "glance", "placement", "neutron", "cinder", "heat", "octavia", "magnum", "barbican"),
    *("manila", "ironic", "designate", "swift"),
)
ALIKE = {"lvm": "backend_defaults", "fs": "glance_store"}
"""Sections that an option of the file names -> the section whose options they take."""


def known_options(service: str) -> dict[str, dict[str, Any]]:
    """Section -> option -> what the code registers, by all names that a file may use."""
    found: dict[str, dict[str, Any]] = {}

    def add(group: Any, options: Any) -> None:
        section = str(getattr(group, "name", group) or "DEFAULT")
        for option in options:
            names = [option.name, option.dest, *(each.name for each in option.deprecated_opts)]
            for name in names:
                if name:
                    found.setdefault(section, {})[name.replace("-", "_")] = option

    for entry in importlib.metadata.entry_points(group="oslo.config.opts"):
        owner = entry.name.split(".")[0]
        if owner not in SERVICES or owner == service or (owner, service) == ("glance", "glance"):
            try:
                listed = entry.load()()
            except Exception:
                continue
            for group, options in listed:
                add(group, options)
    return found


def auth_options() -> dict[str, Any]:
    """What a section takes that names how to log in: the plugin's options, and those of the session."""
    options = [*loading.get_auth_plugin_conf_options("password"), *loading.get_auth_common_conf_options()]
    options += [*loading.get_session_conf_options(), *loading.get_adapter_conf_options()]
    return {option.dest: option for option in options}


def problems(service: str, options: list[tuple[str, str, str]]) -> list[str]:
    """What is no option of the service's code, or has a value that it does not take."""
    known, auth, found = known_options(service), auth_options(), []
    for section, name, value in options:
        key = name.replace("-", "_")
        here = known.get(section) or known.get(ALIKE.get(section, ""), {})
        option = here.get(key) or (auth.get(key) if any(s == section and n in AUTH for s, n, _ in options) else None)
        if option is None:
            found.append(f"[{section}] {name}: no option of {service}")
            continue
        if "$" in value:
            continue
        try:
            option.type(value)
        except ValueError as error:
            found.append(f"[{section}] {name}: {service} refuses the value: {error}")
    return found


AUTH = ("auth_type", "auth_url", "auth_section", "www_authenticate_uri")
"""Options by which a section is known for one that logs in."""


if __name__ == "__main__":
    message = json.load(sys.stdin)
    print(json.dumps(problems(message["service"], message["options"])))
