"""The message queue: its user, and its consumers."""

from __future__ import annotations

import json

import pytest

from stackspec.plugin.testinfra_backend import NodeHost
from stackspec.site import Site
from stackspec.waiting import wait_for

QUEUES = {
    "nova": {"conductor.{}": "controller", "scheduler.{}": "controller"},
    "nova_compute": {"compute.{}": "compute"},
    "neutron": {"q-plugin.{}": "controller", "l3_agent.{}": "controller", "dhcp_agent.{}": "controller"},
    "neutron_compute": {"q-agent-notifier-tunnel-update.{}": "compute"},
    "cinder": {"cinder-scheduler.{}": "controller"},
    "cinder_volume": {"cinder-volume.{0}@lvm.{0}": "cinder"},
    "cinder_backup": {"cinder-backup.{}": "cinder"},
    "barbican": {"barbican.workers": "controller"},
    "heat": {"engine.{}": "controller"},
    "octavia": {"octavia_provisioning_v2.{}": "controller"},
    "magnum": {"magnum-conductor": "controller"},
}
"""The RPC queues of a step's services, and the nodes with such a queue."""


def test_queue_has_its_user_and_no_other(rabbitmq: object, controller: NodeHost) -> None:
    """Only the guide's user openstack exists; guest, with its well-known password, is removed."""
    users = [
        line.split()[0] for line in controller.check_output("rabbitmqctl -q --no-table-headers list_users").splitlines()
    ]
    assert users == ["openstack"], f"the queue has the users {', '.join(users) or 'none'}, wanted openstack alone"
    alarms = controller.run("rabbitmq-diagnostics -q check_local_alarms")
    assert alarms.rc == 0, alarms.stdout + alarms.stderr


@pytest.mark.parametrize("step", [pytest.param(name, marks=pytest.mark.steps(name)) for name in QUEUES])
def test_services_consume_their_queues(step: str, site: Site, controller: NodeHost) -> None:
    """Each service consumes its queue without a backlog: a frozen service keeps its connection."""
    nodes = {
        "controller": [site.controller],
        "compute": site.with_role("compute"),
        "cinder": [node for node in site.nodes.values() if node.devices("cinder")],
    }
    queues = {name.format(node.name) for name, kind in QUEUES[step].items() for node in nodes[kind]}
    assert queues

    def complaints() -> list[str]:
        words = "list_queues --formatter json name consumers messages"
        known = {each["name"]: each for each in json.loads(controller.check_output(f"rabbitmqctl -q {words}"))}
        found = {name: known.get(name, {"consumers": 0, "messages": 0}) for name in sorted(queues)}
        return [
            f"{name}: {each['consumers']} consumers, {each['messages']} messages waiting"
            for name, each in found.items()
            if not each["consumers"] or each["messages"]
        ]

    wait_for(
        f"services of {step} process their queues",
        lambda: not complaints(),
        60,
        detail=lambda: "\n".join(complaints()),
    )
