"""Commands of the install guide that the errata call wrong, tried on deployed nodes.

`./run --deploy tests/errata` runs them. Commands that would break the site are faults instead: faults/guide.yaml.
"""

from __future__ import annotations

import re

import pytest

from stackspec.fixtures.programs import IN_SCRATCH
from stackspec.plugin.testinfra_backend import HostOf, NodeHost
from stackspec.site import Site


def erratum(number: str, step: str, *values: object) -> object:
    """A case of a test.

    :param number: the erratum's
    :param step: the step that it needs
    :param values: the test's arguments
    """
    return pytest.param(*values, marks=pytest.mark.steps(step), id=number)


RING = f"{IN_SCRATCH} swift-ring-builder guide.builder create 10 2 24 &&"
ADD = "swift-ring-builder guide.builder add --region 1 --zone 1 --ip 10.0.0.20 --port 6202 --device sdc"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        # The tests' shell has no terminal, as nothing unattended has one.
        erratum(
            "E06",
            "glance",
            "openstack --os-cloud <cloud> user create --domain default --password-prompt glance",
            "No terminal detected",
        ),
        erratum("E22", "keystone", "openstack project create service", "Missing value auth-url"),
        erratum(
            "E25",
            "glance",
            "openstack --os-cloud devstack-system-admin registered limit create --service glance --default-limit 1000 "
            "--region RegionOne image_size_total",
            "devstack-system-admin was not found",
        ),
        erratum(
            "E29",
            "glance",
            "openstack --os-cloud <cloud> image create --file /opt/cirros-0.6.2-x86_64-disk.img --disk-format qcow2 "
            "--container-format bare cirros-of-the-guide",
            "/opt/cirros-0.6.2-x86_64-disk.img",
        ),
        erratum("E42", "neutron", "ovs-vsctl add-br br-provider", "already exists"),
        erratum("E43", "neutron", "ip link show ens33", "does not exist"),
        erratum("E54", "horizon", "openstack --os-cloud <cloud> role show user", "user"),
        erratum("E64", "swift", "mkdir /etc/swift", "File exists"),
        erratum("E67", "swift", "openstack --os-cloud <cloud> role show user", "user"),
        erratum("E78", "swift", f"{RING} {ADD} --weight DEVICE_WEIGHT", "DEVICE_WEIGHT"),
        erratum("E79", "swift", f"{RING} {ADD} --weight 100 && {ADD} --weight 100", "already"),
        erratum(
            "E80",
            "swift",
            "scp -o BatchMode=yes /etc/swift/account.ring.gz root@compute01:/etc/swift",
            "erification failed",
        ),
        erratum(
            "E84",
            "swift",
            "cd / && openstack --os-cloud <cloud> object create container1 FILE",
            "No such file or directory: 'FILE'",
        ),
        # The guide's `role add` for it fails as well, but the client says no reason.
        erratum(
            "E85",
            "heat",
            'openstack --os-cloud <cloud> project show "Development Department"',
            "Development Department",
        ),
        erratum("E88", "heat", "openstack --os-cloud <cloud> keypair show mykey", "mykey"),
        erratum("E89", "skyline", "mariadb -u skyline -pskyline -h controller skyline -e 'SELECT 1'", "Access denied"),
        erratum("E97", "skyline", "bash -c '</dev/tcp/10.0.0.10/9091'", "refused"),
        erratum("E99", "skyline", "openstack --os-cloud <cloud> domain show heat_user_domain", "heat_user_domain"),
        erratum(
            "E114",
            "octavia",
            f"{IN_SCRATCH} cp -p etc/octavia/certs/server_ca.cert.pem /etc/octavia/certs",
            "No such file",
        ),
        erratum("E117", "octavia", "openstack --os-cloud <cloud> keypair show octavia_ssh_key", "octavia_ssh_key"),
        erratum("E120", "octavia", "ls -d /sys/class/net/brq*", "No such file"),
        erratum(
            "E125",
            "octavia",
            "systemd-run --wait --pipe --quiet /bin/sh /opt/octavia-interface-start.sh",
            "/opt/octavia-interface-start.sh",
        ),
        erratum(
            "E126",
            "octavia",
            "openstack --os-cloud <cloud> port show c9bf44fb-c135-489d-a3b3-e99c48c2e975",
            "c9bf44fb-c135-489d-a3b3-e99c48c2e975",
        ),
        erratum(
            "E130",
            "octavia",
            "openstack --os-cloud <cloud> network show 42b297fd-a655-4d7f-90b5-081c9f1bf324",
            "42b297fd-a655-4d7f-90b5-081c9f1bf324",
        ),
        erratum("E141", "magnum", "openstack --os-cloud <cloud> flavor show m2.fedora", "m2.fedora"),
        erratum(
            "E143",
            "magnum",
            "openstack --os-cloud <cloud> image show flatcar-kube-v1.24.16",
            "flatcar-kube-v1.24.16",
        ),
    ],
)
def test_command_fails(command: str, answer: str, deployed: None, site: Site, controller: NodeHost) -> None:
    """A command from the guide is refused, for the reason given in the erratum."""
    done = controller.run(command.replace("<cloud>", site.name))
    assert done.rc != 0, f"{command} works: {done.stdout.strip()}"
    assert answer in done.stderr + done.stdout, f"{command}: {done.stderr.strip()}"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        # The package's unit has the other name as well.
        erratum("E19", "mariadb", "systemctl is-active mysql", ""),
        # The database ignores the case of a domain's name.
        erratum(
            "E57",
            "keystone",
            "openstack --os-cloud <cloud> --os-user-domain-name default --os-project-domain-name default token issue",
            "",
        ),
        # apt ignores a lone dash. Without -y it still asks.
        erratum("E68", "swift_storage", "apt-get install --simulate xfsprogs rsync -", ""),
        # The client accepts an abbreviated option, so the error is from magnum, about the image.
        erratum(
            "E144",
            "magnum",
            "openstack --os-cloud <cloud> coe cluster template create --coe kubernetes --image no-such-image "
            "--external-network provider --label kube_tag=v1.18.16 guide",
            "(HTTP 4",
        ),
    ],
)
def test_command_is_accepted(command: str, answer: str, deployed: None, site: Site, controller: NodeHost) -> None:
    """Commands of the guide that look wrong but work: these errata have been corrected."""
    done = controller.run(command.replace("<cloud>", site.name))
    assert answer in done.stderr, f"{command}: {done.stderr.strip()}"
    assert answer or done.rc == 0, f"{command}: {done.stderr.strip()}"


@pytest.mark.steps("swift")
def test_ring_is_not_the_one_shown(deployed: None, controller: NodeHost) -> None:
    """E77: the guide's command makes two copies and 24 hours; its output shows three copies and one hour."""
    out = controller.check_output(f"{RING} swift-ring-builder guide.builder")
    assert "2.000000 replicas" in out
    assert re.search(r"minimum number of hours before a partition can be reassigned is 24\b", out), out


@pytest.mark.steps("neutron_compute")
def test_network_is_not_made_on_a_compute_node(deployed: None, site: Site, node_host: HostOf) -> None:
    """E49: the guide creates the network in the compute node's chapter, where there are no credentials."""
    command = (
        "openstack network create --share --external --provider-physical-network provider "
        "--provider-network-type flat provider"
    )
    for node in site.with_role("compute"):
        if "controller" in node.roles:
            continue
        done = node_host(node.name).run(command)
        assert done.rc != 0, f"{node.name}: {command} works"
        assert re.search("Missing value auth-url|not found", done.stderr), f"{node.name}: {done.stderr.strip()}"
