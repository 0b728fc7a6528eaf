"""Stacks with servers: the guide's own template, a change in place, a signal from a guest, a roll back, a deletion.

Both stacks are started together; their guests boot side by side. What a stack made is looked for in the services that
have it, not in what heat says. A third stack has a volume, and a server where it can be attached.

    external network -- router -- network --+- guide: a server as the guide's template has it
                                            +- whole: port, group, floating address, wait condition, server
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openstack import exceptions
from openstack.connection import Connection
from stackspec.fixtures.guests import Guest, GuestSpec, launcher
from stackspec.fixtures.owned import Owned
from stackspec.fixtures.topology import Segment, make_router, make_segment

from stackspec.waiting import wait_for

CIDR = ipaddress.ip_network("10.203.1.0/24")
CREATED_WITHIN = 420
CHANGED_WITHIN = 180
VANISHES_WITHIN = 30
"""Seconds: heat waits until nova calls a server deleted, which is a moment before nova lists it no more."""
SIGNAL_SECONDS = 360
"""The wait condition's own deadline: the guest has to boot and to signal within it."""

GUIDE = """\
heat_template_version: 2015-10-15
description: Launch a basic instance with CirrOS image using the
             ``m1.tiny`` flavor, ``mykey`` key,  and one network.

parameters:
  NetID:
    type: string
    description: Network ID to use for the instance.
  Image: {type: string}
  Flavor: {type: string}
  Key: {type: string}

resources:
  server:
    type: OS::Nova::Server
    properties:
      image: {get_param: Image}
      flavor: {get_param: Flavor}
      key_name: {get_param: Key}
      networks:
      - network: { get_param: NetID }

outputs:
  instance_name:
    description: Name of the instance.
    value: { get_attr: [ server, name ] }
  instance_ip:
    description: IP address of the instance.
    value: { get_attr: [ server, first_address ] }
"""
"""The guide's template, with image, flavor and key as parameters (erratum E88)."""
CHANGE = "      metadata: {state: changed}\n"
"""Added to the server's properties: a change that nova makes to a running server."""

WHOLE = """\
heat_template_version: 2018-08-31
parameters:
  network: {type: string}
  subnet: {type: string}
  external: {type: string}
  image: {type: string}
  flavor: {type: string}
  key: {type: string}
  seconds: {type: number}
resources:
  group:
    type: OS::Neutron::SecurityGroup
    properties:
      rules: [{protocol: icmp}, {protocol: tcp, port_range_min: 22, port_range_max: 22}]
  port:
    type: OS::Neutron::Port
    properties:
      network: {get_param: network}
      fixed_ips: [{subnet: {get_param: subnet}}]
      security_groups: [{get_resource: group}]
  address:
    type: OS::Neutron::FloatingIP
    properties: {floating_network: {get_param: external}, port_id: {get_resource: port}}
  handle: {type: OS::Heat::WaitConditionHandle}
  condition:
    type: OS::Heat::WaitCondition
    depends_on: server
    properties: {handle: {get_resource: handle}, timeout: {get_param: seconds}}
  server:
    type: OS::Nova::Server
    properties:
      image: {get_param: image}
      flavor: {get_param: flavor}
      key_name: {get_param: key}
      networks: [{port: {get_resource: port}}]
      user_data_format: RAW
      user_data:
        str_replace:
          params: {TOKEN: {get_attr: [handle, token]}, ENDPOINT: {get_attr: [handle, endpoint]}}
          template: |
            #!/bin/sh
            wget -q -O - --header 'X-Auth-Token: TOKEN' --header 'Content-Type: application/json' \\
              --post-data '{"status": "SUCCESS", "id": "1", "data": "'"$(hostname)"' is up"}' ENDPOINT
outputs:
  server: {value: {get_resource: server}}
  port: {value: {get_resource: port}}
  group: {value: {get_resource: group}}
  address: {value: {get_attr: [address, floating_ip_address]}}
  signal: {value: {get_attr: [condition, data]}}
"""

CLASH = """\
heat_template_version: 2018-08-31
parameters:
  name: {type: string}
resources:
  network: {type: OS::Neutron::Net, properties: {name: {get_param: name}}}
  first: {type: OS::Neutron::Subnet, properties: {network: {get_resource: network}, cidr: 10.203.2.0/24}}
  second:
    type: OS::Neutron::Subnet
    depends_on: first
    properties: {network: {get_resource: network}, cidr: 10.203.2.0/24}
"""
"""Its second subnet is refused by neutron, which no validation sees."""

DISK_GIB = 2
DISK = f"""\
heat_template_version: 2018-08-31
parameters:
  network: {{type: string}}
  image: {{type: string}}
  flavor: {{type: string}}
  key: {{type: string}}
resources:
  volume: {{type: OS::Cinder::Volume, properties: {{size: {DISK_GIB}}}}}
  server:
    type: OS::Nova::Server
    properties:
      image: {{get_param: image}}
      flavor: {{get_param: flavor}}
      key_name: {{get_param: key}}
      networks: [{{network: {{get_param: network}}}}]
      user_data_format: RAW
      user_data: |
        #!/bin/sh
        (until grep -qx {DISK_GIB * 2**21} /sys/block/*/size; do sleep 1; done; echo the disk is here >/dev/console) &
  attachment:
    type: OS::Cinder::VolumeAttachment
    properties: {{instance_uuid: {{get_resource: server}}, volume_id: {{get_resource: volume}}}}
outputs:
  server: {{value: {{get_resource: server}}}}
  volume: {{value: {{get_resource: volume}}}}
"""
"""Its guest says when it has a disk of that size, in sectors of 512 bytes; its own is smaller."""
SEEN = "the disk is here"


@dataclass
class Stack:
    """A stack of the tests, read anew as it goes on."""

    connection: Connection
    found: Any

    def refresh(self) -> Any:
        """Read it anew."""
        self.found = self.connection.orchestration.get_stack(self.found.id)
        return self.found

    def reaches(self, status: str, seconds: float) -> Stack:
        """Wait until it has `status`; another state that it stays in fails the test with heat's reasons."""

        def reached() -> bool:
            found = self.refresh()
            assert found.status == status or found.status.endswith("_IN_PROGRESS"), self.state()
            return bool(found.status == status)

        wait_for(f"stack {self.found.name} is {status}", reached, seconds, every=2, detail=self.state)
        return self

    def outputs(self) -> dict[str, Any]:
        """Its outputs by name."""
        return {each["output_key"]: each["output_value"] for each in self.found.outputs}

    def resource(self, name: str) -> Any:
        """One of its resources."""
        return next(each for each in self.connection.orchestration.resources(self.found) if each.name == name)

    def state(self) -> str:
        """What heat says of it and of each of its resources."""
        lines = [f"stack {self.found.name}: {self.found.status}: {self.found.status_reason}"]
        for each in self.connection.orchestration.resources(self.found):
            lines.append(f"  {each.name} ({each.resource_type}): {each.status}: {each.status_reason}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Stacks:
    """The stacks of this module and what they are made in."""

    guide: Stack
    whole: Stack
    segment: Segment
    parameters: dict[str, Any]
    key: Path


@pytest.fixture(scope="module")
def stacks(
    heat: object,
    glance: object,
    nova_discover: object,
    neutron_compute: object,
    nova_networking: object,
    member: Connection,
    module_owned: Owned,
    guest_spec: GuestSpec,
    guest_key: Path,
    external_network: Any,
) -> Stacks:
    """Both stacks, asked for and not waited for."""
    segment = make_segment(member, module_owned, "stack", CIDR)
    make_router(member, module_owned, "stack", external_network, segment)
    keypair = launcher(member, module_owned, guest_spec, guest_key).keypair
    parts = {"Image": guest_spec.image.id, "Flavor": guest_spec.flavor.id, "Key": keypair}
    guide = {"NetID": segment.network.id, **parts}
    whole = {
        "network": segment.network.id,
        "subnet": segment.subnet.id,
        "external": external_network.id,
        "seconds": SIGNAL_SECONDS,
        **{name.lower(): value for name, value in parts.items()},
    }

    def start(label: str, template: str, parameters: dict[str, Any]) -> Stack:
        made = module_owned(member, "stack", label, template=template, parameters=parameters, is_rollback_disabled=True)
        return Stack(member, made)

    return Stacks(start("guide", GUIDE, guide), start("whole", WHOLE, whole), segment, guide, guest_key)


def test_failed_create_rolls_back(stacks: Stacks, member: Connection, owned: Owned) -> None:
    """What was made before the failure is gone, and the stack says why it failed."""
    name = owned.name("clash")
    made = owned(member, "stack", "clash", template=CLASH, parameters={"name": name}, is_rollback_disabled=False)
    stack = Stack(member, made).reaches("ROLLBACK_COMPLETE", CHANGED_WITHIN)
    events = list(member.orchestration.stack_events(stack.found, attr_name=None))
    reasons = [each.resource_status_reason for each in events if each.resource_status == "CREATE_FAILED"]
    assert any("overlap" in reason for reason in reasons), f"reasons of the failure: {reasons}"
    assert ("first", "CREATE_COMPLETE") in {(each.resource_name, each.resource_status) for each in events}
    assert not list(member.network.networks(name=name)), "the network of the failed stack is still there"


@pytest.mark.smoke
def test_outputs_are_novas(stacks: Stacks, member: Connection) -> None:
    """The guide's `openstack stack output show` and `openstack server list` say the same."""
    stack = stacks.guide.reaches("CREATE_COMPLETE", CREATED_WITHIN)
    assert stack.found.id in {each.id for each in member.orchestration.stacks()}
    server = member.compute.get_server(stack.resource("server").physical_resource_id)
    addresses = [each["addr"] for network in server.addresses.values() for each in network]
    assert stack.outputs() == {"instance_name": server.name, "instance_ip": addresses[0]}
    assert server.status == "ACTIVE"
    assert ipaddress.ip_address(addresses[0]) in CIDR


def test_update_in_place(stacks: Stacks, member: Connection) -> None:
    """The server is changed and stays the same one: its id and its boot are as before."""
    stack = stacks.guide.reaches("CREATE_COMPLETE", CREATED_WITHIN)
    before = member.compute.get_server(stack.resource("server").physical_resource_id)
    template = GUIDE.replace("      networks:\n", f"{CHANGE}      networks:\n")
    member.orchestration.update_stack(
        stack.found.id, name=stack.found.name, template=template, parameters=stacks.parameters
    )
    stack.reaches("UPDATE_COMPLETE", CHANGED_WITHIN)
    assert stack.resource("server").physical_resource_id == before.id, "the server was replaced"
    after = member.compute.get_server(before.id)
    assert after.metadata == {"state": "changed"}
    assert (after.status, after.launched_at) == ("ACTIVE", before.launched_at)


def test_guest_signals_the_wait_condition(stacks: Stacks, member: Connection) -> None:
    """The stack is complete only when the guest has said so, in its own words (erratum E87)."""
    stack = stacks.whole.reaches("CREATE_COMPLETE", CREATED_WITHIN)
    server = member.compute.get_server(stack.outputs()["server"])
    assert server.name[:40] in stack.outputs()["signal"], f"data of the signal: {stack.outputs()['signal']}"
    assert "is up" in stack.outputs()["signal"]


def test_floating_address_of_a_stack_answers(stacks: Stacks, guest_spec: GuestSpec, member: Connection) -> None:
    """The address in the outputs is the server's, and a login there ends in the guest."""
    stack = stacks.whole.reaches("CREATE_COMPLETE", CREATED_WITHIN)
    given = stack.outputs()
    server, port = member.compute.get_server(given["server"]), member.network.get_port(given["port"])
    guest = Guest(member, server, port, guest_spec.user, stacks.key, address=given["address"])
    assert guest.fixed_address in guest.ssh("ip -4 -o addr show scope global")


def test_delete_leaves_nothing(stacks: Stacks, cloud: Connection, member: Connection) -> None:
    """No server, port, floating address or group is left, nor a user, project or trust that heat made."""
    both = [stacks.whole.reaches("CREATE_COMPLETE", CREATED_WITHIN), stacks.guide]
    wait_for("the other stack rests", lambda: not stacks.guide.refresh().status.endswith("IN_PROGRESS"), CREATED_WITHIN)
    domain = cloud.identity.find_domain("heat", ignore_missing=False)
    given, user_project = stacks.whole.outputs(), stacks.whole.found.user_project_id
    guide_server = stacks.guide.resource("server").physical_resource_id
    names = tuple(stack.found.name for stack in both)

    def users() -> list[str]:
        return [each.name for each in cloud.identity.users(domain_id=domain.id) if each.name.startswith(names)]

    def trusts() -> list[str]:
        return [each.id for each in member.identity.trusts(trustor_user_id=member.current_user_id)]

    assert users(), "heat made no user for the signal"
    assert user_project in {each.id for each in cloud.identity.projects(domain_id=domain.id)}
    before = trusts()
    for stack in both:
        member.orchestration.delete_stack(stack.found.id, ignore_missing=False)
    for stack in both:
        wait_for(f"stack {stack.found.name} is gone", lambda each=stack: _is_gone(each), CHANGED_WITHIN, every=2)
    for server in (given["server"], guide_server):
        _server_vanishes(member, server)
    left = [each.id for each in member.network.ports(device_id=guide_server)]
    left += [each.id for each in member.network.ports() if each.id == given["port"]]
    left += [each.floating_ip_address for each in member.network.ips(floating_ip_address=given["address"])]
    left += [each.name for each in member.network.security_groups() if each.id == given["group"]]
    assert left == [], f"left by a deleted stack: {left}"
    assert users() == []
    assert user_project not in {each.id for each in cloud.identity.projects(domain_id=domain.id)}
    assert len(trusts()) <= len(before) - len(both), f"trusts before {len(before)}, after {len(trusts())}"


@pytest.fixture(scope="module")
def disk_stack(
    heat: object,
    cinder_volume: object,
    volume_attachment: object,
    nova_discover: object,
    neutron_compute: object,
    nova_networking: object,
    volume_zone: str | None,
    member: Connection,
    module_owned: Owned,
    guest_spec: GuestSpec,
    guest_key: Path,
) -> Stack:
    """The stack with a volume, asked for and not waited for."""
    assert guest_spec.flavor.disk < DISK_GIB, "the guest cannot tell the volume from its own disk by the size"
    segment = make_segment(member, module_owned, "disk", ipaddress.ip_network("10.203.3.0/24"))
    keypair = launcher(member, module_owned, guest_spec, guest_key).keypair
    parts = {"image": guest_spec.image.id, "flavor": guest_spec.flavor.id, "key": keypair}
    zone = "" if volume_zone is None else f"      availability_zone: {volume_zone}\n"
    template = DISK.replace("      user_data_format", f"{zone}      user_data_format")
    parameters = {"network": segment.network.id, **parts}
    made = module_owned(member, "stack", "disk", template=template, parameters=parameters, is_rollback_disabled=True)
    return Stack(member, made)


def test_volume_of_a_stack_is_a_disk_of_its_server(disk_stack: Stack, member: Connection) -> None:
    """Cinder and nova have the one attached to the other, and the guest has the disk."""
    given = disk_stack.reaches("CREATE_COMPLETE", CREATED_WITHIN).outputs()
    volume = member.block_storage.get_volume(given["volume"])
    assert (volume.status, volume.size) == ("in-use", DISK_GIB)
    assert [each["server_id"] for each in volume.attachments] == [given["server"]]
    attached = [each.volume_id for each in member.compute.volume_attachments(given["server"])]
    assert attached == [volume.id]

    def said() -> str:
        return str(member.compute.get_server_console_output(given["server"]).get("output") or "")

    wait_for(f"the guest says `{SEEN}`", lambda: SEEN in said(), CHANGED_WITHIN, every=3, detail=said)


def test_delete_detaches_and_removes_the_volume(disk_stack: Stack, member: Connection) -> None:
    """Neither the server nor the volume is left, as both services say."""
    given = disk_stack.reaches("CREATE_COMPLETE", CREATED_WITHIN).outputs()
    member.orchestration.delete_stack(disk_stack.found.id, ignore_missing=False)
    name = disk_stack.found.name
    wait_for(f"stack {name} is gone", lambda: _is_gone(disk_stack), CREATED_WITHIN, every=3, detail=disk_stack.state)
    _server_vanishes(member, given["server"])
    assert given["volume"] not in {each.id for each in member.block_storage.volumes()}, "the volume outlives its stack"


def _is_gone(stack: Stack) -> bool:
    try:
        status = stack.refresh().status
    except exceptions.NotFoundException:
        return True
    assert status != "DELETE_FAILED", stack.state()
    return bool(status == "DELETE_COMPLETE")


def _server_vanishes(connection: Connection, server: str) -> None:
    wait_for(
        f"server {server} of a deleted stack is gone",
        lambda: server not in {each.id for each in connection.compute.servers()},
        VANISHES_WITHIN,
    )
