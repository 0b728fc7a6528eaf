"""A security group blocks, allows when it has a rule for it, and blocks again without it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from openstack.connection import Connection

from stackspec.fixtures.guests import Guest
from stackspec.fixtures.owned import Owned
from stackspec.fixtures.topology import Fleet, allow
from stackspec.waiting import wait_for

if TYPE_CHECKING:
    from openstack.network.v2.security_group import SecurityGroup

pytestmark = pytest.mark.lane("guests")

APPLIED_WITHIN = 45


@pytest.fixture
def closed_group(patient: Guest, fleet: Fleet, member: Connection, owned: Owned) -> Iterator[Any]:
    """A group without a rule for what comes in, as the only one of the patient's port."""
    patient.ready()
    group = owned(member, "security_group", "closed")
    member.network.update_port(patient.own_port, security_group_ids=[group.id])
    yield group
    member.network.update_port(patient.own_port, security_group_ids=[fleet.group.id])
    wait_for(f"{patient.name} takes logins by ssh again", patient.can_log_in, APPLIED_WITHIN, detail=patient.state)


def test_ssh_is_blocked_then_admitted_then_blocked(
    closed_group: SecurityGroup, patient: Guest, member: Connection
) -> None:
    """Of new connections from outside, only those pass that a rule allows."""
    blocked = f"ssh to {patient.address} is blocked"
    wait_for(f"{blocked} without a rule", lambda: not patient.can_log_in(), APPLIED_WITHIN, detail=patient.state)
    rule = allow(member, closed_group, protocol="tcp", port_range_min=22, port_range_max=22)
    wait_for("ssh is allowed by its rule", patient.can_log_in, APPLIED_WITHIN, detail=patient.state)
    member.network.delete_security_group_rule(rule)
    wait_for(f"{blocked} when the rule is gone", lambda: not patient.can_log_in(), APPLIED_WITHIN, detail=patient.state)


def test_ping_is_blocked_then_admitted_from_one_address(
    closed_group: SecurityGroup, patient: Guest, web: Guest, peer: Guest, member: Connection
) -> None:
    """A rule for one source allows that source and no other."""
    target = patient.fixed_address
    wait_for("ping is blocked without a rule", lambda: web.misses(target), APPLIED_WITHIN, detail=patient.state)
    allow(member, closed_group, protocol="icmp", remote_ip_prefix=f"{web.fixed_address}/32")
    wait_for("ping is allowed by its rule", lambda: web.pings(target), APPLIED_WITHIN, detail=patient.state)
    assert peer.misses(target), f"{peer.name} is allowed, too, though the rule names {web.fixed_address} only"


def test_what_goes_out_is_answered(
    closed_group: SecurityGroup, patient: Guest, web: Guest, fleet: Fleet, member: Connection
) -> None:
    """The answers to what the server itself began come in without a rule: the group keeps state."""
    # Only ssh comes in, to look from inside; the echo replies have no rule.
    allow(member, closed_group, protocol="tcp", port_range_min=22, port_range_max=22)
    wait_for("ssh is allowed by its rule", patient.can_log_in, APPLIED_WITHIN, detail=patient.state)
    assert patient.pings(web.fixed_address), f"no answer from {web.fixed_address} comes back to {patient.name}"
