"""What the report needs from pytest: it records tests, serves pytest-html and JUnit, and keeps secrets out of both."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import os
import platform
import sys
import warnings
from base64 import b64encode
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
from _pytest.junitxml import xml_key

from . import report
from .events import EventLog
from .masking import mask, mask_failure, mask_html_file, mask_tree, mask_xml_file
from .report_html import Page, clip, log_tail
from .report_model import BAD_TESTS, Run, first_line
from .step import STEPS

Gather = Callable[[str, pytest.TestReport], list[dict[str, Any]]]
"""Called with the node id and the report of a failed phase; returns log tails, each `title`, `node` and `text`."""
LIBRARIES = (
    "stackspec",
    "pytest",
    "pytest-html",
    "pytest-testinfra",
    "execnet",
    "openstacksdk",
    "pydantic",
    "tenacity",
)
OUTPUT, OUTPUT_PASSED, OUTPUT_ALL = 40_000, 4_000, 1_200_000
"""Characters of error and output in pytest-html's table: of a failed test, of another, of all."""


def prepare(config: pytest.Config) -> None:
    """Make `--html` write one file without links. Must run before pytest-html's `pytest_configure`."""
    if getattr(config.option, "htmlpath", None):
        config.option.self_contained_html = True


class ReportPlugin:
    """Hooks of the report.

    :param config: the run's configuration
    :param log: where events go
    :param about: what is known of the run: `run` (its id), `site`, `release`, `mode`, `nodes`
    :param gather: finds log tails after a failure; it runs where the test ran, also in a worker of pytest-xdist
    """

    def __init__(
        self, config: pytest.Config, log: EventLog, about: Mapping[str, Any] | None = None, gather: Gather | None = None
    ) -> None:
        prepare(config)
        self.config = config
        self.log = log
        self.about = dict(about or {})
        self._gather = gather
        self._worker = hasattr(config, "workerinput")
        # Looking at what would run must leave no trace.
        self._records = (
            not self._worker and not config.option.collectonly and not getattr(config.option, "setupplan", 0)
        )
        self._html = self._html_path()
        self._phases: dict[str, list[pytest.TestReport]] = {}
        self._pictures: dict[str, list[dict[str, Any]]] = {}
        self._attached = Page(1_200_000)
        self._output_left = OUTPUT_ALL
        self._ended = False

    def screenshot(self, nodeid: str, title: str, png: bytes) -> None:
        """Keep a picture for the report of the test `nodeid`."""
        picture = {"title": title, "png_base64": b64encode(png).decode()}
        self._pictures.setdefault(nodeid, []).append(picture)

    # ---- the record

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Write what this run is, and mask what pytest-metadata has collected before anyone prints it."""
        self._mask_metadata()
        self._mask_logging()
        if self._records:
            versions = {name: version for name in LIBRARIES if (version := _version(name))}
            event = {"event": "run", "argv": sys.argv, "python": platform.python_version(), "versions": versions}
            self.log.write({**event, **self.about})

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Write that a test begins: after a kill it tells what ran."""
        if self._records:
            self.log.write({"event": "test", "nodeid": nodeid, "outcome": "running"})

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Mask the report before anyone sees it; after a failure, attach log tails and pictures."""
        found = yield
        self._mask_report(found)
        extra: dict[str, Any] = vars(found)  # xdist carries what stands here from a worker to the controller
        extra["stackspec_steps"] = [name for name in getattr(item, "fixturenames", ()) if name in STEPS]
        if found.failed and self._gather is not None:
            extra["stackspec_logs"] = self._tails(found)
        pictures = self._pictures.pop(item.nodeid, []) if found.failed or found.when == "teardown" else []
        if pictures:
            extra["stackspec_pictures"] = mask_tree(pictures)
        return found

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a phase; the last one completes the test."""
        self._mask_report(report)  # other plugins make reports, too, and those of a worker come here
        if self._worker:
            return
        logs, pictures = getattr(report, "stackspec_logs", []), getattr(report, "stackspec_pictures", [])
        if self._html and (logs or pictures):
            tails = "".join(log_tail(item, self._attached) for item in logs)
            images = "".join(self._attached.picture(each) for each in pictures)
            content = f'<div class="stackspec">{tails}{images}</div>'
            extra = {"name": None, "format_type": "html", "content": content, "mime_type": None, "extension": None}
            vars(report)["extras"] = [*getattr(report, "extras", []), extra]
        if not self._records:
            return
        if logs:
            self.log.write({"event": "logs", "nodeid": report.nodeid, "items": logs})
        for picture in pictures:
            self.log.write({"event": "screenshot", "nodeid": report.nodeid, **picture})
        phases = self._phases.setdefault(report.nodeid, [])
        phases.append(report)
        if report.when == "teardown":
            self.log.write(_test_event(phases))
            del self._phases[report.nodeid]

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Mask and record a file that cannot be collected."""
        report.longrepr = mask_failure(report.longrepr)
        report.sections = mask_tree(report.sections)
        if report.failed and self._records:
            event = {"event": "test", "nodeid": report.nodeid, "outcome": "error", "reason": "cannot be collected"}
            self.log.write({**event, "longrepr": report.longreprtext})

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """Add what the steps did to JUnit, and when all files are written pass them through the mask once more."""
        xml: Any = self.config.stash.get(xml_key, None)
        if xml is not None and not self._worker:
            for name, value in self._properties().items():
                xml.add_global_property(name, str(value))
        self._mask_metadata()
        try:
            return (yield)
        finally:
            self._end(session)
            if not self._worker:
                self._mask_files(Path(xml.logfile) if xml is not None else None)
            if self._records:
                report.write(self.log.read(), self.page)

    @property
    def page(self) -> Path:
        """The report that is written at the end of the run, beside the events."""
        return self.log.path.with_name("report.html")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where the report is."""
        if self._records and self.config.get_verbosity() >= 0:
            terminalreporter.write_line(f"report: {self.page}")

    def _end(self, session: pytest.Session) -> None:
        if self._records and not self._ended:
            self._ended = True
            self.log.write({"event": "end", "exit_status": int(session.exitstatus)})

    def _properties(self) -> dict[str, object]:
        run = Run.of(self.log.read()) if self._records else Run()
        found: dict[str, object] = {
            f"stackspec.{name}": self.about[name] for name in ("run", "site") if name in self.about
        }
        if run.steps:
            found |= {f"stackspec.steps.{state}": run.states[state] for state in ("done", "failed", "blocked")}
            found["stackspec.changes"] = run.changes
        return found

    def _tails(self, failure: pytest.TestReport) -> list[dict[str, Any]]:
        assert self._gather is not None
        try:
            found = self._gather(failure.nodeid, failure)
        except Exception as error:  # a node that is gone must not hide why the test failed
            found = [{"title": "log tails", "node": "", "text": f"cannot be read: {type(error).__name__}: {error}"}]
        # Mask first: what is cut first may keep a piece of a secret.
        return [{**item, "text": mask(str(item.get("text", "")))[-100_000:]} for item in mask_tree(found)]

    # ---- pytest-html

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        """Name the page after the run."""
        words = [self.about.get("mode"), self.about.get("site"), self.about.get("run")]
        report.title = mask(" ".join(["stackspec", *(str(word) for word in words if word)]))

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str], session: pytest.Session) -> None:
        """Put verdict, causes, timeline, steps and versions before pytest-html's own summary."""
        self._end(session)
        if self._records:
            prefix.extend(report.sections(self.log.read()))

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_html(self, report: pytest.TestReport, data: list[str]) -> None:
        """Keep output of tests within the size of a page that can be attached to a ticket."""
        limit = min(OUTPUT if report.failed else OUTPUT_PASSED, max(self._output_left, 500))
        data[:] = [clip("\n".join(data), limit, 0.25)[0]]
        self._output_left -= len(data[0])

    def _html_path(self) -> Path | None:
        name = getattr(self.config.option, "htmlpath", None)
        return Path.cwd() / Path(os.path.expandvars(name)).expanduser() if name else None

    # ---- masking

    @pytest.hookimpl(tryfirst=True)
    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage) -> None:
        """Mask a warning before the summary lists it."""
        message = warning_message.message
        if isinstance(message, Warning):
            message.args = mask_tree(message.args)
        elif isinstance(message, str):
            warning_message.message = mask(message)

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excrepr: Any) -> None:
        """Mask an error of pytest itself or of a plugin."""
        mask_failure(excrepr)

    def pytest_make_parametrize_id(self, val: object) -> str | None:
        """Mask the name that a test gets from a parameter."""
        return masked if isinstance(val, str) and (masked := mask(val)) != val else None

    @staticmethod
    def _mask_report(found: pytest.TestReport) -> None:
        found.longrepr = mask_failure(found.longrepr)
        found.sections = mask_tree(found.sections)
        found.user_properties = [(mask(str(name)), mask_tree(value)) for name, value in found.user_properties]
        if hasattr(found, "wasxfail"):
            found.wasxfail = mask(str(found.wasxfail))
        for extra in getattr(found, "extras", []):
            if extra.get("format_type") in ("html", "json", "text", "url"):
                extra.update(mask_tree({key: extra.get(key) for key in ("content", "name")}))

    def _mask_metadata(self) -> None:
        try:
            key = importlib.import_module("pytest_metadata.plugin").metadata_key
        except ImportError:
            return
        metadata = self.config.stash.get(key, None)
        if metadata is not None:
            metadata.update(mask_tree(metadata))

    def _mask_logging(self) -> None:
        plugin = self.config.pluginmanager.getplugin("logging-plugin")
        for name in ("report_handler", "log_cli_handler", "log_file_handler"):
            handler = getattr(plugin, name, None)
            if isinstance(handler, logging.Handler) and handler.formatter is not None:
                handler.setFormatter(_MaskingFormatter(handler.formatter))

    def _mask_files(self, xml: Path | None) -> None:
        if self._html is not None and self._html.is_file():
            mask_html_file(self._html)
        if xml is not None and xml.is_file():
            mask_xml_file(xml)


class _MaskingFormatter(logging.Formatter):
    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return mask(self._inner.format(record))


def _test_event(phases: list[pytest.TestReport]) -> dict[str, Any]:
    """The event of a test whose phases are known: a failure outside of the call is an error."""
    outcome, decisive = "passed", phases[-1]
    for phase in phases:
        if phase.failed and outcome not in BAD_TESTS:
            outcome, decisive = "failed" if phase.when == "call" else "error", phase
        elif phase.skipped and outcome == "passed":
            outcome, decisive = "skipped", phase
    return {
        "event": "test",
        "nodeid": decisive.nodeid,
        "outcome": outcome,
        "start": phases[0].start,
        "seconds": round(sum(phase.duration for phase in phases), 3),
        "reason": _reason(decisive),
        "longrepr": decisive.longreprtext if outcome in BAD_TESTS else "",
        "steps": getattr(decisive, "stackspec_steps", []),
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
