"""Simulated bare machines and clouds: the facts of a machine with nothing installed, and a cloud that records calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from stackspec.cloud_inventory import CloudInventory
from stackspec.inventory import Node, load_inventory
from stackspec.node_agent import loop
from stackspec.openstack.cloud import SharedCloud
from stackspec.release import load_release
from stackspec.resources.actions import Apt, MakeDirectory, NodeAction, Systemctl, Write
from stackspec.resources.base import Change, Context, Query, Resource, Shared, file, package, unit
from stackspec.secrets import Secrets
from stackspec.site import Site
from stackspec.step import Step, load_steps
from stackspec.task import Finding, Task, plan_of

Known = Mapping[Query, Any]
"""Facts that differ from those of a bare machine."""
ABSENT = {"exists": False, "content": "", "mtime": 0.0, "ctime": 0.0}
NEVER = {"invocation": "", "outdated": False, "started_with": {"invocation": "", "files": {}}}
NO_UNIT = {"load": "not-found", "active": "inactive", "sub": "dead", "enabled": "", "started": 0.0, "pid": 0, **NEVER}
RUNNING = {**NO_UNIT, "load": "loaded", "active": "active", "sub": "running", "enabled": "enabled", "started": 100.0}
ANSWERS: dict[str, Any] = {
    "file": ABSENT,
    "unit": NO_UNIT,
    "package": None,
    "run": {"status": 127, "out": "", "err": ""},
    "http": "connection refused",
    "bytes": None,
    "unfinished": False,
    "uses": {},
    "disk": {"exists": True, "block": True, "content": {}, "mounted": [], "holders": []},
}
BLANK = {**ANSWERS["disk"], "id": "S1"}
"""A disk with nothing on it."""
WIPE = (BLANK["id"],)
"""What allows wiping it once."""


class BareNode(Mapping[Query, Any]):
    """Facts of a machine with nothing on it, except for those in `known`."""

    def __init__(self, known: Known | None = None) -> None:
        self._known = dict(known or {})

    def __getitem__(self, query: Query) -> Any:
        return self._known.get(query, ANSWERS[query.op])

    def __iter__(self) -> Iterator[Query]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class FixedSecrets(Secrets):
    """One value for every secret, in memory; it is not registered as secret, so other tests' output is not masked."""

    def __init__(self, value: str) -> None:
        super().__init__()
        self._value = value

    def _get(self, name: str, make: Callable[[], str]) -> str:
        return self._value


class NamedSecrets(Secrets):
    """A different value for each secret, with its name inside, to detect swapped secrets. In memory, unregistered."""

    documents: ClassVar[dict[str, str]] = {}

    def _get(self, name: str, make: Callable[[], str]) -> str:
        return f"secret-of-{re.sub('[^a-z0-9]+', '-', name.lower())}"

    def document(self, name: str, make: Callable[[], str], usable: Callable[[str], bool]) -> str:
        """A certificate takes a while to create, so all plans share it."""
        if name not in self.documents or not usable(self.documents[name]):
            self.documents[name] = make()
        return self.documents[name]


class RecordingCloud(SharedCloud):
    """A cloud that has the roles of a bootstrap and nothing else; it records calls that would create something."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    @property
    def connection(self) -> Any:
        return _Service(self.calls, depth=1)

    def as_service(self, user: str) -> Any:
        self.calls.append(("log_in", (user,), {}))
        return self.connection

    def reachable(self) -> bool:
        return False

    def list(self, kind: str) -> list[Any]:
        return []

    def find(self, kind: str, **wanted: Any) -> Any | None:
        return SimpleNamespace(id=wanted["name"], name=wanted["name"]) if kind == "identity.roles" else None


class _Service:
    """`connection.identity.create_user(...)`: the last name is the call; its result has the arguments as attributes."""

    def __init__(self, calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]], depth: int) -> None:
        self._calls, self._depth = calls, depth

    def __getattr__(self, name: str) -> Any:
        if self._depth:
            return _Service(self._calls, self._depth - 1)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._calls.append((name, args, kwargs))
            # Objects that are looked up by name are distinguished by it.
            known = args[0] if args else None
            return SimpleNamespace(**{"id": known if name.startswith("find_") else name, "name": known, **kwargs})

        return call


class FoundCloud(SharedCloud):
    """A cloud with these objects."""

    def __init__(self, site: Site, **lists: list[Any]) -> None:
        super().__init__(site)
        self._found = lists

    def list(self, kind: str) -> list[Any]:
        return self._found.get(kind.split(".")[1], [])


class BareShared(Shared):
    """Shared objects of a run without a cloud."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._objects[SharedCloud] = RecordingCloud(site)


def context(site: Site, node: Node, known: Known | None = None) -> Context:
    """What a resource sees on a bare machine with the facts in `known`."""
    return Context(site, node, BareNode(known), BareShared(site))


def recorded(here: Context) -> RecordingCloud:
    """The cloud of a bare machine's context, which records requests."""
    found = here.shared.get(SharedCloud)
    assert isinstance(found, RecordingCloud)
    return found


@cache
def _inventory(name: str) -> CloudInventory:
    return load_inventory(Path(__file__).parents[2] / "inventories" / name, CloudInventory)


def planned(name: str) -> Site:
    """The site of an inventory of the repository, planned without state; every secret is pass-1."""
    inventory = _inventory(name)
    return Site(inventory, load_release(inventory.release), FixedSecrets("pass-1"))


def lab_site() -> Site:
    """The lab's site, planned without state."""
    return planned("lab")


def steps_of(site: Site, step: str, node: str) -> list[Resource]:
    """What a step declares on a node; nothing if it is not in the plan."""
    load_steps()
    return [each for task in plan_of(site) if task.name == f"{step} on {node}" for each in task.resources]


def change_of(resource: Resource, site: Site, known: Known | None = None) -> Change | None:
    """The resource's change on the controller for these facts; None if there is none."""
    found = resource.changes(context(site, site.controller, known))
    assert len(found) <= 1
    return found[0] if found else None


def look(site: Site, resources: Iterable[Resource], known: Known) -> list[Finding]:
    """The findings of a step with these resources on the controller, computed like the engine does."""
    step = Step("s", "controller", (), None, lambda: resources)
    return Task(step, site.controller, list(resources)).look(site, BareNode(known), BareShared(site))


def carry_out(changes: Iterable[Change]) -> None:
    """Execute changes on this machine, with the node agent's operations."""
    for change in changes:
        for action in change.actions:
            assert isinstance(action, NodeAction)
            arguments = action.message()
            loop.OPERATIONS[arguments.pop("op")](**arguments)


ChangeOf = Callable[..., Any]
"""`change_of` on the lab. A test that expects a change fails by itself if this returns None."""


def differences(change: Change | None) -> list[str]:
    """The differences of a change, as text."""
    return [str(each) for each in change.differences] if change else []


def actions(change: Change | None) -> tuple[Any, ...]:
    """The actions of a change, untyped so that tests can read their fields."""
    assert change is not None
    return change.actions


def answer(out: str = "", status: int = 0, err: str = "") -> dict[str, Any]:
    """Status and output of a command."""
    return {"status": status, "out": out, "err": err}


def text_file(content: str, mtime: float = 0.0, **attributes: Any) -> dict[str, Any]:
    """Facts of an existing file, owned by root with mode 0644 unless stated otherwise."""
    common = {"exists": True, "kind": "file", "mode": 0o644, "owner": "root", "group": "root"}
    return {**common, "content": content, "mtime": mtime, "ctime": mtime, **attributes}


def made(known: Known, change: Change, now: float = 200.0) -> dict[Query, Any]:
    """The node's facts after the change: files, directories, packages and units are simulated."""
    after = dict(known)
    for action in change.actions:
        assert isinstance(action, NodeAction)
        if isinstance(action, Write | MakeDirectory):
            query, access = file(action.path), ("mode", "owner", "group")
            before = {key: value for key, value in known.get(query, {}).items() if key in access}
            given = {key: value for key in access if (value := getattr(action, key)) is not None}
            after[query] = text_file(getattr(action, "content", ""), now, **(before | given))
        elif isinstance(action, Apt):
            after |= {package(name): "1.0" for name in action.packages}
        elif isinstance(action, Systemctl):
            verbs: dict[str, dict[str, object]] = {
                "restart": {"active": "active", "started": now},
                "enable": {"enabled": "enabled"},
                "stop": {"active": "inactive"},
                "mask": {"enabled": "masked"},
            }
            for name in action.units:
                after[unit(name)] = {**after[unit(name)], **verbs.get(action.verb, {})}
    return after


def found_in(site: Site, resource: Any, **lists: list[Any]) -> list[str]:
    """The differences found in a cloud with these objects."""
    return [str(each) for each in resource.differences(FoundCloud(site, **lists), context(site, site.controller))]


def project(name: str, id: str) -> Any:
    """A project of the Default domain."""
    return SimpleNamespace(name=name, id=id, domain_id="default")


SERVICE = [project("service", "p")]
"""The projects of a cloud that has only the one of its services."""


def stand_in(**services: SimpleNamespace) -> Any:
    """A connection with these services."""
    return SimpleNamespace(**services)
