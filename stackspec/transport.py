"""One persistent Python interpreter per node over one ssh connection; whole batches in one message."""

from __future__ import annotations

import queue
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import execnet

from . import node_agent
from .errors import ActionError, InputError, NodeError
from .inventory import Node, Ssh
from .resources.actions import Hold, NodeAction


class Question(Protocol):
    """A query to a node: an operation of the node agent and its arguments."""

    @property
    def op(self) -> str: ...

    @property
    def args(self) -> tuple[Any, ...]: ...


_Asked = TypeVar("_Asked", bound=Question)

CONNECT_TIMEOUT = 10
"""Timeout in seconds for ssh to connect."""

OPEN_TIMEOUT = 50
"""Timeout in seconds for the interpreter to start after the login."""
ATTEMPTS = 3
"""Attempts for a login that was dropped: sshd drops logins when there are many at once."""
ENDED_WITHIN = 10.0
"""Seconds after which a connection that does not close cleanly is cut."""
LOCK = "/var/lib/stackspec/lock"
"""The lock of a node."""
BEAT = 10.0
"""Seconds between two heartbeats of a node, which are also sent while it works."""
QUIET = 3.5 * BEAT
"""Seconds without a beat after which a connection that is not in use is taken for a dead one."""
SILENCE = 50.0
"""Seconds without a heartbeat after which a node is given up; slow nodes still send heartbeats."""
TURN = 1.0
"""Seconds between two checks whether a node is still there."""
OPERATION_LIMIT = 3600.0
"""Timeout in seconds of one operation on a live node; all operations have shorter timeouts on the node."""
_BROKEN_OFF = re.compile("reset by|closed by|banner exchange|timed out|temporar", re.IGNORECASE)


def ssh_arguments(ssh: Ssh, node: Node) -> list[str]:
    """ssh arguments for `node`: only what the inventory adds to the user's own configuration."""
    arguments = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_TIMEOUT}", "-o", "ServerAliveInterval=15"]
    if ssh.config:
        arguments += ["-F", str(ssh.config.expanduser())]
    if ssh.key:
        arguments += ["-i", str(ssh.key.expanduser())]
    if ssh.port:
        arguments += ["-p", str(ssh.port)]
    host = node.ssh_host or node.address
    return [*arguments, f"{ssh.user}@{host}" if ssh.user else host]


class _Words(str):
    """Quote arguments, since execnet splits them at spaces."""

    __slots__ = ()

    def split(self, *_: Any) -> list[str]:
        return shlex.split(self)


class NodeConnection:
    """An interpreter on a node. Thread-safe; requests may overlap.

    :param node: the node
    :param ssh: ssh settings
    :param spec: execnet spec of an interpreter other than the default one over ssh
    :param when_lost: called if it ends without being closed
    :raises InputError: the node is unreachable, or ssh or sudo prompt for something
    """

    def __init__(
        self, node: Node, ssh: Ssh, spec: str | None = None, when_lost: Callable[[], None] = lambda: None
    ) -> None:
        self.node = node
        self._ssh = ssh
        self._spec = spec
        self._when_lost = when_lost
        self._closing = False
        self._lock = threading.Lock()
        self._answers: dict[int, queue.SimpleQueue[Any]] = {}
        self._number = 0
        self._holder = ""
        self._waking = threading.Lock()
        self._start()

    def _start(self) -> None:
        self._group = group = execnet.Group()
        spec = self._spec or self._ssh_spec(ssh_arguments(self._ssh, self.node))
        opened: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def work() -> None:
            try:
                channel = group.makegateway(spec).remote_exec(node_agent.LOADER)
                channel.send(node_agent.sources())
                channel.send((0, "beat", BEAT))
                opened.put(channel)
            except (execnet.HostNotFound, EOFError, OSError) as error:
                opened.put(error)

        # A separate thread that is never joined: a hanging login cannot be stopped.
        threading.Thread(target=work, name=f"open {self.node.name}", daemon=True).start()
        try:
            channel = opened.get(timeout=OPEN_TIMEOUT)
        except queue.Empty:
            raise InputError(
                f"node {self.node.name}: python3 did not start within {OPEN_TIMEOUT} s after the login"
            ) from None
        if isinstance(channel, Exception):
            # execnet's text would be the arguments of ssh; ssh itself has printed the reason.
            detail = "" if isinstance(channel, execnet.HostNotFound) else f" ({channel})"
            raise self._unreachable(f"the connection ended before python3 had started{detail}")
        self._channel, self._heard, self._closing = channel, time.monotonic(), False
        channel.setcallback(lambda message: self._receive(channel, message), endmarker=None)

    def reopen(self, holder: str = "") -> None:
        """Reconnect after the node was off, and lock the node for this deployment again, if it was locked.

        :param holder: the deployer, if another process of the run held the lock, which was lost with the power
        :raises InputError: the node is unreachable, or another deployment is now in progress there
        """
        self.close()
        # Wake up everybody who still waits for an answer.
        self._receive(self._channel, None)
        self._start()
        with self._lock:
            self._number = 0
        if self._holder or holder:
            self.hold(self._holder or holder)

    def wake(self) -> None:
        """Connect again if the connection has ended, or if it is unused and the node has not been heard for too long.

        The connection to a node that lost power looks alive until it is used, even after the node has booted again.

        :raises InputError: the node cannot be reached
        """
        with self._waking:
            quiet = time.monotonic() - self._heard > QUIET and not self._answers
            if self.is_lost or quiet:
                self.reopen()

    def _ssh_spec(self, arguments: Sequence[str]) -> execnet.XSpec:
        """execnet's spec of the node's interpreter, run as root or through sudo."""
        probe = "test $(id -u) = 0 && echo root || { sudo -n true && echo sudo; }; command -v python3"
        where = f"node {self.node.name} ({arguments[-1]})"
        for attempt in range(ATTEMPTS):
            time.sleep(attempt)
            try:
                done = subprocess.run(
                    ["ssh", *arguments, probe],
                    capture_output=True,
                    text=True,
                    stdin=subprocess.DEVNULL,
                    timeout=OPEN_TIMEOUT,
                )
            except subprocess.TimeoutExpired:
                raise InputError(
                    f"{where}: ssh or the login shell did not respond within {OPEN_TIMEOUT} s; try: ssh {arguments[-1]}"
                ) from None
            if done.returncode != 255 or not _BROKEN_OFF.search(done.stderr):
                break
        lines = done.stdout.split()
        error = " ".join(done.stderr.split()[-40:])
        if done.returncode == 255:
            raise self._unreachable(error)
        if not lines or lines[0] not in ("root", "sudo"):
            raise InputError(f"{where}: the user is not root and has no passwordless sudo: {error}")
        if len(lines) < 2:
            raise InputError(f"{where}: no python3 on the node; install it (apt install python3)")
        python = "python3" if lines[0] == "root" else "sudo -n python3"
        spec = execnet.XSpec(f"ssh={self.node.name}//python={python}")
        spec.ssh = _Words(shlex.join(arguments))
        return spec

    def _unreachable(self, reason: str) -> InputError:
        host = ssh_arguments(self._ssh, self.node)[-1]
        return InputError(f"node {self.node.name} ({host}): not reachable by ssh: {reason}; try: ssh {host}")

    def _receive(self, channel: Any, message: Any) -> None:
        self._heard = time.monotonic()
        if message is None:
            with self._lock:
                if channel is not self._channel:
                    return
                waiting = list(self._answers.values())
                new, self._number = self._number >= 0, -1
            for answers in waiting:
                answers.put(("lost", None))
            if new and not self._closing:
                self._when_lost()
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
                raise self.loss()
            self._number += 1
            number = self._number
            self._answers[number] = answers
        try:
            # In a thread that is never joined: a large message blocks until the node reads it, possibly for ever.
            threading.Thread(
                target=self._send, args=(self._channel, (number, kind, items), answers), daemon=True
            ).start()
            reached, told = 0, time.monotonic()
            # Counted in turns, not by the clock: if this run itself was suspended, it received nothing either.
            heard, silent = self._heard, 0.0
            while True:
                try:
                    event, payload = answers.get(timeout=TURN)
                except queue.Empty:
                    now = time.monotonic()
                    heard, silent = self._heard, silent + TURN if heard == self._heard else 0.0
                    if silent > SILENCE:
                        self._give_up()
                        raise self._silent(f"has not responded for {SILENCE:g} s", kind, items, reached) from None
                    if now - told > OPERATION_LIMIT:
                        raise self._silent(
                            f"did not finish within {OPERATION_LIMIT:g} s", kind, items, reached
                        ) from None
                    continue
                told = time.monotonic()
                if event == "applied":
                    reached = payload + 1
                if event == "done":
                    return payload
                if event == "lost":
                    raise self.loss()
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

    @staticmethod
    def _send(channel: Any, message: Any, answers: queue.SimpleQueue[Any]) -> None:
        try:
            channel.send(message)
        except Exception:
            answers.put(("lost", None))

    def _give_up(self) -> None:
        """Stop using the node, and wake up all waiters."""
        self._receive(self._channel, None)

    def _silent(self, what: str, kind: str, items: Any, reached: int) -> NodeError:
        doing = _described(items[reached]) if kind == "apply" and reached < len(items) else "answer questions"
        return NodeError(
            f"{self.node.name} {what}; operation: {doing}\n"
            f"check whether it is alive (ssh {self.node.ssh_host or self.node.address}); the next --deploy resumes here"
        )

    @property
    def is_lost(self) -> bool:
        """Whether it has ended."""
        return self._number < 0

    def loss(self) -> NodeError:
        """The error if it has ended."""
        return NodeError(f"the connection to {self.node.name} was lost; the next --deploy resumes here")

    def facts(self, queries: Iterable[_Asked]) -> dict[_Asked, Any]:
        """Answers to `queries`, without duplicates, in one round trip.

        :raises ActionError: the node could not answer
        """
        asked = list(dict.fromkeys(queries))
        if not asked:
            return {}
        answers = self._ask("facts", [(query.op, query.args) for query in asked])
        for answer in answers:
            # A file that is not UTF-8 arrives as bytes; surrogateescape preserves them in text.
            if isinstance(answer, dict) and isinstance(answer.get("content"), bytes):
                answer["content"] = answer["content"].decode(errors="surrogateescape")
        return dict(zip(asked, answers, strict=True))

    def apply(self, actions: Sequence[NodeAction], on_event: Callable[[str, Any], None] | None = None) -> None:
        """Run `actions` in order, in one round trip.

        :param on_event: called with ("applied", index) after each and ("says", text) for progress
        :raises ActionError: the first action that failed
        """
        if actions:
            self._ask("apply", [_portable(action.message()) for action in actions], on_event)

    def hold(self, holder: str, say: Callable[[str], None] = lambda text: None) -> None:
        """Lock the node for this deployment, until the connection and its commands have ended.

        :param holder: the deployer, shown to others
        :param say: called with the current holder while waiting
        :raises InputError: another deployment, or a command left by one, is still running there
        """
        self._holder = holder
        try:
            self.apply([Hold(LOCK, holder)], lambda kind, text: say(str(text)) if kind == "says" else None)
        except (ActionError, NodeError) as error:
            raise InputError(f"node {self.node.name}: {error}") from None

    def close(self) -> None:
        """End the interpreter on the node."""
        self._closing = True
        # In a thread: closing blocks behind data that a stopped node has not read.
        ending = threading.Thread(target=self._group.terminate, kwargs={"timeout": 2.0}, daemon=True)
        ending.start()
        ending.join(ENDED_WITHIN)
        if ending.is_alive():
            for gateway in self._group:
                gateway._io.kill()


def _described(action: dict[str, Any]) -> str:
    """A short description of an operation without secrets, which are in `stdin`, `env` and `content`."""
    words = action.get("show") or action.get("argv") or action.get("packages") or action.get("units")
    words = words or action.get("path") or action.get("url") or ""
    text = words if isinstance(words, str) else " ".join(words)
    return f"{action['op']} {action.get('verb', '')} {text}".replace("  ", " ")[:300].strip()


def _portable(action: dict[str, Any]) -> dict[str, Any]:
    """An operation with its content as the original bytes, even if they are not UTF-8."""
    content = action.get("content")
    return {**action, "content": content.encode(errors="surrogateescape")} if isinstance(content, str) else action
