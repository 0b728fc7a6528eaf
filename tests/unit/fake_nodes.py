"""Simulated nodes: replaces the engine's connections in tests of engine and plugin.

With a folder, each node is a JSON file in it, so that it outlives a run and is shared by all processes: a test
prepares and breaks nodes by editing these files, and reads from them what was done.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackspec.errors import ActionError, InputError, NodeError
from stackspec.inventory import Node
from stackspec.resources.actions import NodeAction
from stackspec.resources.base import Query

if TYPE_CHECKING:
    from stackspec.engine import Engine

RELEASE = """\
name: epoxy-trixie
title: A release with nothing of its own
openstack: "2025.1"
distribution: {id: debian, version: "13"}
"""
SITE = """\
site: made-up
release: epoxy-trixie
networks:
  management: {cidr: 10.99.0.0/24}
  provider: {cidr: 10.98.0.0/24}
nodes:
  one:
    roles: [controller]
    management: {address: 10.99.0.1, interface: eth0}
    provider: {address: 10.98.0.1, interface: eth1}
  two:
    roles: [compute]
    management: {address: 10.99.0.2, interface: eth0}
    provider: {address: 10.98.0.2, interface: eth1}
  three:
    roles: [compute]
    management: {address: 10.99.0.3, interface: eth0}
    provider: {address: 10.98.0.3, interface: eth1}
"""
"""An inventory of three such nodes."""

BARE: dict[str, Any] = {
    "files": {
        "/usr/lib/os-release": {"content": 'ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian 13"\n'},
        "/sys/class/net/eth0": {"kind": "directory"},
        "/sys/class/net/eth1": {"kind": "directory"},
    },
    "packages": {},
    "disks": {},
    "units": {},
    "uses": {},
    "effects": [],
    "broken": {},
    "seconds": {},
    "ignored": [],
    "unreachable": "",
    "opened": 0,
    "log": [],
}
"""Initial state of a node. `broken`: operation (see `describe`) -> text of its ActionError; `seconds`: operation -> how
long it takes; `ignored`: operations that succeed and change nothing; `log`: what was applied; `effects`: what commands
have created."""

WAIT = 10.0
"""Timeout in seconds of the operation `command await FILE`, which makes FILE.begun when it begins."""


def describe(action: dict[str, Any]) -> str:
    """A short name of an operation, which `broken` and the like refer to: `write /etc/hosts`, `apt keystone`."""
    return " ".join([action["op"], *WORDS[action["op"]](action)])


WORDS: dict[str, Callable[[dict[str, Any]], Sequence[Any]]] = {
    "write": lambda action: [action["path"]],
    "directory": lambda action: [action["path"]],
    "remove": lambda action: [action["path"]],
    "append_line": lambda _: (),
    "in_service": lambda _: (),
    "outdate": lambda action: action["names"],
    "command": lambda action: action["argv"],
    "await_command": lambda action: action["argv"],
    "systemctl": lambda action: [action["verb"], *action["units"]],
    "await_active": lambda action: action["units"],
    "await_http": lambda action: [action["url"]],
    "apt": lambda action: action["packages"],
    "finish_apt": lambda _: (),
    "hold": lambda _: (),
}
"""Operation -> the words that describe it."""
UNCHANGING = ("in_service", "outdate", "await_active", "finish_apt", "hold")
"""Operations that change nothing of what is simulated."""


class FakeConnection:
    """A connection to a simulated node; replaces `stackspec.transport.NodeConnection`."""

    def __init__(self, node: Node, folder: Path | None, state: dict[str, Any] | None = None) -> None:
        self.node = node
        self.batches: list[list[str]] = []
        """What was applied, one list per message."""
        self.queries_sent = 0
        """Number of messages that asked for facts."""
        self._stored = folder / f"{node.name}.json" if folder is not None else None
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self.state = copy.deepcopy(BARE) | (state or {})
        if self._stored is not None and self._stored.exists():
            self.state |= json.loads(self._stored.read_text())
        if self.state["unreachable"]:
            raise InputError(f"node {node.name}: {self.state['unreachable']}")
        self.state["opened"] += 1
        self._store()

    def _store(self) -> None:
        if self._stored is not None:
            self._stored.parent.mkdir(exist_ok=True)
            self._stored.write_text(json.dumps(self.state, indent=1))

    def held(self, holder: str) -> None:
        """Record how much was read and changed before the node was locked."""
        self.state["held"] = {"queries_sent": self.queries_sent, "changes": len(self.batches)}
        self._store()

    def facts(self, queries: Iterable[Query]) -> dict[Query, Any]:
        """Answer from the node's data."""
        if self._closed.is_set():
            raise NodeError(f"the connection to {self.node.name} was lost")
        with self._lock:
            self.queries_sent += 1
            return {query: getattr(self, f"_{query.op}")(*query.args) for query in queries}

    def _file(self, path: str) -> dict[str, Any]:
        if path not in self.state["files"]:
            return {"exists": False, "content": "", "mtime": 0.0, "ctime": 0.0}
        default = {"exists": True, "kind": "file", "mode": 0o644, "owner": "root", "group": "root", "content": ""}
        return {**default, "mtime": 1.0, "ctime": 1.0, **self.state["files"][path]}

    def _unit(self, name: str) -> dict[str, Any]:
        absent = {"load": "not-found", "active": "inactive", "sub": "dead", "enabled": "", "started": 0.0, "pid": 0}
        never = {"invocation": "", "outdated": False, "started_with": {"invocation": "", "files": {}}}
        return {**absent, **never, **self.state["units"].get(name, {})}

    def _package(self, name: str) -> str | None:
        found: str | None = self.state["packages"].get(name)
        return found

    def _run(self, argv: Sequence[str], stdin: str, user: str) -> dict[str, Any]:
        return {"status": 0 if argv[-1] in self.state["effects"] else 127, "out": "", "err": ""}

    def _bytes(self, path: str) -> bytes | None:
        found = self._file(path)
        content = found["content"]
        return (content if isinstance(content, bytes) else content.encode()) if found["exists"] else None

    def _disk(self, device: str) -> dict[str, Any]:
        default = {"exists": True, "block": True, "content": {}, "mounted": [], "holders": []}
        found = self.state["disks"].get(device)
        return {**default, "exists": False, "block": False} if found is None else {**default, **found}

    def _unfinished(self) -> bool:
        return False

    def _uses(self, pattern: str, kept: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = self.state["uses"]
        return found

    def _http(self, url: str) -> int | str:
        return 200 if url in self.state["effects"] else "ConnectionRefusedError: nobody listens"

    def apply(self, actions: Sequence[NodeAction], on_event: Callable[[str, Any], None] | None = None) -> None:
        """Change the node's data, one operation after the other."""
        if not actions:
            return
        messages = [action.message() for action in actions]
        self.batches.append([describe(action) for action in messages])
        for index, action in enumerate(messages):
            name = describe(action)
            if self._closed.wait(self.state["seconds"].get(name, 0)):
                raise NodeError(f"the connection to {self.node.name} was lost")
            if action["op"] == "command" and action["argv"][0] == "await":
                self._await(Path(action["argv"][-1]))
            with self._lock:
                if action["op"] not in ("append_line", "outdate", "in_service"):
                    self.state["log"].append(name)
                if name in self.state["broken"]:
                    self._store()
                    raise ActionError(**self.state["broken"][name])
                if name not in self.state["ignored"]:
                    self._change(**action)
                self._store()
            if on_event is not None:
                on_event("applied", index)

    @staticmethod
    def _await(path: Path) -> None:
        path.with_suffix(".begun").touch()
        until = time.monotonic() + WAIT
        while not path.exists():
            if time.monotonic() > until:
                raise ActionError(f"nobody made {path}")
            time.sleep(0.01)

    def _change(self, op: str, **arguments: Any) -> None:
        if op == "write":
            path = arguments.pop("path")
            given = {key: value for key, value in arguments.items() if value is not None}
            self.state["files"][path] = {**self.state["files"].get(path, {}), **given, "mtime": time.time()}
        elif op == "directory":
            self.state["files"][arguments.pop("path")] = {"kind": "directory", **arguments}
        elif op == "remove":
            gone = arguments["path"]
            for path in [each for each in self.state["files"] if each == gone or each.startswith(f"{gone}/")]:
                del self.state["files"][path]
        elif op == "append_line":
            before = self._file(arguments["path"])["content"]
            self.state["files"][arguments["path"]] = {"content": before + arguments["line"] + "\n", "mode": 0o600}
        elif op == "apt":
            self.state["packages"] |= dict.fromkeys(arguments["packages"], "1.0")
        elif op in ("command", "await_command"):
            self.state["effects"].append(arguments["argv"][-1])
        elif op == "await_http":
            self.state["effects"].append(arguments["url"])
        elif op == "systemctl":
            verbs: dict[str, dict[str, Any]] = {
                "restart": {"load": "loaded", "active": "active", "sub": "running", "started": time.time()},
                "enable": {"load": "loaded", "enabled": "enabled"},
            }
            new = verbs.get(arguments["verb"], {})
            for name in arguments["units"]:
                self.state["units"][name] = {**self.state["units"].get(name, {}), **new}
        else:
            assert op in UNCHANGING, f"the simulated node has no operation {op}"

    def close(self) -> None:
        """Operations in progress behave like those of a lost connection."""
        self._closed.set()


class FakeConnections:
    """Replaces `stackspec.node_connections.NodeConnections`.

    :cvar folder: where nodes are stored; None keeps them in memory
    :cvar prepared: node -> data that differs from a bare node's
    """

    folder: Path | None = None
    prepared: dict[str, dict[str, Any]] = {}  # noqa: RUF012  (a test sets it)

    def __init__(self, ssh: object, nodes: Iterable[Node]) -> None:
        self._nodes = list(nodes)
        self._open: dict[str, FakeConnection] = {}

    def __getitem__(self, name: str) -> FakeConnection:
        return self._open[name]

    def names(self) -> list[str]:
        """Names of the open nodes."""
        return sorted(self._open)

    def open(self) -> None:
        """Read every node's data."""
        errors = []
        for node in self._nodes:
            try:
                if node.name not in self._open:
                    self._open[node.name] = FakeConnection(node, self.folder, self.prepared.get(node.name))
            except InputError as error:
                errors.append(str(error))
        if errors:
            raise InputError("\n".join(sorted(errors)))

    def hold(self, holder: str, say: object) -> None:
        """Simulated nodes have no other users; each records its holder, for tests of the locking order."""
        for connection in self._open.values():
            connection.held(holder)

    def close(self) -> None:
        """Close every connection."""
        for connection in self._open.values():
            connection.close()


def fake(engine: Engine, node: str) -> FakeConnection:
    """A node of an engine that uses these connections."""
    found = engine.connections[node]
    assert isinstance(found, FakeConnection)
    return found


def write_release(folder: Path, text: str = RELEASE) -> None:
    """Write the site's release table next to `folder`, the nodes' folder."""
    table = folder.parent / "releases/epoxy-trixie.yaml"
    table.parent.mkdir(exist_ok=True)
    table.write_text(text)


def install(folder: Path) -> None:
    """Make this process use nodes in `folder` and only steps defined after this call; for a run's conftest."""
    # Imported here: code that only uses the nodes, like a benchmark, needs neither the plugin nor pytest.
    from stackspec import engine, release, step
    from stackspec.plugin import evidence
    from stackspec.plugin import hooks as plugin

    class Here(FakeConnections):
        pass

    Here.folder = folder
    engine.NodeConnections = evidence.NodeConnections = Here  # type: ignore[assignment,attr-defined]
    step.STEPS.clear()
    # The real table refers to the real steps.
    release._folder = lambda: folder.parent / "releases"
    plugin.load_steps = list  # type: ignore[attr-defined]
    plugin._fixture_modules = list
