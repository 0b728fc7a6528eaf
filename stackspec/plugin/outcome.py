"""What the end of a run reports beside its tests: the deployment's result, and what tests left in the cloud."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ..ports import Cloud
from ..secrets import redact
from ..task import Task
from .keys import CONNECTION, LEFT
from .lanes import Claims


def untold_failures(tasks: Sequence[Task], told: Claims) -> list[str]:
    """The failed tasks of a deployment for which no test has failed.

    :param told: the tasks for whose failure a test has failed
    """
    failed = {task.name for task in tasks if task.state == "failed"}
    return [f"step failed: {name}" for name in sorted(failed) if name not in told]


def summary(tasks: Sequence[Task]) -> list[str]:
    """Lines about a deployment: how many changes and tasks, and which tasks failed with which error."""
    changes = sum(len(task.made) for task in tasks)
    states = [task.state for task in tasks]
    lines = [f"stackspec: {changes} changes; " + ", ".join(f"{states.count(s)} {s}" for s in sorted(set(states)))]
    failed = [task for task in tasks if task.state == "failed"]
    return lines + [line for task in failed for line in (f"FAILED {task.name}", *redact(task.error).splitlines()[:1])]


def leftovers(config: pytest.Config, cloud: Cloud, run_id: str, *, workers: bool) -> list[str]:
    """Leftovers of tests in the cloud. They are recorded and removed, unless the run keeps its objects.

    :param workers: other processes ran the tests, so this one has no connection of theirs
    """
    stash = config.stash
    if LEFT not in stash or config.getoption("keep", False):
        return []
    connection = stash.get(CONNECTION, None)
    if connection is None and not workers:
        return stash[LEFT][:]
    return [*stash[LEFT], *cloud.leftovers(run_id, connection)]
