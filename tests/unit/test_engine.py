"""The engine's schedule, its package pool, its check after the work, and its ledger, on simulated nodes in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stackspec import engine as engine_module
from stackspec.engine import Engine, Event
from stackspec.errors import InputError, NodeError
from stackspec.inventory import Inventory
from stackspec.ledger import Ledger
from stackspec.node_agent import boot
from stackspec.release import load_release
from stackspec.resources import Command, File, IniFile, Packages, Resource, Service
from stackspec.resources.base import Context, Reference
from stackspec.secrets import Secrets
from stackspec.site import Site
from stackspec.step import STEPS, Step, closure, step
from stackspec.task import plan_of

from .fake_nodes import BARE, SITE, FakeConnections, fake

pytestmark = pytest.mark.usefixtures("no_traces")


class Prepared(FakeConnections):
    """Nodes in memory."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A simulated site of one controller and two compute nodes, all in memory, without steps."""
    Prepared.prepared = {}
    monkeypatch.setattr(engine_module, "Connections", Prepared)
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


# ---- the schedule


def test_step_starts_when_its_needs_are_done_on_all_nodes(site: Site) -> None:
    declare("base", command("base"), role="compute")
    declare("next", command("next"), needs=("base",))
    Prepared.prepared = {"three": {"seconds": {"command do base": 0.3}}}
    events: list[Event] = []
    deploy(site, listen=events.append)
    ends = {(e["step"], e["node"]): i for i, e in enumerate(events) if e["event"] == "step" and e["state"] == "done"}
    begins = {(e["step"], e["node"]): i for i, e in enumerate(events) if e.get("state") == "running"}
    assert begins["next", "one"] > max(ends["base", "two"], ends["base", "three"])
    assert events[-1] == {"event": "deployed", "changes": 3, "states": ["done"] * 3}


def test_independent_steps_overlap(site: Site, tmp_path: Path) -> None:
    """Each waits for the other's start: in sequence they could not finish."""
    left, right = (str(tmp_path / name) for name in ("left", "right"))
    declare("base", command("base"))
    declare("left", Command(("await", right), unless=("look", right)), needs=("base",))
    declare("right", Command(("await", left), unless=("look", left)), needs=("base",))

    def touch(event: Event) -> None:
        if event.get("state") == "running" and event["step"] in ("left", "right"):
            (tmp_path / event["step"]).touch()

    assert set(states(deploy(site, listen=touch)).values()) == {"done"}


def test_nodes_work_in_parallel(site: Site) -> None:
    declare("base", command("base"), role="all")
    Prepared.prepared = {name: {"seconds": {"command do base": 0.8}} for name in site.nodes}
    said: list[Event] = []
    deploy(site, listen=said.append)
    states = [each["state"] for each in said if each.get("step") == "base"]
    assert states == ["running"] * len(site.nodes) + ["done"] * len(site.nodes)


def test_only_selected_steps_and_their_needs_run(site: Site) -> None:
    for name, needs in {"a": (), "b": ("a",), "c": ("b",), "d": ("a",)}.items():
        declare(name, command(name), needs=needs)
    assert list(states(deploy(site, "c"))) == ["a on one", "b on one", "c on one"]


def test_step_argument_is_the_needed_step(site: Site) -> None:
    declare("base")

    @step(role="controller")
    def more(base: Step) -> Iterator[Resource]:
        yield command(f"after {base.name}")

    assert STEPS["more"].resources(site, site.controller) == [command("after base")]


def test_cyclic_needs_are_refused() -> None:
    declare("a", needs=("b",))
    declare("b", needs=("a",))
    with pytest.raises(ValueError, match="a -> b -> a"):
        closure(["a"])


def test_failure_blocks_dependents_and_names_the_cause(site: Site) -> None:
    declare("a", command("a"))
    declare("b", command("b"), needs=("a",))
    declare("c", command("c"), needs=("b",))
    declare("d", command("d"), needs=("a",))
    Prepared.prepared = {"one": {"broken": {"command do b": {"what": "do b", "exit_status": 1}}}}
    engine = deploy(site)
    assert states(engine) == {"a on one": "done", "b on one": "failed", "c on one": "blocked", "d on one": "done"}
    cause = engine.failure("c")
    assert cause is not None
    assert (cause.name, cause.failed_at, cause.error) == ("b on one", "do b", "do b\nexit status: 1")
    assert engine.failure("d") is None


def test_exception_in_a_resource_fails_its_step(site: Site) -> None:
    """A step whose code has an error does not block the run forever."""

    class Broken(File):
        def changes(self, context: Any) -> Any:
            raise RuntimeError("not thought of")

    declare("a", Broken("/etc/a", ""))
    declare("b", command("b"), needs=("a",))
    engine = deploy(site)
    assert engine.failure("b") is not None
    assert engine.tasks[0].error == "RuntimeError: not thought of"


def test_lost_node_fails_only_its_own_steps(site: Site) -> None:
    declare("base", command("base"), role="all")
    declare("server", Packages("server"), needs=("base",))
    declare("agent", Packages("agent"), needs=("base",), role="compute")
    engines: list[Engine] = []

    def lose(event: Event) -> None:
        if (event.get("step"), event.get("node"), event.get("state")) == ("base", "two", "done"):
            engines[0].connections["two"].close()

    engines.append(Engine(site, plan_of(site), STEPS, lose))
    engines[0].start()
    engines[0].join()
    found = states(engines[0])
    assert found.pop("agent on two") == "failed"
    assert set(found.values()) == {"done"}
    failure = engines[0].failure("agent")
    assert failure is not None
    assert failure.error == "the connection to two was lost"


# ---- packages


def test_packages_of_all_steps_are_one_transaction(site: Site) -> None:
    """After the root steps, which set up repositories and names, and install their own packages, if any."""
    declare("base", command("base"), Packages("curl"), role="all")
    declare("a", Packages("a", "common"), Service("a"), needs=("base",))
    declare("b", Packages("b", "common"), Service("b"), needs=("a",))
    declare("agent", Packages("agent"), needs=("b",), role="compute")
    engine = deploy(site)
    assert [entry for entry in log(engine) if "apt" in entry] == ["apt curl", "apt a common b"]
    assert [entry for entry in log(engine, "two") if "apt" in entry] == ["apt curl", "apt agent"]
    assert log(engine).index("command do base") < log(engine).index("apt a common b")


def test_failed_pool_fails_only_the_step_that_needs_the_package(site: Site) -> None:
    declare("base", command("base"))
    declare("a", Packages("a"), needs=("base",))
    declare("b", Packages("b"), needs=("base",))
    broken = {"what": "install packages", "exit_status": 100, "output": "E: Unable to locate package b"}
    Prepared.prepared = {"one": {"broken": {"apt a b": broken, "apt b": broken}}}
    events: list[Event] = []
    engine = deploy(site, listen=events.append)
    assert states(engine) == {"base on one": "done", "a on one": "done", "b on one": "failed"}
    cause = engine.failure("b")
    assert cause is not None
    assert cause.failed_at == "packages b"
    assert "Unable to locate package b" in cause.error
    pools = [(event["state"], event["count"]) for event in events if event["event"] == "packages"]
    assert pools == [("running", 2), ("failed", 2)]


def test_node_with_its_packages_gets_no_transaction(site: Site) -> None:
    declare("base", command("base"))
    declare("a", Packages("a"), needs=("base",))
    Prepared.prepared = {"one": {"packages": {"a": "1.0"}}}
    assert log(deploy(site)) == ["command do base"]


# ---- survey


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


# ---- the end of a run


def test_halted_run_starts_nothing_more(site: Site) -> None:
    declare("a", command("a"))
    declare("b", command("b"), needs=("a",))
    engines: list[Engine] = []

    def halt(event: Event) -> None:
        if event.get("step") == "a" and event["state"] == "running":
            engines[0].halt()

    engines.append(Engine(site, plan_of(site), ["b"], halt))
    engines[0].start()
    engines[0].join()
    assert states(engines[0]) == {"a on one": "done", "b on one": "blocked"}
    assert engines[0].tasks[1].error == "the run was stopped"


def full(event: Event) -> None:
    """The disk is full when the second step starts."""
    if event.get("step") == "b":
        raise OSError(28, "No space left on device", "/state/events.jsonl")


def test_unwritable_event_ends_the_run(site: Site) -> None:
    """Full disk or closed terminal: running tasks finish, nothing new starts, nobody waits, and the error says why."""
    declare("a", command("a"), role="all")
    declare("b", command("b"), needs=("a",))
    declare("c", command("c"), needs=("b",))
    engine = deploy(site, listen=full)
    assert list(states(engine).values()) == ["done", "done", "done", "blocked", "blocked"]
    assert [task.state for task in engine.wait("c")] == ["blocked"]
    assert "No space left on device: '/state/events.jsonl'; correct that, then run --deploy again" in engine.unrecorded
    assert engine.tasks[-1].cause is not None
    assert "No space left on device" in engine.tasks[-1].cause.error
    assert log(engine) == ["command do a"]


def test_step_that_cannot_be_recorded_is_not_started(site: Site) -> None:
    assert site.state is not None
    site.state.parent.joinpath("state").write_text("a file where the ledger's folder should be")
    declare("a", command("a"))
    engine = deploy(site)
    assert states(engine) == {"a on one": "blocked"}
    assert log(engine) == []
    assert engine.wait("a")[0].error == engine.unrecorded != ""


# ---- scale


def seconds_of(nodes: int, tmp_path: Path) -> float:
    """CPU time of a run on `nodes` nodes where each step does one thing, with the queries that tests make."""
    described = YAML(typ="safe").load(SITE)
    pattern = described["nodes"].pop("two")
    for number in range(nodes):
        near = {"address": f"10.99.{1 + number // 250}.{1 + number % 250}", "interface": "eth0"}
        far = {"address": f"10.98.{1 + number // 250}.{1 + number % 250}", "interface": "eth1"}
        described["nodes"][f"n{number}"] = {**pattern, "management": near, "provider": far}
    described["nodes"].pop("three")
    for name, net in (("management", "10.99.0.0/16"), ("provider", "10.98.0.0/16")):
        described["networks"][name] = {"cidr": net}
    site = Site(Inventory.model_validate(described), load_release("epoxy-trixie"), Secrets(), None)
    engine = Engine(site, plan_of(site), STEPS)
    began = time.process_time()
    engine.start()
    engine.join()
    for name in STEPS:
        engine.settling(name)
        engine.wait(name)
    spent = time.process_time() - began
    assert set(states(engine).values()) == {"done"}
    return spent


def test_cost_per_node_does_not_grow(site: Site, tmp_path: Path) -> None:
    """Iterating over all tasks for each task or node would make it ten times as expensive."""
    before: tuple[str, ...] = ()
    for number in range(8):
        declare(f"s{number}", command(f"s{number}"), Service(f"s{number}"), needs=before, role="compute")
        before = (f"s{number}",)
    few = min(seconds_of(20, tmp_path) for _ in range(2)) / 20
    assert min(seconds_of(200, tmp_path) for _ in range(2)) / 200 < 3 * few


# ---- secrets and ledger


def test_errors_events_and_ledger_contain_no_secret(site: Site) -> None:
    secret = site.password("nova")
    declare("a", File("/etc/a", f"password = {secret}\n"), command("a"))
    broken = {"what": "do a", "output": f"access denied for nova with {secret}"}
    Prepared.prepared = {"one": {"broken": {"command do a": broken}}}
    events: list[Event] = []
    engine = deploy(site, listen=events.append)
    assert "access denied for nova with ******" in engine.tasks[0].error
    diffs = [change["diff"] for event in events if event["event"] == "step" for change in event["changes"]]
    assert any("+password = ******" in diff for diff in diffs)
    assert all(diffs), "what has no diff says what differs"
    assert site.state is not None
    assert secret not in repr(events) + (site.state / "ledger.jsonl").read_text()


def test_ledger_keeps_the_latest_entry_and_tolerates_a_partial_line(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "state")
    assert ledger.last() == {}
    event = {"step": "a", "node": "one", "time": 1.0, "seconds": 0.5, "error": "", "changes": [{}]}
    ledger.write({**event, "state": "running"}, "abc")
    file = tmp_path / "state" / "ledger.jsonl"
    with file.open("a") as stream:
        stream.write('{"step": "a", "no')
    ledger.write({**event, "state": "done"}, "abc")
    assert ledger.last()["a", "one"] == {**event, "state": "done", "changes": 1, "declaration": "abc"}
    assert file.stat().st_mode & 0o777 == 0o600
    with file.open("a") as stream:
        stream.write('{}\n"text"\n[1]\n')
    assert ledger.last()["a", "one"]["state"] == "done"


def test_no_ledger_without_a_state_directory(tmp_path: Path) -> None:
    ledger = Ledger(None)
    ledger.write({}, "")
    assert ledger.last() == {}


def test_digest_changes_with_the_declaration(site: Site) -> None:
    declare("a", File("/etc/a", "1"))
    first = plan_of(site)[0].digest
    assert plan_of(site)[0].digest == first
    declare("a", File("/etc/a", "2"))
    assert plan_of(site)[0].digest != first


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
