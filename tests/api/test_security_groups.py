"""Security groups: rules, the default group, groups in use."""

from __future__ import annotations

import pytest
from openstack import exceptions
from openstack.connection import Connection

from stackspec.fixtures.owned import Owned


def test_security_group_and_its_rules(neutron: object, member: Connection, owned: Owned) -> None:
    """A new group allows all egress and no ingress; rules are added, are unique, and are removed."""
    group = owned(member, "security_group", "group", description="a test's")
    before = member.network.get_security_group(group.id).security_group_rules
    assert {rule["direction"] for rule in before} == {"egress"}, f"rules of a new group: {before}"
    wanted = {
        "security_group_id": group.id,
        "direction": "ingress",
        "ether_type": "IPv4",
        "protocol": "tcp",
        "port_range_min": 80,
        "port_range_max": 81,
        "remote_ip_prefix": "192.0.2.0/24",
    }
    rule = member.network.create_security_group_rule(**wanted)
    with pytest.raises(exceptions.ConflictException):
        member.network.create_security_group_rule(**wanted)
    with pytest.raises(exceptions.BadRequestException):
        member.network.create_security_group_rule(**{**wanted, "port_range_min": 90})
    found = member.network.get_security_group_rule(rule.id)
    assert (found.port_range_min, found.port_range_max, found.remote_ip_prefix) == (80, 81, "192.0.2.0/24")
    member.network.delete_security_group_rule(rule, ignore_missing=False)
    after = member.network.get_security_group(group.id).security_group_rules
    assert {each["id"] for each in after} == {each["id"] for each in before}


def test_default_group_of_a_project(neutron: object, member: Connection) -> None:
    """Each project has its own group `default`, which allows ingress only from its members."""
    mine = [
        group
        for group in member.network.security_groups(name="default")
        if group.project_id == member.current_project_id
    ]
    assert len(mine) == 1, f"groups called default: expected 1, found {len(mine)}"
    incoming = [rule for rule in mine[0].security_group_rules if rule["direction"] == "ingress"]
    assert incoming, "the default group allows nothing, not even its members"


def test_group_in_use_is_not_deleted(neutron: object, member: Connection, owned: Owned) -> None:
    """409 while a port uses it."""
    network = owned(member, "network", "grouped")
    group = owned(member, "security_group", "used")
    port = owned(member, "port", "grouped", network_id=network.id, security_group_ids=[group.id])
    with pytest.raises(exceptions.ConflictException):
        member.network.delete_security_group(group)
    member.network.delete_port(port)
    member.network.delete_security_group(group, ignore_missing=False)


def test_groups_are_each_projects_own(
    neutron: object, member: Connection, other_member: Connection, owned: Owned
) -> None:
    """Another project can neither read a group nor add a rule to it."""
    group = owned(member, "security_group", "mine")
    with pytest.raises(exceptions.NotFoundException):
        other_member.network.get_security_group(group.id)
    # Releases differ in whether they reveal its existence.
    with pytest.raises((exceptions.NotFoundException, exceptions.ForbiddenException)):
        other_member.network.create_security_group_rule(security_group_id=group.id, direction="ingress")
