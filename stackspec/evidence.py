"""What is gathered from nodes for the report: log tails of a failure, versions of what is installed."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .engine import Engine
from .errors import StackspecError
from .events import EventLog
from .resources.base import package, run
from .transport import Connections

_REQUEST = re.compile(r"\breq-[0-9a-f]{8}-[0-9a-f-]{27}\b")
JOURNAL_LINES = 80
REQUEST_LINES = 60


def gather(connections: Connections, report: pytest.TestReport) -> list[dict[str, Any]]:
    """Log tails for a failed test: the journal since it began, and lines with the ids of requests that it names.

    :param connections: the site's; nodes that are not connected are left out
    :param report: the failed phase
    :returns: title, node and text of each tail
    """
    since = f"--since=@{int(report.start)}"
    journal = run(
        "journalctl", "-q", "--no-pager", "-o", "short-precise", "-p", "info", "-n", str(JOURNAL_LINES), since
    )
    requests = sorted(set(_REQUEST.findall(report.longreprtext)))[:3]
    pattern = "|".join(requests)
    find = f"grep -rhE '{pattern}' /var/log --include='*.log' | tail -n {REQUEST_LINES}"
    queries = {"journal since the test began": journal}
    if requests:
        queries["log lines of " + ", ".join(requests)] = run("sh", "-c", find)

    def read(name: str) -> list[dict[str, Any]]:
        try:
            facts = connections[name].facts(queries.values())
        except StackspecError as error:
            return [{"title": "logs", "node": name, "text": f"not readable: {error}"}]
        texts = ((title, facts[query]["out"]) for title, query in queries.items())
        return [{"title": title, "node": name, "text": text} for title, text in texts if text.strip()]

    names = connections.names()
    if not names:
        return []
    with ThreadPoolExecutor(len(names)) as pool:
        return [tail for tails in pool.map(read, names) for tail in tails]


def write_versions(engine: Engine, log: EventLog) -> None:
    """Write what is installed on each node, of what the steps name, with system and kernel."""
    system = run("sh", "-c", '. /etc/os-release; echo "$PRETTY_NAME"; uname -r')
    for node in engine.connections.names():
        wanted = {name for task in engine.tasks if task.node.name == node for name in task.packages(engine.site)}
        try:
            facts = engine.connections[node].facts([system, *(package(name) for name in sorted(wanted))])
        except StackspecError:
            continue
        lines = [*facts[system]["out"].splitlines(), "", ""]
        packages = {name: facts[package(name)] for name in sorted(wanted) if facts[package(name)]}
        log.write({"event": "versions", "node": node, "os": lines[0], "kernel": lines[1], "packages": packages})
