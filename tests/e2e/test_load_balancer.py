"""A load balancer for two guests: round robin, a dead member, policies, TLS, a lost amphora, and deletion.

All tests share one load balancer, since each needs a server that has to boot. It is requested before waiting for the
guests. It is accessed from outside the cloud, through a floating address on its VIP.

    external network -- router -- red: VIP, amphora, web, peer
"""

from __future__ import annotations

import ssl
from functools import partial

import pytest
from openstack import exceptions
from openstack.connection import Connection

from stackspec.fixtures.guest import Guest
from stackspec.fixtures.load_balancer import ACTIVE_WITHIN, CHANGED_WITHIN, NAME, STOP, Balanced, Issued, serve
from stackspec.fixtures.owned import Owned
from stackspec.waiting import wait_for

pytestmark = pytest.mark.lane("guests")

NOTICED_WITHIN = 90
"""Timeout in seconds for the monitor to notice a change of a member: two checks, 5 s apart, and a response."""
FAILED_OVER_WITHIN = 900


@pytest.mark.smoke
def test_both_answer_in_turn(balanced: Balanced) -> None:
    """Requests from outside alternate between the members."""
    wait_for("both members respond", lambda: set(balanced.names(4)) == {"web", "peer"}, 60, retry_on=(OSError,))
    names = balanced.names(6)
    assert names in (["web", "peer"] * 3, ["peer", "web"] * 3), names


def test_status_is_the_members(balanced: Balanced) -> None:
    """The amphora's heartbeats report all members and the load balancer as ONLINE."""
    for name in ("web", "peer"):
        wait_for(
            f"member {name} is ONLINE",
            lambda name=name: balanced.member(name).operating_status == "ONLINE",  # type: ignore[misc]
            NOTICED_WITHIN,
            detail=balanced.state,
        )
    wait_for("the load balancer is ONLINE", lambda: balanced.refresh().operating_status == "ONLINE", NOTICED_WITHIN)


def test_dead_member_is_left_out_and_taken_back(balanced: Balanced, peer: Guest) -> None:
    """If a member's server stops, only the other one responds; after a restart both do."""
    peer.ssh(STOP)
    wait_for("only web responds", lambda: balanced.names(4) == ["web"] * 4, NOTICED_WITHIN, detail=balanced.state)
    state = "the peer's status is ERROR"
    wait_for(state, lambda: balanced.member("peer").operating_status == "ERROR", NOTICED_WITHIN, detail=balanced.state)
    wait_for(
        "the load balancer is DEGRADED",
        lambda: balanced.refresh().operating_status == "DEGRADED",
        NOTICED_WITHIN,
        detail=balanced.state,
    )
    serve(peer, "peer")
    wait_for("both respond again", lambda: len(set(balanced.names(4))) == 2, NOTICED_WITHIN, detail=balanced.state)


def test_policies_redirect_and_reject(balanced: Balanced) -> None:
    """One path is redirected, another one rejected; without its policy it goes to the members like all others."""
    status, _, location = balanced.get("/moved/page")
    assert (status, location) == (302, f"http://{NAME}/new")
    assert balanced.get("/secret/page")[0] == 403
    assert balanced.get("/")[0] == 200
    service = balanced.connection.load_balancer
    policy = next(each for each in service.l7_policies() if each.name == "secret")
    service.delete_l7_policy(policy)
    balanced.settle("the policy is deleted")
    wait_for("/secret goes to the members", lambda: balanced.status("/secret/page") in (200, 404), 30)


def test_strangers_do_not_see_it(balanced: Balanced, other_member: Connection) -> None:
    """Users without the load balancer role, or of another project, do not see it."""
    with pytest.raises((exceptions.ForbiddenException, exceptions.NotFoundException)):
        other_member.load_balancer.get_load_balancer(balanced.found.id)


def test_tls_ends_at_the_load_balancer(
    balanced: Balanced, secrets_user: Connection, module_owned: Owned, tls_certificate: Issued
) -> None:
    """The TLS listener uses the certificate from barbican, and forwards to the members without TLS."""
    secret = module_owned(
        secrets_user,
        "secret",
        "certificate",
        payload=tls_certificate.bundle,
        payload_content_type="application/octet-stream",
        payload_content_encoding="base64",
    )
    (pool,) = balanced.connection.load_balancer.pools(load_balancer_id=balanced.found.id)
    balanced.connection.load_balancer.create_listener(
        load_balancer_id=balanced.found.id,
        name="tls",
        protocol="TERMINATED_HTTPS",
        protocol_port=443,
        default_pool_id=pool.id,
        default_tls_container_ref=secret.secret_ref,
    )
    balanced.settle("the listener for TLS is ACTIVE")
    trusting = ssl.create_default_context(cadata=tls_certificate.authority)
    answer = wait_for("a TLS response", lambda: balanced.answering(port=443, tls=trusting), 60, detail=balanced.state)
    assert (answer[0], answer[1] in ("web", "peer")) == (200, True), answer
    with pytest.raises(ssl.SSLCertVerificationError):
        balanced.get(port=443, tls=ssl.create_default_context())
    assert balanced.get()[0] == 200, "the listener without TLS is gone"


def test_lost_amphora_is_replaced(balanced: Balanced, cloud: Connection) -> None:
    """After the amphora's server is deleted, heartbeats stop, and a new amphora takes over its addresses."""
    (lost,) = cloud.load_balancer.amphorae(loadbalancer_id=balanced.found.id)
    address = balanced.refresh().vip_address
    cloud.compute.delete_server(lost.compute_id)
    wait_for("the VIP is silent", lambda: balanced.answering() is None, 60)

    def replaced() -> bool:
        found = list(cloud.load_balancer.amphorae(loadbalancer_id=balanced.found.id))
        return [each.status for each in found] == ["ALLOCATED"] and found[0].id != lost.id

    detail = partial(balanced.amphorae, cloud)
    wait_for("another amphora is ALLOCATED", replaced, FAILED_OVER_WITHIN, every=3, detail=detail)
    balanced.settle("the load balancer is ACTIVE again")
    again = "both members respond through the new amphora"
    wait_for(again, lambda: balanced.answering_names(4) == {"web", "peer"}, CHANGED_WITHIN, detail=balanced.state)
    assert balanced.refresh().vip_address == address


def test_deletion_leaves_nothing(balanced: Balanced, cloud: Connection) -> None:
    """After the deletion no amphora, server, port or security group is left."""
    found = balanced.found
    amphorae = list(cloud.load_balancer.amphorae(loadbalancer_id=found.id))
    groups = [each.id for each in cloud.network.security_groups() if found.id in each.name]
    ports = [each.id for each in cloud.network.ports() if found.id in each.name]
    ports += [each.vrrp_port_id for each in amphorae]
    assert all((amphorae, groups, ports)), (amphorae, groups, ports)
    balanced.connection.load_balancer.delete_load_balancer(found, cascade=True)

    def gone() -> bool:
        left = [each for each in balanced.connection.load_balancer.load_balancers() if each.id == found.id]
        return all(each.provisioning_status == "DELETED" for each in left)

    wait_for("the load balancer is gone", gone, ACTIVE_WITHIN, every=2)
    names = {f"amphora-{each.id}" for each in amphorae}
    servers = "its servers are gone"
    wait_for(
        servers, lambda: not names & {each.name for each in cloud.compute.servers(all_projects=True)}, CHANGED_WITHIN
    )
    assert not set(ports) & {each.id for each in cloud.network.ports()}
    assert not set(groups) & {each.id for each in cloud.network.security_groups()}
    left = [each for each in cloud.load_balancer.amphorae() if each.loadbalancer_id == found.id]
    assert all(each.status == "DELETED" for each in left), left
