"""Drift: what steps declare on a site, one by one, and what differs from it."""

from __future__ import annotations

from dataclasses import dataclass

from .engine import Engine
from .resources.base import Resource
from .site import Site
from .step import STEPS, closure
from .task import Finding, Task


@dataclass(frozen=True)
class Declared:
    """A resource that a step declares for a node; the drift test's parameter."""

    task: Task
    index: int

    @property
    def resource(self) -> Resource:
        """The resource itself."""
        return self.task.resources[self.index]

    @property
    def id(self) -> str:
        """Readable id of the test."""
        return f"{self.task.node.name}-{self.task.step.name}-{self.resource.title.replace(' ', '_')}"


def declared_on(site: Site) -> list[Declared]:
    """Every resource of every step on every node of the site."""
    steps = [STEPS[name] for name in closure(STEPS)]
    tasks = [Task(step, node, step.resources(site, node)) for step in steps for node in step.nodes(site)]
    return [Declared(task, index) for task in tasks for index in range(len(task.resources))]


def finding_of(engine: Engine, declared: Declared) -> Finding:
    """What the engine found for a declared resource when it last looked.

    A change that only follows from another is left out, so that one difference is one failure.
    """
    task = engine.on_node[declared.task.node.name][declared.task.step.name]
    found = task.findings[declared.index]
    return Finding(found.resource, [change for change in found.changes if not change.follows])
