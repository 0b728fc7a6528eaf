#!/usr/bin/env python3
"""CPU time per node of a plan and of a deployment with nothing to do, for many nodes.

The nodes are simulated in this process, each with the same steps, so only the engine is measured: queries, changes,
schedule, events and output. The plan of the guide's steps is measured as well, per resource, since a controller has
more of them than a compute node.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from common import arguments, machine, main, site_of  # noqa: E402

from stackspec import engine as engine_module  # noqa: E402
from stackspec.cloud_inventory import CloudInventory  # noqa: E402
from stackspec.engine import Engine  # noqa: E402
from stackspec.errors import CannotTell  # noqa: E402
from stackspec.inventory import Node  # noqa: E402
from stackspec.openstack.cloud import SharedCloud  # noqa: E402
from stackspec.plugin import plan_output  # noqa: E402
from stackspec.resources import Command, Directory, File, IniFile, Lines, Packages, Resource, Service  # noqa: E402
from stackspec.secrets import Secrets  # noqa: E402
from stackspec.site import Site  # noqa: E402
from stackspec.step import STEPS, Step, load_steps  # noqa: E402
from stackspec.task import plan_of  # noqa: E402
from tests.unit.fake_nodes import FakeConnections  # noqa: E402

SERVICES = 10
FEW = 3
GUIDE = "plan of the guide's steps"


class NoCloud(SharedCloud):
    """A cloud that does not exist yet."""

    def list(self, kind: str) -> list[Any]:
        raise CannotTell("there is no cloud")

    def reachable(self) -> bool:
        return False


def site_with(nodes: int, pattern: Site) -> Site:
    """A site of one controller and compute nodes, otherwise as `pattern`."""
    described = pattern.inventory.model_dump(exclude_unset=True)
    controller, compute = (dict(described["nodes"][name]) for name in _one_of_each(pattern))
    described["nodes"] = {}
    for name, net in (("management", "10.99.0.0/16"), ("provider", "10.98.0.0/16")):
        described["networks"][name] = {"cidr": net}
    for number in range(nodes):
        tail = f"{1 + number // 200}.{1 + number % 200}"
        near = {"address": f"10.99.{tail}", "interface": "eth0"}
        far = {"address": f"10.98.{tail}", "interface": "eth1"}
        node = {**(compute if number else controller), "management": near, "provider": far}
        described["nodes"][f"compute{number:03}" if number else "controller"] = node
    described.pop("lab", None)
    return Site(CloudInventory.model_validate(described), pattern.release, Secrets())


def _one_of_each(site: Site) -> tuple[str, str]:
    computes = [node.name for node in site.with_role("compute") if "controller" not in node.roles]
    return site.controller.name, computes[0]


def equal_steps() -> dict[str, Step]:
    """Steps of every node, with 62 resources on each, about as many as the guide's compute nodes have."""

    def base(site: Site, node: Node) -> list[Resource]:
        hosts = tuple(f"{each.address} {each.name}" for each in site.nodes.values())
        return [File("/etc/hostname", f"{node.name}\n"), Lines("/etc/hosts", hosts)]

    def service(name: str) -> Callable[..., list[Resource]]:
        sections = {f"section{s}": {f"option{o}": f"value {o}" for o in range(8)} for s in range(4)}
        return lambda: [
            Packages(f"{name}-api"),
            Directory(f"/etc/{name}"),
            IniFile(f"/etc/{name}/{name}.conf", sections, own=("section1",)),
            File(f"/etc/{name}/policy.yaml", "{}\n" * 20),
            Command((f"{name}-manage", "db", name), unless=("look", name)),
            Service(f"{name}-api"),
        ]

    found = {"base": Step("base", "all", (), None, base)}
    for number in range(SERVICES):
        found[f"s{number}"] = Step(f"s{number}", "all", ("base",), None, service(f"s{number}"))
    return found


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this process, and the result."""
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


def plan(site: Site) -> Engine:
    """All that `--plan` does with the nodes."""
    engine = Engine(site, plan_of(site), STEPS)
    engine.shared._objects[SharedCloud] = NoCloud(site)
    engine.connections.open()
    engine.survey()
    config: Any = SimpleNamespace(pluginmanager=SimpleNamespace(getplugin=lambda name: None))
    plan_output.show(engine.tasks, config, Console(file=io.StringIO(), highlight=False, soft_wrap=True))
    return engine


def deploy(site: Site) -> Engine:
    """All that `--deploy` does with them; what tests wait for is waited for."""
    engine = Engine(site, plan_of(site), STEPS)
    engine.check_nodes()
    engine.start()
    for name in engine.steps:
        engine.settling(name)
        engine.wait(name)
    engine.join()
    assert {task.state for task in engine.tasks} == {"done"}
    return engine


def resources(engine: Engine) -> int:
    """How many were looked at."""
    return sum(len(task.resources) for task in engine.tasks)


def show(what: str, unit: str, times: dict[int, list[float]]) -> None:
    """A line: the cost per unit with few nodes and with many, and their ratio."""
    few, many = (median(each) * 1000 for each in times.values())
    sizes = list(times)
    print(f"{what}: {few:.2f} ms a {unit} with {sizes[0]} nodes, {many:.2f} with {sizes[1]}: ratio {many / few:.2f}")


def run() -> int:
    """Measure, and print the medians; 1 if the cost per node more than doubles."""
    parser = arguments(__doc__, rounds=5)
    parser.add_argument("--nodes", type=int, default=200, help="default: %(default)s")
    chosen = parser.parse_args()
    pattern = site_of(chosen.inventory)
    engine_module.NodeConnections = FakeConnections  # type: ignore[assignment,attr-defined]
    sites = {number: site_with(number, pattern) for number in (FEW, chosen.nodes)}
    rows: dict[str, dict[int, list[float]]] = {}

    def measure(what: str, size: int, work: Callable[[], Engine], count: Callable[[Engine], int]) -> None:
        seconds, engine = timed(work)
        rows.setdefault(what, {number: [] for number in sites})[size].append(seconds / count(engine))

    load_steps()
    for _ in range(chosen.rounds):
        for size, site in sites.items():
            measure(GUIDE, size, partial(plan, site), resources)
    STEPS.clear()
    STEPS.update(equal_steps())
    for size, site in sites.items():
        FakeConnections.prepared = {}
        for _ in range(chosen.rounds):
            measure("plan", size, partial(plan, site), lambda engine: len(engine.site.nodes))
        connections: Any = deploy(site).connections
        FakeConnections.prepared = {name: connections[name].state for name in site.nodes}
        for _ in range(chosen.rounds):
            measure("no-op", size, partial(deploy, site), lambda engine: len(engine.site.nodes))
    for what, times in rows.items():
        show(what, "resource" if what == GUIDE else "node", times)
    print(machine())
    return int(any(median(times[chosen.nodes]) > 2 * median(times[FEW]) for times in rows.values()))


if __name__ == "__main__":
    main(run)
