"""Prints engine events on the terminal as they happen, between pytest's own lines."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO, cast

import pytest
from _pytest.config import create_terminal_writer

from ..masking import mask
from ..report.model import plural

SAY_EVERY = 5.0
"""Seconds between two lines about the same package transaction."""


class Terminal:
    """The terminal or its redirection; write errors are reported to `lost` and raise nothing.

    :param stream: where it writes
    :param lost: called with each write error
    """

    def __init__(self, stream: TextIO, lost: Callable[[OSError], None]) -> None:
        self._stream, self._lost = stream, lost

    def write(self, text: str) -> int:
        """Write `text`."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Flush buffered output."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        # Discard the buffer; otherwise Python fails at exit.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            self._stream.flush()
        self._lost(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Progress:
    """Prints the events that it is called with.

    It writes directly to the terminal, bypassing pytest's capture, from any thread. `-q` shows only failures and the
    last line, `-qq` nothing, `-v` also steps that start or had nothing to do.

    :param config: the run's configuration; the terminal reporter must exist, so create it in `pytest_configure` at the
        earliest
    :param lost: called with the error if the terminal cannot be written; pytest's own lines are then dropped, too
    """

    def __init__(self, config: pytest.Config, lost: Callable[[OSError], None] | None = None) -> None:
        self._verbosity = config.get_verbosity()
        self._reporter: Any = config.pluginmanager.getplugin("terminalreporter")
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}
        if self._reporter is not None:
            here = _uncaptured(self._reporter._tw._file)
            if lost is not None:
                self._reporter._tw._file = Terminal(self._reporter._tw._file, lost)
            self._writer = create_terminal_writer(config, cast(TextIO, Terminal(here, lost)) if lost else here)

    def __call__(self, event: dict[str, Any]) -> None:
        """Print `event`, if the verbosity includes it."""
        if self._reporter is None or self._verbosity < -1:
            return
        show = {
            "step": self._step,
            "packages": self._packages,
            "says": self._says,
            "waits": self._waits,
            "status": self._status,
            "deployed": self._deployed,
        }
        if (kind := show.get(str(event.get("event")))) is not None:
            kind(event)

    def _step(self, event: dict[str, Any]) -> None:
        state, count = event["state"], len(event.get("changes") or [])
        error = str(event.get("error") or "")
        if state == "failed":
            at = f"at: {event['failed_at']}\n" if event.get("failed_at") else ""
            self._line(event["node"], event["step"], state, f"{event['seconds']:.1f} s", below=at + error)
        elif state == "blocked":
            self._line(event["node"], event["step"], state, error.splitlines()[0] if error else "", yellow=True)
        elif state == "done" and (count or event["seconds"] or self._verbosity > 0):
            done = f"{count} {plural(count, 'change')}" if count else "no change"
            self._line(event["node"], event["step"], state, f"{done:<12} {event['seconds']:.1f} s", green=True)
        elif state == "running" and self._verbosity > 0:
            self._line(event["node"], event["step"], state, "")

    def _packages(self, event: dict[str, Any]) -> None:
        node, state, count = event["node"], event["state"], event.get("count", 0)
        amount = f"{count} {plural(count, 'package')}"
        if state == "failed":
            self._line(node, "packages", state, f"{event['seconds']:.1f} s", below=str(event.get("error") or ""))
        elif state == "done":
            self._line(node, "packages", state, f"{amount:<12} {event['seconds']:.1f} s", green=True)
        else:
            self._said[node] = time.monotonic()
            self._line(node, "packages", state, amount)

    def _says(self, event: dict[str, Any]) -> None:
        node, now = event["node"], time.monotonic()
        if now - self._said.get(node, -SAY_EVERY) >= SAY_EVERY:
            self._said[node] = now
            self._line(node, "", "", str(event.get("text", "")).strip(), light=True)

    def _waits(self, event: dict[str, Any]) -> None:
        self._line("tests", str(event.get("lane") or ""), "waiting", event["text"], light=True)

    def _status(self, event: dict[str, Any]) -> None:
        self._line("run", "", "so far", event["text"])

    def _deployed(self, event: dict[str, Any]) -> None:
        count, states = event["changes"], list(event.get("states") or [])
        bad = [f"{states.count(state)} {state}" for state in ("failed", "blocked") if state in states]
        if count == 0 and not bad:
            self._print("0 changes")
            return
        done = f"{count} {plural(count, 'change')}" if count else "no change"
        self._print(", ".join([f"deployed: {done} in {time.monotonic() - self._began:.1f} s", *bad]))

    def _line(self, node: str, step: str, state: str, text: str, *, below: str = "", **markup: bool) -> None:
        if self._verbosity < 0 and state != "failed":
            return
        since = time.monotonic() - self._began
        line = f"[{since:7.1f}s] {node:<11} {step:<13} {state:<8} {text}".rstrip()
        width = self._writer.fullwidth
        if not below:
            line = line if len(line) < width or state else line[: width - 4] + "..."
        rest = "".join(f"\n    {each}" for each in mask(below).splitlines())
        self._print(line + rest, **({"red": True} if state == "failed" else markup))

    def _print(self, text: str, **markup: bool) -> None:
        with self._lock:
            begin = ""
            if self._reporter._tw.width_of_current_line:  # pytest is in the middle of a line of dots
                begin = "\n"
                self._reporter._tw._current_line = ""
                self._reporter.currentfspath = None  # so that pytest prints the file name again
            self._writer.write(begin + self._writer.markup(mask(text), **markup) + "\n", flush=True)


def _uncaptured(stream: TextIO) -> TextIO:
    """A stream to the current target of `stream`, unaffected when pytest later redirects the file descriptor."""
    with contextlib.suppress(OSError, AttributeError):  # not every stream has a descriptor
        encoding = stream.encoding or "utf-8"
        return os.fdopen(os.dup(stream.fileno()), "w", encoding=encoding, errors="replace")
    return stream
