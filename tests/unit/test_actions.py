"""The operations and queries of resources match those of the node agent and those of the simulated nodes."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from typing import Any

import pytest

from stackspec.node_agent import loop
from stackspec.resources import actions, base
from stackspec.resources.actions import Execute, NodeAction, Write
from stackspec.site import Site

from .bare import ANSWERS
from .fake_nodes import WORDS, FakeConnection, describe

TYPES: list[type[NodeAction]] = [
    each for each in vars(actions).values() if isinstance(each, type) and NodeAction in each.__bases__
]

LISTS = ("argv", "names", "packages", "statuses", "units")
"""Parameters of operations that are lists."""


def test_each_operation_has_one_type() -> None:
    assert sorted(each.op for each in TYPES) == sorted(loop.OPERATIONS)


@pytest.mark.parametrize("action", TYPES, ids=lambda each: each.__name__)
def test_fields_match_the_parameters_of_the_operation(action: type[NodeAction]) -> None:
    """Same names and defaults, because a default is not sent; `say` belongs to the agent."""
    parameters = inspect.signature(loop.OPERATIONS[action.op]).parameters.values()
    taken = {each.name: MISSING if each.default is each.empty else each.default for each in parameters}
    taken.pop("say", None)
    assert {each.name: each.default for each in fields(action)} == taken


def test_agent_and_simulated_nodes_answer_every_query() -> None:
    makers = [each for each in vars(base).values() if getattr(each, "__annotations__", {}).get("return") == "Query"]
    queries = [each(*inspect.getfullargspec(each).args) for each in makers]
    assert sorted(each.op for each in queries) == sorted(["unit", "package", *loop.QUERIES]) == sorted(ANSWERS)
    for each in queries:
        inspect.signature(loop.QUERIES.get(each.op, lambda name: None)).bind(*each.args)
        assert callable(getattr(FakeConnection, f"_{each.op}"))


def test_simulated_nodes_apply_every_operation(site: Site) -> None:
    """With the arguments that it requires; one that they do not know is an error."""
    assert sorted(WORDS) == sorted(loop.OPERATIONS)
    connection = FakeConnection(site.controller, None)
    for op, function in loop.OPERATIONS.items():
        required = [each for each in inspect.signature(function).parameters.values() if each.default is each.empty]
        arguments: dict[str, Any] = {each.name: ["a"] if each.name in LISTS else "a" for each in required}
        describe({"op": op, **arguments})
        connection._change(op, **arguments)
    with pytest.raises(AssertionError, match="has no operation explode"):
        connection._change("explode")


def test_simulated_nodes_remove_folders(site: Site) -> None:
    connection = FakeConnection(site.controller, None, {"files": {"/opt/a": {}, "/opt/a/b": {}, "/opt/ab": {}}})
    connection._change("remove", path="/opt/a")
    assert list(connection.state["files"]) == ["/opt/ab"]


def test_message() -> None:
    """Given fields are sent, lazily computed ones too; each repair command of a command is a message as well."""
    repair = Execute(("rm", "x"), timeout=5.0)
    assert Write("/etc/a", lambda: b"fetched", mode=0).message() == {
        "op": "write",
        "path": "/etc/a",
        "content": b"fetched",
        "mode": 0,
    }
    assert Execute(("make", "x"), expect=(0, 1), repair=(repair,)).message() == {
        "op": "command",
        "argv": ("make", "x"),
        "expect": (0, 1),
        "repair": ({"op": "command", "argv": ("rm", "x"), "timeout": 5.0},),
    }


def test_actions_show_no_secret() -> None:
    """Tracebacks and failed comparisons print actions."""
    repair = (Execute(("b",), "hidden"),)
    shown = [
        Write("/etc/a", "hidden"),
        Execute(("a",), "hidden", env={"PASSWORD": "hidden"}, repair=repair),
        actions.AwaitCommand(("a",), "hidden"),
    ]
    assert "hidden" not in repr(shown)
