"""What a resource is: one desired fact, the facts it reads, the changes it makes."""

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
from .actions import NodeAction

if TYPE_CHECKING:
    from ..inventory import Node
    from ..store import Part
    from ..transport import Connections

RunnerAction = Callable[[], object]
"""An operation of the controlling machine, for example an API call."""
Action = NodeAction | RunnerAction
_Shared = TypeVar("_Shared")
ASKED_AT_ONCE = 16
"""Nodes that are asked one thing at the same time."""


@dataclass(frozen=True)
class Query:
    """A question to a node. Equal queries are asked once.

    :param op: the node agent's operation: file, unit, package, run, http
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
    """Whether an installation was begun on the node and what follows it not done: a bool."""
    return Query("unfinished", ())


def http(url: str) -> Query:
    """Status of an HTTP GET made on the node, or the error as text."""
    return Query("http", (url,))


def bytes_of(path: str) -> Query:
    """A file as it is, bytes; None when there is none."""
    return Query("bytes", (path,))


def disk(device: str) -> Query:
    """A block device: {exists, path (real), block, content (what is on it, {} if blank), id, mounted, holders}."""
    return Query("disk", (device,))


def uses(pattern: str, kept: str) -> Query:
    """What is named like the glob `pattern`, without what `kept` begins: {path: what on the node uses it, in words}."""
    return Query("uses", (pattern, kept))


@dataclass(frozen=True)
class Difference:
    """What a check found: `what` (an option, a mode, a state), the wanted and the found value."""

    what: str
    wanted: str
    found: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "found", hide_other(self.wanted, self.found))

    def __str__(self) -> str:
        return f"{self.what}: wanted {self.wanted}, found {self.found}"


@dataclass(frozen=True)
class Change:
    """The way from found to wanted.

    :param title: in words, for example ``write /etc/hosts``
    :param differences: what is wanted and what was found
    :param diff: unified diff of a file
    :param actions: operations on the node or on the controlling machine
    :param touches: files that the actions write, so that services which read them restart
    :param marks: titles by which services know it that have to start again after it, though it writes no file
    :param follows: True when it is due only because something before it changes
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
        """Its diff; of a change that has none, what differs, a line each."""
        return self.diff or "".join(f"{each}\n" for each in self.differences)


def refusal(reason: str) -> RunnerAction:
    """What is done instead of a change that would lose data, or that nobody can tell: nothing, with an error."""

    def refuse() -> None:
        raise ActionError(reason)

    return refuse


class Shared:
    """What resources of one run share: objects such as an API connection, made on first use, and the nodes."""

    def __init__(self, site: Site, nodes: Connections | None = None) -> None:
        self._site = site
        self._nodes = nodes
        self._objects: dict[type, Any] = {}
        self._lock = threading.RLock()
        self._gathered: dict[Query, dict[str, Any]] = {}
        self._gathering = threading.Lock()

    def get(self, kind: type[_Shared]) -> _Shared:
        """The run's only `kind`, made from the site."""
        with self._lock:
            if kind not in self._objects:
                self._objects[kind] = kind(self._site)  # type: ignore[call-arg]
            found: _Shared = self._objects[kind]
            return found

    def ask(self, node: str, query: Query) -> Any:
        """What another node of the site answers now; None for a plan without nodes."""
        return None if self._nodes is None else self._nodes[node].facts([query])[query]

    def gather(self, nodes: Iterable[str], query: Query) -> dict[str, Any]:
        """What nodes of the site answered when they were first asked in this run: each once, many at a time."""
        with self._gathering:
            known = self._gathered.setdefault(query, {})
            new = [node for node in nodes if node not in known]
            if new:
                with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
                    known |= zip(new, pool.map(lambda node: self.ask(node, query), new), strict=True)
            return dict(known)


@dataclass
class Context:
    """What a resource sees when it computes its changes.

    :param site: the site
    :param node: the node that the step runs on
    :param facts: answers to the queries
    :param shared: objects of the run, such as API connections
    :param watched: files that earlier resources of the step manage
    :param pending: what earlier changes of this pass touch and mark
    """

    site: Site
    node: Node
    facts: Mapping[Query, Any]
    shared: Shared
    watched: tuple[str, ...] = ()
    pending: set[str] = field(default_factory=set)


class Resource(ABC):
    """One desired fact. Subclasses are small frozen dataclasses."""

    on_runner: ClassVar[bool] = False
    """True when it is read and made from the controlling machine (an API object), not on the node."""
    read_again: ClassVar[bool] = False
    """True when what follows has to be read anew after it changed something (a package brings files)."""
    with_packages: ClassVar[bool] = False
    """True when all steps of a node want the same one, which is made once, after the packages of all steps."""
    last: ClassVar[bool] = False
    """True when it comes once a node, after all its steps, and is no drift; the first step that declares it has it."""

    @property
    @abstractmethod
    def title(self) -> str:
        """What it is, in a few words; names it in plans, reports and test ids."""

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        """Facts of the node that `changes` looks at."""
        return ()

    def paths(self, site: Site) -> tuple[str, ...]:
        """Files that it manages, which services of the same step read."""
        return ()

    def parts(self, site: Site) -> Iterable[Part]:
        """Files from elsewhere that it needs, which a bundle of the site has."""
        return ()

    def lacking(self, site: Site) -> list[str]:
        """Of `parts`, what cannot be had, in words."""
        return [text for part in self.parts(site) for text in site.store.lacks(part)]

    def obstacles(self, context: Context) -> list[str]:
        """What on the node forbids it: looked for on all nodes before anything is touched."""
        return []

    def stays(self, context: Context) -> list[str]:
        """What it leaves as it is, and why, in words: told at the end, where it is `last`."""
        return []

    @abstractmethod
    def changes(self, context: Context) -> list[Change]:
        """What has to change; empty when found equals wanted.

        :raises CannotTell: what is there could not be read
        """


@dataclass(frozen=True)
class ManagedFile(Resource):
    """A resource that manages one file, which the release may have elsewhere than the guide.

    :param path: the file, as the guide names it
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
    """A value that is known only when the resource is applied, such as the id of an API object."""

    @abstractmethod
    def resolve(self, context: Context) -> str | None:
        """The value, or None while it is not known.

        :raises CannotTell: what it is of could not be read
        """


def resolve(value: Any, context: Context) -> str | None:
    """`value` as text; a reference is looked up, True and False become true and false, None stays None."""
    if isinstance(value, Reference):
        return value.resolve(context)
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)


def unified_diff(path: str, before: str, after: str) -> str:
    """Unified diff of a file, as `diff -u` prints it."""
    before, after = (text.encode(errors="backslashreplace").decode() for text in (before, after))
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"{path} (found)", f"{path} (wanted)", n=1
    )
    return hide_replaced("".join(line if line.endswith("\n") else line + "\n" for line in lines))
