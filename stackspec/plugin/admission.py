"""Decides whether a test may run: for each cause one test fails, and all others it blocks are skipped."""

from __future__ import annotations

import pytest

from ..engine import STOPPED
from ..ports import Cloud
from ..site import Site
from ..step import Step
from .deployment import FailedStep
from .lanes import Claims


class Admission:
    """Fails or skips a test that must not run.

    :param told: causes for which a test has already failed, in any process of the run
    """

    def __init__(self, told: Claims) -> None:
        self.told = told
        self.refused = ""
        self._refusal_told = False

    def refuse(self, reason: str) -> None:
        """Block all further tests, if the run itself cannot be ended."""
        self.refused = reason

    def by_run(self) -> None:
        """Fail or skip a test because the run has stopped."""
        if not self.refused:
            return
        if not self._refusal_told:
            self._refusal_told = True
            pytest.fail(self.refused, pytrace=False)
        pytest.skip(self.refused.splitlines()[0])

    def by_step(self, cause: FailedStep | None) -> None:
        """Fail or skip a test if a step that it needs cannot be done."""
        if cause is None:
            return
        if cause.first != STOPPED and self.told.claim(cause.name):
            pytest.fail(cause.text, pytrace=False)
        pytest.skip(f"blocked by {cause.name}: {cause.first}")

    def by_login(self, refusal: str) -> None:
        """Fail or skip a test if its user cannot log in to the cloud; `refusal` says why, or is empty."""
        if not refusal:
            return
        if self.told.claim("login"):
            pytest.fail(refusal, pytrace=False)
        pytest.skip(f"blocked by keystone: {refusal}")

    def by_site(self, step: Step, site: Site) -> None:
        """Skip a test of a step that is not in this site."""
        if reason := step.lacks(site):
            pytest.skip(f"{step.name} is not part of the site {site.name}: {reason}")

    def by_cloud(self, step: Step, cloud: Cloud) -> None:
        """Skip a test of a service that this cloud lacks."""
        if step.provides is not None and step.provides not in cloud.types():
            pytest.skip(f"service {step.provides} is not in this cloud")
