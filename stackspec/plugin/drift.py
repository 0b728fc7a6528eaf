"""What drift tests compare: each resource that the steps declare, and the changes that its node still needs."""

from __future__ import annotations

from collections.abc import Iterable

from ..engine import Engine
from ..resources.base import Change
from ..task import Finding, Task
from .deployment import Deployment, Followed, OwnDeployment


def declared(plan: Iterable[Task]) -> list[Finding]:
    """Every resource of every step on every node of the site.

    Without what comes last: what a deployment has left, since it was in use, may be unused at any moment after it.
    """
    return [each for task in plan for each in task.findings if not each.resource.last]


def remaining_changes(finding: Finding, engine: Engine, deployment: Deployment) -> list[Change]:
    """The changes found for a declared resource, after it was applied or on a check.

    Changes that only follow from another one are left out, so that one difference is one failure.

    :param finding: one of the plan of `engine`
    :param deployment: has looked at the resource after applying it, unless it is another process's or there is none
    """
    assert finding.task in engine.tasks, f"{finding.task.name} was not looked at"
    if isinstance(deployment, Followed) and not engine.surveyed:
        # The controlling process checked each step when it was done; a worker checks again after the last one.
        deployment.join()
        engine.site.secrets.read()
    if not isinstance(deployment, OwnDeployment):
        engine.survey()
    return [change for change in finding.changes if not change.follows]
