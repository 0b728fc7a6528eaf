"""Keeps secrets out of what pytest prints and writes: reports, logs, warnings, metadata, HTML and JUnit files."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from _pytest.junitxml import xml_key

from ..masking import mask, mask_failure, mask_html_file, mask_tree, mask_xml_file


def fail(error: OSError) -> None:
    """Default error handler."""
    raise error


class MaskingPlugin:
    """Masks at the source, before all other hooks, and masks finished files once more.

    :param config: the run's configuration
    :param lost: called with the error if a file could not be masked and was removed, instead of raising it
    """

    def __init__(self, config: pytest.Config, lost: Callable[[OSError], None] = fail) -> None:
        self.config, self._lost = config, lost
        name = getattr(config.option, "htmlpath", None)
        # Resolved like pytest-html does, and now: a test may change the working directory.
        self._html = Path.cwd() / Path(os.path.expandvars(name)).expanduser() if name else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Mask pytest-metadata's data before it is printed, and every log line from now on."""
        self._mask_metadata()
        plugin = self.config.pluginmanager.getplugin("logging-plugin")
        for name in ("report_handler", "log_cli_handler", "log_file_handler"):
            handler = getattr(plugin, name, None)
            if isinstance(handler, logging.Handler) and handler.formatter is not None:
                handler.setFormatter(_MaskingFormatter(handler.formatter))
            if isinstance(handler, logging.FileHandler) and (log := Path(handler.baseFilename)).is_file():
                log.chmod(0o600)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Mask the report of a phase before anyone sees it."""
        found = yield
        mask_report(found)
        return found

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Mask once more: other plugins create reports as well, and those of workers arrive here."""
        mask_report(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Mask a collection error."""
        report.longrepr = mask_failure(report.longrepr)
        report.sections = mask_tree(report.sections)

    @pytest.hookimpl(tryfirst=True)
    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage) -> None:
        """Mask a warning before the summary lists it."""
        message = warning_message.message
        if isinstance(message, Warning):
            message.args = mask_tree(message.args)
        else:
            warning_message.message = mask(str(message))

    @pytest.hookimpl(tryfirst=True)
    def pytest_internalerror(self, excrepr: Any) -> None:
        """Mask an error of pytest itself or of a plugin."""
        mask_failure(excrepr)

    def pytest_make_parametrize_id(self, val: object) -> str | None:
        """Mask the test id made from parameters."""
        return masked if isinstance(val, str) and (masked := mask(val)) != val else None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """Mask the files when they are written."""
        self._mask_metadata()
        try:
            return (yield)
        finally:
            if not hasattr(self.config, "workerinput"):
                self._mask_files()

    def _mask_metadata(self) -> None:
        try:
            key = importlib.import_module("pytest_metadata.plugin").metadata_key
        except ImportError:
            return
        metadata = self.config.stash.get(key, None)
        if metadata is not None:
            metadata.update(mask_tree(metadata))

    def _mask_files(self) -> None:
        if self._html is not None:
            self._mask_file(self._html, mask_html_file)
        xml: Any = self.config.stash.get(xml_key, None)
        if xml is not None:
            self._mask_file(Path(xml.logfile), mask_xml_file)

    def _mask_file(self, path: Path, mask_it: Callable[[Path], None]) -> None:
        if not path.is_file():
            return
        try:
            mask_it(path)
            path.chmod(0o600)
        except (OSError, ElementTree.ParseError) as error:
            # On a full disk half of the file remains, unmasked.
            path.unlink(missing_ok=True)
            code = getattr(error, "errno", None) or errno.EIO
            self._lost(OSError(code, os.strerror(code), str(path)))


class _MaskingFormatter(logging.Formatter):
    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return mask(self._inner.format(record))


def mask_report(found: pytest.TestReport) -> None:
    """Mask the report of a phase in place: failure, captured output, properties and what pytest-html attaches."""
    found.longrepr = mask_failure(found.longrepr)
    found.sections = mask_tree(found.sections)
    found.user_properties = [(mask(str(name)), mask_tree(value)) for name, value in found.user_properties]
    if hasattr(found, "wasxfail"):
        found.wasxfail = mask(str(found.wasxfail))
    for extra in getattr(found, "extras", []):
        if extra.get("format_type") in ("html", "json", "text", "url"):
            extra.update(mask_tree({key: extra.get(key) for key in ("content", "name")}))
