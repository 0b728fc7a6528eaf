"""Container infrastructure: cluster templates with all options, refused requests, quotas, and visibility."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from openstack import exceptions
from openstack.connection import Connection

from stackspec.fixtures.clusters import api
from stackspec.fixtures.connections import Tenant, Tenants
from stackspec.fixtures.images import RAW
from stackspec.fixtures.owned import Owned
from stackspec.fixtures.topology import RESOLVER
from stackspec.waiting import wait_for

if TYPE_CHECKING:
    from openstack.compute.v2.flavor import Flavor
    from openstack.image.v2.image import Image
    from openstack.network.v2.network import Network


@pytest.fixture(scope="module")
def coreos(magnum: object, glance: object, member: Connection, module_owned: Owned) -> Image:
    """An image with os_distro fedora-coreos, by which magnum selects its driver."""
    distro = {"os_distro": "fedora-coreos"}
    made: Image = module_owned(member, "image", "coreos", data=b"no system", properties=distro, **RAW)
    return made


@pytest.fixture(scope="module")
def basic_template(coreos: Image, guest_flavor: Flavor, external_network: Network) -> dict[str, Any]:
    """The options of the guide's template."""
    return {
        "coe": "kubernetes",
        "image_id": coreos.id,
        "external_network_id": external_network.name,
        "dns_nameserver": RESOLVER,
        "master_flavor_id": guest_flavor.id,
        "flavor_id": guest_flavor.id,
    }


@pytest.fixture(scope="module")
def template(basic_template: dict[str, Any], member: Connection, module_owned: Owned) -> Any:
    """A template for tests that do not modify it."""
    return module_owned(member, "cluster_template", "shared", **basic_template)


@pytest.fixture(scope="module")
def segment(neutron: object, member: Connection, module_owned: Owned) -> tuple[Any, Any]:
    """A network with its subnet, and the name of a key pair."""
    network = module_owned(member, "network", "fixed")
    subnet = module_owned(member, "subnet", "fixed", network_id=network.id, ip_version=4, cidr="10.204.1.0/24")
    return network, subnet


def test_conductors_are_up(magnum: object, cloud: Connection) -> None:
    """Every conductor reports."""

    def all_up() -> bool:
        found = [(each.binary, each.state) for each in api(cloud).services()]
        return bool(found) and all(each == ("magnum-conductor", "up") for each in found)

    wait_for("all conductors of magnum are up", all_up, 90)


def test_conductors_are_not_shown_to_members(magnum: object, member: Connection) -> None:
    """Only administrators see the hosts of conductors."""
    answer = api(member).get("/mservices")
    assert answer.status_code == 403, f"conductors as seen by a member: status {answer.status_code}, expected 403"


@pytest.mark.smoke
def test_template_as_the_guide_makes_it(template: Any, basic_template: dict[str, Any], member: Connection) -> None:
    """Given values are returned; the rest has defaults, and the driver follows from the image."""
    found = api(member).get_cluster_template(template.id)
    assert {name: getattr(found, name) for name in basic_template} == basic_template
    assert found.cluster_distro == "fedora-coreos"
    assert (found.is_public, found.is_tls_disabled, found.is_floating_ip_enabled) == (False, False, True)
    assert template.id in {each.uuid for each in api(member).cluster_templates()}


@pytest.mark.parametrize("driver", ["calico", "flannel"])
def test_template_with_every_option(
    driver: str,
    basic_template: dict[str, Any],
    segment: tuple[Any, Any],
    member: Connection,
    owned: Owned,
    guest_key: Path,
) -> None:
    """All options, the guide's (with existing network drivers, errata E144, E146) and those it omits."""
    network, subnet = segment
    keypair = owned(member, "keypair", "template", public_key=guest_key.with_suffix(".pub").read_text())
    options = {
        "network_driver": driver,
        "docker_storage_driver": "overlay2",
        "docker_volume_size": 5,
        "labels": {"kube_tag": "v1.27.4", "boot_volume_size": "0"},
        "is_master_lb_enabled": True,
        "is_floating_ip_enabled": False,
        "is_registry_enabled": False,
        "is_tls_disabled": True,
        "fixed_network": network.id,
        "fixed_subnet": subnet.id,
        "keypair_id": keypair.name,
        "http_proxy": "http://proxy.example.org:3128",
        "https_proxy": "http://proxy.example.org:3129",
        "no_proxy": "192.0.2.1,192.0.2.2",
        "insecure_registry": "registry.example.org:5000",
        "server_type": "vm",
        "volume_driver": "cinder",
    }
    made = owned(member, "cluster_template", driver, **{**basic_template, **options})
    found = api(member).get_cluster_template(made.id)
    others = {name: getattr(found, name) for name, value in options.items() if getattr(found, name) != value}
    wanted = {name: options[name] for name in others}
    assert not others, f"cluster template {made.name}: wanted {wanted}, found {others}"


def test_template_is_changed_and_deleted(basic_template: dict[str, Any], member: Connection, owned: Owned) -> None:
    """A template is created, changed and deleted."""
    made = owned(member, "cluster_template", "changed", **basic_template)
    patch = [
        {"op": "replace", "path": "/dns_nameserver", "value": "192.0.2.54"},
        {"op": "add", "path": "/labels/kube_tag", "value": "v1.26.7"},
    ]
    answer = api(member).patch(f"/clustertemplates/{made.id}", json=patch)
    assert answer.status_code == 200, f"{answer.status_code} {answer.text[:300]}"
    found = api(member).get_cluster_template(made.id)
    assert (found.dns_nameserver, found.labels) == ("192.0.2.54", {"kube_tag": "v1.26.7"})
    api(member).delete_cluster_template(made.id, ignore_missing=False)
    with pytest.raises(exceptions.NotFoundException):
        api(member).get_cluster_template(made.id)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"coe": "swarm"}, id="orchestrator"),
        pytest.param({"coe": None}, id="no orchestrator"),
        pytest.param({"image_id": "no-such-image"}, id="image"),
        pytest.param({"flavor_id": "no-such-flavor"}, id="flavor"),
        pytest.param({"master_flavor_id": "no-such-flavor"}, id="master's flavor"),
        pytest.param({"external_network_id": "no-such-network"}, id="external network"),
        pytest.param({"fixed_network": "no-such-network"}, id="fixed network"),
        pytest.param({"fixed_subnet": "no-such-subnet"}, id="fixed subnet"),
        pytest.param({"network_driver": "fannel"}, id="network driver"),
        pytest.param({"volume_driver": "floppy"}, id="volume driver"),
        pytest.param({"server_type": "cloud"}, id="kind of servers"),
        pytest.param({"docker_volume_size": 0}, id="size"),
        pytest.param({"dns_nameserver": "name.example.org"}, id="resolver"),
    ],
)
def test_wrong_template_is_refused(
    wrong: dict[str, Any], basic_template: dict[str, Any], member: Connection, owned: Owned
) -> None:
    """A missing object is named in the response, and no template is created."""
    name = owned.name("wrong")
    body = {"name": name, **basic_template, **wrong}
    answer = api(member).post(
        "/clustertemplates", json={key: value for key, value in body.items() if value is not None}
    )
    if answer.status_code == 201:
        owned.adopt(member, "cluster_template", api(member).get_cluster_template(answer.json()["uuid"]))
    assert answer.status_code == 400, f"template with {wrong}: {answer.status_code} {answer.text[:300]}"
    assert name not in {each.name for each in api(member).cluster_templates()}


def test_name_of_two_templates_is_ambiguous(basic_template: dict[str, Any], member: Connection, owned: Owned) -> None:
    """Magnum makes a second template of the same name, and after that refuses the name (erratum E145)."""
    first = owned(member, "cluster_template", "twin", **basic_template)
    answer = api(member).post("/clustertemplates", json={"name": first.name, **basic_template})
    assert answer.status_code == 201, answer.text
    owned.adopt(member, "cluster_template", api(member).get_cluster_template(answer.json()["uuid"]))
    answer = api(member).get(f"/clustertemplates/{first.name}")
    assert answer.status_code == 409, f"template by the name of two: {answer.status_code} {answer.text[:300]}"


def test_image_without_a_distribution_is_refused(
    basic_template: dict[str, Any], member: Connection, owned: Owned
) -> None:
    """Without os_distro magnum cannot select the driver."""
    image = owned(member, "image", "plain", data=b"no system", **RAW)
    answer = api(member).post(
        "/clustertemplates", json={"name": owned.name("wrong"), **basic_template, "image_id": image.id}
    )
    assert answer.status_code == 400, f"template of a plain image: {answer.status_code} {answer.text[:300]}"
    assert "not supported" in answer.text


def test_member_publishes_no_template(basic_template: dict[str, Any], member: Connection, owned: Owned) -> None:
    """Only administrators can create public templates."""
    answer = api(member).post(
        "/clustertemplates", json={"name": owned.name("public"), "public": True, **basic_template}
    )
    if answer.status_code == 201:
        owned.adopt(member, "cluster_template", api(member).get_cluster_template(answer.json()["uuid"]))
    assert answer.status_code == 403, f"public template of a member: {answer.status_code} {answer.text[:300]}"


def test_public_template_is_seen_by_everybody(
    basic_template: dict[str, Any], cloud: Connection, other_member: Connection, owned: Owned
) -> None:
    """A public template can be used but not changed by others; a hidden one is visible only to administrators."""
    image = owned(
        cloud, "image", "public", data=b"x", visibility="public", properties={"os_distro": "fedora-coreos"}, **RAW
    )
    made = owned(cloud, "cluster_template", "public", **{**basic_template, "image_id": image.id, "is_public": True})
    assert made.id in {each.uuid for each in api(other_member).cluster_templates()}
    patch = [{"op": "replace", "path": "/dns_nameserver", "value": "192.0.2.54"}]
    answer = api(other_member).patch(f"/clustertemplates/{made.id}", json=patch)
    assert answer.status_code in (403, 404), f"change of another's template: {answer.status_code}"
    answer = api(cloud).patch(
        f"/clustertemplates/{made.id}", json=[{"op": "replace", "path": "/hidden", "value": True}]
    )
    assert answer.status_code == 200, answer.text[:300]
    assert made.id not in {each.uuid for each in api(other_member).cluster_templates()}


def test_template_is_not_seen_by_another_project(template: Any, member: Connection, other_member: Connection) -> None:
    """Another project cannot list, read, change or delete it."""
    path = f"/clustertemplates/{template.id}"
    assert template.id not in {each.uuid for each in api(other_member).cluster_templates()}
    assert api(other_member).get(path).status_code == 404
    assert api(other_member).delete(path).status_code == 404
    patch = [{"op": "replace", "path": "/dns_nameserver", "value": "192.0.2.54"}]
    assert api(other_member).patch(path, json=patch).status_code == 404
    assert api(member).get_cluster_template(template.id).dns_nameserver == RESOLVER


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        pytest.param({"cluster_template_id": "no-such-template"}, 400, id="template"),
        pytest.param({"keypair": "no-such-key"}, 404, id="key"),
        pytest.param({"node_count": -1}, 400, id="number of nodes"),
        pytest.param({"master_count": 0}, 400, id="no master"),
        pytest.param({"master_count": 2}, 400, id="masters without load balancer"),
        pytest.param({"flavor_id": "no-such-flavor"}, 400, id="flavor"),
    ],
)
def test_wrong_cluster_is_refused(
    wrong: dict[str, Any], status: int, template: Any, member: Connection, owned: Owned
) -> None:
    """Invalid clusters are refused, and none is created."""
    name = owned.name("wrong")
    answer = api(member).post("/clusters", json={"name": name, "cluster_template_id": template.id, **wrong})
    if answer.status_code == 202:
        owned.adopt(member, "cluster", api(member).get_cluster(answer.json()["uuid"]))
    assert answer.status_code == status, f"cluster with {wrong}: {answer.status_code} {answer.text[:300]}"
    assert name not in {each.name for each in api(member).clusters()}


@pytest.fixture
def without_clusters(tenants: Tenants, magnum: object, cloud: Connection) -> Iterator[Tenant]:
    """A project with a quota of no clusters."""
    tenant = tenants.get("no-clusters")
    body = {"project_id": tenant.project_id, "resource": "Cluster", "hard_limit": 0}
    answer = api(cloud).post("/quotas", json=body)
    assert answer.status_code == 201, f"{answer.status_code} {answer.text[:300]}"
    yield tenant
    path = f"/quotas/{tenant.project_id}/Cluster"
    answer = api(cloud).delete(path, json={"project_id": tenant.project_id, "resource": "Cluster"})
    assert answer.status_code == 204, f"{answer.status_code} {answer.text[:300]}"


def test_quota_is_enforced(
    without_clusters: Tenant, basic_template: dict[str, Any], cloud: Connection, owned: Owned
) -> None:
    """A cluster over the quota is refused; the project can read its quota but not raise it."""
    mine = without_clusters.connection
    image = owned(mine, "image", "coreos", data=b"x", properties={"os_distro": "fedora-coreos"}, **RAW)
    made = owned(mine, "cluster_template", "quota", **{**basic_template, "image_id": image.id})
    answer = api(mine).post("/clusters", json={"name": owned.name("over"), "cluster_template_id": made.id})
    if answer.status_code == 202:
        owned.adopt(mine, "cluster", api(mine).get_cluster(answer.json()["uuid"]))
    assert answer.status_code == 403, f"cluster over the quota: {answer.status_code} {answer.text[:300]}"
    path = f"/quotas/{without_clusters.project_id}/Cluster"
    assert api(mine).get(path).json()["hard_limit"] == 0
    raised = {"project_id": without_clusters.project_id, "resource": "Cluster", "hard_limit": 5}
    assert api(mine).patch(path, json=raised).status_code == 403
    assert api(cloud).patch(path, json=raised).status_code == 202
    assert api(mine).get(path).json()["hard_limit"] == 5


def test_statistics_of_a_project(magnum: object, member: Connection, other_member: Connection) -> None:
    """A project reads only its own statistics; those of all projects are for administrators."""
    found = api(member).get("/stats", params={"project_id": member.current_project_id})
    assert (found.status_code, found.json()["clusters"]) == (200, 0)
    answer = api(other_member).get("/stats", params={"project_id": member.current_project_id})
    assert answer.status_code == 403, f"another project's statistics: {answer.status_code} {answer.text[:300]}"
