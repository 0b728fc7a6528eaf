"""testinfra over the engine's connections: 3 ms per command instead of a new ssh session each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import testinfra.host
from testinfra.backend import base

from ..resources.base import run
from ..transport import NodeConnection

SHOWN = 200
"""Characters of a command in a failure's first line."""


class NodeHost(testinfra.host.Host):
    """A testinfra host whose failures start with a sentence: node, command and its error output.

    :param connection: the node's connection
    """

    # testinfra's modules, which have no annotations and are loaded on access.
    file: Callable[[str], Any]
    mount_point: Callable[[str], Any]
    service: Callable[[str], Any]
    socket: Callable[[str], Any]

    def __init__(self, connection: NodeConnection) -> None:
        super().__init__(ConnectionBackend(connection))
        self._node = connection.node.name

    def check_output(self, command: str, *args: str, **kwargs: Any) -> str:
        """The output of a command that must succeed, without the trailing newline.

        :raises AssertionError: its exit status is not 0
        """
        __tracebackhide__ = True
        done = self.run(command, *args, **kwargs)
        if done.rc != 0:
            said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            shown = " ".join(done.command.decode().split())[:SHOWN]
            raise AssertionError(
                f"{self._node}: {said[-1] if said else 'no output'} (exit {done.rc}: {shown})"
                + "".join(f"\n{line}" for line in said[-20:])
            )
        return done.stdout.rstrip("\r\n")


HostOf = Callable[[str], NodeHost]
"""Returns the host of a node by its name."""


class ConnectionBackend(base.BaseBackend):
    """A testinfra backend that runs commands through the node's interpreter.

    :param connection: the node's connection
    """

    NAME = "stackspec"

    def __init__(self, connection: NodeConnection) -> None:
        super().__init__(connection.node.name)
        self._connection = connection

    def run(self, command: str, *args: str, **kwargs: Any) -> base.CommandResult:
        """Run a shell command on the node; called by testinfra's modules and by tests."""
        line = self.get_command(command, *args)
        query = run("sh", "-c", line)
        self._connection.wake()
        answer = self._connection.facts([query])[query]
        return self.result(answer["status"], line.encode(), answer["out"], answer["err"])
