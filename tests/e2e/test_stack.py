"""Stacks with servers: the guide's template, an update in place, a signal from a guest, a rollback, a deletion.

Both stacks are started together, so that their guests boot in parallel. A stack's resources are checked in their
services, not in heat. A third stack has a volume, and a server to which it can be attached.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from urllib.parse import urljoin

import pytest
from openstack.connection import Connection

from stackspec.fixtures.guest import Guest
from stackspec.fixtures.guest_spec import GuestSpec
from stackspec.fixtures.owned import Owned
from stackspec.fixtures.stacks import (
    CHANGED_WITHIN,
    CIDR,
    CREATED_WITHIN,
    DISK_GIB,
    Stack,
    Stacks,
    server_vanishes,
    template,
)
from stackspec.openstack.versions import identity_v3
from stackspec.waiting import wait_for

CHANGE = "      metadata: {state: changed}\n"
"""Added to the server's properties: a change that nova applies to a running server."""
SEEN = "the disk is here"


def test_failed_create_rolls_back(stacks: Stacks, member: Connection, owned: Owned) -> None:
    """Resources created before the failure are removed, and the stack has the reason of the failure."""
    name = owned.name("clash")
    made = owned(
        member, "stack", "clash", template=template("clash"), parameters={"name": name}, is_rollback_disabled=False
    )
    stack = Stack(member, made).reaches("ROLLBACK_COMPLETE", CHANGED_WITHIN)
    events = list(member.orchestration.stack_events(stack.found, attr_name=None))
    reasons = [each.resource_status_reason for each in events if each.resource_status == "CREATE_FAILED"]
    assert any("overlap" in reason for reason in reasons), f"reasons of the failure: {reasons}"
    assert ("first", "CREATE_COMPLETE") in {(each.resource_name, each.resource_status) for each in events}
    assert not list(member.network.networks(name=name)), "the network of the failed stack is still there"


@pytest.mark.smoke
def test_outputs_are_novas(stacks: Stacks, member: Connection) -> None:
    """The guide's `openstack stack output show` matches `openstack server list`."""
    stack = stacks.guide.reaches("CREATE_COMPLETE", CREATED_WITHIN)
    assert stack.found.id in {each.id for each in member.orchestration.stacks()}
    server = member.compute.get_server(stack.resource("server").physical_resource_id)
    addresses = [each["addr"] for network in server.addresses.values() for each in network]
    assert stack.outputs() == {"instance_name": server.name, "instance_ip": addresses[0]}
    assert server.status == "ACTIVE"
    assert ipaddress.ip_address(addresses[0]) in CIDR


def test_update_in_place(stacks: Stacks, member: Connection) -> None:
    """The server is updated in place: its id and its boot are unchanged."""
    stack = stacks.guide.reaches("CREATE_COMPLETE", CREATED_WITHIN)
    before = member.compute.get_server(stack.resource("server").physical_resource_id)
    changed = template("guide").replace("      networks:\n", f"{CHANGE}      networks:\n")
    member.orchestration.update_stack(
        stack.found.id, name=stack.found.name, template=changed, parameters=stacks.parameters
    )
    stack.reaches("UPDATE_COMPLETE", CHANGED_WITHIN)
    assert stack.resource("server").physical_resource_id == before.id, "the server was replaced"
    after = member.compute.get_server(before.id)
    assert after.metadata == {"state": "changed"}
    assert (after.status, after.launched_at) == ("ACTIVE", before.launched_at)


def test_guest_signals_the_wait_condition(stacks: Stacks, member: Connection) -> None:
    """The stack is complete only after the guest's signal, whose data is in the outputs (erratum E87)."""
    stack = stacks.whole.reaches("CREATE_COMPLETE", CREATED_WITHIN)
    server = member.compute.get_server(stack.outputs()["server"])
    assert server.name[:40] in stack.outputs()["signal"], f"data of the signal: {stack.outputs()['signal']}"
    assert "is up" in stack.outputs()["signal"]


@pytest.fixture
def guest(stacks: Stacks, guest_spec: GuestSpec, member: Connection) -> Guest:
    """The guest of the stack with everything, at the address in its outputs."""
    given = stacks.whole.reaches("CREATE_COMPLETE", CREATED_WITHIN).outputs()
    server, port = member.compute.get_server(given["server"]), member.network.get_port(given["port"])
    return Guest(member, server, port, guest_spec.user, stacks.key, address=given["address"])


def test_floating_address_of_a_stack_answers(guest: Guest) -> None:
    """The address in the outputs is the server's, and a login there reaches the guest."""
    assert guest.fixed_address in guest.ssh("ip -4 -o addr show scope global")


def test_guest_reaches_the_url_for_signals(stacks: Stacks, guest: Guest) -> None:
    """The URL for signals in the way of CloudFormation is one that guests can use (erratum E87).

    Its root lists the versions of the API with status 300, which some programs take for a success.
    """
    root = urljoin(stacks.whole.outputs()["signal_url"], "/")
    answer = guest.ssh(f"wget -O - --no-check-certificate {shlex.quote(root)} 2>&1 || true")
    assert re.search(r'"versions"|\b300\b', answer), f"{root} from the guest: {answer}"


def test_delete_leaves_nothing(stacks: Stacks, cloud: Connection, member: Connection) -> None:
    """No server, port, floating address or group is left, nor a user, project or trust of heat."""
    both = [stacks.whole.reaches("CREATE_COMPLETE", CREATED_WITHIN), stacks.guide]
    wait_for("the other is idle", lambda: not stacks.guide.refresh().status.endswith("IN_PROGRESS"), CREATED_WITHIN)
    domain = identity_v3(cloud).find_domain("heat", ignore_missing=False)
    given, user_project = stacks.whole.outputs(), stacks.whole.found.user_project_id
    guide_server = stacks.guide.resource("server").physical_resource_id
    names = tuple(stack.found.name for stack in both)

    def users() -> list[str]:
        return [each.name for each in identity_v3(cloud).users(domain_id=domain.id) if each.name.startswith(names)]

    def trusts() -> list[str]:
        return [each.id for each in identity_v3(member).trusts(trustor_user_id=member.current_user_id)]

    assert users(), "heat created no user for the signal"
    assert user_project in {each.id for each in identity_v3(cloud).projects(domain_id=domain.id)}
    before = trusts()
    for stack in both:
        member.orchestration.delete_stack(stack.found.id, ignore_missing=False)
    for stack in both:
        stack.gone(CHANGED_WITHIN)
    for server in (given["server"], guide_server):
        server_vanishes(member, server)
    left = [each.id for each in member.network.ports(device_id=guide_server)]
    left += [each.id for each in member.network.ports() if each.id == given["port"]]
    left += [each.floating_ip_address for each in member.network.ips(floating_ip_address=given["address"])]
    left += [each.name for each in member.network.security_groups() if each.id == given["group"]]
    assert left == [], f"left by a deleted stack: {left}"
    assert users() == []
    assert user_project not in {each.id for each in identity_v3(cloud).projects(domain_id=domain.id)}
    assert len(trusts()) <= len(before) - len(both), f"trusts before {len(before)}, after {len(trusts())}"


def test_volume_of_a_stack_is_a_disk_of_its_server(disk_stack: Stack, member: Connection) -> None:
    """The volume is attached to the server in cinder and nova, and the guest has the disk."""
    given = disk_stack.reaches("CREATE_COMPLETE", CREATED_WITHIN).outputs()
    volume = member.block_storage.get_volume(given["volume"])
    assert (volume.status, volume.size) == ("in-use", DISK_GIB)
    assert [each["server_id"] for each in volume.attachments] == [given["server"]]
    attached = [each.volume_id for each in member.compute.volume_attachments(given["server"])]
    assert attached == [volume.id]

    def said() -> str:
        return str(member.compute.get_server_console_output(given["server"]).get("output") or "")

    wait_for(f"the guest reports `{SEEN}`", lambda: SEEN in said(), CHANGED_WITHIN, every=3, detail=said)


def test_delete_detaches_and_removes_the_volume(disk_stack: Stack, member: Connection) -> None:
    """Neither the server nor the volume is left in its service."""
    given = disk_stack.reaches("CREATE_COMPLETE", CREATED_WITHIN).outputs()
    member.orchestration.delete_stack(disk_stack.found.id, ignore_missing=False)
    disk_stack.gone(CREATED_WITHIN)
    server_vanishes(member, given["server"])
    assert given["volume"] not in {each.id for each in member.block_storage.volumes()}, "the volume outlives the stack"
