"""Errors shown to users. Each says what failed, where, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass

from .secrets import redact


class StackspecError(Exception):
    """Base of every error that stackspec raises on purpose."""


class InputError(StackspecError):
    """An unusable inventory, option or environment. Ends the run with status 4 before anything is changed."""


class NodeError(StackspecError):
    """A node cannot be reached, or its answer is not a result."""


class CannotTell(StackspecError):
    """Something could not be read, which does not mean that it is missing. Says why."""


@dataclass
class ActionError(StackspecError):
    """An operation on a node or in an API that failed while a change was applied.

    :param what: the operation in a few words, for example ``start keystone``
    :param command: the command line without secrets, if there was one
    :param exit_status: its exit status
    :param output: the end of its output
    :param journal: the end of the unit's journal
    :param advice: what to do next
    """

    what: str
    command: str = ""
    exit_status: int | None = None
    output: str = ""
    journal: str = ""
    advice: str = ""

    def __str__(self) -> str:
        lines = [self.what]
        if self.command:
            lines.append(f"command: {self.command}")
        if self.exit_status is not None:
            lines.append(f"exit status: {self.exit_status}")
        if self.output.strip():
            lines.append("output (its end):\n" + _indent(self.output))
        if self.journal.strip():
            lines.append("journal (its end):\n" + _indent(self.journal))
        if self.advice:
            lines.append(f"next: {self.advice}")
        return "\n".join(lines)


def _indent(text: str, limit: int = 4000) -> str:
    # Mask before cutting: half a secret would not be recognised.
    return "\n".join("    " + line for line in redact(text).strip()[-limit:].splitlines())
