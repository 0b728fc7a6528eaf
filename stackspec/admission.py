"""Whether a test may run: one fails for each cause, and the others that it keeps from running are skipped for it."""

from __future__ import annotations

import pytest

from .engine import STOPPED
from .lanes import Cause, Claims


class Admission:
    """Fails or skips a test that may not run.

    :param told: causes that a test has failed for, in this process or another of the run
    """

    def __init__(self, told: Claims) -> None:
        self.told = told
        self.refused = ""
        self._refusal_told = False

    def refuse(self, reason: str) -> None:
        """Let no test run from now on, where the run cannot be ended."""
        self.refused = reason

    def by_run(self) -> None:
        """Fail or skip a test of a run that refuses them."""
        if not self.refused:
            return
        if not self._refusal_told:
            self._refusal_told = True
            pytest.fail(self.refused, pytrace=False)
        pytest.skip(self.refused.splitlines()[0])

    def by_step(self, cause: Cause | None) -> None:
        """Fail or skip a test for what keeps a step that it needs from being done, if something does."""
        if cause is None:
            return
        if cause.first != STOPPED and self.told.claim(cause.name):
            pytest.fail(cause.text, pytrace=False)
        pytest.skip(f"blocked by {cause.name}: {cause.first}")

    def by_login(self, refusal: str) -> None:
        """Fail or skip a test for a cloud that does not admit its user; `refusal` says why, or is empty."""
        if not refusal:
            return
        if self.told.claim("login"):
            pytest.fail(refusal, pytrace=False)
        pytest.skip(f"blocked by keystone: {refusal}")
