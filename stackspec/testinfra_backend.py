"""testinfra over the engine's connections: 3 ms a command instead of a new ssh session each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import testinfra.host
from testinfra.backend import base

from .resources.base import run
from .transport import Connection

SHOWN = 200
"""Characters of a command in a failure's first line."""


class NodeHost(testinfra.host.Host):
    """A testinfra host whose failures begin with a sentence: which node, which command, and what it said.

    :param connection: the node's connection
    """

    # Modules of testinfra, which have no annotations; it finds them when they are asked for.
    file: Callable[[str], Any]
    mount_point: Callable[[str], Any]
    service: Callable[[str], Any]
    socket: Callable[[str], Any]

    def __init__(self, connection: Connection) -> None:
        super().__init__(ConnectionBackend(connection))
        self._node = connection.node.name

    def check_output(self, command: str, *args: str, **kwargs: Any) -> str:
        """The output of a command that has to work, without the line end.

        :raises AssertionError: it ended with another status than 0
        """
        __tracebackhide__ = True
        done = self.run(command, *args, **kwargs)
        if done.rc != 0:
            said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            shown = " ".join(done.command.decode().split())[:SHOWN]
            raise AssertionError(
                f"{self._node}: {said[-1] if said else 'no word of why'} (exit {done.rc}: {shown})"
                + "".join(f"\n{line}" for line in said[-20:])
            )
        return done.stdout.rstrip("\r\n")


HostOf = Callable[[str], NodeHost]
"""Gives the host of a node, by its name."""


class ConnectionBackend(base.BaseBackend):
    """A testinfra backend that runs commands through a node's interpreter.

    :param connection: the node's connection
    """

    NAME = "stackspec"

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.node.name)
        self._connection = connection

    def run(self, command: str, *args: str, **kwargs: Any) -> base.CommandResult:
        """Run a shell command on the node; testinfra's modules and tests call this."""
        line = self.get_command(command, *args)
        query = run("sh", "-c", line)
        self._connection.wake()
        answer = self._connection.facts([query])[query]
        return self.result(answer["status"], line.encode(), answer["out"], answer["err"])
