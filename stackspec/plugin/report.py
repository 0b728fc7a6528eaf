"""The report's pytest hooks: record tests, and extend pytest-html and JUnit."""

from __future__ import annotations

import ast
import importlib.metadata
import platform
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
from _pytest.junitxml import xml_key

from ..masking import mask, mask_tree
from ..report.events import EventLog
from ..report.html import Page, clip, evidence
from ..report.model import BAD_TESTS, RunReport, first_line
from ..report.page import sections, write
from ..step import STEPS
from .evidence import REQUESTS, TEST_REQUEST, error_in, requests_of
from .failure import NOT_REFUSED, command_for, kind_of, sentence, unread_reasons
from .keys import REQUEST
from .masking import MaskingPlugin, fail

Gather = Callable[[pytest.TestReport], list[dict[str, Any]]]
"""Called with the report of a failed phase; returns log tails, each `title`, `node` and `text`."""
KIND, AGAIN = "stackspec.kind", "stackspec.again"
"""Properties of a failed test, also in JUnit's file: where to look first, and the command to run it again."""
LIBRARIES = (
    "stackspec",
    "pytest",
    "pytest-html",
    "pytest-testinfra",
    "execnet",
    "openstacksdk",
    "pydantic",
    "playwright",
)
EVIDENCE = "stackspec_evidence"
"""Attribute of a phase's report: attachments of the test, including the logs of its failure."""
TAIL = 100_000
"""Maximum characters of an attached text in the record; the page shows fewer."""
OUTPUT, OUTPUT_PASSED, OUTPUT_ALL = 40_000, 4_000, 1_200_000
"""Maximum characters of error and output in pytest-html's table: of a failed test, of any other, in total."""


def prepare(config: pytest.Config) -> None:
    """Make `--html` write one file without links. Must run before pytest-html's `pytest_configure`."""
    if getattr(config.option, "htmlpath", None):
        config.option.self_contained_html = True


class ReportPlugin:
    """Hooks of the report.

    :param config: the run's configuration
    :param log: where events go
    :param about: description of the run: `run` (its id), `site`, `release`, `mode`, `nodes`
    :param gather: collects log tails after a failure; runs in the test's process, which may be a pytest-xdist worker
    :param lost: called with the error if events or report cannot be written, instead of raising it
    """

    def __init__(
        self,
        config: pytest.Config,
        log: EventLog,
        about: Mapping[str, Any] | None = None,
        gather: Gather | None = None,
        lost: Callable[[OSError], None] = fail,
    ) -> None:
        prepare(config)
        if not config.pluginmanager.hasplugin("stackspec-masking"):
            config.pluginmanager.register(MaskingPlugin(config, lost), "stackspec-masking")
        self.config = config
        self.log = log
        self.about = dict(about or {})
        self._gather, self._lost = gather, lost
        self._worker = hasattr(config, "workerinput")
        looks = any(getattr(config.option, name, False) for name in ("collectonly", "setupplan", "plan"))
        # --collect-only must leave no trace, and in workers the controller keeps the record.
        self._records = not looks and not self._worker
        self._phases: dict[str, list[pytest.TestReport]] = {}
        self._evidence: list[dict[str, Any]] = []
        self._shown = Page(1_200_000)
        self._output_left = OUTPUT_ALL
        self._ended = False

    @property
    def page(self) -> Path:
        """The report written at the end of the run, next to the events."""
        return self.log.path.with_name("report.html")

    def attach(self, title: str, content: str | bytes, node: str = "") -> None:
        """Add evidence of the current test to the report, masked, whether the test passes or fails.

        :param title: what it is
        :param content: a text (the last TAIL characters are kept) or a picture (PNG or JPEG)
        :param node: the node it comes from
        """
        kept = {"text": content} if isinstance(content, str) else {"base64": b64encode(content).decode()}
        self._evidence.append({"title": title, "node": node, **kept})

    def measured(self, what: str, seconds: float) -> None:
        """Record the duration of something that has just ended.

        A pytest-xdist worker writes it directly into the same file: it belongs to no test phase that could carry it to
        the controller.
        """
        event = {"event": "measured", "what": what, "start": time.time() - seconds, "seconds": round(seconds, 3)}
        self._write(event)

    def _write(self, event: dict[str, Any]) -> None:
        try:
            self.log.write(event)
        except OSError as error:
            self._lost(error)

    # ---- the record

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Record the description of this run."""
        # Registered last, so that it runs before JUnit's hook and after those that wait for the engine.
        self.config.pluginmanager.register(_JUnitProperties(self), "stackspec-junit")
        if self._records:
            versions = {name: version for name in LIBRARIES if (version := _version(name))}
            event = {"event": "run", "argv": sys.argv, "python": platform.python_version(), "versions": versions}
            self._write({**event, **self.about})

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Record the start of a test: after a kill this shows what was running."""
        if self._records:
            self._write({"event": "test", "nodeid": nodeid, "outcome": "running"})

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add to a report the test's steps and evidence; after a failure also its kind and the command to rerun it."""
        found = yield
        if found.failed and call.excinfo is not None:
            told = {KIND: kind_of(call.excinfo.value, item.nodeid), AGAIN: self._again(item.nodeid)}
            item.user_properties += told.items()
            found.user_properties += told.items()
            found.sections.append(("to run it again", told[AGAIN]))
            crash = getattr(found.longrepr, "reprcrash", None)
            if crash is not None and call.when == "call":
                doc = (getattr(getattr(item, "function", None), "__doc__", None) or "").strip().splitlines()
                statement = _statement(call.excinfo) if NOT_REFUSED in crash.message else ""
                crash.message = sentence(crash.message, doc[0] if doc else "", statement)
            if reasons := unread_reasons(call.excinfo.value):
                _add_to_first_line(found, mask(reasons))
        extra: dict[str, Any] = vars(found)  # pytest-xdist transfers these attributes from a worker to the controller
        extra["stackspec_steps"] = [name for name in getattr(item, "fixturenames", ()) if name in STEPS]
        if found.failed and self._gather is not None:
            extra[TEST_REQUEST] = item.stash.get(REQUEST, "")
            extra[REQUESTS] = requests_of(call.excinfo.value if call.excinfo is not None else None)
            tails = self._tails(self._gather, found)
            if logged := error_in(tails):
                _add_to_first_line(found, logged)
            for tail in tails:
                self.attach(tail["title"], tail["text"], tail["node"])
        if found.failed or found.when == "teardown":
            # Mask before cutting: a cut could leave a fragment of a secret.
            extra[EVIDENCE] = [
                {**each, "text": each["text"][-TAIL:]} if "text" in each else each for each in mask_tree(self._evidence)
            ]
            self._evidence.clear()
        return found

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a phase; the last one completes the test."""
        if self._worker:
            return
        if found := getattr(report, EVIDENCE, []):
            self._show(report, found)
        if not self._records:
            return
        for each in found:
            self._write({"event": "evidence", "nodeid": report.nodeid, **each})
        self._phases.setdefault(report.nodeid, []).append(report)
        if report.when == "teardown":
            phases = self._phases.pop(report.nodeid)
            if not any(str(phase.outcome) == "rerun" for phase in phases):  # another attempt follows and counts
                self._write(_test_event(phases))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Record a collection error."""
        if report.failed and self._records:
            event = {"event": "test", "nodeid": report.nodeid, "outcome": "error", "reason": "cannot be collected"}
            self._write({**event, "longrepr": report.longreprtext})

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Write the report after all other plugins."""
        try:
            return (yield)
        finally:
            self._end(session)
            if self._records:
                try:
                    write(self.log.read(), self.page)
                except OSError as error:
                    self._lost(error)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the path of the report."""
        if self._records and self.config.get_verbosity() >= 0:
            terminalreporter.write_line(f"report: {self.page}")

    def _end(self, session: pytest.Session) -> None:
        if self._records and not self._ended:
            self._ended = True
            self._write({"event": "end", "exit_status": int(session.exitstatus)})

    def properties(self) -> dict[str, object]:
        """Properties of JUnit's test suite: the run, and the state of its steps."""
        if not self._records:
            return {}
        run = RunReport.of(self.log.read())
        known = [name for name in ("run", "site", "release", "mode") if self.about.get(name)]
        found: dict[str, object] = {f"stackspec.{name}": self.about[name] for name in known}
        if run.steps:
            found |= {f"stackspec.steps.{state}": run.states[state] for state in ("done", "failed", "blocked")}
            found["stackspec.changes"] = run.changes
        return found

    def _again(self, nodeid: str) -> str:
        mode = self.about.get("mode")
        cloud = str(self.about.get("site") or "") if mode == "validate" else ""
        return command_for(nodeid, self.config.option, cloud, mode == "deploy")

    @staticmethod
    def _tails(gather: Gather, failure: pytest.TestReport) -> list[dict[str, Any]]:
        try:
            found = gather(failure)
        except Exception as error:  # an unreachable node must not hide the test's failure
            found = [{"title": "log tails", "node": "", "text": f"cannot be read: {type(error).__name__}: {error}"}]
        masked: list[dict[str, Any]] = mask_tree(found)
        return masked

    # ---- pytest-html

    def _show(self, report: pytest.TestReport, found: list[dict[str, Any]]) -> None:
        shown = "".join(evidence(each, self._shown) for each in found)
        content = f'<div class="stackspec">{shown}</div>'
        extra = {"name": None, "format_type": "html", "content": content, "mime_type": None, "extension": None}
        vars(report)["extras"] = [*getattr(report, "extras", []), extra]

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        """Name the page after the run."""
        words = [self.about.get("mode"), self.about.get("site"), self.about.get("run")]
        report.title = mask(" ".join(["stackspec", *(str(word) for word in words if word)]))

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str], session: pytest.Session) -> None:
        """Insert verdict, causes, timeline, steps and versions before pytest-html's own summary."""
        self._end(session)
        if self._records:
            prefix.extend(sections(self.log.read()))

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_html(self, report: pytest.TestReport, data: list[str]) -> None:
        """Limit the output of tests so that the page can be attached to a ticket."""
        limit = min(OUTPUT if report.failed else OUTPUT_PASSED, max(self._output_left, 500))
        data[:] = [clip("\n".join(data), limit, 0.25)[0]]
        self._output_left -= len(data[0])


class _JUnitProperties:
    def __init__(self, plugin: ReportPlugin) -> None:
        self._plugin = plugin

    def pytest_sessionfinish(self) -> None:
        xml: Any = self._plugin.config.stash.get(xml_key, None)
        if xml is not None:
            for name, value in self._plugin.properties().items():
                xml.add_global_property(name, mask(str(value)))


def _statement(raised: pytest.ExceptionInfo[BaseException]) -> str:
    """The `with pytest.raises` statement that failed in a test or fixture; empty if it was another statement."""
    entries = [entry for entry in raised.traceback if "/_pytest/" not in str(entry.path)]
    try:
        source, line = Path(entries[-1].path).read_text(encoding="utf-8"), entries[-1].lineno + 1
        here = [each for each in ast.walk(ast.parse(source)) if isinstance(each, ast.With) and each.lineno == line]
        return "\n".join(ast.get_source_segment(source, each) or "" for each in here[:1])
    except (IndexError, OSError, SyntaxError, ValueError):  # generated code has no source
        return ""


def _add_to_first_line(report: pytest.TestReport, text: str) -> None:
    """Add to the first line of a failure what a service answered, or what the nodes logged about it."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        first, line_end, rest = crash.message.partition("\n")
        crash.message = f"{first}; {text}{line_end}{rest}"


def _test_event(phases: list[pytest.TestReport]) -> dict[str, Any]:
    """The event of a test with all its phases: a failure outside the call phase is an error."""
    outcome, decisive = "passed", phases[-1]
    for phase in phases:
        if phase.failed and outcome not in BAD_TESTS:
            outcome, decisive = "failed" if phase.when == "call" else "error", phase
        elif phase.skipped and outcome == "passed":
            outcome, decisive = "skipped", phase
    told = dict(decisive.user_properties)
    return {
        "event": "test",
        "nodeid": decisive.nodeid,
        "outcome": outcome,
        "start": phases[0].start,
        "seconds": round(sum(phase.duration for phase in phases), 3),
        "reason": _reason(decisive),
        "longrepr": decisive.longreprtext if outcome in BAD_TESTS else "",
        "steps": getattr(decisive, "stackspec_steps", []),
        "notes": [f"{name}: {value}" for name, value in phases[-1].user_properties if name not in (KIND, AGAIN)],
        "kind": told.get(KIND, ""),
        "again": told.get(AGAIN, ""),
    }


def _reason(decisive: pytest.TestReport) -> str:
    """Why the test did not pass, in one line."""
    failure: Any = decisive.longrepr
    if hasattr(decisive, "wasxfail"):
        return f"expected failure: {decisive.wasxfail}" if decisive.skipped else "passed, though a failure is expected"
    if isinstance(failure, tuple):
        return str(failure[2]).removeprefix("Skipped: ")
    crash = getattr(failure, "reprcrash", None)
    return first_line(str(getattr(crash, "message", failure or "")))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
