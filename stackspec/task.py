"""A step on a node: reads its facts, computes its changes, applies them, and checks again. All tasks form the plan."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from .errors import ActionError, CannotTell
from .inventory import Node
from .resources.actions import NodeAction, Outdate
from .resources.base import Change, Context, Difference, Query, Resource, Shared, file
from .resources.ini import IniFile
from .resources.packages import Packages
from .site import Site
from .step import STEPS, Step, closure
from .transport import NodeConnection


@dataclass(eq=False)
class Finding:
    """A resource declared by a task, with the result of the last check; the drift test's parameter.

    :param changes: the necessary changes, none if found equals wanted
    """

    task: Task
    resource: Resource
    changes: list[Change] = field(default_factory=list)

    @property
    def id(self) -> str:
        """Readable id of its test."""
        return f"{self.task.node.name}-{self.task.step.name}-{self.resource.title.replace(' ', '_')}"


@dataclass(eq=False)
class Task:
    """A step on a node.

    :param state: waiting, running, done, failed or blocked
    :param made: changes made in this run
    :param error: what failed, if the task failed or is blocked
    :param cause: the task whose failure blocks this one (itself, if it failed)

    `findings` has an entry for each resource.
    """

    step: Step
    node: Node
    resources: list[Resource]
    state: str = "waiting"
    made: list[Change] = field(default_factory=list)
    error: str = ""
    failed_at: str = ""
    cause: Task | None = None
    started: float = 0.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.findings = [Finding(self, each) for each in self.resources]

    @property
    def name(self) -> str:
        """`step on node`, as in messages."""
        return f"{self.step.name} on {self.node.name}"

    @property
    def digest(self) -> str:
        """Hash of everything that the step declares here, to detect in the ledger whether it has changed."""
        return hashlib.sha256(repr(self.resources).encode()).hexdigest()[:16]

    def queries(self, site: Site) -> list[Query]:
        """Facts of the node that the resources use."""
        return [query for resource in self.resources for query in resource.queries(site, self.node)]

    def look(
        self, site: Site, facts: Mapping[Query, Any], shared: Shared, *, last: bool | None = None
    ) -> list[Finding]:
        """Compute the changes from `facts`.

        :param last: True: only of resources that come after all steps of the node; False: only of the others
        """
        context = Context(site, self.node, facts, shared)
        found = [each for each in self.findings if last is None or each.resource.last is last]
        for finding in found:
            resource = finding.resource
            try:
                finding.changes = resource.changes(context)
            except CannotTell as error:
                difference = Difference(resource.title, "known", f"cannot tell: {error}")
                finding.changes = [Change(f"look at {resource.title}", (difference,))]
            for change in finding.changes:
                context.follow(change)
            context.watched += resource.paths(site)
        return found

    def apply(self, site: Site, connection: NodeConnection, shared: Shared, *, last: bool = False) -> None:
        """Apply the changes, then check again.

        :param last: apply the resources that come after all steps of the node, instead of the others
        :raises ActionError: an operation failed, or a difference remained after it
        """
        context = Context(site, self.node, {}, shared)
        mine = [each for each in self.resources if each.last is last]
        for segment in self._segments(site, mine):
            todo = list(segment)
            while todo:
                context.facts = connection.facts(q for each in todo for q in each.queries(site, self.node)) | dict(
                    self._watched_facts(connection, context, todo)
                )
                todo = self._apply_until_stale(site, connection, context, todo)
        facts = connection.facts(q for each in mine for q in each.queries(site, self.node))
        for finding in self.look(site, facts, shared, last=last):
            for change in finding.changes:
                self.failed_at = finding.resource.title
                found = "; ".join(str(difference) for difference in change.differences) or change.title
                raise ActionError(
                    f"{finding.resource.title} still differs after it was applied: {found}\n{change.diff}".rstrip(),
                    advice="something else on the node sets it back, or the value is not what the service reports",
                )

    def kept(self, site: Site, connection: NodeConnection, shared: Shared) -> list[str]:
        """What is left on the node on purpose, and why, in words; asked when all its steps are done."""
        last = [each for each in self.resources if each.last]
        facts = connection.facts(query for each in last for query in each.queries(site, self.node))
        return [text for each in last for text in each.kept(Context(site, self.node, facts, shared))]

    def _watched_facts(self, connection: NodeConnection, context: Context, todo: list[Resource]) -> Mapping[Query, Any]:
        """A service checks files that an earlier segment managed."""
        if any(not each.on_runner for each in todo):
            return connection.facts(file(path) for path in context.watched)
        return {}

    @staticmethod
    def _segments(site: Site, resources: list[Resource]) -> Iterator[list[Resource]]:
        """Groups of resources that can be read at once: in one place, and no file twice."""
        segment: list[Resource] = []
        paths: set[str] = set()
        for resource in resources:
            own = set(resource.paths(site))
            if segment and (resource.on_runner != segment[0].on_runner or own & paths):
                yield segment
                segment, paths = [], set()
            segment.append(resource)
            paths |= own
        if segment:
            yield segment

    def _apply_until_stale(
        self, site: Site, connection: NodeConnection, context: Context, todo: list[Resource]
    ) -> list[Resource]:
        """Apply resources of a segment in one message; return those that have to be read again first."""
        actions: list[NodeAction] = []
        owners: list[tuple[Resource, Change]] = []
        done = 0
        for resource in todo:
            try:
                changes = resource.changes(context)
            except CannotTell as error:
                self.failed_at = resource.title
                raise ActionError(f"look at {resource.title}", output=f"cannot tell: {error}") from None
            context.watched += resource.paths(site)
            done += 1
            for change in changes:
                context.follow(change)
                # Changed files are detected by content; other changes must be recorded, in case the run is killed.
                note = (Outdate(change.marks),) if change.marks else ()
                for action in (*note, *change.actions):
                    if isinstance(action, NodeAction):
                        actions.append(action)
                        owners.append((resource, change))
                    else:
                        self.failed_at = resource.title
                        action()
                self.made.append(change)
            if changes and resource.read_again:
                break
        self._send(connection, actions, owners)
        return todo[done:]

    def _send(
        self, connection: NodeConnection, actions: list[NodeAction], owners: list[tuple[Resource, Change]]
    ) -> None:
        reached = 0

        def count(event: str, payload: Any) -> None:
            nonlocal reached
            if event == "applied":
                reached = int(payload) + 1

        try:
            connection.apply(actions, count)
        except ActionError:
            self.failed_at = owners[reached][0].title if reached < len(owners) else ""
            raise

    def packages(self, site: Site) -> list[str]:
        """Packages that the step needs on the node."""
        return [name for each in self.resources if isinstance(each, Packages) for name in each.real_names(site)]

    def wheels(self, site: Site) -> dict[str, str]:
        """Versions of the guide's packages that come as wheels."""
        names = [name for each in self.resources if isinstance(each, Packages) for name in each.names]
        return {name: version for name in names if (version := site.release.wheel_version(name))}


def plan_of(site: Site) -> list[Task]:
    """The plan: every step on each of its nodes, after the steps it needs.

    A process creates one; drift tests, engine, `--plan` and report share its tasks. The first step that declares an ini
    file of a node also writes the options of later steps, which then have nothing to restart. A resource that comes
    last on a node belongs to the first step that declares it.
    """
    steps = [STEPS[name] for name in closure(STEPS)]
    declared = [(each, node, each.resources(site, node)) for each in steps for node in each.nodes(site)]
    first: dict[tuple[str, str], tuple[list[Resource], int]] = {}
    for _, node, resources in declared:
        for place, each in enumerate(resources):
            if isinstance(each, IniFile):
                owner, at = first.setdefault((node.name, each.path), (resources, place))
                if owner is not resources:
                    owner[at] = cast("IniFile", owner[at]).joined(each)
    told: set[tuple[str, Resource]] = set()
    for _, node, resources in declared:
        for each in [each for each in resources if each.last]:
            if (node.name, each) in told:
                resources.remove(each)
            told.add((node.name, each))
    return [Task(*each) for each in declared]


def changes_of(findings: list[Finding]) -> list[Change]:
    """All changes in `findings`."""
    return [change for finding in findings for change in finding.changes]
