"""Secrets of a site: generated once, stored in a 0600 file, and masked in all output."""

from __future__ import annotations

import base64
import json
import re
import secrets as _random
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from .lines import write_whole

MASK = "******"
_QUOTES = r"(?:[\"'\\]|&(?:quot|apos|#34|#39|#x27);)*"
HEADER = r"(?:X-(?:[a-z]+-)*Token|Authorization)"
_TOKEN = re.compile(
    # Tokens of keystone and of consoles: they grant the user's access while valid.
    r"gAAAAA[a-z0-9_-]{40,}(?:=|%3D)*|(?<=[?&]token=)[0-9a-f]{8}-[0-9a-f-]{27}"
    # The value of a header in any notation: request, dictionary, JSON, HTML or a pair.
    rf"|(?P<header>(?:{HEADER}{_QUOTES}[ \t]*[:=]|\({_QUOTES}{HEADER}{_QUOTES},)[ \t]*(?:b(?=[\"'\\&]))?{_QUOTES}"
    r"(?:(?:Basic|Bearer)[ \t]+)?)(?!(?:Basic|Bearer)\b)[\w.~+/=%-]+",
    re.IGNORECASE,
)
_SHORTEST_LINE = 16
"""Lines of a multi-line secret below this length are not masked by themselves: they occur in other texts as well."""


def hide_tokens(text: str) -> str:
    """`text` without tokens issued by services, which are not registered."""
    return _TOKEN.sub(lambda found: (found["header"] or "") + MASK, text)


_PASSWORD_IN_URL = re.compile(r"(?<=://)([^:/@\s]*):[^@\s]+@")


def hide_other(wanted: str, found: str) -> str:
    """`found` as it may be shown next to `wanted`: if the wanted value is secret, so is the found one.

    It is not registered: it was set manually, or by another installation.
    """
    if redact(wanted) == wanted or redact(found) != found:
        return found
    hidden = _PASSWORD_IN_URL.sub(rf"\1:{MASK}@", found)
    return f"another ({MASK})" if hidden == found and found[:1] in ("'", '"') else hidden


def hide_replaced(diff: str) -> str:
    """A unified diff without the old values that secrets replace."""
    lines = diff.splitlines(keepends=True)
    keys = {_key(line) for line in lines if line.startswith("+") and redact(line) != line}

    def shown(line: str) -> str:
        if not line.startswith("-") or line.startswith("---") or _key(line) not in keys or redact(line) != line:
            return line
        hidden = _PASSWORD_IN_URL.sub(rf"\1:{MASK}@", line)
        return hidden if hidden != line else f"-{_key(line)} = {MASK}\n"

    return "".join(shown(line) for line in lines)


def _key(line: str) -> str:
    """The part of a diff line before the first = or :."""
    return re.split("[=:]", line[1:], maxsplit=1)[0].strip()


class Redactor:
    """The one registry of secret values; every sink (console, log, report, exception) passes text through it."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._lock = threading.Lock()

    def add(self, value: str) -> str:
        """Register `value` as secret and return it."""
        if value:
            # A diff prefixes each line of a key, so each line is masked by itself, except the BEGIN and END lines.
            long = (line for line in value.splitlines() if len(line) >= _SHORTEST_LINE)
            lines = [line for line in long if not line.startswith("-----")]
            with self._lock:
                self._values.update([value] if len(lines) < 2 else [value, *lines])
        return value

    def __call__(self, text: str) -> str:
        """Return `text` with every registered secret, and every token, replaced by ``******``."""
        with self._lock:
            values = sorted(self._values, key=len, reverse=True)
        for value in values:
            if value in text:
                text = text.replace(value, MASK)
        return hide_tokens(text)

    def values(self) -> list[str]:
        """Every registered secret, for the test that searches reports for them."""
        with self._lock:
            return sorted(self._values)


redact = Redactor()


class Secrets:
    """Passwords and keys of a site by name, generated on first use.

    :param file: JSON file (0600) that stores them; None keeps them in memory only (a plan without a state directory)
    :param fixed: the value of every password, if given (the guide's ``000000``); keys are generated nevertheless,
        since no service accepts such a key
    :param given: secrets given by the user, which take precedence
    """

    def __init__(self, file: Path | None = None, *, fixed: str | None = None, given: dict[str, str] | None = None):
        self._file = file
        self._fixed = fixed
        self._lock = threading.RLock()
        self._kept = False
        self._values: dict[str, str] = {}
        self._given = given or {}
        self.read()

    def read(self) -> None:
        """Read the file again: the deploying process generates some secrets only when a step needs them."""
        with self._lock:
            self._loaded = self._file.read_text() if self._file is not None and self._file.exists() else ""
            self.learn(json.loads(self._loaded or "{}"))

    def learn(self, values: Mapping[str, str]) -> None:
        """Use `values` from another process of this run; secrets given by the user take precedence."""
        with self._lock:
            self._values |= {**values, **self._given}
            for value in self._values.values():
                redact.add(value)

    def values(self) -> dict[str, str]:
        """All secrets so far, for the workers of this run."""
        with self._lock:
            return dict(self._values)

    def keep(self) -> None:
        """Write secrets to the file from now on, including those generated so far.

        Until then secrets are in memory only: collecting tests or planning declares steps, but must change nothing.
        """
        with self._lock:
            self._kept = True
            self._save()

    @property
    def existed(self) -> bool:
        """Whether they were stored before this run: only then do they match an earlier deployment."""
        return bool(self._loaded or self._given or self._fixed)

    def is_stale(self) -> bool:
        """Whether another run has written the file since it was read, so that saving would overwrite its secrets."""
        now = self._file.read_text() if self._file is not None and self._file.exists() else ""
        return not self._kept and now != self._loaded

    def password(self, name: str) -> str:
        """The password called `name`: 24 letters and digits, which need no quoting in URLs, ini files or SQL."""
        if self._fixed is not None and name not in self._given:
            return redact.add(self._fixed)
        return self._get(name, lambda: _random.token_hex(12))

    def key(self, name: str, size: int = 32) -> str:
        """The key called `name`: `size` random bytes, URL-safe base64."""
        return self._get(name, lambda: base64.urlsafe_b64encode(_random.token_bytes(size)).decode())

    def document(self, name: str, make: Callable[[], str], usable: Callable[[str], bool]) -> str:
        """The text called `name`, such as a key with its certificate: created by `make`, and again if not `usable`."""
        with self._lock:
            found = self._get(name, make)
            if not usable(found):
                found = self._values[name] = redact.add(make())
                self._save()
            return found

    def _get(self, name: str, make: Callable[[], str]) -> str:
        with self._lock:
            if name not in self._values:
                self._values[name] = redact.add(make())
                self._save()
            return self._values[name]

    def _save(self) -> None:
        if self._file is None or not self._kept:
            return
        write_whole(self._file, json.dumps(self._values, indent=1))
