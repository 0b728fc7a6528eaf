"""What a fault is, and the catalogue of them: files of faults/, read and checked."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pydantic

from .errors import InputError
from .site import Site
from .yaml_file import plain_data, read_yaml

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
"""What a fault can do -> the keys that it needs; none: it takes a text, units or a path."""


class Fault(pydantic.BaseModel):
    """A reversible fault of a deployed site.

    :ivar name: how it is called
    :ivar kind: the file that it stands in: units, configuration, ...
    :ivar what: what it breaks, in a sentence
    :ivar node: the role whose first node it breaks, or `last ROLE`
    :ivar do: operations, of OPERATIONS; the node agent `fault_agent` tells what each does
    :ivar acts: a command on the node that succeeds as soon as the fault shows; none: it does at once
    :ivar shows: the files of tests where it should be caught
    :ivar only: which of their tests, as pytest's -k has it
    :ivar says: words that the first line of a failure has to have for an engineer to know the cause
    :ivar erratum: the number in docs/errata.md of what it tries, for one that does as the guide says
    :ivar slow: whether it takes many minutes until the tests have given up, so that --some leaves it out
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
                    raise ValueError(f"no operation {kind!r}; there are: {', '.join(OPERATIONS)}")
                needs = OPERATIONS[kind]
                if not needs and not isinstance(values, str):
                    raise ValueError(f"{kind} takes a text")
                if missing := [key for key in needs if not isinstance(values, dict) or key not in values]:
                    raise ValueError(f"{kind} lacks {', '.join(missing)}")
            if len(each) != 1:
                raise ValueError("an operation is one key")
        return operations

    def node_of(self, site: Site) -> str:
        """The node of a site that it breaks.

        :raises InputError: the site has none of the role
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
                raise InputError(f"{where}: {name} is in {found[name].kind}.yaml, too")
            if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
                raise InputError(f"{where}: {name!r} is no name: lower case, digits and dashes")
            try:
                found[name] = Fault(name=name, kind=path.stem, **entry)
            except (pydantic.ValidationError, TypeError) as error:
                text = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else str(error)
                place = error.errors()[0]["loc"] if isinstance(error, pydantic.ValidationError) else ()
                raise InputError(f"{where}: {name}: {'.'.join(map(str, place))}: {text}") from None
    return found


def filled(value: Any, site: Site, node: str) -> Any:
    """An operation or a command with the site's names in place of `<node>`, `<controller>`, `<region>` ..."""
    if isinstance(value, dict):
        return {key: filled(each, site, node) for key, each in value.items()}
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


def chosen(faults: dict[str, Fault], names: Collection[str]) -> list[Fault]:
    """The faults that are named, by name or by kind; all when none is.

    :raises InputError: a name is none
    """
    if not names:
        return list(faults.values())
    for name in names:
        if not any(name in (fault.name, fault.kind) for fault in faults.values()):
            raise InputError(f"no fault {name!r}; see: stackspec faults list")
    return [fault for fault in faults.values() if {fault.name, fault.kind} & set(names)]
