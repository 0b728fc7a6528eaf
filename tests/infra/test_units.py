"""Units of systemd: none has failed, stands still, or restarts over and over."""

from __future__ import annotations

import time

import pytest

from stackspec.site import Site
from stackspec.testinfra_backend import HostOf

# A node whose power another test cuts is not looked at meanwhile: that test disturbs nova_compute.
looks_at_nodes = pytest.mark.steps("nova_compute")

YOUNG = 60
"""Seconds since its start for which a service may be one that ends each time."""
RESTARTS_WITHIN = 10
"""Seconds in which a service that ends each time has been started again."""


@looks_at_nodes
def test_no_failed_units(deployed: None, base: object, site: Site, node_host: HostOf) -> None:
    """systemd has nothing to complain about on any node. A later step may start what an earlier run could not."""
    problems = []
    for name in site.nodes:
        for line in node_host(name).check_output("systemctl --failed --plain --no-legend").splitlines():
            unit = line.split()[0]
            problems.append(f"{name}: {unit} has failed; see journalctl -u {unit} there")
    assert not problems, "\n".join(problems)


@looks_at_nodes
def test_no_service_is_frozen(deployed: None, base: object, site: Site, node_host: HostOf) -> None:
    """A process that SIGSTOP holds keeps its connections, and systemd and its peers call it alive."""
    problems = []
    for name in site.nodes:
        for line in node_host(name).check_output("ps -e -o stat=,unit=,pid=,args=").splitlines():
            state, unit, pid, command = line.split(maxsplit=3)
            if state.startswith("T"):
                problems.append(f"{name}: {unit} is stopped by a signal (SIGSTOP): process {pid}, {command[:60]}")
    assert not problems, "\n".join(problems)


@looks_at_nodes
def test_no_service_restarts_over_and_over(deployed: None, base: object, site: Site, node_host: HostOf) -> None:
    """systemd starts again what ends; one that ends each time looks alive whenever somebody looks."""

    def restarts(name: str) -> dict[str, int]:
        host, what = node_host(name), "Id,NRestarts,ExecMainStartTimestampMonotonic"
        shown = host.check_output("systemctl show --type=service --property=%s '*'", what)
        now = float(host.check_output("cut -d' ' -f1 /proc/uptime"))
        found = [dict(line.split("=", 1) for line in each.splitlines()) for each in shown.split("\n\n") if each]
        return {
            each["Id"]: int(each["NRestarts"])
            for each in found
            if int(each.get("NRestarts", 0)) > 1 and now - int(each[what.split(",")[2]]) / 1e6 < YOUNG
        }

    problems, first = [], {name: restarts(name) for name in site.nodes}
    if any(first.values()):
        time.sleep(RESTARTS_WITHIN)
    for name, before in first.items():
        for unit, count in restarts(name).items() if before else ():
            if count > before.get(unit, count):
                since = count - before[unit]
                problems.append(
                    f"{name}: {unit} restarts over and over: started again {count} times by systemd, {since} of them "
                    f"in {RESTARTS_WITHIN} s; see journalctl -u {unit} there"
                )
    assert not problems, "\n".join(problems)
