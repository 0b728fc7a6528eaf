"""Commands that run once, and answers that must come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..inventory import Node
from ..site import Site
from .actions import AwaitCommand, AwaitHttp, Execute
from .base import Change, Context, Difference, Query, Resource, file, http, run


@dataclass(frozen=True)
class Command(Resource):
    """A command that makes something which a look can find afterwards.

    :param argv: the command; no secret may stand in it
    :param creates: a file that it makes; when it is there, the command is not due
    :param unless: a command that only reads; when it ends with 0, this one is not due
    :param stdin: its input, where secrets may stand
    :param env: its environment, where secrets may stand
    :param user: who runs it
    :param timeout: seconds that it may take
    :param restarts: True when services of the step have to start again after it
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

    def __post_init__(self) -> None:
        if not self.creates and not self.unless:
            raise ValueError(f"{self.argv}: say by what its effect is seen (creates= or unless=)")

    @property
    def title(self) -> str:
        return " ".join(self.argv)

    def _look(self) -> Query:
        return file(self.creates) if self.creates else run(*self.unless, stdin=self.unless_stdin)

    def queries(self, site: Site, node: Node) -> Iterable[Query]:
        return [self._look()]

    def changes(self, context: Context) -> list[Change]:
        found = context.facts[self._look()]
        if found["exists"] if self.creates else found["status"] == 0:
            return []
        wanted = self.creates or f"effect of {self.title}"
        action = Execute(self.argv, self.stdin, self.user, dict(self.env), self.timeout)
        marks = (self.title,) if self.restarts else ()
        difference = Difference(wanted, "there", "not there")
        return [Change(f"run {self.title}", (difference,), "", (action,), marks=marks)]


@dataclass(frozen=True)
class Await(Resource):
    """A state that comes by itself after a start, waited for.

    :param look: a command that only reads and ends with 0 when the state is there
    :param what: the state in words
    :param stdin: the command's input
    :param service: the guide's name of the service, whose journal is shown when the state does not come
    :param timeout: seconds to wait
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
        if context.facts[run(*self.look, stdin=self.stdin)]["status"] == 0:
            return []
        units = tuple(context.site.release.unit(self.service)) if self.service else ()
        action = AwaitCommand(self.look, self.stdin, timeout=self.timeout, what=self.what, units=units)
        difference = Difference(self.what, "reached", "not reached")
        return [Change(f"wait for {self.what}", (difference,), "", (action,))]


@dataclass(frozen=True)
class Answers(Resource):
    """A URL that must answer, as seen from the node.

    :param url: the URL
    :param status: HTTP status, or several that count
    :param service: the guide's name of the service, whose journal is shown when no answer comes
    :param timeout: seconds to wait for it after a start
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
        if found in self.status and not context.pending:
            return []
        units = tuple(context.site.release.unit(self.service)) if self.service else ()
        action = AwaitHttp(self.url, self.status, self.timeout, units)
        wanted = "HTTP " + " or ".join(str(status) for status in self.status)
        difference = Difference(self.url, wanted, f"HTTP {found}" if isinstance(found, int) else str(found))
        return [Change(f"wait for {self.url}", (difference,), "", (action,), follows=found in self.status)]
