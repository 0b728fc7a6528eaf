"""A run's record while it goes: its events, what of them the terminal shows, and what if neither can be written."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from . import waiting
from .engine import Event
from .events import EventLog, Tail, forget_runs
from .lanes import BEGUN, LEADS
from .lock import Lock, who
from .progress import Progress
from .running import running
from .status import Status


class RunRecord:
    """What a run writes down, and tells on the terminal.

    :param config: pytest's configuration
    :param folder: where the run keeps its events and report
    :param run_id: whose record it is
    :param halt: called with the reason when something cannot be written, so that nothing more begins
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
        """Take hold of the terminal, before pytest captures what tests write to it, and say what is waited for."""
        self._progress = Progress(self._config, lambda error: self.lost(error, "to the terminal"))
        waiting.add_listener(self._waits)
        if self._worker:
            return
        self._config.pluginmanager.register(self.status, "stackspec-status")
        self.status.start()
        if self._lanes:
            threading.Thread(target=self._show_waits_of_workers, name="stackspec-waits", daemon=True).start()

    def forget_others(self) -> None:
        """Remove records and reports of runs that are older than the option says."""
        forget_runs(self.folder.parent, self._config.option.keep_runs, running())

    def deployment_begins(self) -> None:
        """Write that workers may enter the site, and lead them from now on.

        :raises OSError: it cannot be written
        """
        if self._lanes:
            self._leads.take(who(self._run_id), f"run {self._run_id}")
        self.log.write({"event": BEGUN})

    def hear(self, event: Event) -> None:
        """Write an event and tell of it.

        :raises OSError: it cannot be written; the run is told, and comes to its end
        """
        self.status.hear(event)
        try:
            self.log.write(event)
        except OSError as error:
            self.lost(error)
            # Workers wait for events: none come any more.
            self._leads.release()
            raise
        if self._progress is not None:
            self._progress(event)

    def tell(self, event: Event) -> None:
        """The same for an event that may be lost."""
        with contextlib.suppress(OSError):  # which is noted there
            self.hear(event)

    def says(self, node: str, text: str) -> None:
        """Tell what goes on at `node`."""
        self.tell({"event": "says", "node": node, "text": text})

    def lost(self, error: OSError, what: str = "") -> None:
        """Take note that something of the run cannot be written: it begins nothing more, and comes to its end.

        :param what: what cannot be written, when it is no file that the error names
        """
        if self._worker:
            return  # the controlling process meets the same, and ends the run
        if not self.unrecorded:
            what = what or str(error.filename or "a file of the run")
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            advice = "free space and start again" if full else "start again where it can be"
            self.unrecorded = f"cannot write {what}: {error.strerror or error}; {advice}"
        self._halt(self.unrecorded)

    def _waits(self, text: str) -> None:
        """Say on the terminal what a test, or the end of the run, waits for."""
        self.tell({"event": "waits", "text": text, "lane": self._lane})

    def _show_waits_of_workers(self) -> None:
        tail = Tail(self.log.path)
        while not self._closed.wait(1):
            for event in tail.read():
                if event["event"] == "waits" and event.get("lane") and self._progress is not None:
                    self._progress(event)

    def let_go(self) -> None:
        """Let go of the terminal."""
        self._closed.set()
        self.status.stop()
        waiting.remove_listener(self._waits)

    def close(self) -> None:
        """No more events come."""
        self._leads.release()
