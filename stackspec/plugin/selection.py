"""Which steps a test needs, and the fixtures by which it says so."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any

import pytest

from ..step import STEPS, Step


def fixtures_of_steps() -> types.ModuleType:
    """A session fixture for each step, whose arguments are the steps that it needs."""
    module = types.ModuleType("stackspec.steps.fixtures")
    for each in STEPS.values():
        setattr(module, each.name, pytest.fixture(scope="session", name=each.name)(_fixture_function(each)))
    return module


def _fixture_function(step: Step) -> Callable[..., Step]:
    def wait(**_needs: object) -> Step:
        return step

    wait.__doc__ = step.declare.__doc__
    wait.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY) for each in step.needs]
    )
    return wait


def direct_steps(item: pytest.Item) -> list[str]:
    """The steps that a test or its fixtures request directly: not those that only other steps need."""
    info: Any = getattr(item, "_fixtureinfo", None)
    todo, seen = list(info.initialnames) if info is not None else [], set[str]()
    while todo:
        name = todo.pop()
        if name not in seen and name not in STEPS:
            todo += [each for fixture in info.name2fixturedefs.get(name, ()) for each in fixture.argnames]
        seen.add(name)
    return [name for name in required_steps(item) if name in seen or name not in item.fixturenames]  # type: ignore[attr-defined]


def required_steps(item: pytest.Item) -> list[str]:
    """The steps that a test needs: from its arguments, parameter and marks, with all steps that these need."""
    names = [name for name in getattr(item, "fixturenames", ()) if name in STEPS]
    callspec = getattr(item, "callspec", None)
    if callspec is not None and "declared" in callspec.params:
        names.append(callspec.params["declared"].task.step.name)
    for mark in item.iter_markers("steps"):
        names += mark.args
    return list(dict.fromkeys(names))


def needs_all(item: pytest.Item) -> bool:
    """Whether a test checks the result of all steps, such as the drift test."""
    return not {"declared", "deployed"}.isdisjoint(getattr(item, "fixturenames", ()))
