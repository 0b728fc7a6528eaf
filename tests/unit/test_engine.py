"""What the engine does on a node: it reads once, changes what differs, and checks again."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from stackspec import engine as engine_module
from stackspec.engine import Engine, Event
from stackspec.errors import InputError, NodeError
from stackspec.node_agent import boot
from stackspec.resources import Command, File, IniFile, Service
from stackspec.resources.base import Context, Reference
from stackspec.site import Site
from stackspec.step import STEPS
from stackspec.task import plan_of

from . import engine_runs
from .engine_runs import Prepared, command, declare, deploy, log, states
from .fake_nodes import BARE, fake

site = engine_runs.site


def test_state_as_declared_is_read_once_and_not_changed(site: Site) -> None:
    declare("base", File("/etc/a", "text"))
    declare("next", command("next"), needs=("base",))
    Prepared.prepared = {"one": {"files": {"/etc/a": {"content": "text"}}, "effects": ["next"]}}
    Prepared.prepared["one"]["files"] |= BARE["files"]
    engine = deploy(site)
    assert fake(engine, "one").batches == []
    assert site.state is not None
    assert not (site.state / "ledger.jsonl").exists()


def test_units_held_by_a_killed_run_are_released(site: Site) -> None:
    """Their step is done and does nothing again: otherwise they would stay off at the next boot."""
    declare("base", Service("a"))
    files = BARE["files"] | {boot.HELD: {"content": "a\n"}}
    unit = {"load": "loaded", "active": "active", "enabled": "enabled"}
    Prepared.prepared = {"one": {"files": files, "units": {"a": unit}}}
    assert fake(deploy(site), "one").batches == [["in_service"]]


def test_restart_mark_is_written_before_the_change(site: Site) -> None:
    """A run killed in between still leaves units marked for a restart; for files, their content shows it."""
    declare("base", Command(("do", "it"), unless=("look", "it"), restarts=True), File("/etc/a", "1"))
    made, *_ = fake(deploy(site), "one").batches
    assert made == ["outdate do it", "command do it", "write /etc/a"]


def test_difference_after_apply_is_a_failure(site: Site) -> None:
    """Something on the node reverts the change: the same run detects it."""
    declare("base", File("/etc/a", "wanted"))
    Prepared.prepared = {"one": {"ignored": ["write /etc/a"]}}
    engine = deploy(site)
    cause = engine.failure("base")
    assert cause is not None
    assert cause.failed_at == "/etc/a"
    assert "/etc/a still differs after it was applied: /etc/a: wanted present, found absent" in cause.error
    assert "\n+wanted\n" in cause.error
    assert "next: something else on the node sets it back" in cause.error


def test_service_restarts_once_when_its_files_change(site: Site) -> None:
    declare("a", File("/etc/a", "1"), File("/etc/b", "2"), Service("a"))
    engine = deploy(site)
    assert log(engine).count("systemctl restart a") == 1
    assert log(engine).index("write /etc/b") < log(engine).index("systemctl restart a")
    again = fake(engine, "one").state
    Prepared.prepared = {"one": again | {"log": []}}
    assert log(deploy(site)) == []


def test_service_started_before_its_file_was_written_restarts(site: Site) -> None:
    """A run killed between writing and restarting leaves this state; the next one detects it."""
    declare("a", File("/etc/a", "1"), Service("a"))
    state = fake(deploy(site), "one").state
    state["units"]["a"]["started"] -= 100
    Prepared.prepared = {"one": state | {"log": []}}
    assert log(deploy(site)) == ["systemctl restart a", "await_active a"]


def test_file_of_several_steps_is_written_once(site: Site) -> None:
    """By the first one, so that no later one restarts its service; a file with values known only later waits."""

    class Later(Reference):
        def resolve(self, context: Context) -> str | None:
            return "id"

    conf = "/etc/a.conf"
    declare("a", IniFile(conf, {"a": {"y": "own"}}), Service("a"))
    declare("b", IniFile(conf, {"a": {"x": "1", "y": "theirs"}, "b": {"z": None}}, own=("b",)), needs=("a",))
    declare("c", IniFile(conf, {"c": {"id": Later()}, "d": {"x": 1}}), needs=("a",))
    declare("d", IniFile(conf, {"e": {"x": 1}}), role="compute")
    plan = plan_of(site)
    assert plan[0].resources[0] == IniFile(conf, {"a": {"y": "own", "x": "1"}, "b": {"z": None}}, own=("b",))
    assert [task.resources for task in plan[1:]] == [
        STEPS[task.step.name].resources(site, task.node) for task in plan[1:]
    ]


def test_survey_reads_each_node_once(site: Site) -> None:
    declare("base", command("base"), File("/etc/a", ""), role="all")
    declare("next", File("/etc/b", ""), needs=("base",), role="all")
    engine = Engine(site, plan_of(site), ["next"])
    engine.survey()
    engine.survey()
    assert [fake(engine, name).queries_sent for name in site.nodes] == [1, 1, 1]
    assert [len(finding.changes) for task in engine.tasks for finding in task.findings] == [1] * 9


def test_node_of_another_release_is_refused_before_any_change(site: Site) -> None:
    declare("base", command("base"), role="all")
    Prepared.prepared = {"two": {"files": {}}, "three": {"unreachable": "not reachable by ssh"}}
    with pytest.raises(InputError, match="node three: not reachable by ssh"):
        deploy(site)
    Prepared.prepared["three"] = {}
    with pytest.raises(InputError, match="node two: runs an unknown system") as caught:
        deploy(site)
    assert "has no interface eth0, configured in nodes.two.management" in str(caught.value)


def test_lost_node_fails_the_survey_before_slower_nodes_answer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Units may take a minute to start; meanwhile the wait is reported."""
    declare("base", command("base"), role="all")
    engine, slow = Engine(site, plan_of(site), STEPS, lambda event: said.append(event)), threading.Event()
    said: list[Event] = []
    monkeypatch.setattr(engine_module, "SAY_EVERY", 0.05)
    engine.check_nodes()

    def wait(queries: Any) -> Any:
        slow.wait(120)
        raise NodeError("too late")

    def lost(queries: Any) -> Any:
        time.sleep(0.5)
        raise NodeError("the connection to two was lost")

    monkeypatch.setattr(engine.connections["one"], "facts", wait)
    monkeypatch.setattr(engine.connections["two"], "facts", lost)
    began = time.monotonic()
    engine.start()
    engine.join()
    slow.set()
    assert time.monotonic() - began < 60
    assert set(states(engine).values()) == {"failed"}
    assert "the connection to two was lost" in engine.tasks[0].error
    assert {(each["node"], each["text"]) for each in said if each["event"] == "says"} >= {
        ("one", "has not answered the first query yet")
    }
