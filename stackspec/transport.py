"""One persistent Python interpreter per node over one ssh connection; whole batches in one message."""

from __future__ import annotations

import queue
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import execnet

from . import node_agent
from .errors import ActionError, InputError, NodeError
from .inventory import Node, Ssh
from .resources.base import Query

CONNECT_TIMEOUT = 10
"""Seconds that ssh may take to reach a node."""


def ssh_arguments(ssh: Ssh, node: Node) -> list[str]:
    """Arguments of ssh for `node`: only what the inventory says beyond the user's own configuration."""
    arguments = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_TIMEOUT}", "-o", "ServerAliveInterval=15"]
    if ssh.config:
        arguments += ["-F", str(ssh.config.expanduser())]
    if ssh.key:
        arguments += ["-i", str(ssh.key.expanduser())]
    if ssh.port:
        arguments += ["-p", str(ssh.port)]
    host = node.ssh_host or node.address
    return [*arguments, f"{ssh.user}@{host}" if ssh.user else host]


class Connection:
    """An interpreter on a node. Safe to use from many threads; requests overlap.

    :param node: the node
    :param ssh: how it is reached
    :param spec: execnet's address of another interpreter than the one that ssh finds there
    :raises InputError: the node cannot be reached, or ssh or sudo ask for something
    """

    def __init__(self, node: Node, ssh: Ssh, spec: str | None = None) -> None:
        self.node = node
        self._ssh = ssh
        self._spec = spec
        self._lock = threading.Lock()
        self._answers: dict[int, queue.SimpleQueue[Any]] = {}
        self._number = 0
        self._start()

    def _start(self) -> None:
        self._group = execnet.Group()
        try:
            self._gateway = self._group.makegateway(self._spec or self._ssh_spec(ssh_arguments(self._ssh, self.node)))
            channel = self._channel = self._gateway.remote_exec(node_agent)
        except (execnet.HostNotFound, EOFError, OSError) as error:
            raise InputError(f"node {self.node.name}: {error}") from None
        channel.setcallback(lambda message: self._receive(channel, message), endmarker=None)

    def reopen(self) -> None:
        """Connect anew, after the node was off.

        :raises InputError: the node cannot be reached
        """
        self.close()
        # Whoever still waits for an answer learns that none comes.
        self._receive(self._channel, None)
        self._start()
        with self._lock:
            self._number = 0

    def _ssh_spec(self, arguments: Sequence[str]) -> str:
        """The interpreter there, run by root or else through sudo, as execnet writes it."""
        probe = "test $(id -u) = 0 && echo root || { sudo -n true && echo sudo; }; command -v python3"
        done = subprocess.run(["ssh", *arguments, probe], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        lines = done.stdout.split()
        where = f"node {self.node.name} ({arguments[-1]})"
        error = " ".join(done.stderr.split()[-40:])
        if done.returncode == 255:
            raise InputError(f"{where}: not reachable by ssh: {error}; try: ssh {arguments[-1]}")
        if not lines or lines[0] not in ("root", "sudo"):
            raise InputError(f"{where}: the user is not root and has no sudo without a password: {error}")
        if len(lines) < 2:
            raise InputError(f"{where}: no python3 on the node; install it (apt install python3)")
        python = "python3" if lines[0] == "root" else "sudo -n python3"
        return f"ssh={shlex.join(arguments)}//python={python}"

    def _receive(self, channel: Any, message: Any) -> None:
        if message is None:
            with self._lock:
                if channel is not self._channel:
                    return
                waiting = list(self._answers.values())
                self._number = -1
            for answers in waiting:
                answers.put(("lost", None))
            return
        number, kind, payload = message
        with self._lock:
            answers_of = self._answers.get(number)
        if answers_of is not None:
            answers_of.put((kind, payload))

    def _ask(self, kind: str, items: Any, on_event: Callable[[str, Any], None] | None = None) -> Any:
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        with self._lock:
            if self._number < 0:
                raise self._lost()
            self._number += 1
            number = self._number
            self._answers[number] = answers
        try:
            try:
                self._channel.send((number, kind, items))
            except OSError:
                raise self._lost() from None
            while True:
                event, payload = answers.get()
                if event == "done":
                    return payload
                if event == "lost":
                    raise self._lost()
                if event == "failed":
                    raise ActionError(
                        payload["what"],
                        payload.get("command", ""),
                        payload.get("exit_status"),
                        payload.get("output", ""),
                        payload.get("journal", ""),
                    )
                if on_event is not None:
                    on_event(event, payload)
        finally:
            with self._lock:
                self._answers.pop(number, None)

    def _lost(self) -> NodeError:
        return NodeError(f"the connection to {self.node.name} was lost; the next --deploy goes on here")

    def facts(self, queries: Iterable[Query]) -> dict[Query, Any]:
        """Answers to `queries`, each asked once, in one round trip.

        :raises ActionError: the node could not answer
        """
        asked = list(dict.fromkeys(queries))
        if not asked:
            return {}
        answers = self._ask("facts", [(query.op, query.args) for query in asked])
        return dict(zip(asked, answers, strict=True))

    def apply(self, actions: Sequence[dict[str, Any]], on_event: Callable[[str, Any], None] | None = None) -> None:
        """Carry out `actions` in order, in one round trip.

        :param on_event: called with ("applied", index) after each and ("says", text) for progress
        :raises ActionError: the first that failed
        """
        if actions:
            self._ask("apply", list(actions), on_event)

    def close(self) -> None:
        """End the interpreter on the node."""
        self._group.terminate(timeout=2.0)


class Connections:
    """The connections of a site, opened once and all at the same time."""

    def __init__(self, ssh: Ssh, nodes: Iterable[Node]) -> None:
        self._ssh = ssh
        self._nodes = list(nodes)
        self._open: dict[str, Connection] = {}

    def __getitem__(self, name: str) -> Connection:
        return self._open[name]

    def names(self) -> list[str]:
        """Nodes that are connected."""
        return sorted(self._open)

    def open(self) -> None:
        """Connect to every node.

        :raises InputError: naming every node that cannot be used
        """
        errors: list[str] = []

        def connect(node: Node) -> None:
            try:
                self._open[node.name] = Connection(node, self._ssh)
            except InputError as error:
                errors.append(str(error))

        threads = [
            threading.Thread(target=connect, args=(node,)) for node in self._nodes if node.name not in self._open
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            self.close()
            raise InputError("\n".join(sorted(errors)))

    def close(self) -> None:
        """Close every connection."""
        for connection in self._open.values():
            connection.close()
        self._open.clear()
