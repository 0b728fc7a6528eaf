"""The report page: verdict and cause first, complete after a crash, small, without links and secrets."""

from __future__ import annotations

import argparse
import html
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from stackspec.report import page as report
from stackspec.report.events import FILE, EventLog
from stackspec.report.model import Event, RunReport
from stackspec.report.page import render, sections
from stackspec.secrets import redact

BEGIN = 1764030000.0


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "_values", set())


def step(
    name: str,
    node: str = "controller",
    state: str = "done",
    at: float = 0.0,
    seconds: float = 5.0,
    changes: int = 0,
    error: str = "",
    cause: str = "",
    diff: str = "+x\n",
) -> dict[str, Any]:
    made = [{"title": f"change {number}", "diff": diff} for number in range(changes)]
    event = {"event": "step", "step": name, "node": node, "state": state, "time": BEGIN + at, "seconds": seconds}
    return {
        **event,
        "error": error,
        "failed_at": "service nova" if state == "failed" else "",
        "cause": cause,
        "changes": made,
    }


def check(
    nodeid: str, outcome: str = "passed", at: float = 0.0, reason: str = "", longrepr: str = ""
) -> dict[str, Any]:
    event = {"event": "test", "nodeid": nodeid, "outcome": outcome, "start": BEGIN + at, "seconds": 1.5}
    return {**event, "time": BEGIN + at + 1.5, "reason": reason, "longrepr": longrepr, "steps": ["nova"]}


def begin(**more: Any) -> dict[str, Any]:
    return {
        "event": "run",
        "run": "r1",
        "time": BEGIN,
        "site": "lab",
        "mode": "deploy",
        "nodes": ["controller"],
        **more,
    }


def end(status: int = 0) -> dict[str, Any]:
    return {"event": "end", "exit_status": status, "time": BEGIN + 300}


def verdict(*events: dict[str, Any]) -> str:
    return ": ".join(RunReport.of(events).verdict())


class Balanced(HTMLParser):
    """Fails if a tag is not closed, and collects URLs that a browser would load."""

    VOID = frozenset({"meta", "img", "br", "rect", "line"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [
            value for name, value in attrs if name in ("src", "href") and value and not value.startswith("data:")
        ]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def parse(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_failed_step_is_named_once_with_the_tests_it_blocked() -> None:
    events = [
        begin(),
        step("nova", "compute01", "failed", error="restart nova-compute\nexit status: 1"),
        step("magnum", state="blocked", error="blocked by nova on compute01", cause="nova on compute01"),
        check("test_nova.py::test_runs", "failed", reason="Failed: nova on compute01: restart nova-compute"),
        *(check(f"test_e2e.py::test_{n}", "skipped", reason="blocked by nova on compute01: restart") for n in range(3)),
        *(check(f"test_keystone.py::test_{n}") for n in range(41)),
        end(1),
    ]
    assert verdict(*events) == (
        "FAILED: nova on compute01: restart nova-compute, 1 failed, 3 blocked, 41 passed, 1 step blocked, 0 changes"
    )
    (cause,) = RunReport.of(events).causes
    assert cause.text == "restart nova-compute\nexit status: 1"
    assert cause.blocked[:2] == ["magnum on controller", "test_nova.py::test_runs"]
    assert len(cause.blocked) == 5
    page = render(events)
    assert (
        page.index("restart nova-compute")
        < page.index("<h2>Timeline")
        < page.index("<h2>Steps")
        < page.index("<h2>Tests")
    )


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([begin(), step("nova", changes=2), check("a"), end(0)], "PASSED: 1 passed, 2 changes"),
        ([begin(), check("a", "failed", reason="assert 1 == 2\nmore"), end(1)], "FAILED: a: assert 1 == 2, 1 failed"),
        (
            [begin(), check("a", "error", reason="boom"), check("b", "error"), end(1)],
            "FAILED: a: boom (and 1 more), 2 errors",
        ),
        ([begin(), step("nova", state="failed", error="no"), end(0)], "FAILED: nova on controller: no, 0 changes"),
        (
            [begin(), step("nova", state="drift", error="2 changes"), end(0)],
            "FAILED: nova on controller differs: 2 changes",
        ),
        ([begin(), check("a"), end(2)], "INTERRUPTED: 1 passed"),
        ([begin(), end(5)], "NO TESTS: nothing ran"),
        ([], "DID NOT FINISH: nothing ran"),
    ],
)
def test_verdicts(events: list[dict[str, Any]], expected: str) -> None:
    assert verdict(*events).startswith(expected)


def test_page_of_a_killed_run_says_what_was_running() -> None:
    events = [
        begin(),
        step("base", changes=1),
        {"event": "packages", "node": "controller", "count": 400, "state": "running", "time": BEGIN + 5},
        step("nova", state="running", at=40, seconds=0),
        check("test_e2e.py::test_boot", "running", at=41),
    ]
    assert verdict(*events) == (
        "DID NOT FINISH: in the middle of nova on controller, packages on controller, test_e2e.py::test_boot, 1 change"
    )
    page = render(events)
    parse(page)
    assert 'class="bar running"' in page


def test_newer_events_replace_older_ones() -> None:
    events = [
        step("nova", state="running", seconds=0),
        step("nova", changes=3),
        check("a", "running"),
        check("a"),
        end(),
    ]
    run = RunReport.of(events)
    assert run.unfinished == []
    assert verdict(*events) == "PASSED: 1 passed, 3 changes"


def test_events_of_another_version_do_not_break_the_page() -> None:
    odd: list[dict[str, Any]] = [
        {"event": "new kind"},
        {"event": "step"},
        {"event": "test"},
        {"event": "packages", "seconds": "many"},
    ]
    odd += [
        {"event": "evidence", "nodeid": "a"},
        {"event": "evidence", "base64": 1},
        {"event": "versions"},
        {"event": "step", "changes": ["x"]},
        {"event": "measured"},
        {"event": "measured", "what": 1, "seconds": "many"},
    ]
    parse(render(odd))


def test_every_text_is_escaped_and_the_page_loads_nothing() -> None:
    evil = '<script>alert("x")</script><img src="http://example.com/x">&\''
    texts = {"title": evil, "node": evil, "text": evil}
    events = [
        begin(site=evil, argv=["pytest", evil], versions={evil: evil}),
        {**step(evil, evil, "failed", error=evil, changes=1, diff=f"+{evil}\n"), "failed_at": evil},
        {"event": "packages", "node": evil, "count": 1, "state": "failed", "time": BEGIN, "seconds": 4, "error": evil},
        check(evil, "failed", reason=evil, longrepr=evil),
        {"event": "evidence", "nodeid": evil, **texts},
        {"event": "evidence", "nodeid": evil, "title": evil, "base64": 'AAAA" onload="x'},
        {"event": "evidence", "nodeid": evil, "title": evil, "base64": "AAAA"},
        {"event": "measured", "what": evil, "seconds": 1.0},
        {"event": "versions", "node": evil, "packages": {evil: evil}, "kernel": evil, "os": evil},
        end(1),
    ]
    for page in (render(events), "".join(sections(events))):
        assert parse(page).fetched == []
        assert "<script" not in page
        assert "onload" not in page
        assert html.escape(evil) in page


@pytest.mark.parametrize("secret", ["0f1e2d3c4b5a69788796a5b4", "a<b>&\"c'd\\e", "Pass wörd & more"])
def test_page_contains_no_secret(secret: str) -> None:
    redact.add(secret)
    text = f"password={secret} {secret!r}"
    events = [
        begin(argv=["pytest", text]),
        step("nova", state="failed", error=text, changes=1, diff=f"-{text}\n+{text}\n"),
        check(f"test[{secret}]", "failed", reason=text, longrepr=text),
        {"event": "evidence", "nodeid": f"test[{secret}]", "title": text, "node": "n", "text": text},
        {"event": "versions", "node": text, "packages": {text: text}, "kernel": text, "os": text},
    ]
    for page in (render(events), "".join(sections(events))):
        for form in (secret, html.escape(secret), html.escape(repr(secret)[1:-1]), html.escape(secret, quote=False)):
            assert form not in page
        assert "password=******" in page


def test_evidence_of_a_failure_is_with_its_cause() -> None:
    events = [
        begin(),
        check("bad", "failed", reason="no"),
        {"event": "evidence", "nodeid": "bad", "title": "nova-compute.log", "node": "compute01", "text": "trace"},
        {"event": "evidence", "nodeid": "bad", "title": "login page", "base64": "QUJD"},
        check("good"),
        {"event": "evidence", "nodeid": "good", "title": "overview", "base64": "WFla"},
        {"event": "evidence", "nodeid": "good", "title": "routes", "node": "compute01", "text": "default via"},
        end(1),
    ]
    page = render(events)
    assert "nova-compute.log on compute01" in page
    assert "QUJD" in page
    assert page.index("QUJD") < page.index("<h2>Tests") < page.index("<h2>Evidence") < page.index("WFla")
    assert page.index("WFla") < page.index("routes on compute01") < page.index("default via")
    assert page.count("data:image/") == page.count("data:image/png") == 2
    assert "QUJD" not in "".join(sections(events))  # it is in the row of the test


def test_page_stays_small_and_says_what_was_cut() -> None:
    text = '<"&ä>' * 30_000
    events = [begin()]
    events += [step(f"s{n}", f"node{n % 9}", at=n, changes=20, diff="+" + text) for n in range(200)]
    events += [check(f"t{n}[{'x' * 900}]", "failed", at=n, reason=text, longrepr=text) for n in range(2500)]
    events += [{"event": "evidence", "nodeid": events[-1]["nodeid"], "title": "l", "node": "", "text": text}] * 30
    packages = {f"package-{n}{'y' * 400}": "1" for n in range(4000)}
    events += [{"event": "versions", "node": "controller", "packages": packages}, end(1)]
    begun = time.process_time()
    page = render(events)
    assert time.process_time() - begun < 60
    assert len(page.encode()) < 5_000_000
    assert len("".join(sections(events)).encode()) < 5_000_000
    for said in ("characters were cut out", "the page is full", "more rows are not shown", "are not drawn"):
        assert said in page
    parse(page)


def test_diff_shows_added_and_removed_lines() -> None:
    page = render([step("nova", changes=1, diff="@@ -1 +1 @@\n-old\n+new\n same\n"), end()])
    assert '<span class="del">-old</span><span class="add">+new</span> same' in page


def test_properties_of_a_test_are_shown_with_it() -> None:
    """Also for a test that passed: which of two ways it took, what it measured."""
    page = render([{**check("test_cluster.py::test_a"), "notes": ["cluster: test guest", "nodes: <2>"]}, end()])
    assert "<td>cluster: test guest; nodes: &lt;2&gt;</td>" in page


def test_packages_say_where_versions_differ() -> None:
    nodes = {"compute01": {"nova": "1", "ovs": "3"}, "compute02": {"nova": "2", "ovs": "3"}}
    page = render([{"event": "versions", "node": node, "packages": which} for node, which in nodes.items()])
    assert re.search(r"<td>ovs</td><td>3</td>", page)
    assert '1 <span class="dim">compute01</span><br>2 <span class="dim">compute02</span>' in page


def test_overlapping_bars_are_in_separate_rows() -> None:
    page = render(
        [begin(), step("a", at=0, seconds=10), step("b", at=5, seconds=10), step("c", at=11, seconds=3), end()]
    )
    tops = dict(re.findall(r"<title>(\w) on controller.*?y=\"(\d+)\"", page))
    assert tops["a"] == tops["c"] != tops["b"]


def test_many_short_tests_share_a_row() -> None:
    short = [{**check(f"t{n}", "failed" if n == 50 else "passed", at=n / 10), "seconds": 0.05} for n in range(100)]
    page = render([begin(), step("a", seconds=3600), *short, end(1)])
    bars = re.findall(r'<rect class="bar (\w+)" x="[^"]*" y="(\d+)"', page)
    tests = [top for kind, top in bars if kind in ("passed", "failed")]
    assert len(tests) == 100
    assert len(set(tests)) == 1
    assert bars[-1][0] == "failed"  # drawn last, so that no other bar hides it


def run_command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    report.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["report", *words])
    return int(arguments.func(arguments))


def test_command_writes_the_page_of_the_latest_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STACKSPEC_STATE", str(tmp_path))
    site = tmp_path / "sites" / "lab"
    log = EventLog(site / "runs/r1" / FILE)
    log.write(begin())
    log.write(step("nova", state="failed", error="it said tardy-secret-77"))
    # A secret registered after the event was written is masked on the page as well.
    (site / "secrets.json").write_text('{"late": "tardy-secret-77"}')
    assert run_command() == 0
    said = capsys.readouterr().out
    page = log.path.with_name("report.html").read_text()
    assert said.startswith("DID NOT FINISH: nova on controller: it said ******")
    assert "it said ******" in page
    assert "tardy-secret" not in page + said
    assert run_command("r1", "--output", str(tmp_path / "x" / "page.html")) == 0
    assert (tmp_path / "x" / "page.html").read_text() == page
    capsys.readouterr()
    assert run_command("--output", "-") == 0
    assert capsys.readouterr().out == page


def test_flaky_tests_are_counted_and_marked() -> None:
    """A test that passes only at the second attempt has passed, but is counted as flaky."""
    events: list[Event] = [
        {"event": "run", "time": 1.0, "run": "ss"},
        {"event": "test", "nodeid": "t::a", "outcome": "passed", "notes": ["flaky: boot: at the second attempt"]},
        {"event": "test", "nodeid": "t::b", "outcome": "passed", "notes": ["Barbican: 2"]},
        {"event": "end", "exit_status": 0},
    ]
    assert RunReport.of(events).verdict() == ("PASSED", "2 passed, 1 flaky")
    assert '<td class="state flaky">flaky</td>' in render(events)
