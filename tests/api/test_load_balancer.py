"""Load balancers without an amphora: providers, flavors, quotas, refused requests, permissions."""

from __future__ import annotations

import ipaddress
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from openstack import exceptions
from openstack.connection import Connection

from stackspec.fixtures.connections import Tenant, http_session
from stackspec.fixtures.owned import NOTHING, Owned
from stackspec.pace import pace

if TYPE_CHECKING:
    from openstack.network.v2.subnet import Subnet

CIDR = ipaddress.IPv4Network("10.204.1.0/24")


@pytest.fixture(scope="module")
def subnet(load_balancer_user: Connection, module_owned: Owned) -> Subnet:
    """A subnet for a VIP."""
    network = module_owned(load_balancer_user, "network", "vip")
    made: Subnet = module_owned(
        load_balancer_user, "subnet", "vip", network_id=network.id, ip_version=4, cidr=str(CIDR)
    )
    return made


def ask(connection: Connection, method: str, path: str, **body: Any) -> Any:
    """The API's response, whatever its status."""
    return connection.load_balancer.request(f"/lbaas/{path}", method, json=body or None)


def test_amphora_is_the_only_provider(load_balancer_user: Connection) -> None:
    """Only installed providers are offered."""
    assert [each.name for each in load_balancer_user.load_balancer.providers()] == ["amphora"]


def test_versions_are_shown(load_balancer_user: Connection) -> None:
    """The endpoint in the catalog has no version in its path; its root lists the versions publicly."""
    root = urlsplit(str(load_balancer_user.load_balancer.get_endpoint()))
    answer = http_session(load_balancer_user).get(f"{root.scheme}://{root.netloc}/", timeout=pace.seconds(30))
    assert "CURRENT" in {each["status"] for each in answer.json()["versions"]}, answer.text


def test_new_project_has_none(load_balancer_user: Connection) -> None:
    """An ordinary user can list load balancers."""
    assert list(load_balancer_user.load_balancer.load_balancers()) == []


def test_users_without_a_role(octavia: object, other_member: Connection, subnet: Subnet) -> None:
    """Another project's subnet cannot be used; older releases also require a role (erratum E111)."""
    listed = ask(other_member, "GET", "loadbalancers")
    assert listed.status_code == 403 or listed.json()["loadbalancers"] == [], listed.text
    made = ask(other_member, "POST", "loadbalancers", loadbalancer={"vip_subnet_id": subnet.id})
    assert made.status_code in (400, 403, 404), made.text


def test_members_do_not_administer(load_balancer_user: Connection, member_tenant: Tenant) -> None:
    """Amphorae, flavors and quotas are restricted to administrators."""
    assert ask(load_balancer_user, "GET", f"quotas/{member_tenant.project_id}").status_code == 200
    quota = {"load_balancer": 99}
    assert ask(load_balancer_user, "PUT", f"quotas/{member_tenant.project_id}", quota=quota).status_code == 403
    assert ask(load_balancer_user, "POST", "flavorprofiles", flavorprofile={"name": "x"}).status_code in (400, 403)
    assert load_balancer_user.load_balancer.get("/octavia/amphorae").status_code == 403


@pytest.mark.parametrize(
    ("body", "status", "part"),
    [
        pytest.param({}, 400, "VIP must contain", id="no VIP"),
        pytest.param({"vip_subnet_id": "not an id"}, 400, "vip_subnet_id", id="no id"),
        pytest.param({"vip_subnet_id": NOTHING}, 400, "Subnet", id="no such subnet"),
        pytest.param({"vip_subnet_id": "subnet", "provider": "none"}, 400, "none", id="no such provider"),
        pytest.param({"vip_subnet_id": "subnet", "colour": "red"}, 400, "colour", id="unknown attribute"),
        pytest.param(
            {"vip_subnet_id": "subnet", "listeners": [{"protocol": "SMTP", "protocol_port": 25}]},
            400,
            "protocol",
            id="unknown protocol",
        ),
        pytest.param(
            {"vip_subnet_id": "subnet", "listeners": [{"protocol": "HTTP", "protocol_port": 70000}]},
            400,
            "protocol_port",
            id="port out of range",
        ),
    ],
)
def test_bad_request_is_refused(
    load_balancer_user: Connection, subnet: Subnet, body: dict[str, Any], status: int, part: str
) -> None:
    """Refused with the reason, and no load balancer is left over."""
    wanted = {key: subnet.id if value == "subnet" else value for key, value in body.items()}
    answer = ask(load_balancer_user, "POST", "loadbalancers", loadbalancer=wanted)
    assert answer.status_code == status, answer.text
    assert part in answer.json()["faultstring"]
    assert list(load_balancer_user.load_balancer.load_balancers()) == []
    assert [
        each
        for each in load_balancer_user.network.ports(network_id=subnet.network_id)
        if "Octavia" in each.device_owner
    ] == []


@pytest.mark.parametrize("kind", ["loadbalancers", "listeners", "pools", "healthmonitors", "l7policies"])
def test_missing_object_is_404(load_balancer_user: Connection, kind: str) -> None:
    """404 for objects that do not exist."""
    assert ask(load_balancer_user, "GET", f"{kind}/{NOTHING}").status_code == 404
    assert ask(load_balancer_user, "DELETE", f"{kind}/{NOTHING}").status_code == 404


def test_quota_is_kept(
    load_balancer_user: Connection, cloud: Connection, member_tenant: Tenant, subnet: Subnet
) -> None:
    """A load balancer over the quota is refused, and no port is left over."""
    if not member_tenant.made:
        pytest.skip("the given user's own quota is not changed")
    cloud.load_balancer.update_quota(member_tenant.project_id, load_balancers=0)
    try:
        answer = ask(load_balancer_user, "POST", "loadbalancers", loadbalancer={"vip_subnet_id": subnet.id})
        assert answer.status_code == 403, answer.text
        assert "quota" in answer.json()["faultstring"].lower()
    finally:
        cloud.load_balancer.delete_quota(member_tenant.project_id)
    default = cloud.load_balancer.get_quota_default().load_balancers
    assert cloud.load_balancer.get_quota(member_tenant.project_id).load_balancers == default


def test_flavor(cloud: Connection, load_balancer_user: Connection, owned: Owned) -> None:
    """Users see a flavor that an administrator creates from a profile; an invalid profile is refused."""
    profile = owned(
        cloud,
        "flavor_profile",
        "single",
        provider_name="amphora",
        flavor_data=json.dumps({"loadbalancer_topology": "SINGLE"}),
    )
    flavor = owned(cloud, "load_balancer_flavor", "single", flavor_profile_id=profile.id, is_enabled=True)
    assert flavor.id in {each.id for each in load_balancer_user.load_balancer.flavors()}
    with pytest.raises(exceptions.HttpException) as raised:
        owned(cloud, "flavor_profile", "bad", provider_name="amphora", flavor_data=json.dumps({"colour": "red"}))
    # 501: the provider does not have this option.
    assert raised.value.status_code in (400, 501)
    assert "colour" in str(raised.value.details)


def test_profile_in_use_stays(octavia: object, cloud: Connection, owned: Owned) -> None:
    """A profile used by a flavor cannot be deleted."""
    data = json.dumps({"loadbalancer_topology": "SINGLE"})
    profile = owned(cloud, "flavor_profile", "used", provider_name="amphora", flavor_data=data)
    owned(cloud, "load_balancer_flavor", "used", flavor_profile_id=profile.id)
    assert ask(cloud, "DELETE", f"flavorprofiles/{profile.id}").status_code == 409
