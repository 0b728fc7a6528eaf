"""The record of a running run: its events, their terminal output, and the handling of write errors."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from .. import waiting
from ..engine import Event
from ..lock import Lock, who
from ..report.events import EventLog, Tail, forget_runs
from ..report.running import running
from .deployment import BEGUN, LEADS
from .progress import Progress
from .status import Status


class RunRecord:
    """Writes a run's events, and prints them on the terminal.

    :param config: pytest's configuration
    :param folder: folder of the run's events and report
    :param run_id: the run
    :param halt: called with the reason if something cannot be written, so that nothing more is started
    """

    def __init__(self, config: pytest.Config, folder: Path, run_id: str, halt: Callable[[str], None]) -> None:
        self.folder = folder
        self.log = EventLog(folder / "events.jsonl")
        self.status = Status(lambda line: self.tell({"event": "status", "text": line}))
        self.unrecorded = ""
        self._config, self._run_id, self._halt = config, run_id, halt
        workerinput = getattr(config, "workerinput", None)
        self._worker = bool(workerinput)
        self._lane = str((workerinput or {}).get("workerid", ""))
        self._lanes = bool(getattr(config.option, "numprocesses", None))
        self._leads = Lock(folder / LEADS)
        self._progress: Progress | None = None
        self._closed = threading.Event()

    def start(self) -> None:
        """Open the terminal before pytest captures it, and report long waits."""
        self._progress = Progress(self._config, lambda error: self.lost(error, "to the terminal"))
        waiting.add_listener(self._waits)
        if self._worker:
            return
        self._config.pluginmanager.register(self.status, "stackspec-status")
        self.status.start()
        if self._lanes:
            threading.Thread(target=self._show_waits_of_workers, name="stackspec-waits", daemon=True).start()

    def forget_others(self) -> None:
        """Remove records and reports of runs that are older than the option allows."""
        forget_runs(self.folder.parent, self._config.option.keep_runs, running())

    def deployment_begins(self) -> None:
        """Tell workers that they may enter the site, and lead them from now on.

        :raises OSError: it cannot be written
        """
        if self._lanes:
            self._leads.take(who(self._run_id), f"run {self._run_id}")
        self.log.write({"event": BEGUN})

    def hear(self, event: Event) -> None:
        """Write an event and print it.

        :raises OSError: it cannot be written; the run is notified and ends
        """
        self.status.hear(event)
        try:
            self.log.write(event)
        except OSError as error:
            self.lost(error)
            # Workers wait for events, but no more will come.
            self._leads.release()
            raise
        if self._progress is not None:
            self._progress(event)

    def tell(self, event: Event) -> None:
        """The same, but ignore write errors."""
        with contextlib.suppress(OSError):  # already recorded there
            self.hear(event)

    def says(self, node: str, text: str) -> None:
        """Print progress at `node`."""
        self.tell({"event": "says", "node": node, "text": text})

    def lost(self, error: OSError, what: str = "") -> None:
        """Handle a write error: the run starts nothing more, and ends.

        :param what: what cannot be written, unless the error names a file
        """
        if self._worker:
            return  # the controlling process gets the same error, and ends the run
        if not self.unrecorded:
            what = what or str(error.filename or "a file of the run")
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            advice = "free space and start again" if full else "start again with a writable location"
            self.unrecorded = f"cannot write {what}: {error.strerror or error}; {advice}"
        self._halt(self.unrecorded)

    def _waits(self, text: str) -> None:
        """Print on the terminal what a test, or the end of the run, is waiting for."""
        self.tell({"event": "waits", "text": text, "lane": self._lane})

    def _show_waits_of_workers(self) -> None:
        tail = Tail(self.log.path)
        while not self._closed.wait(1):
            for event in tail.read():
                if event["event"] == "waits" and event.get("lane") and self._progress is not None:
                    self._progress(event)

    def let_go(self) -> None:
        """Release the terminal."""
        self._closed.set()
        self.status.stop()
        waiting.remove_listener(self._waits)

    def close(self) -> None:
        """Close the record."""
        self._leads.release()
