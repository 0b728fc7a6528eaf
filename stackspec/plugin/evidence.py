"""Data collected from nodes for the report: log tails of a failure, installed versions."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ..engine import Engine
from ..errors import StackspecError
from ..node_connections import NodeConnections
from ..report.events import EventLog
from ..resources.base import ASKED_AT_ONCE, Query, package, run
from ..site import Site
from .failure import chain

_REQUEST = re.compile(r"\breq-[0-9a-f]{8}-[0-9a-f-]{27}\b")
_ERROR = re.compile(r" (?:ERROR|CRITICAL) (?P<service>\w+)\S* \[[^]]*\] (?P<text>.+)")
"""A line of oslo.log: date, process, level, module, request and user, text."""
_INSTANCE = re.compile(r"^\[instance: [0-9a-f-]{36}\] ")
_TRACEBACK = re.compile(r"""\['Traceback .*, (['"])(?P<last>.+?)(?:\\n)?\1\]""")
"""A traceback from another node as nova logs it; the last line is the exception."""
_EXCEPTION = re.compile(r"\b\w+(Error|Exception)\b")
_STAMP = len("2026-01-01 10:00:00.123")
REQUESTS = "stackspec_requests"
"""Attribute of a failed phase's report: ids of the requests that caused its exception."""
TEST_REQUEST = "stackspec_test_request"
"""Attribute of a failed phase's report: the id that all requests of the test carry."""
LOGGED = 300
"""Characters of a logged error in a failure's first line."""
FEW = 8
"""Up to this many nodes, all are queried if a failure names none."""
COMPLAINTS = "warnings and errors of services for the test's requests"
IDS = "request ids, for the services' logs"
MEANWHILE = "errors that services logged since the test began"
_BROKEN = re.compile(r"\b50\d: Server Error|\((?:HTTP )?50\d\)|\bCode: 50\d\b")
"""How clients report an internal error of a service, and heat that of another service."""
EARLIER = 3600
"""Seconds before a failed phase in which its requests may have been logged: fixtures may be old."""
JOURNAL_LINES = 80
REQUEST_LINES = 60


class Logs:
    """What nodes logged around a failure, for runs that need no other connection to them."""

    def __init__(self) -> None:
        self._connections: NodeConnections | None = None

    def gather(self, report: pytest.TestReport, site: Site) -> list[dict[str, Any]]:
        """Connect to the nodes, the first time, and return what the function `gather` finds there.

        :param report: the failed phase
        """
        if self._connections is None:
            self._connections = NodeConnections(site.inventory.ssh, site.nodes.values())
            self._connections.open()
        return gather(self._connections, report, site)

    def close(self) -> None:
        """Close the connections."""
        if self._connections is not None:
            self._connections.close()


def gather(connections: NodeConnections, report: pytest.TestReport, site: Site) -> list[dict[str, Any]]:
    """Log tails for a failed test: the journal since its start, and lines with the request ids of the failure.

    Also warnings and errors of all services for the test's requests: they carry an id that each service passes on to
    the next (oslo.context's global request id). If a service failed before it had read the id: all errors since the
    test began.

    Journals are read from the nodes named in the failure and from the controllers; if it names none, from all nodes of
    a small site.

    :param connections: the site's; unconnected nodes are skipped
    :param report: the failed phase
    :returns: title, node and text of each tail
    """
    connected = connections.names()
    text = f"{report.nodeid}\n{report.longreprtext}"
    named = {name for name in connected if re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text)}
    if named or len(connected) > FEW:
        named |= {node.name for node in site.with_role("controller")}
    journals = named or set(connected)
    since = f"--since=@{int(report.start)}"
    journal = run(
        "journalctl", "-q", "--no-pager", "-o", "short-precise", "-p", "info", "-n", str(JOURNAL_LINES), since
    )
    requests = _requests(report)
    pattern = "|".join(requests)
    of_test = getattr(report, TEST_REQUEST, "")
    begun = int(report.start)
    find = logged_lines(pattern, begun - EARLIER)
    complaints = logged_lines(f" (WARNING|ERROR|CRITICAL) .*{of_test}", begun - EARLIER)
    errors = logged_lines(" (ERROR|CRITICAL) ", begun)
    broken = _BROKEN.search(report.longreprtext)

    def read(name: str) -> list[dict[str, Any]]:
        queries = {"journal since the test began": journal} if name in journals else {}
        if requests:
            queries["log lines of " + ", ".join(requests)] = run(*find)
        if of_test:
            queries[f"{COMPLAINTS} ({of_test})"] = run(*complaints)
        if broken:
            queries[MEANWHILE] = run(*errors)
        try:
            facts = connections[name].facts(queries.values())
        except StackspecError as error:
            return [{"title": "logs", "node": name, "text": f"not readable: {error}"}]
        texts = ((title, facts[query]["out"]) for title, query in queries.items())
        return [{"title": title, "node": name, "text": text} for title, text in texts if text.strip()]

    # Any node may have handled the request.
    asked = [name for name in connected if requests or of_test or broken or name in journals]
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        return [tail for tails in pool.map(read, asked) for tail in tails]


def request_ids(report: pytest.TestReport) -> list[dict[str, Any]]:
    """Ids by which the operators of a cloud without known nodes find a failed test in their services' logs.

    :param report: the failed phase
    """
    lines = [f"{each} failed" for each in _requests(report)]
    if of_test := getattr(report, TEST_REQUEST, ""):
        lines.append(f"{of_test} is the global request id of all requests of the test")
    began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(report.start))
    return [{"title": IDS, "node": "", "text": "\n".join([*lines, f"the {report.when} began at {began}"])}]


def _requests(report: pytest.TestReport) -> list[str]:
    """The first three ids of requests that a failure names."""
    return list(dict.fromkeys([*getattr(report, REQUESTS, ()), *sorted(_REQUEST.findall(report.longreprtext))]))[:3]


def logged_lines(pattern: str, begun: int, folder: str = "/var/log") -> tuple[str, ...]:
    """The command that prints the last log lines of services that match a pattern, oldest first.

    Services of distribution packages write files; services from wheels write to the journal.

    :param pattern: an extended regular expression
    :param begun: Unix time in seconds; older lines are left out
    :param folder: the folder of the log files
    """
    # The time is that of the node, as in oslo.log's lines: both are local time.
    script = (
        "since=$(date -d \"@$2\" '+%F %T'); { "
        'find "$3" -name \'*.log\' -newermt "@$2" -exec grep -hE -e "$1" {} +; '
        'journalctl -q --no-pager -o cat --since="@$2" | grep -E -e "$1"; '
        '} | awk -v since="$since" \'$1" "$2 >= since\' | sort -u | tail -n "$4"'
    )
    return ("sh", "-c", script, "-", pattern, str(begun), folder, str(REQUEST_LINES))


def requests_of(error: BaseException | None) -> list[str]:
    """Ids of the requests behind an exception or its causes, as clients keep them."""
    found: list[str] = []
    for each in chain(error):
        headers = getattr(getattr(each, "response", None), "headers", None) or {}
        ids = (getattr(each, "request_id", None), headers.get("x-openstack-request-id"))
        found += [text for text in ids if isinstance(text, str) and _REQUEST.fullmatch(text) and text not in found]
        if len(found) >= 3:
            break
    return found


def error_in(tails: Iterable[Mapping[str, Any]]) -> str:
    """The error that services logged for the requests of a failed test, with its node; empty if there is none.

    Preferred is the first error of the failed requests, then the first of all requests of the test, then the first
    logged by anybody meanwhile. Later errors are only consequences.

    :param tails: what `gather` found
    """
    first: dict[int, tuple[str, str]] = {}
    for tail in tails:
        title = str(tail.get("title") or "")
        rank = 1 if title.startswith(COMPLAINTS) else 0
        for line in str(tail.get("text") or "").splitlines():
            if not ((match := _ERROR.search(line)) and _REQUEST.search(line)):
                continue
            if title == MEANWHILE:
                # The caller of the failed service logs an error as well, but only about the response.
                rank = 2 if _EXCEPTION.search(match["text"]) else 3
            if rank not in first or line[:_STAMP] < first[rank][0]:
                told = _TRACEBACK.sub(r"\g<last>", _INSTANCE.sub("", match["text"])).strip()
                node = tail.get("node")
                who = f"{match['service']} on {node} logged meanwhile" if title == MEANWHILE else f"{node} logs"
                first[rank] = line[:_STAMP], f"{who}: {told[:LOGGED]}"
    return first[min(first)][1] if first else ""


def write_versions(engine: Engine, log: EventLog) -> None:
    """Record the installed versions of the steps' packages on each node, with system and kernel."""
    system = run("sh", "-c", '. /etc/os-release; echo "$PRETTY_NAME"; uname -r')

    def read(node: str) -> tuple[set[str], dict[Query, Any]]:
        wanted = {name for task in engine.on_node[node].values() for name in task.packages(engine.site)}
        try:
            return wanted, engine.connections[node].facts([system, *(package(name) for name in sorted(wanted))])
        except StackspecError:
            return wanted, {}

    nodes = engine.connections.names()
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        found = dict(zip(nodes, pool.map(read, nodes), strict=True))
    for node, (wanted, facts) in found.items():
        if not facts:
            continue
        lines = [*facts[system]["out"].splitlines(), "", ""]
        packages = {name: facts[package(name)] for name in sorted(wanted) if facts[package(name)]}
        for task in engine.on_node[node].values():
            if task.state == "done":
                packages |= task.wheels(engine.site)
        log.write({"event": "versions", "node": node, "os": lines[0], "kernel": lines[1], "packages": packages})
