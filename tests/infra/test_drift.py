"""Every declared resource is as declared, on every node. Each difference is one failing test."""

from __future__ import annotations

import pytest

from stackspec.drift import Declared
from stackspec.secrets import redact
from stackspec.session import RUN


def test_as_declared(declared: Declared, pytestconfig: pytest.Config) -> None:
    """The node's state matches the declaration; the message has node, file, option, wanted and found value."""
    finding = pytestconfig.stash[RUN].finding(declared)
    task = declared.task
    differences = [
        f"{task.node.name}: {declared.resource.title}: {difference}"
        for change in finding.changes
        for difference in change.differences
    ]
    differences += [f"{task.node.name}: {change.title}" for change in finding.changes if not change.differences]
    if differences:
        differences[0] += f" (and {len(differences) - 1} more in {task.name})" if len(differences) > 1 else ""
        pytest.fail(redact("\n".join(differences)) + "\nnext: --plan shows the diff, --deploy fixes it", pytrace=False)
