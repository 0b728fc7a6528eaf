"""When a step starts: after its needs, beside others, and not after a failure or the end of the run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stackspec.engine import Engine, Event
from stackspec.inventory import Inventory
from stackspec.release import load_release
from stackspec.resources import Command, File, Packages, Resource, Service
from stackspec.secrets import Secrets
from stackspec.site import Site
from stackspec.step import STEPS, Step, closure, step
from stackspec.task import plan_of

from . import engine_runs
from .engine_runs import Prepared, command, declare, deploy, states
from .fake_nodes import SITE

site = engine_runs.site
pytestmark = pytest.mark.usefixtures("no_traces")


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
