"""A security group blocks traffic, allows it with a rule, and blocks it again without the rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from openstack.connection import Connection

from stackspec.fixtures.guest import Guest
from stackspec.fixtures.owned import Owned
from stackspec.fixtures.topology import Fleet, allow
from stackspec.waiting import wait_for

if TYPE_CHECKING:
    from openstack.network.v2.security_group import SecurityGroup

pytestmark = pytest.mark.lane("guests")

APPLIED_WITHIN = 45


@pytest.fixture
def closed_group(patient: Guest, fleet: Fleet, member: Connection, owned: Owned) -> Iterator[Any]:
    """A group without ingress rules, as the only group of the patient's port."""
    patient.ready()
    group = owned(member, "security_group", "closed")
    member.network.update_port(patient.own_port, security_group_ids=[group.id])
    yield group
    member.network.update_port(patient.own_port, security_group_ids=[fleet.group.id])
    wait_for(f"{patient.name} accepts ssh logins again", patient.can_log_in, APPLIED_WITHIN, detail=patient.state)


def test_ssh_is_blocked_then_admitted_then_blocked(
    closed_group: SecurityGroup, patient: Guest, member: Connection
) -> None:
    """New connections from outside pass only if a rule allows them."""
    blocked = f"ssh to {patient.address} is blocked"
    wait_for(f"{blocked} without a rule", lambda: not patient.can_log_in(), APPLIED_WITHIN, detail=patient.state)
    rule = allow(member, closed_group, protocol="tcp", port_range_min=22, port_range_max=22)
    wait_for("ssh is allowed by its rule", patient.can_log_in, APPLIED_WITHIN, detail=patient.state)
    member.network.delete_security_group_rule(rule)
    wait_for(f"{blocked} when the rule is gone", lambda: not patient.can_log_in(), APPLIED_WITHIN, detail=patient.state)


def test_ping_is_blocked_then_admitted_from_one_address(
    closed_group: SecurityGroup, patient: Guest, web: Guest, peer: Guest, member: Connection
) -> None:
    """A rule for one source allows only that source."""
    target = patient.fixed_address
    wait_for("ping is blocked without a rule", lambda: web.misses(target), APPLIED_WITHIN, detail=patient.state)
    allow(member, closed_group, protocol="icmp", remote_ip_prefix=f"{web.fixed_address}/32")
    wait_for("ping is allowed by its rule", lambda: web.pings(target), APPLIED_WITHIN, detail=patient.state)
    assert peer.misses(target), f"{peer.name} is also allowed, although the rule is only for {web.fixed_address}"


def test_what_goes_out_is_answered(
    closed_group: SecurityGroup, patient: Guest, web: Guest, fleet: Fleet, member: Connection
) -> None:
    """Replies to the server's own connections need no rule: the group is stateful."""
    # Only ssh is allowed, to run commands; there is no rule for echo replies.
    allow(member, closed_group, protocol="tcp", port_range_min=22, port_range_max=22)
    wait_for("ssh is allowed by its rule", patient.can_log_in, APPLIED_WITHIN, detail=patient.state)
    assert patient.pings(web.fixed_address), f"no reply from {web.fixed_address} reaches {patient.name}"
