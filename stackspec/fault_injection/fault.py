"""Faults and their catalogue: the files of faults/, read and validated."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pydantic

from ..errors import InputError
from ..site import Site
from ..wheels import library_of
from ..yaml_file import plain_data, read_yaml

OPERATIONS = {
    **dict.fromkeys(("stop", "mask", "disable", "freeze", "kill", "restart", "remove"), ()),
    "option": ("file", "section", "option"),
    "replace": ("file", "old", "new"),
    "begins": ("file", "function", "with"),
    "append": ("file", "text"),
    "write": ("file", "text"),
    "mode": ("file", "mode"),
    "owner": ("file", "owner"),
    "run": ("do", "undo"),
}
"""Operation -> required keys; none: it takes a text, units or a path."""
PATHS = ("file", "remove")
"""Keys of operations whose values are paths."""
PACKAGED = "/usr/lib/python3/dist-packages"
"""Python modules of the distribution's packages."""


class Fault(pydantic.BaseModel):
    """A reversible fault of a deployed site.

    :ivar name: its name
    :ivar kind: the file it is in: units, configuration, ...
    :ivar what: what it breaks, in a sentence
    :ivar node: the role whose first node it breaks, or `last ROLE`
    :ivar do: operations, from OPERATIONS; implemented by `agent`
    :ivar acts: a command on the node that succeeds once the fault has taken effect; none: immediately
    :ivar shows: the test files that should catch it
    :ivar only: which of their tests, as an expression for pytest's -k
    :ivar says: words that the first line of a failure must contain so that an engineer knows the cause
    :ivar erratum: its number in docs/errata.md, for a fault that does what the guide says
    :ivar slow: whether the tests need many minutes to time out; --some skips it
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: str
    what: str
    node: str = "controller"
    do: list[dict[str, Any]]
    acts: str = ""
    shows: list[str] = ["tests/infra/test_drift.py"]
    only: str = ""
    says: list[str]
    erratum: str = ""
    slow: bool = False

    @pydantic.field_validator("do")
    @classmethod
    def _known(cls, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for each in operations:
            for kind, values in each.items():
                if kind not in OPERATIONS:
                    raise ValueError(f"unknown operation {kind!r}; known: {', '.join(OPERATIONS)}")
                needs = OPERATIONS[kind]
                if not needs and not isinstance(values, str):
                    raise ValueError(f"{kind} takes a text")
                if missing := [key for key in needs if not isinstance(values, dict) or key not in values]:
                    raise ValueError(f"{kind} lacks {', '.join(missing)}")
            if len(each) != 1:
                raise ValueError("an operation is one key")
        return operations

    def node_of(self, site: Site) -> str:
        """The node that it breaks.

        :raises InputError: the site has no node with the role
        """
        role, last = self.node.removeprefix("last "), self.node.startswith("last ")
        nodes = site.with_role(role)
        if not nodes:
            raise InputError(f"fault {self.name}: the site {site.name} has no node with the role {role}")
        return nodes[-1 if last else 0].name


def catalogue() -> dict[str, Fault]:
    """All faults by name, in the order of their files.

    :raises InputError: a file cannot be read, or an entry of it
    """
    found: dict[str, Fault] = {}
    folder = Path(str(importlib.resources.files("stackspec.faults")))
    for path in sorted(folder.glob("*.yaml")):
        data, source = read_yaml(path)
        for name, entry in plain_data(data).items():
            where = f"{path}:{source.line((name,))}"
            if name in found:
                raise InputError(f"{where}: {name} is already in {found[name].kind}.yaml")
            if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
                raise InputError(f"{where}: {name!r} is not a valid name: use lower case letters, digits and dashes")
            try:
                found[name] = Fault(name=name, kind=path.stem, **entry)
            except (pydantic.ValidationError, TypeError) as error:
                text = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else str(error)
                place = error.errors()[0]["loc"] if isinstance(error, pydantic.ValidationError) else ()
                raise InputError(f"{where}: {name}: {'.'.join(map(str, place))}: {text}") from None
    return found


def filled(value: Any, site: Site, node: str) -> Any:
    """An operation or command with `<node>`, `<controller>`, `<region>` ... replaced by the site's names."""
    if isinstance(value, dict):
        found = {key: filled(each, site, node) for key, each in value.items()}
        return {key: _where(each, site) if key in PATHS else each for key, each in found.items()}
    if not isinstance(value, str):
        return value
    here = site.nodes[node]
    words = {
        "node": node,
        "controller": site.controller.name,
        "controller_address": str(site.controller.management.address),
        "interface": here.management.interface,
        "region": site.region,
        "clients": site.networks["management"].cidr.with_netmask,
    }
    return re.sub(r"<([a-z_]+)>", lambda match: words.get(match[1], match[0]), value)


def _where(path: str, site: Site) -> str:
    """The path on the site's nodes; without a leading slash it is relative to OpenStack's Python modules."""
    wheels = site.release.wheels
    if path.startswith("/"):
        return site.release.path(path)
    return f"{PACKAGED if wheels is None else library_of(wheels)}/{path}"


def chosen(faults: dict[str, Fault], names: Collection[str]) -> list[Fault]:
    """The faults selected by name or by kind; all if no name is given.

    :raises InputError: an unknown name
    """
    if not names:
        return list(faults.values())
    for name in names:
        if not any(name in (fault.name, fault.kind) for fault in faults.values()):
            raise InputError(f"no fault {name!r}; see: stackspec faults list")
    return [fault for fault in faults.values() if {fault.name, fault.kind} & set(names)]
