"""Every declared resource is as declared, on every node. Each difference is one failing test."""

from __future__ import annotations

import pytest

from stackspec.plugin.session import RUN
from stackspec.secrets import redact
from stackspec.task import Finding


def test_as_declared(declared: Finding, pytestconfig: pytest.Config) -> None:
    """The node's state equals the declaration; the message names node, file, option, wanted and found value."""
    changes, task = pytestconfig.stash[RUN].changes(declared), declared.task
    lines = [
        f"{task.node.name}: {text}"
        for change in changes
        for text in [f"{declared.resource.title}: {each}" for each in change.differences] or [change.title]
    ]
    if lines:
        lines[0] += f" (and {len(lines) - 1} more in {task.name})" if len(lines) > 1 else ""
        lines += [change.diff.rstrip() for change in changes if change.diff]
        pytest.fail(redact("\n".join(lines)) + "\nnext: --deploy fixes it", pytrace=False)
