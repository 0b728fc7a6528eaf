"""Fixtures shared by the tests of engine and plugin: isolation of this process, and runs of pytest in it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from stackspec import engine, release, secrets, step
from stackspec.plugin import hooks as plugin
from stackspec.site import Site

from .bare import ChangeOf, change_of, lab_site, planned
from .plugin_runs import HERE, Runs


@pytest.fixture
def no_traces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo everything that a test adds to this process: steps, secrets and patches."""
    steps, values = dict(step.STEPS), set(secrets.redact._values)
    for owner, name in (
        (engine, "NodeConnections"),
        (plugin, "load_steps"),
        (plugin, "_fixture_modules"),
        (release, "_folder"),
        (socket, "getaddrinfo"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    yield
    step.STEPS.clear()
    step.STEPS.update(steps)
    secrets.redact._values = values


@pytest.fixture
def runs(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, no_traces: None) -> Runs:
    """Runs of pytest with the plugin, six simulated steps and three simulated bare nodes."""
    pytester.syspathinsert(str(HERE))
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=os.pathsep)
    monkeypatch.setenv("STACKSPEC_STATE", str(pytester.path / "state"))
    monkeypatch.setenv("STACKSPEC_INVENTORY", str(pytester.path / "site.yaml"))
    monkeypatch.delenv("OS_CLOUD", raising=False)
    monkeypatch.delenv("OS_AUTH_URL", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    # pytest prints more when it detects CI.
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    return Runs(pytester)


@pytest.fixture
def site() -> Site:
    """The lab's site, planned without state."""
    return lab_site()


@pytest.fixture
def guide() -> Site:
    """The guide's machines: three are compute nodes, two of which are also storage nodes."""
    return planned("guide")


@pytest.fixture
def change(site: Site) -> ChangeOf:
    """The change of a resource on the controller for the given facts, or None."""
    return lambda resource, known=None: change_of(resource, site, known)
