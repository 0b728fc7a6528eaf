"""Resources: each is one piece of desired state, with the facts it reads and the changes it makes."""

from __future__ import annotations

import difflib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ..errors import ActionError
from ..secrets import hide_other, hide_replaced
from ..site import Site
from .actions import NodeAction, Systemctl

if TYPE_CHECKING:
    from ..inventory import Node
    from ..node_connections import NodeConnections
    from ..store import Part

RunnerAction = Callable[[], object]
"""An operation of the controlling machine, for example an API call."""
Action = NodeAction | RunnerAction
_Shared = TypeVar("_Shared")
ASKED_AT_ONCE = 16
"""Queries several nodes in parallel with the same query."""


@dataclass(frozen=True)
class Query:
    """A query to a node. Equal queries are sent once.

    :param op: the node agent's name for it; the functions below make one each
    :param args: its arguments
    """

    op: str
    args: tuple[Any, ...]


def file(path: str) -> Query:
    """Content, mode, owner and times of a file: {exists, content, mode, owner, group, mtime, ctime, kind}."""
    return Query("file", (path,))


def unit(name: str) -> Query:
    """State of a systemd unit: {load, active, sub, enabled, started (s since epoch), pid, invocation, started_with,
    outdated (its files have changed since systemd read them)}."""
    return Query("unit", (name,))


def package(name: str) -> Query:
    """Installed version of a package, or None."""
    return Query("package", (name,))


def run(*argv: str, stdin: str = "", user: str = "") -> Query:
    """A command that only reads: {status, out, err}."""
    return Query("run", (argv, stdin, user))


def unfinished() -> Query:
    """Whether an installation was started on the node but not finished: a bool."""
    return Query("unfinished", ())


def http(url: str) -> Query:
    """Status of an HTTP GET made on the node, or the error as text."""
    return Query("http", (url,))


def bytes_of(path: str) -> Query:
    """The content of a file as bytes; None if there is none."""
    return Query("bytes", (path,))


def disk(device: str) -> Query:
    """A block device: {exists, path (real), block, content ({} if blank), id, mounted, holders}."""
    return Query("disk", (device,))


def uses(pattern: str, kept: str) -> Query:
    """What is named like the glob `pattern`, without what `kept` begins: {path: what on the node uses it, in words}."""
    return Query("uses", (pattern, kept))


@dataclass(frozen=True)
class Difference:
    """A difference: `what` (an option, a mode, a state), the wanted and the found value."""

    what: str
    wanted: str
    found: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "found", hide_other(self.wanted, self.found))

    def __str__(self) -> str:
        return f"{self.what}: wanted {self.wanted}, found {self.found}"


@dataclass(frozen=True)
class Change:
    """A change from the found to the wanted state.

    :param title: description, for example ``write /etc/hosts``
    :param differences: wanted and found values
    :param diff: unified diff of a file
    :param actions: operations on the node or on the controlling machine
    :param touches: files that the actions write; services that read them restart
    :param marks: titles that restart services which refer to them, for changes that write no file
    :param follows: True if it is only due because of an earlier change
    """

    title: str
    differences: tuple[Difference, ...] = ()
    diff: str = ""
    actions: tuple[Action, ...] = ()
    touches: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    follows: bool = False

    @property
    def text(self) -> str:
        """Its diff; if it has none, a line for each difference."""
        return self.diff or "".join(f"{each}\n" for each in self.differences)


def refusal(reason: str) -> RunnerAction:
    """The action of a change that would lose data, or whose state is unknown: it only raises an error."""

    def refuse() -> None:
        raise ActionError(reason)

    return refuse


class Shared:
    """Shared by the resources of a run: objects such as an API connection, created on first use, and the nodes."""

    def __init__(self, site: Site, nodes: NodeConnections | None = None) -> None:
        self._site = site
        self._nodes = nodes
        self._objects: dict[type, Any] = {}
        self._lock = threading.RLock()
        self._gathered: dict[Query, dict[str, Any]] = {}
        self._gathering = threading.Lock()

    def get(self, kind: type[_Shared]) -> _Shared:
        """The run's only object of `kind`, created for the site."""
        with self._lock:
            if kind not in self._objects:
                self._objects[kind] = kind(self._site)  # type: ignore[call-arg]
            found: _Shared = self._objects[kind]
            return found

    def ask(self, node: str, query: Query) -> Any:
        """The current answer of another node of the site; None in a plan without nodes."""
        return None if self._nodes is None else self._nodes[node].facts([query])[query]

    def gather(self, nodes: Iterable[str], query: Query) -> dict[str, Any]:
        """The answers of the site's nodes to their first such query in this run: each is queried once, in parallel."""
        with self._gathering:
            known = self._gathered.setdefault(query, {})
            new = [node for node in nodes if node not in known]
            if new:
                with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
                    known |= zip(new, pool.map(lambda node: self.ask(node, query), new), strict=True)
            return dict(known)


@dataclass
class Context:
    """What a resource can use to compute its changes.

    :param site: the site
    :param node: the node that the step runs on
    :param facts: answers to the queries
    :param shared: objects of the run, such as API connections
    :param watched: files managed by earlier resources of the step
    :param pending: files and marks of earlier changes in this pass
    :param restarted: units that earlier changes in this pass restart: what they answered before tells nothing
    """

    site: Site
    node: Node
    facts: Mapping[Query, Any]
    shared: Shared
    watched: tuple[str, ...] = ()
    pending: set[str] = field(default_factory=set)
    restarted: set[str] = field(default_factory=set)

    def follow(self, change: Change) -> None:
        """Let later resources of the step know of a change."""
        self.pending.update((*change.touches, *change.marks))
        for action in change.actions:
            if isinstance(action, Systemctl) and action.verb == "restart":
                self.restarted.update(action.units)


class Resource(ABC):
    """One piece of desired state. Subclasses are small frozen dataclasses."""

    on_runner: ClassVar[bool] = False
    """True if it is read and changed from the controlling machine (an API object), not on the node."""
    read_again: ClassVar[bool] = False
    """True if later resources have to be read again after it made a change (a package brings files)."""
    with_packages: ClassVar[bool] = False
    """True if it is shared by all steps of a node, and created once, after the packages of all steps."""
    last: ClassVar[bool] = False
    """True if it is applied once per node, after all its steps; the drift tests do not check it."""

    @property
    @abstractmethod
    def title(self) -> str:
        """A short description, used in plans, reports and test ids."""

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        """Facts of the node that `changes` uses."""
        return ()

    def paths(self, site: Site) -> tuple[str, ...]:
        """Files that it manages, and that services of the same step read."""
        return ()

    def parts(self, site: Site) -> Iterable[Part]:
        """External files that it needs, which a bundle of the site contains."""
        return ()

    def lacking(self, site: Site) -> list[str]:
        """Error messages for unavailable `parts`."""
        return [text for part in self.parts(site) for text in site.store.lacks(part)]

    def obstacles(self, context: Context) -> list[str]:
        """Obstacles on the node: checked on all nodes before anything is changed."""
        return []

    def kept(self, context: Context) -> list[str]:
        """What it leaves as it is, and why, in words: told at the end, where it is `last`."""
        return []

    @abstractmethod
    def changes(self, context: Context) -> list[Change]:
        """The changes to make; empty if found equals wanted.

        :raises CannotTell: the current state could not be read
        """


@dataclass(frozen=True)
class ManagedFile(Resource):
    """A resource that manages one file, whose path may differ between the guide and the release.

    :param path: the path in the guide
    """

    path: str

    @property
    def title(self) -> str:
        return self.path

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [file(site.release.path(self.path))]

    def paths(self, site: Site) -> tuple[str, ...]:
        return (site.release.path(self.path),)


@dataclass(frozen=True)
class Reference(ABC):
    """A value known only when the resource is applied, such as the id of an API object."""

    @abstractmethod
    def resolve(self, context: Context) -> str | None:
        """The value, or None while it is unknown.

        :raises CannotTell: its object could not be read
        """


def resolve(value: Any, context: Context) -> str | None:
    """`value` as text; a reference is resolved, True and False become true and false, None stays None."""
    if isinstance(value, Reference):
        return value.resolve(context)
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)


def unified_diff(path: str, before: str, after: str) -> str:
    """Unified diff of a file, in the format of `diff -u`."""
    before, after = (text.encode(errors="backslashreplace").decode() for text in (before, after))
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"{path} (found)", f"{path} (wanted)", n=1
    )
    return hide_replaced("".join(line if line.endswith("\n") else line + "\n" for line in lines))
