"""Operations on a node: a type for each operation of the node agent, with its fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar


@dataclass(frozen=True)
class NodeAction:
    """An operation on a node. Fields that may contain secrets (`content`, `stdin`, `env`) are not in its repr.

    :cvar op: its name in the node agent
    """

    op: ClassVar[str]

    def message(self) -> dict[str, Any]:
        """The message for the node agent; default values are omitted."""
        given = ((each, getattr(self, each.name)) for each in fields(self))
        return {"op": self.op, **{each.name: _plain(value) for each, value in given if value != each.default}}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(each.message() if isinstance(each, NodeAction) else each for each in value)
    return value() if callable(value) else value


@dataclass(frozen=True)
class Write(NodeAction):
    """Write a file atomically. Unset attributes are unchanged; a new file is owned by root with mode 0644.

    :param content: text, bytes, or a function that returns them when they are sent
    """

    op = "write"
    path: str
    content: str | bytes | Callable[[], bytes] = field(repr=False)
    mode: int | None = None
    owner: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Remove(NodeAction):
    """Remove a file, if it exists."""

    op = "remove"
    path: str


@dataclass(frozen=True)
class MakeDirectory(NodeAction):
    """Create a directory, or set its mode and owner."""

    op = "directory"
    path: str
    mode: int
    owner: str
    group: str


@dataclass(frozen=True)
class Execute(NodeAction):
    """Run a command that changes something.

    :param argv: the command, visible to all users of the node
    :param stdin: its input
    :param user: the user to run it; "" is root
    :param env: additional environment variables
    :param timeout: timeout in seconds
    :param expect: exit statuses that count as success
    :param what: description for errors
    :param units: systemd units whose journal is shown if it fails
    :param show: shown in errors instead of `argv`
    :param repair: run if it fails, before one retry
    """

    op = "command"
    argv: tuple[str, ...]
    stdin: str = field(default="", repr=False)
    user: str = ""
    env: Mapping[str, str] | None = field(default=None, repr=False, hash=False)
    timeout: float = 600.0
    expect: tuple[int, ...] = (0,)
    what: str = ""
    units: tuple[str, ...] = ()
    show: str = ""
    repair: tuple[Execute, ...] = ()


@dataclass(frozen=True)
class Systemctl(NodeAction):
    """One call of systemctl for all units; start and restart wait until they are active.

    :param timeout: timeout in seconds
    :param reads: files and marks of changes; their state at the start of the units is recorded
    """

    op = "systemctl"
    verb: str
    units: tuple[str, ...]
    timeout: float = 300.0
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class AwaitActive(NodeAction):
    """Wait until units are active.

    :param timeout: seconds, and longer while the units use CPU time to start
    """

    op = "await_active"
    units: tuple[str, ...]
    timeout: float = 60.0


@dataclass(frozen=True)
class AwaitHttp(NodeAction):
    """Wait until a GET returns one of these statuses.

    :param timeout: seconds, and longer while the units use CPU time to start
    :param units: systemd units whose journal is shown on a timeout
    """

    op = "await_http"
    url: str
    statuses: tuple[int, ...]
    timeout: float = 90.0
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class AwaitCommand(NodeAction):
    """Wait until a read-only command succeeds.

    :param timeout: seconds, and longer while the units use CPU time to start
    :param what: description for errors
    :param units: systemd units whose journal is shown on a timeout
    """

    op = "await_command"
    argv: tuple[str, ...]
    stdin: str = field(default="", repr=False)
    user: str = ""
    timeout: float = 60.0
    what: str = ""
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class Apt(NodeAction):
    """Install packages in one transaction, without starting their services.

    :param update: whether to run apt-get update first
    :param off: new units that stay off at boot until a step has started them
    """

    op = "apt"
    packages: tuple[str, ...]
    update: bool = False
    off: tuple[str, ...] = ()


@dataclass(frozen=True)
class FinishApt(NodeAction):
    """Finish an installation whose run was killed."""

    op = "finish_apt"


@dataclass(frozen=True)
class InService(NodeAction):
    """The steps of these units are done: start them at boot."""

    op = "in_service"
    units: tuple[str, ...]


@dataclass(frozen=True)
class Outdate(NodeAction):
    """Record a change of files or marks, so that running units count as started before it.

    :param names: files, or marks of changes
    """

    op = "outdate"
    names: tuple[str, ...]


@dataclass(frozen=True)
class AppendLine(NodeAction):
    """Append a line to a file.

    :param limit: maximum number of lines kept
    """

    op = "append_line"
    path: str
    line: str
    limit: int = 1000


@dataclass(frozen=True)
class Hold(NodeAction):
    """Lock the node for this deployment.

    :param path: the lock file
    :param holder: the deployer
    :param run_timeout: seconds to wait for another run
    :param command_timeout: seconds to wait for a command left by a dead run
    """

    op = "hold"
    path: str
    holder: str
    run_timeout: float = 20.0
    command_timeout: float = 900.0
