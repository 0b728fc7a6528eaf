"""Commands that run once, and conditions to wait for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..inventory import Node
from ..site import Site
from .actions import AwaitCommand, AwaitHttp, Execute, Write
from .base import Change, Context, Difference, Query, Resource, file, http, run

MADE = "/var/lib/stackspec/made"
"""Folder of stamps: from what a command's file was made. Not next to the file, whose folder a service may own."""


@dataclass(frozen=True)
class Command(Resource):
    """A command with a detectable effect.

    :param argv: the command; must not contain secrets
    :param creates: a file that it creates; if it exists, the command is not due
    :param unless: a read-only command; if it succeeds, the command is not due
    :param stdin: its input, which may contain secrets
    :param env: its environment, which may contain secrets
    :param user: the user to run it
    :param timeout: timeout in seconds
    :param restarts: True if services of the step must be restarted after it
    :param made_from: what `creates` is made from; if it was made from something else, it is made anew
    """

    argv: tuple[str, ...]
    creates: str = ""
    unless: tuple[str, ...] = ()
    unless_stdin: str = field(default="", repr=False)
    stdin: str = field(default="", repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    user: str = ""
    timeout: float = 300.0
    restarts: bool = False
    made_from: str = ""

    def __post_init__(self) -> None:
        if not self.creates and not self.unless:
            raise ValueError(f"{self.argv}: specify how to detect its effect (creates= or unless=)")

    @property
    def title(self) -> str:
        return " ".join(self.argv)

    def _look(self) -> Query:
        return file(self.creates) if self.creates else run(*self.unless, stdin=self.unless_stdin)

    def _stamps(self) -> list[str]:
        return [f"{MADE}/{self.creates.strip('/').replace('/', '-')}"] if self.made_from else []

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [self._look(), *map(file, self._stamps())]

    def changes(self, context: Context) -> list[Change]:
        found = context.facts[self._look()]
        there = found["exists"] if self.creates else found["status"] == 0
        difference = Difference(self.creates or f"effect of {self.title}", "present", "absent")
        for stamp in self._stamps():
            made_from = str(context.facts[file(stamp)]["content"]).strip()
            if there and made_from != self.made_from:
                there = False
                difference = Difference(self.creates, f"made from {self.made_from}", made_from or "from something else")
        if there:
            return []
        action = Execute(self.argv, self.stdin, self.user, dict(self.env), self.timeout)
        stamps = [Write(stamp, f"{self.made_from}\n", 0o644) for stamp in self._stamps()]
        marks = (self.title,) if self.restarts else ()
        return [Change(f"run {self.title}", (difference,), "", (action, *stamps), marks=marks)]


@dataclass(frozen=True)
class Await(Resource):
    """A state that is reached some time after a start.

    :param look: a read-only command that succeeds once the state is reached
    :param what: description of the state
    :param stdin: the command's input
    :param service: the guide's name of the service, whose journal is shown on a timeout
    :param timeout: timeout in seconds
    """

    look: tuple[str, ...]
    what: str
    stdin: str = field(default="", repr=False)
    service: str = ""
    timeout: float = 120.0

    @property
    def title(self) -> str:
        return self.what

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [run(*self.look, stdin=self.stdin)]

    def changes(self, context: Context) -> list[Change]:
        reached = context.facts[run(*self.look, stdin=self.stdin)]["status"] == 0
        if reached and not context.restarted:
            return []
        units = tuple(context.site.release.unit(self.service)) if self.service else ()
        action = AwaitCommand(self.look, self.stdin, timeout=self.timeout, what=self.what, units=units)
        difference = Difference(self.what, "reached", "reached before a restart" if reached else "not reached")
        return [Change(f"wait for {self.what}", (difference,), "", (action,), follows=reached)]


@dataclass(frozen=True)
class Answers(Resource):
    """A URL that must respond, seen from the node.

    :param url: the URL
    :param status: the expected HTTP status, or several
    :param service: the guide's name of the service, whose journal is shown on a timeout
    :param timeout: timeout in seconds after a start
    """

    url: str
    status: tuple[int, ...] = (200,)
    service: str = ""
    timeout: float = 120.0

    @property
    def title(self) -> str:
        return f"answer of {self.url}"

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [http(self.url)]

    def changes(self, context: Context) -> list[Change]:
        found = context.facts[http(self.url)]
        if found in self.status and not context.pending and not context.restarted:
            return []
        units = tuple(context.site.release.unit(self.service)) if self.service else ()
        action = AwaitHttp(self.url, self.status, self.timeout, units)
        wanted = "HTTP " + " or ".join(str(status) for status in self.status)
        difference = Difference(self.url, wanted, f"HTTP {found}" if isinstance(found, int) else str(found))
        return [Change(f"wait for {self.url}", (difference,), "", (action,), follows=found in self.status)]
