"""testinfra over the engine's connections: 3 ms a command instead of a new ssh session each."""

from __future__ import annotations

from typing import Any

from testinfra.backend import base  # type: ignore[import-untyped]

from .resources.base import run
from .transport import Connection


class ConnectionBackend(base.BaseBackend):  # type: ignore[misc]
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
        answer = self._connection.facts([query])[query]
        return self.result(answer["status"], line, answer["out"], answer["err"])
