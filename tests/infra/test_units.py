"""systemd units: none has failed, is frozen, or keeps restarting."""

from __future__ import annotations

import time

import pytest

from stackspec.plugin.testinfra_backend import HostOf
from stackspec.site import Site

# Not run while another test cuts the power of a node: that test disturbs nova_compute.
looks_at_nodes = pytest.mark.steps("nova_compute")

YOUNG = 60
"""A service that started within this many seconds may be in a restart loop."""
RESTARTS_WITHIN = 10
"""Seconds within which a service in a restart loop restarts."""


@looks_at_nodes
def test_no_failed_units(deployed: None, base: object, site: Site, node_host: HostOf) -> None:
    """No node has failed units. A later step may start units that failed in an earlier run."""
    problems = []
    for name in site.nodes:
        for line in node_host(name).check_output("systemctl --failed --plain --no-legend").splitlines():
            unit = line.split()[0]
            problems.append(f"{name}: {unit} has failed; see journalctl -u {unit} there")
    assert not problems, "\n".join(problems)


@looks_at_nodes
def test_no_service_is_frozen(deployed: None, base: object, site: Site, node_host: HostOf) -> None:
    """No process is stopped by SIGSTOP: it keeps its connections, so systemd and peers consider it alive."""
    problems = []
    for name in site.nodes:
        for line in node_host(name).check_output("ps -e -o stat=,unit=,pid=,args=").splitlines():
            state, unit, pid, command = line.split(maxsplit=3)
            if state.startswith("T"):
                problems.append(f"{name}: {unit} is stopped by a signal (SIGSTOP): process {pid}, {command[:60]}")
    assert not problems, "\n".join(problems)


@looks_at_nodes
def test_no_service_restarts_over_and_over(deployed: None, base: object, site: Site, node_host: HostOf) -> None:
    """No service is in a restart loop, in which it looks alive at any moment."""

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
                    f"{name}: {unit} keeps restarting: restarted {count} times by systemd, {since} of them "
                    f"in {RESTARTS_WITHIN} s; see journalctl -u {unit} there"
                )
    assert not problems, "\n".join(problems)
