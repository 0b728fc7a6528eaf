"""A Kubernetes cluster from a template: its stack, its certificates, its servers with user data, and its deletion.

The report says whether its nodes ran Fedora CoreOS, or were simulated by the test (`stackspec/fixtures/clusters.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from openstack import exceptions
from openstack.connection import Connection

from stackspec.fixtures.clusters import (
    COMPLETE_WITHIN,
    STARTED_WITHIN,
    ClusterParts,
    ClusterSecrets,
    NodeAgents,
    api,
    deployments,
    file_of,
    resources,
    state,
    user_data,
)
from stackspec.openstack.run_names import belongs
from stackspec.openstack.versions import identity_v3
from stackspec.waiting import wait_for

if TYPE_CHECKING:
    from openstack.container_infrastructure_management.v1.cluster import Cluster

GONE_WITHIN = 300


def test_cluster_starts_its_stack(cluster_servers: list[Any], cluster: Cluster, member: Connection) -> None:
    """The cluster's stack is in the project, with its servers: a master and a node."""
    found = api(member).get_cluster(cluster.id)
    assert (found.master_count, found.node_count) == (1, 1)
    made = {
        each["physical_resource_id"]: each["resource_name"]
        for each in resources(member, found.stack_id)
        if each["resource_type"] == "OS::Nova::Server"
    }
    assert {made.get(each.id) for each in cluster_servers} == {"kube-master", "kube-minion"}, (
        f"{made}\n{state(member, cluster)}"
    )


def test_certificates_are_in_barbican(
    cluster_servers: list[Any], cluster: Cluster, cluster_secrets: ClusterSecrets, member: Connection
) -> None:
    """The API's CA certificate is in one of the cluster's containers, together with its key."""
    given = x509.load_pem_x509_certificate(api(member).get_cluster_certificate(cluster.id).pem.encode())
    found = {cluster_secrets.certificate(each): each for each in cluster_secrets.containers()}
    assert given in found, f"{len(found)} certificates of the cluster are in Barbican, but not the API's"
    assert {each["name"] for each in found[given]["secret_refs"]} >= {"certificate", "private_key"}
    assert given.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_certificates_are_signed(cluster_servers: list[Any], cluster: Cluster, member: Connection) -> None:
    """A certificate request of a user is signed by the cluster's authority: `openstack coe cluster config`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([
        x509.NameAttribute(NameOID.COMMON_NAME, "admin"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"),
    ])  # fmt: skip
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    csr = request.public_bytes(serialization.Encoding.PEM).decode()
    made = api(member).create_cluster_certificate(cluster_uuid=cluster.id, csr=csr)
    signed = x509.load_pem_x509_certificate(made.pem.encode())
    authority = x509.load_pem_x509_certificate(api(member).get_cluster_certificate(cluster.id).pem.encode())
    signed.verify_directly_issued_by(authority)
    assert signed.subject == name
    assert signed.public_key() == key.public_key()


def test_certificates_are_the_projects(cluster: Cluster, other_member: Connection) -> None:
    """Another project sees neither the cluster nor its authority, and gets no certificates."""
    assert api(other_member).get(f"/clusters/{cluster.id}").status_code == 404
    assert api(other_member).get(f"/certificates/{cluster.id}").status_code == 404
    assert cluster.id not in {each.uuid for each in api(other_member).clusters()}


def test_template_in_use_stays(cluster_servers: list[Any], cluster: Cluster, member: Connection) -> None:
    """A template in use by a cluster cannot be deleted."""
    template = api(member).get_cluster(cluster.id).cluster_template_id
    answer = api(member).delete(f"/clustertemplates/{template}")
    assert answer.status_code == 400, f"template in use: {answer.status_code} {answer.text[:200]}"


def test_servers_have_the_right_user_data(
    cluster_servers: list[Any],
    cluster: Cluster,
    cloud: Connection,
    member: Connection,
    guest_key: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Each server has an Ignition configuration with its own name, the user's key and its own credentials.

    With these credentials and the URL in them a node reads its deployments from heat: the cluster's id, and the URLs of
    magnum and keystone.
    """
    public = guest_key.with_suffix(".pub").read_text().split()[1]
    # A URL that nodes can reach if the inventory has a `public_host`.
    urls = {
        name: str(member.session.get_endpoint(service_type=service, interface="public")).rstrip("/")
        for name, service in (("AUTH_URL", "identity"), ("MAGNUM_URL", "container-infra"))
    }
    read = 0
    for server in cluster_servers:
        data = user_data(cloud, server)
        assert data["ignition"]["version"].startswith(("2.", "3.")), data["ignition"]
        keys = [key for user in data["passwd"]["users"] for key in user.get("sshAuthorizedKeys", ())]
        assert any(public in key for key in keys), f"{server.name}: the user's key is not in its user data"
        assert file_of(data, "/etc/hostname").strip() == server.name
        deployed = [each["config"] for each in deployments(cloud, server)]
        mine = [each for each in deployed if f'CLUSTER_UUID="{cluster.id}"' in each]
        assert mine, f"{server.name}: none of {len(deployed)} deployments has the cluster's id"
        for name, url in urls.items():
            assert all(f'{name}="{url}"' in each for each in mine), f"{server.name}: {name} is not {url}"
        read += len(mine)
    record_property(
        "user data", f"{len(cluster_servers)} servers read {read} deployments of the cluster with their own logins"
    )


def test_cluster_is_complete(
    cluster_servers: list[Any],
    cluster_parts: ClusterParts,
    cluster_agents: NodeAgents,
    cluster: Cluster,
    member: Connection,
    record_property: Callable[[str, object], None],
) -> None:
    """CREATE_COMPLETE, as reported by the nodes, or by the test if the servers are test guests."""
    record_property(
        "cluster",
        f"Fedora CoreOS, image {cluster_parts.image.name}: the nodes completed the cluster"
        if cluster_parts.real
        else "no image of Fedora CoreOS: servers booted the test guest, and the test reported to heat for them",
    )

    def complete() -> bool:
        found = api(member).get_cluster(cluster.id)
        assert not found.status.endswith("FAILED"), state(member, cluster)
        for each in cluster_servers if not cluster_parts.real else ():
            cluster_agents.answer(each)
        return bool(found.status == "CREATE_COMPLETE")

    what = f"cluster {cluster.name} is CREATE_COMPLETE"
    wait_for(what, complete, COMPLETE_WITHIN, every=5, detail=lambda: state(member, cluster))
    found = api(member).get_cluster(cluster.id)
    now = [member.compute.get_server(server.id) for server in cluster_servers]
    addresses = {each["addr"] for server in now for network in server.addresses.values() for each in network}
    assert {*found.master_addresses, *found.node_addresses} <= addresses, f"{found.master_addresses} {addresses}"
    for server in cluster_servers if not cluster_parts.real else ():

        def console(server: Any = server) -> str:
            return str(member.compute.get_server_console_output(server.id).get("output") or "")

        def named(server: Any = server) -> bool:
            return f"host {server.name}" in console(server)

        wait_for(
            f"{server.name} has its name from the metadata service",
            named,
            STARTED_WITHIN,
            every=3,
            detail=console,
        )


def test_deleted_cluster_leaves_nothing(
    cluster_servers: list[Any],
    cluster: Cluster,
    cluster_secrets: ClusterSecrets,
    cloud: Connection,
    member: Connection,
    record_property: Callable[[str, object], None],
) -> None:
    """Stack, servers, network, router, addresses, groups, the authority's key and the cluster's user are gone."""
    authority = x509.load_pem_x509_certificate(api(member).get_cluster_certificate(cluster.id).pem.encode())
    stack = member.orchestration.get_stack(api(member).get_cluster(cluster.id).stack_id)
    domain = identity_v3(cloud).find_domain("magnum", ignore_missing=False)

    def trustees() -> list[str]:
        return [each.name for each in identity_v3(cloud).users(domain_id=domain.id) if cluster.id in each.name]

    assert trustees(), "magnum created no user for the cluster"
    api(member).delete_cluster(cluster.id, ignore_missing=False)

    def gone() -> bool:
        try:
            now = api(member).get_cluster(cluster.id)
        except exceptions.NotFoundException:
            return True
        except exceptions.BadRequestException as error:
            # Magnum's error if the cluster disappears while the request is processed.
            if "No Cluster found" not in str(error):
                raise
            return False
        assert now.status != "DELETE_FAILED", state(member, cluster)
        return False

    wait_for(f"cluster {cluster.name} is gone", gone, GONE_WITHIN, every=3)
    left = [
        f"server {each.name}" for each in member.compute.servers() if each.id in {known.id for known in cluster_servers}
    ]
    for kind in ("networks", "subnets", "routers", "security_groups", "ports"):
        begins = (cluster.name, stack.name)
        left += [f"{kind} {each.name}" for each in getattr(member.network, kind)() if each.name.startswith(begins)]
    # Those of other tests' guests are marked.
    ips = member.network.ips(project_id=member.current_project_id)
    left += [f"address {each.floating_ip_address}" for each in ips if not belongs(each.description)]
    left += [f"stack {each.name}" for each in member.orchestration.stacks() if each.id == stack.id]
    left += [
        f"container {each['name']}"
        for each in cluster_secrets.containers()
        if cluster_secrets.certificate(each) == authority
    ]
    left += [f"user {each}" for each in trustees()]
    assert left == [], f"left by the deleted cluster: {left}"
    if forgotten := cluster_secrets.remove():
        record_property("Barbican", f"{forgotten} containers that magnum leaves behind were removed by the test")
