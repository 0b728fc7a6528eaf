"""A Kubernetes cluster from a template: its stack, its certificates, its servers with their user data, and its end.

Where the cloud has an image of Fedora CoreOS, the cluster is waited for until its nodes say that they are complete.
Elsewhere its servers boot the test guest under that name, which does nothing with what they are given; then the test
takes the nodes' place: it logs in with what each of them was given, reads what it should run, and says that this is
done. The report says which of the two it was.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import testinfra.host
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from openstack import exceptions
from openstack.connection import Connection
from stackspec.fixtures.guests import GuestSpec
from stackspec.fixtures.owned import Owned

from stackspec.openstack.cloud import connect
from stackspec.openstack.run_names import belongs
from stackspec.session import RUN
from stackspec.site import Site
from stackspec.waiting import wait_for

STARTED_WITHIN = 480
KNOWN_WITHIN = 120
"""Seconds after which a cluster that was asked for is in magnum's list."""
COMPLETE_WITHIN = 3600
GONE_WITHIN = 300
RESOLVER = "192.0.2.53"
CIDR = "10.205.1.0/24"
ORCHESTRATION = {"service_type": "orchestration", "interface": "public"}


def api(connection: Connection) -> Any:
    """The service's part of a connection."""
    return connection.container_infrastructure_management


@dataclass(frozen=True)
class Parts:
    """What clusters are made of.

    :param real: whether the image is Fedora CoreOS, so that nodes do what they are told
    """

    image: Any
    flavor: Any
    real: bool


@pytest.fixture(scope="module")
def parts(magnum: object, cloud: Connection, member: Connection, module_owned: Owned, guest_spec: GuestSpec) -> Parts:
    """The cloud's image of Fedora CoreOS with a flavor of its size, or the test guest under that name."""
    for each in member.image.images(status="active", visibility="public"):
        if each.os_distro == "fedora-coreos":
            return Parts(each, module_owned(cloud, "flavor", "coreos", vcpus=2, ram=4096, disk=20), real=True)
    image = module_owned(
        member,
        "image",
        "coreos",
        data=member.image.download_image(guest_spec.image.id).content,
        disk_format=guest_spec.image.disk_format,
        container_format="bare",
        properties={"os_distro": "fedora-coreos"},
    )
    return Parts(image, guest_spec.flavor, real=False)


@pytest.fixture(scope="module")
def discovery(
    request: pytest.FixtureRequest, site: Site, run_id: str, node_host: Callable[[str], testinfra.host.Host]
) -> Iterator[dict[str, str]]:
    """Where the cluster's members find each other: the lab's own etcd, since nothing leaves the lab."""
    if request.config.stash[RUN].lab is None:
        yield {}
        return
    url = f"http://{site.controller.address}:2379/v2/keys/stackspec/{run_id}"
    host = node_host(site.controller.name)

    def call(method: str, place: str) -> None:
        script = (
            "import sys, urllib.request as r;"
            "r.urlopen(r.Request(sys.argv[2], b'value=1' if sys.argv[1] == 'PUT' else None, method=sys.argv[1],"
            "headers={'Content-Type': 'application/x-www-form-urlencoded'}))"
        )
        done = host.run("python3 -c %s %s %s", script, method, place)
        assert done.rc == 0, f"{method} {place}: {done.stderr}"

    call("PUT", f"{url}/_config/size")
    yield {"discovery_url": url}
    call("DELETE", f"{url}?recursive=true")


@pytest.fixture(scope="module")
def keypair(member: Connection, module_owned: Owned, guest_key: Path) -> Any:
    """The key that the nodes admit."""
    return module_owned(member, "keypair", "cluster", public_key=guest_key.with_suffix(".pub").read_text())


@pytest.fixture(scope="module")
def cluster(
    parts: Parts,
    discovery: dict[str, str],
    keypair: Any,
    nova_discover: object,
    neutron_compute: object,
    nova_networking: object,
    member: Connection,
    module_owned: Owned,
    external_network: Any,
) -> Any:
    """A cluster of a master and a node; it is waited for no longer than until magnum knows it."""
    template = module_owned(
        member,
        "cluster_template",
        "kubernetes",
        coe="kubernetes",
        image_id=parts.image.id,
        external_network_id=external_network.id,
        dns_nameserver=RESOLVER,
        master_flavor_id=parts.flavor.id,
        flavor_id=parts.flavor.id,
        network_driver="flannel",
        docker_storage_driver="overlay2",
        labels={"fixed_subnet_cidr": CIDR},
    )
    made = module_owned(
        member,
        "cluster",
        "kubernetes",
        cluster_template_id=template.id,
        keypair=keypair.name,
        master_count=1,
        node_count=1,
        create_timeout=COMPLETE_WITHIN // 60,
        **discovery,
    )
    # The API answers with the id before the conductor, to which it hands the work, has written it down.
    return wait_for(
        f"magnum knows the cluster {made.id}",
        lambda: api(member).get_cluster(made.id),
        KNOWN_WITHIN,
        retry_on=(exceptions.BadRequestException, exceptions.NotFoundException),
        detail=lambda: "on the controller: journalctl -u magnum-conductor, /var/log/magnum",
    )


def state(connection: Connection, cluster: Any) -> str:
    """What magnum and heat say of the cluster."""
    found = api(connection).get("/clusters/" + cluster.id).json()
    lines = [f"cluster {found['name']}: {found['status']}: {found.get('status_reason')} {found.get('faults')}"]
    if found.get("stack_id"):
        for each in resources(connection, found["stack_id"]):
            if each["resource_status"] != "CREATE_COMPLETE":
                words = (each["resource_type"], each["resource_status"], each["resource_status_reason"])
                lines.append(f"  {each['resource_name']} ({words[0]}): {words[1]}: {words[2]}")
    return "\n".join(lines)


def resources(connection: Connection, stack_id: str) -> list[dict[str, Any]]:
    """The resources of a stack and of those in it."""
    stack = connection.orchestration.get_stack(stack_id)
    path = f"/stacks/{stack.name}/{stack.id}/resources"
    answer = connection.orchestration.get(path, params={"nested_depth": 3})
    return list(answer.json()["resources"])


def nodes(connection: Connection, cluster: Any) -> list[Any]:
    """The cluster's servers; their names begin with their stack's."""
    stack = api(connection).get_cluster(cluster.id).stack_id
    if stack is None:
        return []
    name = connection.orchestration.get_stack(stack).name
    return [each for each in connection.compute.servers() if each.name.startswith(name)]


class Kept:
    """What magnum keeps in Barbican of a cluster, as its own user sees it.

    :param name: the cluster's, and its certificates'
    """

    def __init__(self, site: Site, name: str) -> None:
        self._keys: Any = connect(site, user="magnum", project="service").key_manager
        self.name = name

    def containers(self) -> list[dict[str, Any]]:
        """The containers of its authorities."""
        answer = self._keys.get("/containers", params={"limit": 100, "sort": "created:desc"})
        return [each for each in answer.json()["containers"] if each["name"] == self.name]

    def certificate(self, container: dict[str, Any]) -> x509.Certificate:
        """The certificate in a container."""
        reference = next(each["secret_ref"] for each in container["secret_refs"] if each["name"] == "certificate")
        path = "/secrets/" + reference.rsplit("/", 1)[1] + "/payload"
        answer = self._keys.get(path, headers={"Accept": "*/*"})
        assert answer.status_code == 200, f"certificate of container {container['name']}: {answer.status_code}"
        return x509.load_pem_x509_certificate(answer.content)

    def remove(self) -> int:
        """Remove what is there; magnum forgets the authorities of etcd and of the front proxy when a cluster goes."""
        found = self.containers()
        for each in found:
            self._keys.delete("/containers/" + each["container_ref"].rsplit("/", 1)[1])
            for secret in each["secret_refs"]:
                self._keys.delete("/secrets/" + secret["secret_ref"].rsplit("/", 1)[1])
        return len(found)


class Agents:
    """Does what the agents in the nodes do, without their work: asks heat what to run, and says that it is done.

    :param admin: reads the nodes' user data, in which their logins are
    """

    def __init__(self, admin: Connection) -> None:
        self._admin = admin
        self._done: set[str] = set()

    def answer(self, server: Any) -> None:
        """Report each deployment of `server` that is new as done."""
        for each in deployments(login_of(self._admin, server)):
            given = {entry["name"]: entry["value"] for entry in each["inputs"]}
            if each["id"] not in self._done:
                assert given["deploy_signal_transport"] == "HEAT_SIGNAL", given["deploy_signal_transport"]
                login = {key: given[f"deploy_{key}"] for key in ("auth_url", "user_id", "password", "project_id")}
                path = f"/stacks/{given['deploy_stack_id']}/resources/{given['deploy_resource_name']}/signal"
                done = {"deploy_status_code": 0, "deploy_stdout": "", "deploy_stderr": ""}
                session_of(login).post(path, json=done, endpoint_filter=ORCHESTRATION)
                self._done.add(each["id"])


def session_of(login: dict[str, str]) -> Session:
    """A session as a node opens it."""
    auth = v3.Password(
        login["auth_url"], user_id=login["user_id"], password=login["password"], project_id=login["project_id"]
    )
    return Session(auth=auth, timeout=60)


def user_data(admin: Connection, server: Any) -> dict[str, Any]:
    """A server's user data, as nova has it; it holds a password, so no test prints it."""
    found = admin.compute.get(f"/servers/{server.id}", microversion="2.3").json()["server"]
    data: dict[str, Any] = json.loads(base64.b64decode(found["OS-EXT-SRV-ATTR:user_data"]))
    return data


def file_of(data: dict[str, Any], path: str) -> str:
    """A file in user data."""
    source = next(each["contents"]["source"] for each in data["storage"]["files"] if each["path"] == path)
    return unquote(source.removeprefix("data:").split(",", 1)[1])


def login_of(admin: Connection, server: Any) -> dict[str, str]:
    """By which a node asks heat what to run."""
    found: dict[str, str] = json.loads(file_of(user_data(admin, server), "/var/lib/heat-cfntools/cfn-init-data"))[
        "os-collect-config"
    ]["heat"]
    return found


def deployments(login: dict[str, str]) -> list[dict[str, Any]]:
    """What a node with this login is told to run; the address in it must be one that a node reaches."""
    path = f"/stacks/{login['stack_id']}/resources/{login['resource_name']}/metadata"
    answer = session_of(login).get(path, endpoint_filter=ORCHESTRATION)
    return list(answer.json()["metadata"].get("deployments", ()))


@pytest.fixture(scope="module")
def kept(site: Site, cluster: Any) -> Iterator[Kept]:
    """The cluster's certificates; nothing of them stays."""
    found = Kept(site, cluster.name)
    yield found
    found.remove()


@pytest.fixture(scope="module")
def agents(cloud: Connection) -> Agents:
    """Those of the cluster's nodes, where these are test guests."""
    return Agents(cloud)


@pytest.fixture(scope="module")
def servers(cluster: Any, parts: Parts, agents: Agents, member: Connection) -> list[Any]:
    """The cluster's servers, when both are there: the node comes when the master has said that it is done."""

    def both() -> list[Any] | None:
        found = api(member).get_cluster(cluster.id)
        assert not found.status.endswith("FAILED"), state(member, cluster)
        started = nodes(member, cluster)
        for each in started:
            assert each.status != "ERROR", f"{each.name}: {each.fault}"
            if each.status == "ACTIVE" and not parts.real:
                agents.answer(each)
        return started if [each.status for each in started] == ["ACTIVE"] * 2 else None

    seconds = COMPLETE_WITHIN if parts.real else STARTED_WITHIN
    what = f"both servers of cluster {cluster.name} are ACTIVE"
    return wait_for(what, both, seconds, every=3, detail=lambda: state(member, cluster))


def test_cluster_starts_its_stack(servers: list[Any], cluster: Any, member: Connection) -> None:
    """The stack that magnum names is in the project, and the servers are its own: a master and a node."""
    found = api(member).get_cluster(cluster.id)
    assert (found.master_count, found.node_count) == (1, 1)
    made = {
        each["physical_resource_id"]: each["resource_name"]
        for each in resources(member, found.stack_id)
        if each["resource_type"] == "OS::Nova::Server"
    }
    assert {made.get(each.id) for each in servers} == {"kube-master", "kube-minion"}, (
        f"{made}\n{state(member, cluster)}"
    )


def test_certificates_are_in_barbican(servers: list[Any], cluster: Any, kept: Kept, member: Connection) -> None:
    """The authority that the API gives out is one of the containers there, and that container holds its key."""
    given = x509.load_pem_x509_certificate(api(member).get_cluster_certificate(cluster.id).pem.encode())
    found = {kept.certificate(each): each for each in kept.containers()}
    assert given in found, f"{len(found)} certificates of the cluster are in Barbican, the API's is not one of them"
    assert {each["name"] for each in found[given]["secret_refs"]} >= {"certificate", "private_key"}
    assert given.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_certificates_are_signed(servers: list[Any], cluster: Any, member: Connection) -> None:
    """What a user is given for a request is signed by the cluster's authority: `openstack coe cluster config`."""
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


def test_certificates_are_the_projects(cluster: Any, other_member: Connection) -> None:
    """Another project sees neither the cluster nor its authority, and is signed nothing."""
    assert api(other_member).get(f"/clusters/{cluster.id}").status_code == 404
    assert api(other_member).get(f"/certificates/{cluster.id}").status_code == 404
    assert cluster.id not in {each.uuid for each in api(other_member).clusters()}


def test_template_in_use_stays(servers: list[Any], cluster: Any, member: Connection) -> None:
    """A template with a cluster is not deleted."""
    template = api(member).get_cluster(cluster.id).cluster_template_id
    answer = api(member).delete(f"/clustertemplates/{template}")
    assert answer.status_code == 400, f"template in use: {answer.status_code} {answer.text[:200]}"


def test_servers_have_the_right_user_data(
    servers: list[Any],
    cluster: Any,
    cloud: Connection,
    member: Connection,
    guest_key: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """Each server has an Ignition configuration with its own name, the user's key and a login of its own.

    With that login, at the address in it, a node reads from heat what it has to run: the cluster's id, and where
    magnum and keystone are.
    """
    public = guest_key.with_suffix(".pub").read_text().split()[1]
    # On an address that nodes reach where the inventory has a `public_host`.
    urls = {
        name: str(member.session.get_endpoint(service_type=service, interface="public")).rstrip("/")
        for name, service in (("AUTH_URL", "identity"), ("MAGNUM_URL", "container-infra"))
    }
    read = 0
    for server in servers:
        data = user_data(cloud, server)
        assert data["ignition"]["version"].startswith(("2.", "3.")), data["ignition"]
        keys = [key for user in data["passwd"]["users"] for key in user.get("sshAuthorizedKeys", ())]
        assert any(public in key for key in keys), f"{server.name}: the user's key is not in its user data"
        assert file_of(data, "/etc/hostname").strip() == server.name
        deployed = [each["config"] for each in deployments(login_of(cloud, server))]
        mine = [each for each in deployed if f'CLUSTER_UUID="{cluster.id}"' in each]
        assert mine, f"{server.name}: none of {len(deployed)} deployments has the cluster's id"
        for name, url in urls.items():
            assert all(f'{name}="{url}"' in each for each in mine), f"{server.name}: {name} is not {url}"
        read += len(mine)
    record_property("user data", f"{len(servers)} servers read {read} deployments of the cluster with their own logins")


def test_cluster_is_complete(
    servers: list[Any],
    parts: Parts,
    agents: Agents,
    cluster: Any,
    member: Connection,
    record_property: Callable[[str, object], None],
) -> None:
    """CREATE_COMPLETE, which the nodes have to say; test guests boot, and the test says it for them."""
    record_property(
        "cluster",
        f"Fedora CoreOS, image {parts.image.name}: the nodes made the cluster complete"
        if parts.real
        else "no image of Fedora CoreOS: servers booted the test guest, and the test answered heat in their place",
    )

    def complete() -> bool:
        found = api(member).get_cluster(cluster.id)
        assert not found.status.endswith("FAILED"), state(member, cluster)
        for each in servers if not parts.real else ():
            agents.answer(each)
        return bool(found.status == "CREATE_COMPLETE")

    what = f"cluster {cluster.name} is CREATE_COMPLETE"
    wait_for(what, complete, COMPLETE_WITHIN, every=5, detail=lambda: state(member, cluster))
    found = api(member).get_cluster(cluster.id)
    now = [member.compute.get_server(server.id) for server in servers]
    addresses = {each["addr"] for server in now for network in server.addresses.values() for each in network}
    assert {*found.master_addresses, *found.node_addresses} <= addresses, f"{found.master_addresses} {addresses}"
    for server in servers if not parts.real else ():

        def console(server: Any = server) -> str:
            return str(member.compute.get_server_console_output(server.id).get("output") or "")

        wait_for(
            f"{server.name} has its name from the metadata service",
            lambda console=console, server=server: f"host {server.name}" in console(),
            STARTED_WITHIN,
            every=3,
            detail=console,
        )


def test_deleted_cluster_leaves_nothing(
    servers: list[Any],
    cluster: Any,
    kept: Kept,
    cloud: Connection,
    member: Connection,
    record_property: Callable[[str, object], None],
) -> None:
    """Stack, servers, network, router, addresses, groups, the authority's key and the cluster's user are gone."""
    authority = x509.load_pem_x509_certificate(api(member).get_cluster_certificate(cluster.id).pem.encode())
    stack = member.orchestration.get_stack(api(member).get_cluster(cluster.id).stack_id)
    domain = cloud.identity.find_domain("magnum", ignore_missing=False)

    def trustees() -> list[str]:
        return [each.name for each in cloud.identity.users(domain_id=domain.id) if cluster.id in each.name]

    assert trustees(), "magnum made no user for the cluster"
    api(member).delete_cluster(cluster.id, ignore_missing=False)

    def gone() -> bool:
        try:
            now = api(member).get_cluster(cluster.id)
        except exceptions.NotFoundException:
            return True
        except exceptions.BadRequestException as error:
            # Magnum's answer when the cluster goes between its look at the database and its answer.
            if "No Cluster found" not in str(error):
                raise
            return False
        assert now.status != "DELETE_FAILED", state(member, cluster)
        return False

    wait_for(f"cluster {cluster.name} is gone", gone, GONE_WITHIN, every=3)
    left = [f"server {each.name}" for each in member.compute.servers() if each.id in {known.id for known in servers}]
    for kind in ("networks", "subnets", "routers", "security_groups", "ports"):
        begins = (cluster.name, stack.name)
        left += [f"{kind} {each.name}" for each in getattr(member.network, kind)() if each.name.startswith(begins)]
    # Those of other tests' guests say whose they are.
    ips = member.network.ips(project_id=member.current_project_id)
    left += [f"address {each.floating_ip_address}" for each in ips if not belongs(each.description)]
    left += [f"stack {each.name}" for each in member.orchestration.stacks() if each.id == stack.id]
    left += [f"container {each['name']}" for each in kept.containers() if kept.certificate(each) == authority]
    left += [f"user {each}" for each in trustees()]
    assert left == [], f"left by the deleted cluster: {left}"
    if forgotten := kept.remove():
        record_property("Barbican", f"{forgotten} containers that magnum itself forgets were removed by the test")
