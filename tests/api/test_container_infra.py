"""Cluster templates: with all options, changed, refused, and seen by others or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openstack import exceptions
from openstack.connection import Connection

from stackspec.fixtures.clusters import api
from stackspec.fixtures.images import RAW
from stackspec.fixtures.owned import Owned
from stackspec.fixtures.topology import RESOLVER


@pytest.fixture(scope="module")
def segment(neutron: object, member: Connection, module_owned: Owned) -> tuple[Any, Any]:
    """A network with its subnet, and the name of a key pair."""
    network = module_owned(member, "network", "fixed")
    subnet = module_owned(member, "subnet", "fixed", network_id=network.id, ip_version=4, cidr="10.204.1.0/24")
    return network, subnet


@pytest.mark.smoke
def test_template_as_the_guide_makes_it(
    cluster_template: Any, basic_template: dict[str, Any], member: Connection
) -> None:
    """Given values are returned; the rest has defaults, and the driver follows from the image."""
    found = api(member).get_cluster_template(cluster_template.id)
    assert {name: getattr(found, name) for name in basic_template} == basic_template
    assert found.cluster_distro == "fedora-coreos"
    assert (found.is_public, found.is_tls_disabled, found.is_floating_ip_enabled) == (False, False, True)
    assert cluster_template.id in {each.uuid for each in api(member).cluster_templates()}


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


def test_template_is_not_seen_by_another_project(
    cluster_template: Any, member: Connection, other_member: Connection
) -> None:
    """Another project cannot list, read, change or delete it."""
    path = f"/clustertemplates/{cluster_template.id}"
    assert cluster_template.id not in {each.uuid for each in api(other_member).cluster_templates()}
    assert api(other_member).get(path).status_code == 404
    assert api(other_member).delete(path).status_code == 404
    patch = [{"op": "replace", "path": "/dns_nameserver", "value": "192.0.2.54"}]
    assert api(other_member).patch(path, json=patch).status_code == 404
    assert api(member).get_cluster_template(cluster_template.id).dns_nameserver == RESOLVER
