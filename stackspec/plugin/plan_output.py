"""The plan as people read it: per node and step, the changes with their diffs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from rich.console import Console
from rich.syntax import Syntax

from ..secrets import redact
from ..task import Task, changes_of


def show(tasks: Sequence[Task], config: pytest.Config, console: Console | None = None) -> None:
    """Print what would change, node by node; secrets are masked."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)
    reporter = config.pluginmanager.getplugin("terminalreporter")
    file = reporter._tw._file if reporter is not None else None
    console = console or Console(highlight=False, soft_wrap=True, file=file)
    nodes: dict[str, list[Task]] = {}
    for task in tasks:
        nodes.setdefault(task.node.name, []).append(task)
    for node, its_tasks in nodes.items():
        console.print(f"\n[bold]{node}[/bold]")
        for task in its_tasks:
            changes = changes_of(task.findings)
            console.print(f"  {task.step.name}: {_count(len(changes))}")
            for change in changes:
                console.print(f"    ~ {redact(change.title)}", markup=False)
                if change.diff:
                    console.print(Syntax(redact(change.diff).rstrip(), "diff", background_color="default"))
                else:
                    for difference in change.differences:
                        console.print(f"        {redact(str(difference))}", markup=False)
    total = sum(len(changes_of(task.findings)) for task in tasks)
    console.print(f"\nplan: {_count(total)} on {len(nodes)} nodes; nothing was touched")
    if capture is not None:
        capture.resume_global_capture()


def _count(number: int) -> str:
    return "1 change" if number == 1 else f"{number} changes"
