"""Every resource that a step declares is as declared, on every node. Each difference is one failing test."""

from __future__ import annotations

import pytest

from stackspec.secrets import redact
from stackspec.session import RUN
from stackspec.task import Finding


def test_as_declared(declared: Finding, pytestconfig: pytest.Config) -> None:
    """The node's state equals the declaration; the message names node, file, option, wanted and found value."""
    changes, task = pytestconfig.stash[RUN].changes(declared), declared.task
    differences = [
        f"{task.node.name}: {declared.resource.title}: {difference}"
        for change in changes
        for difference in change.differences
    ]
    differences += [f"{task.node.name}: {change.title}" for change in changes if not change.differences]
    if differences:
        differences[0] += f" (and {len(differences) - 1} more in {task.name})" if len(differences) > 1 else ""
        pytest.fail(redact("\n".join(differences)) + "\nnext: --plan shows the diff, --deploy fixes it", pytrace=False)
