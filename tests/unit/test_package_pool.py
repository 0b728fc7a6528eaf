"""The packages of all steps of a node are one transaction; a failed one fails only the steps that need it."""

from __future__ import annotations

from stackspec.engine import Event
from stackspec.resources import Packages, Service
from stackspec.site import Site

from . import engine_runs
from .engine_runs import Prepared, command, declare, deploy, log, states

site = engine_runs.site


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
