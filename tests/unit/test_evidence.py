"""Evidence from nodes: which nodes are queried, and how often."""

from __future__ import annotations

import datetime
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from openstack.exceptions import HttpException

from stackspec.plugin import evidence
from stackspec.resources.base import Query
from stackspec.resources.packages import Packages
from stackspec.site import Site
from stackspec.step import STEPS
from stackspec.task import Task

from .wheels_sites import RELEASE, declared, site_of

REQUEST = "req-0a1b2c3d-1111-2222-3333-444455556666"


class Recorder(dict[str, Any]):
    """Connections to nodes that return a log line and record the number and kind of queries."""

    def __init__(self, names: list[str]) -> None:
        super().__init__({name: self._node(name) for name in names})
        self.questions: dict[str, list[str]] = {}

    def _node(self, name: str) -> Any:
        def facts(queries: Any) -> dict[Query, Any]:
            requested = list(queries)
            self.questions.setdefault(name, []).append(" ".join(str(each.args[0]) for each in requested))
            return {each: "1.0" if each.op == "package" else {"out": f"{name}\n6.1\n"} for each in requested}

        return SimpleNamespace(facts=facts)

    def names(self) -> list[str]:
        return sorted(self)


def many(number: int) -> list[str]:
    """A controller and compute nodes."""
    return ["controller", *(f"compute{each:03}" for each in range(1, number))]


def gathered(site: Site, names: list[str], text: str, nodeid: str = "tests/a.py::test_a") -> tuple[set[str], set[str]]:
    """Nodes whose journals were read, and nodes whose logs were searched for a request."""
    connections = Recorder(names)
    report: Any = SimpleNamespace(nodeid=nodeid, longreprtext=text, start=1000.5)
    tails = evidence.gather(connections, report, site)  # type: ignore[arg-type]
    assert {tail["node"] for tail in tails} == set(connections.questions)
    assert all(len(questions) == 1 for questions in connections.questions.values())
    journals = {name for name, (text,) in connections.questions.items() if "short-precise" in text}
    return journals, {name for name, (text,) in connections.questions.items() if "grep" in text}


@pytest.mark.parametrize("text", ["http://compute007:6080 refused", "compute007", "no host: 'compute007'."])
def test_nodes_named_by_a_failure(site: Site, text: str) -> None:
    """Plus the controllers, which run the APIs; a name inside a longer name does not count."""
    assert gathered(site, many(200), f"{text}\ncompute0070 my.compute008") == ({"controller", "compute007"}, set())


def test_node_of_a_drift_test(site: Site) -> None:
    """Its test id begins with the node."""
    nodeid = "tests/infra/test_drift.py::test_as_declared[compute012-nova_compute-service_nova-compute]"
    assert gathered(site, many(200), "", nodeid)[0] == {"controller", "compute012"}


def test_failure_that_names_no_node(site: Site) -> None:
    """All nodes of a small site; only the API nodes of a large one."""
    assert gathered(site, many(3), "ERROR")[0] == set(many(3))
    assert gathered(site, many(200), "ERROR")[0] == {"controller"}


def test_request_is_searched_on_all_nodes(site: Site) -> None:
    assert gathered(site, many(20), f"compute007: {REQUEST}") == ({"controller", "compute007"}, set(many(20)))


FILE = f"""\
2026-01-01 09:59:59.9 1 ERROR heat.api [{REQUEST}] too old
2026-01-01 10:00:00.2 1 ERROR heat.api [{REQUEST}] second
2026-01-01 10:00:00.3 1 ERROR heat.api [req-0] another's
"""
JOURNAL = f"""\
2026-01-01 10:00:00.1 1 ERROR nova.compute.manager [{REQUEST}] first
2026-01-01 10:00:00.2 1 ERROR heat.api [{REQUEST}] second
2026-01-01 10:00:01.0 1 INFO heat.api [req-0] another's
Started nova-compute.service.
"""


def test_logged_lines_are_those_of_files_and_the_journal(tmp_path: Path) -> None:
    """Each line once, in order; services from wheels write to the journal, packages' to files."""
    (tmp_path / "heat").mkdir()
    (tmp_path / "heat" / "heat-api.log").write_text(FILE)
    (tmp_path / "notes.txt").write_text(FILE)
    (tmp_path / "journal").write_text(JOURNAL)
    program = tmp_path / "journalctl"
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/asked; cat {tmp_path}/journal\n')
    program.chmod(0o755)
    begun = int(datetime.datetime(2026, 1, 1, 10, tzinfo=datetime.timezone.utc).timestamp())
    command = evidence.logged_lines(f"req-none|{REQUEST}", begun, str(tmp_path))
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TZ": "UTC"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["first", "second"]
    assert f"--since=@{begun}" in (tmp_path / "asked").read_text()


def test_versions_query_each_node_once_for_its_own_tasks(site: Site) -> None:
    """Not for the tasks of all nodes."""
    looks: list[str] = []

    def task(name: str) -> Any:
        wanted = Packages("etcd").real_names(site)

        def packages(site: Site) -> list[str]:
            looks.append(name)
            return wanted

        return SimpleNamespace(packages=packages, state="waiting")

    names = many(50)
    connections, events = Recorder(names), list[dict[str, Any]]()
    engine: Any = SimpleNamespace(site=site, connections=connections, on_node={n: {"s": task(n)} for n in names})
    log: Any = SimpleNamespace(write=events.append)
    evidence.write_versions(engine, log)
    assert sorted(looks) == sorted(names)
    assert [event["node"] for event in events] == sorted(names)
    assert events[0]["kernel"] == "6.1"
    assert all(len(questions) == 1 for questions in connections.questions.values())


def test_request_ids_of_an_exception_and_its_causes() -> None:
    """Clients keep the id of the failed request, but do not include it in the text of every exception."""
    cause = HttpException("500", response=None)
    cause.request_id = REQUEST
    failure = AssertionError("no stack")
    failure.__cause__ = cause
    assert evidence.requests_of(failure) == [REQUEST]
    assert evidence.requests_of(ValueError("x")) == []
    assert evidence.requests_of(None) == []


def test_request_ids_for_a_cloud_without_nodes() -> None:
    """The failed requests', and the one that all requests of the test carry, with the time to search for."""
    other = REQUEST.replace("0a1b", "ffff")
    report: Any = SimpleNamespace(start=0.0, when="call", longreprtext=f"503 ({other})")
    vars(report).update({evidence.REQUESTS: [REQUEST], evidence.TEST_REQUEST: "req-of-the-test"})
    (tail,) = evidence.request_ids(report)
    assert tail["text"].splitlines() == [
        f"{REQUEST} failed",
        f"{other} failed",
        "req-of-the-test is the global request id of all requests of the test",
        "the call began at 1970-01-01 00:00:00 UTC",
    ]


LOG = f"""\
2026-01-01 10:00:00.1 1 INFO heat.api [req-1 {REQUEST} admin] asked
2026-01-01 10:00:00.2 1 ERROR heat.common.wsgi [req-1 {REQUEST} admin - -] Unexpected error: no table heat.event
2026-01-01 10:00:00.3 1 ERROR heat.common.wsgi Traceback (most recent call last):
"""


def test_error_of_a_request_is_found_in_the_logs() -> None:
    tails = [{"node": "compute01", "text": "nothing"}, {"node": "controller", "text": LOG}]
    assert evidence.error_in(tails) == "controller logs: Unexpected error: no table heat.event"
    assert evidence.error_in(tails[:1]) == ""


def test_error_logged_for_the_test_without_a_failed_request() -> None:
    """A server in ERROR fails no request: its worker logs the reason under the id of the test."""
    of_test = {"title": evidence.COMPLAINTS, "node": "compute01", "text": LOG.replace("heat.event", "later")}
    assert evidence.error_in([of_test]) == "compute01 logs: Unexpected error: no table later"
    tails = [{"title": "log lines of req-1", "node": "controller", "text": LOG}, of_test]
    assert evidence.error_in(tails) == "controller logs: Unexpected error: no table heat.event"


def test_error_logged_before_the_request_id_was_read() -> None:
    """Keystone's token check: neither the answer nor the log has the request id. It may be another test's error."""
    meanwhile = {"title": evidence.MEANWHILE, "node": "controller", "text": LOG}
    assert (
        evidence.error_in([meanwhile]) == "heat on controller logged meanwhile: Unexpected error: no table heat.event"
    )
    said = "Bad response code while validating token"
    asking = {**meanwhile, "node": "compute01", "text": LOG.replace("Unexpected error: no table heat.event", said)}
    raised = {**meanwhile, "text": LOG.replace("10:00", "10:01").replace("no table", "RuntimeError: no table")}
    assert evidence.error_in([asking]) == f"heat on compute01 logged meanwhile: {said}"
    assert "RuntimeError: no table heat.event" in evidence.error_in([asking, raised])
    of_test = {"title": evidence.COMPLAINTS, "node": "compute01", "text": LOG.replace("heat.event", "later")}
    assert evidence.error_in([meanwhile, of_test]) == "compute01 logs: Unexpected error: no table later"


@pytest.mark.parametrize(
    ("text", "searched"),
    [
        ("HttpException: 500: Server Error for url: http://x", True),
        ('Went to status ERROR due to "Server disk delete failed: (500) RemoteError"', True),
        ('Went to status ERROR due to "Message: Build of instance 1 aborted, Code: 500"', True),
        ("assert 0", False),
    ],
)
def test_errors_of_meanwhile_are_searched_if_a_service_is_broken(text: str, searched: bool, site: Site) -> None:
    """Its client reports that, or heat as the client of another service."""
    connections = Recorder(many(1))
    report: Any = SimpleNamespace(nodeid="a", longreprtext=text, start=1.0)
    titles = {tail["title"] for tail in evidence.gather(connections, report, site)}  # type: ignore[arg-type]
    assert (evidence.MEANWHILE in titles) == searched


def test_errors_of_a_test_are_searched_on_all_nodes(site: Site) -> None:
    """Any of them may have worked for it."""
    connections = Recorder(many(3))
    report: Any = SimpleNamespace(nodeid="a", longreprtext="controller", start=1.0, stackspec_test_request=REQUEST)
    tails = evidence.gather(connections, report, site)  # type: ignore[arg-type]
    complaints = {tail["node"] for tail in tails if tail["title"] == f"{evidence.COMPLAINTS} ({REQUEST})"}
    assert complaints == set(many(3))
    assert all(f".*{REQUEST}'" in question for (question,) in connections.questions.values())


def test_first_of_several_errors_is_the_cause() -> None:
    """The conductor repeats the last host's error in a very long line."""
    line = f"2026-01-01 10:00:0{{}}.100 1 ERROR nova.x [{REQUEST} req-2 admin] [instance: {'0' * 36}] {{}}\n"
    tails = [
        {"title": evidence.COMPLAINTS, "node": node, "text": line.format(second, text)}
        for second, node, text in (
            (2, "compute02", "no spawn"),
            (1, "compute01", "no disk"),
            (3, "controller", "no host"),
        )
    ]
    assert evidence.error_in(tails) == "compute01 logs: no disk"
    tails = [{**each, "title": "log lines of req-1"} for each in tails]
    assert evidence.error_in(tails) == "compute01 logs: no disk"


def test_last_line_of_a_logged_traceback_is_shown() -> None:
    """The conductor logs the compute nodes' errors like this, and nobody reads the whole line."""
    lines = ["Traceback (most recent call last):\n", '  File "x.py", line 1, in a\n', "NotEnough: of 'it', 1\n"]
    text = f"2026-01-01 10:00:00.100 1 ERROR nova.x [{REQUEST} req-2 admin] Error from last host: c (node c): {lines}\n"
    found = evidence.error_in([{"title": evidence.COMPLAINTS, "node": "controller", "text": text}])
    assert found == "controller logs: Error from last host: c (node c): NotEnough: of 'it', 1"


def test_report_contains_the_versions_of_projects() -> None:
    """For finished steps, as with packages."""
    site = site_of(RELEASE.name)
    task = Task(STEPS["glance"], site.controller, declared(site, "glance"), state="done")
    connections = SimpleNamespace(names=lambda: ["controller"])
    answers = SimpleNamespace(
        facts=lambda queries: {q: {"out": "Debian\n6.1\n"} if q.op == "run" else None for q in queries}
    )
    events: list[dict[str, Any]] = []
    engine: Any = SimpleNamespace(
        site=site, connections=_Nodes(connections, answers), on_node={"controller": {"glance": task}}
    )
    log: Any = SimpleNamespace(write=events.append)
    evidence.write_versions(engine, log)
    assert events[0]["packages"] == {"glance": "28.2.0"}
    task.state = "failed"
    evidence.write_versions(engine, log)
    assert events[1]["packages"] == {}


class _Nodes:
    """Connections to one simulated node."""

    def __init__(self, names: SimpleNamespace, answers: SimpleNamespace) -> None:
        self.names, self._answers = names.names, answers

    def __getitem__(self, name: str) -> SimpleNamespace:
        return self._answers
