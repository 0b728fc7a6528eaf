"""Deployments of made-up steps on simulated nodes in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stackspec import engine as engine_module
from stackspec.engine import Engine, Event
from stackspec.inventory import Inventory
from stackspec.release import load_release
from stackspec.resources import Command, Resource
from stackspec.secrets import Secrets
from stackspec.site import Site
from stackspec.step import STEPS, Step
from stackspec.task import plan_of

from .fake_nodes import SITE, FakeConnections, fake


class Prepared(FakeConnections):
    """Nodes in memory."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_traces: None) -> Site:
    """A simulated site of one controller and two compute nodes, all in memory, without steps."""
    Prepared.prepared = {}
    monkeypatch.setattr(engine_module, "NodeConnections", Prepared)
    STEPS.clear()
    inventory = Inventory.model_validate(YAML(typ="safe").load(SITE))
    return Site(inventory, load_release("epoxy-trixie"), Secrets(), tmp_path / "state")


def declare(name: str, *resources: Resource, needs: tuple[str, ...] = (), role: str = "controller") -> None:
    """Register a step."""
    STEPS[name] = Step(name, role, needs, None, lambda: resources)


def deploy(site: Site, *names: str, listen: Callable[[Event], None] = lambda event: None) -> Engine:
    """Deploy steps (all by default) and wait for the end."""
    engine = Engine(site, plan_of(site), names or STEPS, listen)
    engine.check_nodes()
    engine.start()
    engine.join()
    return engine


def states(engine: Engine) -> dict[str, str]:
    return {task.name: task.state for task in engine.tasks}


def log(engine: Engine, node: str = "one") -> list[str]:
    return [*fake(engine, node).state["log"]]


def command(word: str) -> Command:
    """A command whose effect the simulated node knows."""
    return Command(("do", word), unless=("look", word))
