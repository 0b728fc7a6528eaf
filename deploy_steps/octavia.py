"""Load balancing service. Guide: 安装openstack服务 / Octavia."""

from __future__ import annotations

from ipaddress import IPv4Network

from stackspec.certificates import certificate_part, is_usable, key_part, make_authority, make_client
from stackspec.cloud_inventory import inventory_of
from stackspec.openstack import (
    Database,
    DbSync,
    Endpoint,
    Flavor,
    Id,
    Image,
    Keypair,
    NoQuota,
    NoStuckLoadBalancer,
    OsloConfig,
    OvsNeutronPort,
    Role,
    RoleAssignment,
    SecurityGroup,
    ServiceNetwork,
    ServicePort,
    ServiceUser,
    database_url,
    keystone_authtoken,
    transport_url,
)
from stackspec.resources import Answers, Directory, File, Packages, Resource, Service
from stackspec.site import Site
from stackspec.step import Resources, Step, step

from .horizon import BUILT

__all__ = ["octavia", "octavia_dashboard"]

CERTIFICATES = "/etc/octavia/certs"
INTERFACE = "o-hm0"
NETWORK, SUBNET, PORT = "lb-mgmt-net", "lb-mgmt-subnet", "octavia-health-manager-listen-port"
ROLES = ("observer", "global_observer", "member", "quota_admin", "admin")
UNITS = ("octavia-api", "octavia-worker", "octavia-health-manager", "octavia-housekeeping")
WAIT_FOR_INTERFACE = f"""\
# The address for heartbeats is configured some seconds after the switch starts; without it the process exits.
[Unit]
After=openvswitch-switch.service systemd-networkd.service

[Service]
ExecStartPre=+/lib/systemd/systemd-networkd-wait-online --interface={INTERFACE}:routable --timeout=300
TimeoutStartSec=330
"""


@step(role="controller", provides="load-balancer", section="octavia")
def octavia(site: Site, keystone: Step, glance: Step, nova: Step, neutron: Step, rabbitmq: Step) -> Resources:
    """Octavia with amphorae: API, worker, health manager and housekeeper, and the management network."""
    controller = site.controller.name
    wanted = inventory_of(site).octavia
    assert wanted is not None, "the step is not in a site without the section octavia"
    listen, pool = management_addresses(wanted.network)
    yield Database("octavia")
    yield ServiceUser("octavia")
    # Without these roles only administrators can create load balancers (erratum E111).
    for role in ROLES:
        yield Role(f"load-balancer_{role}")
    yield RoleAssignment("load-balancer_member", user="demo", project="demo")
    url = f"http://{controller}:9876"
    yield Endpoint("load-balancer", name="octavia", description="OpenStack Octavia", url=url)
    settings = {
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_NAME": "service",
        "OS_USERNAME": "octavia",
        "OS_PASSWORD": site.password("octavia"),
        "OS_AUTH_URL": f"http://{controller}:5000",
        "OS_IDENTITY_API_VERSION": "3",
        "OS_IMAGE_API_VERSION": "2",
        "OS_VOLUME_API_VERSION": "3",
    }
    openrc = "".join(f"export {name}={value}\n" for name, value in settings.items())
    yield File("/etc/keystone/octavia-openrc", openrc, mode=0o600)  # erratum E13

    # Image, flavor and key pair of amphorae.
    flavor = wanted.flavor
    yield Flavor("amphora", flavor.vcpus, flavor.ram, flavor.disk, id="200", public=False)
    yield NoQuota("service")
    yield Keypair("octavia-key", user="octavia")  # one name, erratum E117
    # A small pool of a large network, no gateway (E118, E119); only its own addresses are allowed (E116).
    yield ServiceNetwork(NETWORK, SUBNET, str(wanted.network), pool)
    source = str(wanted.network)
    yield SecurityGroup("lb-mgmt-sec-grp", (("icmp", None), ("tcp", 22), ("tcp", 9443)), source)
    yield SecurityGroup("lb-health-mgr-sec-grp", (("udp", 5555),), source)
    yield ServicePort(PORT, NETWORK, SUBNET, listen, "lb-health-mgr-sec-grp", "Octavia:health-mgr", host=controller)

    yield Packages("octavia-api", "octavia-health-manager", "octavia-housekeeping", "octavia-worker")
    yield Packages("python3-octavia", "python3-octaviaclient")
    yield OvsNeutronPort("br-int", INTERFACE, PORT, NETWORK)
    link = f"/etc/systemd/network/05-{INTERFACE}.network"
    address = f"{listen}/{wanted.network.prefixlen}"
    # A fixed address instead of two DHCP clients, which also bring a second default route (errata E118, E123).
    yield File(link, f"[Match]\nName={INTERFACE}\n\n[Network]\nAddress={address}\nLinkLocalAddressing=no\n")
    yield Service("systemd-networkd", reads=(link,))
    yield File("/etc/systemd/system/octavia-health-manager.service.d/interface.conf", WAIT_FOR_INTERFACE)

    yield from _certificates(site)
    yield OsloConfig(
        "/etc/octavia/octavia.conf",
        {
            "DEFAULT": {"transport_url": transport_url(site)},
            "database": {"connection": database_url(site, "octavia")},
            "oslo_messaging": {"topic": "octavia_prov"},
            "api_settings": {
                "bind_host": "0.0.0.0",
                "bind_port": "9876",
                # By default its old name, octavia, is enabled as well.
                "enabled_provider_drivers": "amphora:Load balancers in servers of their own",
                "default_provider_driver": "amphora",
            },
            "keystone_authtoken": {**keystone_authtoken(site, "octavia")},
            # From the same values as the section above (erratum E127).
            "service_auth": {
                key: value
                for key, value in keystone_authtoken(site, "octavia").items()
                if key != "www_authenticate_uri"
            },
            "certificates": {
                # Not those published in the guide (erratum E128). 32 characters.
                "server_certs_key_passphrase": site.secrets.key("octavia server certificates", 24),
                "ca_private_key_passphrase": site.password("octavia authorities"),
                "ca_private_key": f"{CERTIFICATES}/private/server_ca.key.pem",
                "ca_certificate": f"{CERTIFICATES}/server_ca.cert.pem",
            },
            "haproxy_amphora": {
                "server_ca": f"{CERTIFICATES}/server_ca-chain.cert.pem",
                "client_cert": f"{CERTIFICATES}/private/client.cert-and-key.pem",
            },
            "health_manager": {
                "bind_port": "5555",
                "bind_ip": listen,
                "controller_ip_port_list": f"{listen}:5555",
                "heartbeat_key": site.password("octavia heartbeat"),  # erratum E129
            },
            "controller_worker": {
                # Ids of this cloud, not of the author's (erratum E130).
                "amp_image_owner_id": Id("project", "service"),
                "amp_image_tag": "amphora",
                "amp_ssh_key_name": "octavia-key",
                "amp_secgroup_list": Id("security_group", "lb-mgmt-sec-grp"),
                "amp_boot_network_list": Id("network", NETWORK),
                "amp_flavor_id": "200",
                "network_driver": "allowed_address_pairs_driver",
                "compute_driver": "compute_nova_driver",
                "amphora_driver": "amphora_haproxy_rest_driver",
                "client_ca": f"{CERTIFICATES}/client_ca.cert.pem",
            },
        },
        own=("database", "keystone_authtoken", "service_auth"),
    )
    upgrade = ("octavia-db-manage", "--config-file", "/etc/octavia/octavia.conf", "upgrade", "head")
    # As the service's own user, which owns the log files (erratum E131).
    yield DbSync(upgrade, database="octavia", package="octavia-api", user="octavia")
    yield Service(*UNITS)
    yield Answers(f"{url}/", service="octavia-api")
    yield NoStuckLoadBalancer()
    # Last, so that the rest is done while the image is being built.
    yield Image("amphora-x64-haproxy", wanted.image, tags=("amphora",), project="service")


@step(role="controller", section="octavia")
def octavia_dashboard(site: Site, octavia: Step, horizon: Step) -> Resources:
    """The dashboard's panel. Its package builds the static files, after which Apache is restarted (erratum E132)."""
    yield Packages("python3-octavia-dashboard")
    yield Service("apache2", reads=(BUILT,))


def management_addresses(network: IPv4Network) -> tuple[str, tuple[str, str]]:
    """The health manager's address, and the amphorae's first and last address: .2, and from .100 on for 32 /24."""
    last = min(int(network.broadcast_address) - 1, int(network.network_address) + 32 * 256 - 2)
    return str(network[2]), (str(network[100]), str(network[last - int(network.network_address)]))


def _certificates(site: Site) -> list[Resource]:
    """Two authorities with the site's own passphrases: amphorae trust one, their managers the other (erratum E113).

    They are created once (erratum E114) and stored with the site's secrets; the key of the clients' authority is not
    needed on the node.
    """
    passphrase = site.password("octavia authorities")

    def usable(bundle: str) -> bool:
        return is_usable(bundle, passphrase)

    document = site.secrets.document
    server = document("octavia server authority", lambda: make_authority("Octavia amphorae", passphrase), usable)
    clients = document("octavia client authority", lambda: make_authority("Octavia controllers", passphrase), usable)
    client = document(
        "octavia client",
        lambda: make_client(site.controller.name, clients, passphrase),
        lambda bundle: is_usable(bundle, authority=clients),
    )
    files = {
        "server_ca.cert.pem": certificate_part(server),
        "server_ca-chain.cert.pem": certificate_part(server),
        "private/server_ca.key.pem": key_part(server),
        "client_ca.cert.pem": certificate_part(clients),
        "private/client.cert-and-key.pem": client,
    }
    # Readable only by the service (erratum E115).
    folders: list[Resource] = [
        Directory(path, 0o750, "root", "octavia") for path in (CERTIFICATES, f"{CERTIFICATES}/private")
    ]
    return folders + [File(f"{CERTIFICATES}/{name}", text, 0o640, "root", "octavia") for name, text in files.items()]
