"""The ledger: which steps ran, when, with which result. Informational only; the check determines the actual state."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, ClassVar

from .lines import append_line


class Ledger:
    """Lines of JSON in the site's state directory.

    :param state: the directory; None: no ledger
    """

    ON_NODE: ClassVar[str] = "/var/lib/stackspec/ledger.jsonl"
    """The node's own copy, written by any deployer."""

    def __init__(self, state: Path | None) -> None:
        self._file = state / "ledger.jsonl" if state else None
        self._lock = threading.Lock()

    @staticmethod
    def line(event: dict[str, Any], digest: str) -> str:
        """One entry: step, node, state, time, seconds, number of changes, hash of the declaration."""
        entry = {key: event[key] for key in ("step", "node", "state", "time", "seconds", "error")}
        return json.dumps({**entry, "changes": len(event["changes"]), "declaration": digest})

    def write(self, event: dict[str, Any], digest: str) -> None:
        """Append an entry in one write call, so that a kill rarely leaves half a line."""
        if self._file is None:
            return
        with self._lock:
            append_line(self._file, self.line(event, digest), sync=True)

    def last(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The newest entry of each (step, node)."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        if self._file is not None and self._file.exists():
            for line in self._file.read_text(errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # torn by a kill
                if isinstance(entry, dict) and "step" in entry and "node" in entry:
                    found[entry["step"], entry["node"]] = entry
        return found
