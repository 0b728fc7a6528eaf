"""All nodes lose their power at once, and get it back: everything that ran before works again without manual repair.

Guests are off afterwards, and their users start them; octavia recovers its amphorae. Runs only when named, and alone:
`./run -n0 tests/outage tests/infra tests/api` also shows that the whole validation passes afterwards.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from keystoneauth1.exceptions import ClientException
from openstack.connection import Connection
from openstack.exceptions import SDKException

from stackspec.fixtures.guest import Guest
from stackspec.fixtures.load_balancer import ACTIVE_WITHIN, PORT, Balanced, balance, serve
from stackspec.fixtures.owned import Owned
from stackspec.fixtures.services import UP_WITHIN, reports, wait_reports
from stackspec.fixtures.stacks import Stack, template
from stackspec.fixtures.topology import Fleet
from stackspec.fixtures.volumes import RoamingVolume, Volumes
from stackspec.site import Site
from stackspec.waiting import wait_for

if TYPE_CHECKING:
    from openstack.key_manager.v1.secret import Secret
    from openstack.network.v2.network import Network

pytestmark = pytest.mark.disturbs("base")

GUESTS_WITHIN = 900
"""Timeout in seconds for guests to boot again while all services of the cloud are starting."""
SERVES_WITHIN = 1800
"""Timeout in seconds for the load balancer: octavia must notice the lost amphora, and boot another."""


@dataclass(frozen=True)
class Before:
    """The objects from before the outage.

    :param digest: checksum of the object's content
    :param words: the outputs of the stack
    """

    guest: Guest
    roaming: RoamingVolume
    balanced: Balanced
    container: str
    digest: str
    secret: Secret
    stack: Stack
    words: dict[str, Any]


@pytest.fixture(scope="module")
def before_outage(
    site: Site,
    heat: object,
    object_store: Any,
    volumes: Volumes,
    disk_guest: Guest,
    fleet: Fleet,
    member: Connection,
    secrets_user: Connection,
    load_balancer_user: Connection,
    external_network: Network,
    module_owned: Owned,
) -> Before:
    """One object of each kind, created, filled and verified."""
    member_of = {"address": disk_guest.fixed_address, "protocol_port": PORT, "subnet_id": fleet.red.subnet.id}
    pool = {"name": "guests", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_of]}
    listener = {"name": "http", "protocol": "HTTP", "protocol_port": 80, "default_pool": pool}
    balanced, _ = balance(load_balancer_user, module_owned, fleet, external_network, "power", listener)
    made = module_owned(
        member, "stack", "power", template=template("power"), parameters={"words": 12}, is_rollback_disabled=True
    )
    secret = module_owned(secrets_user, "secret", "power", payload="open sesame", payload_content_type="text/plain")
    container = str(module_owned(member, "object_container", "power").name)
    content = os.urandom(1 << 20)
    object_store.upload_object(container, "power", data=content)
    roaming = RoamingVolume(volumes, volumes.create(module_owned, "power"))
    roaming.to(disk_guest).run("sync")
    disk_guest.ssh("echo kept >kept && sync")
    serve(disk_guest, "web")
    balanced.settle("the load balancer is ACTIVE")
    wait_for("the load balancer serves", lambda: balanced.answering() == (200, "web", ""), 60, detail=balanced.state)
    stack = Stack(member, made).reaches("CREATE_COMPLETE", ACTIVE_WITHIN)
    digest = hashlib.sha256(content).hexdigest()
    return Before(disk_guest, roaming, balanced, container, digest, secret, stack, stack.outputs())


@pytest.fixture(scope="module")
def power(before_outage: Before, site: Site, cloud: Connection, power_cycle: Callable[..., None]) -> str:
    """Cuts and restores the power, and waits until all services report again; returns the guest's previous boot id."""
    boot = before_outage.guest.boot_id()
    before = {node: reports(cloud, node) for node in site.nodes}
    power_cycle(*site.nodes)
    wait_for(
        "keystone and the APIs respond",
        lambda: bool([reports(cloud, node) for node in site.nodes]),
        UP_WITHIN,
        retry_on=(SDKException, ClientException),
    )
    for node, services in before.items():
        if services:
            wait_reports(cloud, node, services)
    return boot


def _switched_on(guest: Guest) -> None:
    wait_for("a login to the guest works", guest.is_back, GUESTS_WITHIN, every=2, detail=guest.state)
    guest.ready()


def test_server_boots_with_what_it_had(before_outage: Before, power: str) -> None:
    """After its user starts it, the guest has its file, address and group."""
    _switched_on(before_outage.guest)
    assert before_outage.guest.boot_id() != power, "the guest did not reboot: was its node off?"
    assert before_outage.guest.ssh("cat kept").strip() == "kept"


def test_volume_is_attached_and_whole(before_outage: Before, power: str, volumes: Volumes) -> None:
    """The guest has its volume and reads its data."""
    _switched_on(before_outage.guest)
    assert volumes.get("volume", before_outage.roaming.volume.id).status == "in-use"
    before_outage.roaming.disk = disk = volumes.find(before_outage.guest, before_outage.roaming.volume)
    disk.mount()
    assert disk.digest("first") == before_outage.roaming.digest
    assert disk.write("second", 1) == disk.digest("second")


def test_object_is_whole(before_outage: Before, power: str, object_store: Any) -> None:
    """The object is intact, whichever replica is read."""
    content = wait_for(
        "the object store responds",
        lambda: object_store.download_object("power", container=before_outage.container),
        UP_WITHIN,
        retry_on=(SDKException,),
    )
    assert hashlib.sha256(content).hexdigest() == before_outage.digest


def test_secret_can_be_read(before_outage: Before, power: str, secrets_user: Connection) -> None:
    """The secret is readable, so its encryption key has survived as well."""
    assert secrets_user.key_manager.get_secret(before_outage.secret.secret_id).payload == "open sesame"


def test_stack_is_as_it_was_and_can_be_changed(before_outage: Before, power: str, member: Connection) -> None:
    """The stack's resources are unchanged, and an engine can update it."""
    stack = before_outage.stack
    found = stack.refresh()
    assert (found.status, stack.outputs()) == ("CREATE_COMPLETE", before_outage.words)
    member.orchestration.update_stack(found.id, name=found.name, template=template("power"), parameters={"words": 13})
    (word,) = stack.reaches("UPDATE_COMPLETE", UP_WITHIN).outputs().values()
    assert len(word) == 13


def test_load_balancer_serves_again(before_outage: Before, power: str, cloud: Connection) -> None:
    """Octavia replaces the stopped amphora; its member works once it is started.

    Octavia tries once. If no compute node was up, the load balancer is in ERROR, and an administrator fails it over.
    """
    _switched_on(before_outage.guest)
    serve(before_outage.guest, "again")

    def serves() -> bool:
        if before_outage.balanced.refresh().provisioning_status == "ERROR":
            cloud.load_balancer.failover_load_balancer(before_outage.balanced.found.id)
        return before_outage.balanced.answering() == (200, "again", "")

    wait_for("the load balancer serves", serves, SERVES_WITHIN, every=3, detail=before_outage.balanced.state)
    before_outage.balanced.settle("the load balancer is ACTIVE again")
