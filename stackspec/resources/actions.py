"""What can be done on a node: a type for each operation of the node agent, with the fields that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar


@dataclass(frozen=True)
class NodeAction:
    """An operation on a node. What may hold secrets (`content`, `stdin`, `env`) is not in its repr.

    :cvar op: what the node agent calls it
    """

    op: ClassVar[str]

    def message(self) -> dict[str, Any]:
        """As the node agent takes it: what is as the agent has it anyway is left out."""
        given = ((each, getattr(self, each.name)) for each in fields(self))
        return {"op": self.op, **{each.name: _plain(value) for each, value in given if value != each.default}}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(each.message() if isinstance(each, NodeAction) else each for each in value)
    return value() if callable(value) else value


@dataclass(frozen=True)
class Write(NodeAction):
    """Write a file, whole and at once. What is not given stays as it is; a new file is root's and 0644.

    :param content: text, bytes, or what gives them when they are sent
    """

    op = "write"
    path: str
    content: str | bytes | Callable[[], bytes] = field(repr=False)
    mode: int | None = None
    owner: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Remove(NodeAction):
    """Remove a file, where it is there."""

    op = "remove"
    path: str


@dataclass(frozen=True)
class MakeDirectory(NodeAction):
    """Make a directory, or give it mode and owner."""

    op = "directory"
    path: str
    mode: int
    owner: str
    group: str


@dataclass(frozen=True)
class Execute(NodeAction):
    """Run a command that changes something.

    :param argv: the command; everybody on the node can read it
    :param stdin: its input
    :param user: who runs it; "" is root
    :param env: what is added to its environment
    :param timeout: seconds that it may take
    :param expect: exit statuses of a success
    :param what: names it in an error
    :param units: systemd units whose journal is shown when it fails
    :param show: what an error shows in place of `argv`
    :param repair: what is done when it fails, before it is run once more
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

    :param timeout: seconds that it may take
    :param reads: files and marks of changes; it is kept with which of them the units were started
    """

    op = "systemctl"
    verb: str
    units: tuple[str, ...]
    timeout: float = 300.0
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class AwaitActive(NodeAction):
    """Wait until units are active.

    :param timeout: seconds
    """

    op = "await_active"
    units: tuple[str, ...]
    timeout: float = 60.0


@dataclass(frozen=True)
class AwaitHttp(NodeAction):
    """Wait until a GET is answered with one of these statuses.

    :param timeout: seconds
    :param units: systemd units whose journal is shown when no such answer comes
    """

    op = "await_http"
    url: str
    statuses: tuple[int, ...]
    timeout: float = 90.0
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class AwaitCommand(NodeAction):
    """Wait until a command that only reads ends with 0.

    :param timeout: seconds
    :param what: names it in an error
    :param units: systemd units whose journal is shown when it does not
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

    :param update: whether to fetch the lists of packages first
    :param off: units that stay off at a boot until a step has started them, where they are new
    """

    op = "apt"
    packages: tuple[str, ...]
    update: bool = False
    off: tuple[str, ...] = ()


@dataclass(frozen=True)
class FinishApt(NodeAction):
    """Do what is left of an installation whose run was killed."""

    op = "finish_apt"


@dataclass(frozen=True)
class InService(NodeAction):
    """Steps of these units are done: boots start them."""

    op = "in_service"
    units: tuple[str, ...]


@dataclass(frozen=True)
class Outdate(NodeAction):
    """Note that what units read changes, so that those which run now count as started before.

    :param names: files, or marks of changes
    """

    op = "outdate"
    names: tuple[str, ...]


@dataclass(frozen=True)
class Record(NodeAction):
    """Append a line to a file.

    :param limit: how many lines are kept
    """

    op = "record"
    path: str
    line: str
    limit: int = 1000


@dataclass(frozen=True)
class Hold(NodeAction):
    """Lock the node for this deployment.

    :param path: the file that is locked
    :param holder: who deploys
    :param run_timeout: seconds to wait for another run
    :param command_timeout: seconds to wait for a command that a dead run left
    """

    op = "hold"
    path: str
    holder: str
    run_timeout: float = 20.0
    command_timeout: float = 900.0
